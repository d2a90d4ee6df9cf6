//! Audit events: who did what to what, old and new.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::id::{DeviceId, KeyId, UserId};
use crate::record::Record;

/// Who acts.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase")]
pub enum ActorRef {
    /// A user, by an API access token.
    User {
        /// The user.
        id: UserId,
        /// Their login name at that time.
        login: String,
        /// The credential they used, if any.
        #[serde(skip_serializing_if = "Option::is_none")]
        credential: Option<KeyId>,
    },
    /// An OAuth client, by an access token made from it.
    #[serde(rename = "oauthClient")]
    OAuthClient {
        /// The client.
        id: KeyId,
        /// The access token that it used, if any.
        #[serde(skip_serializing_if = "Option::is_none")]
        credential: Option<KeyId>,
    },
    /// A federated identity, by an access token made from it.
    FederatedIdentity {
        /// The identity.
        id: KeyId,
        /// The access token that it used, if any.
        #[serde(skip_serializing_if = "Option::is_none")]
        credential: Option<KeyId>,
    },
    /// A device, over the control protocol.
    Device {
        /// The device.
        id: DeviceId,
        /// Its name at that time.
        name: String,
    },
    /// Whoever holds the auth key that registered a device.
    AuthKey {
        /// The auth key.
        id: KeyId,
    },
    /// The operator of the server, by its local socket or the command line.
    Operator,
    /// The server itself, when something falls due.
    System,
}

impl ActorRef {
    /// Where what this actor does comes from.
    pub const fn origin(&self) -> Origin {
        match self {
            Self::User { .. }
            | Self::OAuthClient { .. }
            | Self::FederatedIdentity { .. }
            | Self::Operator => Origin::ConfigApi,
            Self::Device { .. } | Self::AuthKey { .. } => Origin::Node,
            Self::System => Origin::Control,
        }
    }
}

/// Where a change came from. Source: `docs/protocol/api-behaviour.md`, section 7.2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Origin {
    /// A call of the HTTP API, the command line's included.
    ConfigApi,
    /// The server itself, when something falls due.
    Control,
    /// A device, over the control protocol.
    Node,
}

/// One audit event. Targets and actions use the names of the official audit log
/// (`docs/protocol/api-behaviour.md`, section 7.2).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AuditEvent {
    /// When.
    pub at: Timestamp,
    /// Where the change came from.
    pub origin: Origin,
    /// What the events of one request have in common.
    #[serde(rename = "eventGroupID")]
    pub event_group_id: EventGroup,
    /// Who.
    pub actor: ActorRef,
    /// What was done: `CREATE`, `UPDATE`, `DELETE`, `APPROVE`, `REVOKE`, …
    pub action: String,
    /// On what.
    pub target: Target,
    /// Value before, as JSON; `null` when there was none. Never a secret.
    #[serde(default)]
    pub old: Value,
    /// Value after, as JSON; `null` when there is none. Never a secret.
    #[serde(default)]
    pub new: Value,
    /// Free text of the caller.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub details: Option<String>,
    /// Why it was not done; absent: it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl AuditEvent {
    /// `TARGET.ACTION` or `TARGET.ACTION.PROPERTY`, as filters of the log have it.
    pub fn name(&self) -> String {
        let Target { kind, property, .. } = &self.target;
        match property {
            Some(property) => format!("{kind}.{}.{property}", self.action),
            None => format!("{kind}.{}", self.action),
        }
    }
}

impl Record for AuditEvent {
    const VERSION: u32 = 1;
}

/// What an audit event is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Target {
    /// Stable id of the object.
    pub id: String,
    /// Its name at that time.
    pub name: String,
    /// `NODE`, `API_KEY`, `USER`, `TAILNET`, …
    #[serde(rename = "type")]
    pub kind: String,
    /// The property that changed, where one did: `MACHINE_NAME`, `KEY_EXPIRY_TIME`, …
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub property: Option<String>,
    /// Whether it is an ephemeral device; absent where it is not a device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub is_ephemeral: Option<bool>,
}

/// What the events of one request have in common, however often it writes. What falls due has a
/// group for each object.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct EventGroup(u128);

impl EventGroup {
    /// Of random bytes.
    pub const fn new(random: [u8; 16]) -> Self {
        Self(u128::from_be_bytes(random))
    }
}

impl fmt::Display for EventGroup {
    /// 32 hexadecimal digits in lower case.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for EventGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EventGroup({self})")
    }
}

impl From<EventGroup> for String {
    fn from(group: EventGroup) -> Self {
        group.to_string()
    }
}

/// A text that is not an event group.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not an event group: expected 32 hexadecimal digits")]
pub struct NotAGroup(String);

impl TryFrom<String> for EventGroup {
    type Error = NotAGroup;

    fn try_from(text: String) -> Result<Self, NotAGroup> {
        let is_hex = text.len() == 32 && text.bytes().all(|b| b.is_ascii_hexdigit());
        let number = is_hex.then(|| u128::from_str_radix(&text, 16).ok());
        number.flatten().map(Self).ok_or(NotAGroup(text))
    }
}
