//! `DELETE /tailnet/{tailnet}/keys/{keyId}`: revoke a key.
//!
//! Source: official OpenAPI document, `deleteKey`.

use bowline_model::id::KeyId;

use crate::Api;
use crate::answer::Empty;
use crate::call::Call;
use crate::error::ApiError;
use crate::extract::Json;

pub(crate) async fn handler(api: Api, call: Call<KeyId>) -> Result<Json<Empty>, ApiError> {
    api.engine.revoke_credential(&call.actor, call.path).await?;
    Ok(Json(Empty {}))
}
