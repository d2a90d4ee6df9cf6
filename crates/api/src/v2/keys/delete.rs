//! `DELETE /tailnet/{tailnet}/keys/{keyId}`: revoke a key.
//!
//! Source: official OpenAPI document, `deleteKey`.

use crate::Api;
use crate::answer::Empty;
use crate::call::{Call, NamedKey};
use crate::error::ApiError;
use crate::extract::Json;

pub(crate) async fn handler(api: Api, call: Call<NamedKey>) -> Result<Json<Empty>, ApiError> {
    let id = call.path.of(&call.actor)?;
    api.engine.revoke_credential(&call.actor, id).await?;
    Ok(Json(Empty {}))
}
