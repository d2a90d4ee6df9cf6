//! `POST /tailnet/{tailnet}/users`: make a user. An operation of ours: the official service makes
//! users when they sign in.

use bowline_model::user::Role;
use schemars::JsonSchema;
use serde::Deserialize;

use super::{Presence, UserShown, shown};
use crate::Api;
use crate::call::Call;
use crate::error::ApiError;
use crate::extract::Json;

/// A user to be made.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct NewUser {
    login_name: String,
    /// Absent: the part of the login name before the `@`.
    display_name: Option<String>,
    /// Absent: `member`.
    role: Option<String>,
}

pub(crate) async fn handler(
    api: Api,
    call: Call<(), (), Json<NewUser>>,
) -> Result<Json<UserShown>, ApiError> {
    let Json(body) = call.body;
    let role = body.role.as_deref().unwrap_or("member");
    let role =
        Role::parse(role).ok_or_else(|| ApiError::bad_request(format!("unknown role {role:?}")))?;
    let user = api
        .engine
        .create_user(
            &call.actor,
            &body.login_name,
            body.display_name.as_deref(),
            role,
        )
        .await?;
    let snapshot = api.snapshot(call.actor.tailnet)?;
    // Nobody's device is theirs yet.
    let presence = Presence::default();
    Ok(Json(shown(&user, presence, &snapshot, api.engine.now())))
}
