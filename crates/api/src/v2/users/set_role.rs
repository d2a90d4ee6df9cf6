//! `POST /users/{userId}/role`: give a user another role.
//!
//! Source: official OpenAPI document, `updateUserRole`.

use bowline_model::id::UserId;
use bowline_model::user::Role;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::Api;
use crate::answer::Empty;
use crate::call::Call;
use crate::error::ApiError;
use crate::extract::Json;

/// The role that a user is to have.
#[derive(Deserialize, JsonSchema)]
pub(crate) struct SetRole {
    /// `owner` makes the owner of now an administrator.
    #[schemars(required, schema_with = "crate::schema::role")]
    role: Option<String>,
}

pub(crate) async fn handler(
    api: Api,
    call: Call<UserId, (), Json<SetRole>>,
) -> Result<Json<Empty>, ApiError> {
    let Json(body) = call.body;
    let role = body
        .role
        .ok_or_else(|| ApiError::bad_request("role is required"))?;
    let role = Role::parse(&role)
        .ok_or_else(|| ApiError::bad_request(format!("unknown role {role:?}")))?;
    api.engine
        .set_user_role(&call.actor, call.path, role)
        .await?;
    Ok(Json(Empty {}))
}
