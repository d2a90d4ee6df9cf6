//! `POST /machine/register`.
//!
//! Source: `docs/protocol/control-protocol.md`, section 4.1 (ts-go `tailcfg/tailcfg.go`).

use bowline_model::key::{LockKey, NodeKey};
use bowline_model::text::shown;
use jiff::Timestamp;
use serde::Serialize;

use crate::fields::{BadRequest, Fields};
use crate::hostinfo::{Hostinfo, TooLarge};

/// A client asks to be registered, renewed or logged out.
#[derive(Debug, Clone, PartialEq)]
pub struct RegisterRequest {
    /// Capability version. At most 65,535, as in the handshake: peers are told of it, and Go's `int`
    /// has 32 bits on some platforms.
    pub version: u32,
    /// The node key to register.
    pub node_key: NodeKey,
    /// The node key that it replaces; the zero key counts as absent.
    pub old_node_key: Option<NodeKey>,
    /// Tailnet lock key; the zero key counts as absent.
    pub lock_key: Option<LockKey>,
    /// Auth key, absent when the client wants an interactive login.
    pub auth_key: Option<String>,
    /// Expiry that the client asks for; Go's zero time counts as absent. In the past: log out.
    pub expiry: Option<Timestamp>,
    /// The login URL that the client waits for.
    pub followup: String,
    /// Whether the device is to be deleted some time after it goes offline.
    pub ephemeral: bool,
    /// What it says of its machine.
    pub hostinfo: Result<Hostinfo, TooLarge>,
}

impl RegisterRequest {
    /// Reads a request body.
    ///
    /// # Errors
    /// When it is not an object, or the node key is missing or a field has another type.
    pub fn parse(body: &[u8]) -> Result<Self, BadRequest> {
        let fields = Fields::parse(body)?;
        let auth = fields.object("Auth")?;
        Ok(Self {
            version: fields.or_default::<u16>("Version")?.into(),
            node_key: fields.required("NodeKey")?,
            old_node_key: fields.optional_key("OldNodeKey")?,
            lock_key: fields.optional_key("NLKey")?,
            auth_key: auth
                .optional::<String>("AuthKey")?
                .filter(|key| !key.is_empty()),
            expiry: fields
                .optional::<String>("Expiry")?
                .as_deref()
                .and_then(parse_go_time),
            followup: fields.or_default("Followup")?,
            ephemeral: fields.or_default("Ephemeral")?,
            hostinfo: Hostinfo::parse(fields.raw("Hostinfo").map_or("{}", |raw| raw.get()))?,
        })
    }
}

/// Reads a time as Go writes it. The zero time (year 1) and unreadable texts are `None`.
pub fn parse_go_time(text: &str) -> Option<Timestamp> {
    if text.starts_with("0001-01-01T00:00:00") {
        return None;
    }
    text.parse().ok()
}

/// The answer. Every field is always present: the official Rust client requires them.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct RegisterResponse {
    /// Owner of the device.
    pub user: ResponseUser,
    /// The owner's login.
    pub login: Login,
    /// The node key is dead: the client makes a new one and tries once more.
    pub node_key_expired: bool,
    /// Whether the device may exchange traffic.
    pub machine_authorized: bool,
    /// Where the user must go; not empty: nothing is registered yet.
    #[serde(rename = "AuthURL")]
    pub auth_url: String,
    /// Why it was refused; the client shows it to its user. Not empty: the rest is ignored.
    pub error: String,
}

/// The user in a registration answer.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct ResponseUser {
    /// Their id.
    #[serde(rename = "ID")]
    pub id: u64,
    /// Their display name.
    #[serde(rename = "DisplayName")]
    pub display_name: String,
}

/// The login in a registration answer. A client that gets no `LoginName` forgets its login when
/// it restarts.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Login {
    /// The user's id.
    #[serde(rename = "ID")]
    pub id: u64,
    /// Who vouches for the login.
    #[serde(rename = "Provider")]
    pub provider: String,
    /// The login name.
    #[serde(rename = "LoginName")]
    pub login_name: String,
    /// The display name.
    #[serde(rename = "DisplayName")]
    pub display_name: String,
}

impl RegisterResponse {
    /// A refusal with a sentence for the user, which may quote what was sent: a short part of it, and
    /// nothing that would not show as itself. Clients read at most 1 MiB.
    pub fn refused(error: impl AsRef<str>) -> Self {
        Self {
            error: shown(error.as_ref()).replace(['"', '\\'], "'"),
            ..Self::empty()
        }
    }

    /// Nothing registered, no reason given: the base of other answers.
    pub fn empty() -> Self {
        Self {
            user: ResponseUser::default(),
            login: Login::default(),
            node_key_expired: false,
            machine_authorized: false,
            auth_url: String::new(),
            error: String::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(n: u8) -> String {
        format!("nodekey:{}", format!("{n:02x}").repeat(32))
    }

    #[test]
    fn zero_values_of_go_are_absence() {
        let body = format!(
            r#"{{"Version":113,"NodeKey":"{}","OldNodeKey":"{}","Expiry":"0001-01-01T00:00:00Z","Auth":{{"AuthKey":""}},"Hostinfo":{{}}}}"#,
            node(1),
            node(0)
        );
        let request = RegisterRequest::parse(body.as_bytes()).unwrap();
        assert_eq!(
            (request.old_node_key, request.expiry, request.auth_key),
            (None, None, None)
        );
    }

    #[test]
    fn a_logout_has_a_time_in_the_past() {
        let body = format!(
            r#"{{"Version":113,"NodeKey":"{}","Expiry":"1970-01-01T00:02:03Z"}}"#,
            node(1)
        );
        assert_eq!(
            RegisterRequest::parse(body.as_bytes())
                .unwrap()
                .expiry
                .unwrap()
                .as_second(),
            123
        );
    }

    #[test]
    fn a_body_without_a_node_key_is_refused() {
        assert!(matches!(
            RegisterRequest::parse(b"{}"),
            Err(BadRequest::Missing("NodeKey"))
        ));
        assert!(RegisterRequest::parse(br#"{"NodeKey":"nodekey:12"}"#).is_err());
    }

    #[test]
    fn the_answer_has_every_field() {
        assert_eq!(
            serde_json::to_string(&RegisterResponse::refused("no")).unwrap(),
            r#"{"User":{"ID":0,"DisplayName":""},"Login":{"ID":0,"Provider":"","LoginName":"","DisplayName":""},"NodeKeyExpired":false,"MachineAuthorized":false,"AuthURL":"","Error":"no"}"#
        );
    }
}
