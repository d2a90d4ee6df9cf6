//! Users.

use std::sync::Arc;

use axum::extract::{Path, RawQuery, State};
use axum::response::Response;
use bowline_model::id::UserId;
use bowline_model::user::{Role, Status, User};
use bowline_netmap::snapshot::Snapshot;
use serde::{Deserialize, Serialize};

use crate::Api;
use crate::caller::{Caller, UsersRead, UsersWrite};
use crate::error::ApiError;
use crate::extract::{Json, json};
use crate::text::time;
use crate::v2::devices::pairs;

/// A user as the API shows it. Source: official OpenAPI document, `User`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct UserJson {
    id: String,
    display_name: String,
    login_name: String,
    profile_pic_url: &'static str,
    tailnet_id: String,
    created: String,
    #[serde(rename = "type")]
    kind: &'static str,
    role: Role,
    status: &'static str,
    device_count: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_seen: Option<String>,
    currently_connected: bool,
}

fn user_json(user: &User, snapshot: &Snapshot) -> UserJson {
    let own = || {
        snapshot
            .devices()
            .filter(|entry| entry.device.user == Some(user.id) && !entry.device.is_tagged())
    };
    let currently_connected = own().any(|entry| entry.live.online);
    let last_seen = own().filter_map(|entry| entry.live.last_seen).max();
    UserJson {
        id: user.id.stable(),
        display_name: user.display_name.clone(),
        login_name: user.login_name.clone(),
        profile_pic_url: "",
        tailnet_id: snapshot.id().stable(),
        created: time(user.created),
        kind: "member",
        role: user.role,
        status: match user.status {
            Status::Active => "active",
            Status::Suspended => "suspended",
        },
        device_count: own().count(),
        last_seen: last_seen.map(time),
        currently_connected,
    }
}

/// `GET /tailnet/{tailnet}/users`: list users.
///
/// Source: official OpenAPI document, `listUsers`.
pub(crate) async fn list(
    caller: Caller<UsersRead>,
    State(api): State<Api>,
    RawQuery(query): RawQuery,
) -> Result<Response, ApiError> {
    #[derive(Serialize)]
    struct Answer {
        users: Vec<UserJson>,
    }
    let mut role = None;
    let mut members = true;
    for (key, value) in pairs(query.as_deref()) {
        match (key.as_str(), value.as_str()) {
            ("type", "member" | "all") | ("role", "all") => {}
            ("type", "shared") => members = false,
            ("type", _) => return Err(ApiError::bad_request(format!("unknown type {value:?}"))),
            ("role", _) => {
                let parsed = Role::parse(&value)
                    .ok_or_else(|| ApiError::bad_request(format!("unknown role {value:?}")))?;
                role = Some(parsed);
            }
            _ => {}
        }
    }
    let snapshot: Arc<Snapshot> = api
        .engine
        .snapshot(caller.actor.tailnet)
        .ok_or_else(ApiError::not_found)?;
    let users = snapshot
        .users()
        .filter(|user| members && role.is_none_or(|role| user.role == role))
        .map(|user| user_json(user, &snapshot))
        .collect();
    json(&Answer { users })
}

/// `GET /users/{userId}`: get a user.
///
/// Source: official OpenAPI document, `getUser`.
pub(crate) async fn get(
    caller: Caller<UsersRead>,
    State(api): State<Api>,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    let snapshot = api
        .engine
        .snapshot(caller.actor.tailnet)
        .ok_or_else(ApiError::not_found)?;
    let user = UserId::parse(&id)
        .and_then(|id| snapshot.user(id))
        .ok_or_else(ApiError::not_found)?;
    json(&user_json(user, &snapshot))
}

/// Body of "create user".
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CreateBody {
    login_name: String,
    display_name: Option<String>,
    role: Option<String>,
}

/// `POST /tailnet/{tailnet}/users`: make a user. An operation of ours: the official service makes
/// users when they sign in.
pub(crate) async fn create(
    caller: Caller<UsersWrite>,
    State(api): State<Api>,
    Json(body): Json<CreateBody>,
) -> Result<Response, ApiError> {
    let role = body.role.as_deref().unwrap_or("member");
    let role =
        Role::parse(role).ok_or_else(|| ApiError::bad_request(format!("unknown role {role:?}")))?;
    let user = api
        .engine
        .create_user(
            &caller.actor,
            &body.login_name,
            body.display_name.as_deref(),
            role,
        )
        .await?;
    let snapshot = api
        .engine
        .snapshot(caller.actor.tailnet)
        .ok_or_else(ApiError::not_found)?;
    json(&user_json(&user, &snapshot))
}
