//! `POST /users/{userId}/approve`: approve a user who waits for it.
//!
//! Source: official OpenAPI document, `approveUser`.

use bowline_model::id::UserId;

use crate::Api;
use crate::answer::Empty;
use crate::call::Call;
use crate::error::ApiError;
use crate::extract::Json;

pub(crate) async fn handler(api: Api, call: Call<UserId>) -> Result<Json<Empty>, ApiError> {
    api.engine.approve_user(&call.actor, call.path).await?;
    Ok(Json(Empty {}))
}
