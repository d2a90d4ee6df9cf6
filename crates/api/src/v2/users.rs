//! Users.

pub(crate) mod approve;
pub(crate) mod create;
pub(crate) mod delete;
pub(crate) mod get;
pub(crate) mod list;
pub(crate) mod restore;
pub(crate) mod set_role;
pub(crate) mod suspend;

use std::collections::HashMap;

use bowline_model::id::UserId;
use bowline_model::user::{Hold, Role, User};
use bowline_netmap::chunk::Entry;
use bowline_netmap::snapshot::Snapshot;
use jiff::{SignedDuration, Timestamp};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Serialize;

use crate::answer::Shape;
use crate::text::{Time, time};

// Source: official OpenAPI document, `User`.
/// A user.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "User")]
pub(crate) struct UserShown {
    id: String,
    display_name: String,
    login_name: String,
    profile_pic_url: &'static str,
    /// The organisation's name.
    tailnet_id: String,
    created: Time,
    #[serde(rename = "type")]
    #[schemars(schema_with = "kinds")]
    kind: &'static str,
    #[schemars(schema_with = "crate::schema::role")]
    role: Role,
    #[schemars(schema_with = "statuses")]
    status: &'static str,
    device_count: usize,
    /// Now while a device of theirs is connected.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_seen: Option<Time>,
    currently_connected: bool,
}

impl Shape for UserShown {
    type Schema = Self;
}

/// Kinds of users that there are.
fn kinds(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "enum": ["member"]})
}

fn statuses(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "enum": ["active", "idle", "suspended", "needs-approval"]})
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
    pub(super) fn of(user: UserId, snapshot: &Snapshot) -> Self {
        let mut presence = Self::default();
        for entry in snapshot.devices_of(user) {
            presence.add(entry);
        }
        presence
    }

    /// Of every user who has devices, in one go.
    pub(super) fn of_all(snapshot: &Snapshot) -> HashMap<UserId, Self> {
        let mut all: HashMap<UserId, Self> = HashMap::new();
        for entry in snapshot.devices() {
            if let Some(user) = entry.device.owner() {
                all.entry(user).or_default().add(entry);
            }
        }
        all
    }
}

fn shown(user: &User, presence: Presence, snapshot: &Snapshot, now: Timestamp) -> UserShown {
    // Who is connected is seen at this moment.
    let last_seen = if presence.online {
        Some(now)
    } else {
        presence.last_seen
    };
    let is_idle = last_seen.is_some_and(|at| now.duration_since(at) > IDLE);
    UserShown {
        id: user.id.stable(),
        display_name: user.display_name.clone(),
        login_name: user.login_name.clone(),
        profile_pic_url: "",
        tailnet_id: snapshot.tailnet().name.clone(),
        created: time(user.created),
        kind: "member",
        role: user.role,
        status: match user.hold() {
            Some(Hold::Suspended) => "suspended",
            Some(Hold::NeedsApproval) => "needs-approval",
            None if is_idle => "idle",
            None => "active",
        },
        device_count: presence.devices,
        last_seen: last_seen.map(time),
        currently_connected: presence.online,
    }
}
