//! `POST /users/{userId}/restore`: restore a suspended user.
//!
//! Source: official OpenAPI document, `restoreUser`.

use bowline_model::id::UserId;

use crate::Api;
use crate::answer::Empty;
use crate::call::Call;
use crate::error::ApiError;
use crate::extract::Json;

pub(crate) async fn handler(api: Api, call: Call<UserId>) -> Result<Json<Empty>, ApiError> {
    api.engine.restore_user(&call.actor, call.path).await?;
    Ok(Json(Empty {}))
}
