//! `GET /tailnet/{tailnet}/scim-keys`: list the SCIM key that was not revoked.

use schemars::JsonSchema;
use serde::Serialize;

use super::ScimKey;
use crate::Api;
use crate::answer::{Encoded, Shape};
use crate::call::Call;
use crate::error::ApiError;

/// SCIM keys: one at most.
#[derive(Serialize, JsonSchema)]
pub(crate) struct ScimKeyList<'a> {
    keys: Vec<ScimKey<'a>>,
}

impl Shape for ScimKeyList<'_> {
    type Schema = ScimKeyList<'static>;
}

pub(crate) async fn handler(
    api: Api,
    call: Call,
) -> Result<Encoded<ScimKeyList<'static>>, ApiError> {
    let found = api.engine.scim_keys(&call.actor)?;
    let keys = found.iter().map(|key| ScimKey::new(key, None));
    Encoded::new(&ScimKeyList {
        keys: keys.collect(),
    })
}
