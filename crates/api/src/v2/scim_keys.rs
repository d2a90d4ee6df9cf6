//! SCIM keys. The official service has them in its console alone, so these operations are ours. Like every
//! key they are revoked by `DELETE /tailnet/{tailnet}/keys/{keyId}`.

pub(crate) mod create;
pub(crate) mod list;

use bowline_engine::credential::Minted;
use bowline_model::credential::Credential;
use schemars::JsonSchema;
use serde::Serialize;

use crate::answer::Shape;
use crate::text::{Time, time};

/// A SCIM key.
#[derive(Serialize, JsonSchema)]
pub(crate) struct ScimKey<'a> {
    id: String,
    /// The secret, in the answer to its making only.
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'a str>,
    created: Time,
    description: &'a str,
}

impl<'a> ScimKey<'a> {
    fn new(credential: &'a Credential, minted: Option<&'a Minted>) -> Self {
        Self {
            id: credential.id.stable(),
            key: minted.map(Minted::expose),
            created: time(credential.created),
            description: &credential.description,
        }
    }
}

impl Shape for ScimKey<'_> {
    type Schema = ScimKey<'static>;
}
