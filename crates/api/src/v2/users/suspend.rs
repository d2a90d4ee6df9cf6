//! `POST /users/{userId}/suspend`: suspend a user.
//!
//! Source: official OpenAPI document, `suspendUser`.

use bowline_model::id::UserId;

use crate::Api;
use crate::answer::Empty;
use crate::call::Call;
use crate::error::ApiError;
use crate::extract::Json;

pub(crate) async fn handler(api: Api, call: Call<UserId>) -> Result<Json<Empty>, ApiError> {
    api.engine.suspend_user(&call.actor, call.path).await?;
    Ok(Json(Empty {}))
}
