//! Users.

use std::collections::HashMap;
use std::sync::Arc;

use axum::extract::{Path, RawQuery, State};
use axum::response::Response;
use bowline_model::id::UserId;
use bowline_model::user::{Role, Status, User};
use bowline_netmap::chunk::Entry;
use bowline_netmap::snapshot::Snapshot;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::Api;
use crate::caller::{Caller, UsersRead, UsersWrite};
use crate::error::ApiError;
use crate::extract::{Json, json, pairs};
use crate::text::time;

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

/// A user who has not been seen for this long is idle. Source: official OpenAPI document, `User`.
const IDLE: SignedDuration = SignedDuration::from_hours(28 * 24);

/// What a user's devices say of them.
#[derive(Debug, Clone, Copy, Default)]
struct Presence {
    devices: usize,
    online: bool,
    last_seen: Option<Timestamp>,
}

impl Presence {
    fn add(&mut self, entry: &Entry) {
        self.devices += 1;
        self.online |= entry.live.online;
        self.last_seen = self.last_seen.max(entry.live.last_seen);
    }

    /// Of one user.
    fn of(user: UserId, snapshot: &Snapshot) -> Self {
        let mut presence = Self::default();
        for entry in snapshot.devices() {
            if owner(entry) == Some(user) {
                presence.add(entry);
            }
        }
        presence
    }

    /// Of every user who has devices, in one go.
    fn of_all(snapshot: &Snapshot) -> HashMap<UserId, Self> {
        let mut all: HashMap<UserId, Self> = HashMap::new();
        for entry in snapshot.devices() {
            if let Some(user) = owner(entry) {
                all.entry(user).or_default().add(entry);
            }
        }
        all
    }
}

/// The user who owns a device.
fn owner(entry: &Entry) -> Option<UserId> {
    entry.device.user.filter(|_| !entry.device.is_tagged())
}

fn user_json(user: &User, presence: Presence, snapshot: &Snapshot, now: Timestamp) -> UserJson {
    // Who is connected is seen at this moment.
    let last_seen = if presence.online {
        Some(now)
    } else {
        presence.last_seen
    };
    let is_idle = last_seen.is_some_and(|at| now.duration_since(at) > IDLE);
    UserJson {
        id: user.id.stable(),
        display_name: user.display_name.clone(),
        login_name: user.login_name.clone(),
        profile_pic_url: "",
        tailnet_id: snapshot.tailnet().name.clone(),
        created: time(user.created),
        kind: "member",
        role: user.role,
        status: match user.status {
            Status::Active if is_idle => "idle",
            Status::Active => "active",
            Status::Suspended => "suspended",
        },
        device_count: presence.devices,
        last_seen: last_seen.map(time),
        currently_connected: presence.online,
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
    let count = snapshot.user_count() + snapshot.device_count();
    let now = api.engine.now();
    let work = move || {
        let presence = Presence::of_all(&snapshot);
        let users = snapshot
            .users()
            .filter(|user| members && role.is_none_or(|role| user.role == role))
            .map(|user| {
                let presence = presence.get(&user.id).copied().unwrap_or_default();
                user_json(user, presence, &snapshot, now)
            })
            .collect();
        json(&Answer { users })
    };
    api.lists.answer(caller.actor.tailnet, count, work).await
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
        .cloned()
        .ok_or_else(ApiError::not_found)?;
    let (count, now) = (snapshot.device_count(), api.engine.now());
    let work = move || {
        let presence = Presence::of(user.id, &snapshot);
        json(&user_json(&user, presence, &snapshot, now))
    };
    api.lists.answer(caller.actor.tailnet, count, work).await
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
    // Nobody's device is theirs yet.
    let presence = Presence::default();
    json(&user_json(&user, presence, &snapshot, api.engine.now()))
}
