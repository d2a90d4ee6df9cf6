//! `POST /tailnet/{tailnet}/scim-keys`: make the SCIM key, in the place of the one that there is. Its secret is
//! in this answer only.

use schemars::JsonSchema;
use serde::Deserialize;

use super::ScimKey;
use crate::Api;
use crate::answer::Encoded;
use crate::call::Call;
use crate::error::ApiError;
use crate::extract::Json;

/// A SCIM key to be made.
#[derive(Deserialize, JsonSchema)]
pub(crate) struct NewScimKey {
    /// At most 50 letters, digits, spaces, `-` and `_`.
    description: Option<String>,
}

pub(crate) async fn handler(
    api: Api,
    call: Call<(), (), Json<NewScimKey>>,
) -> Result<Encoded<ScimKey<'static>>, ApiError> {
    let Json(body) = call.body;
    let description = body.description.unwrap_or_default();
    let made = api.engine.create_scim_key(&call.actor, &description);
    let (minted, credential) = made.await?;
    Encoded::new(&ScimKey::new(&credential, Some(&minted)))
}
