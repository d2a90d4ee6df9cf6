//! What waits for somebody to decide about it, and what was decided: records of the server, which
//! belong to no tailnet and live for minutes or hours.
//!
//! Each is found by a code that nobody guesses. The code is in no record: it is made of the record's
//! id with a key that is sealed in the database ([`CodeKey`]). Whoever has a code and may change
//! devices can take that device into their own tailnet, so neither the database nor a backup of it
//! may tell one. A hash is not enough: the server shows a code again to the device that repeats its
//! request, and to whoever lists what waits.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

use aws_lc_rs::hmac::{HMAC_SHA256, Key, sign};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::device::HostFacts;
use crate::id::{
    ConfirmedSessionId, DeviceId, TailnetId, UserId, WaitingLoginId, WaitingSessionId,
};
use crate::key::{MachineKey, NodeKey};
use crate::kind::{Kind, Stored};
use crate::record::{RawJson, Record};
use crate::tag::Tag;

/// A device that waits for somebody to say whose it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WaitingLogin {
    /// Its id.
    pub id: WaitingLoginId,
    /// What the device asked for.
    pub request: LoginRequest,
    /// Where its request came from: the address that the server saw, or that a trusted proxy named.
    pub source: IpAddr,
    /// Since when it waits.
    pub since: Timestamp,
    /// Until when.
    pub expires: Timestamp,
    /// What became of it; absent: nobody has decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<LoginOutcome>,
}

/// A request to register without an auth key, as far as it is kept while it waits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LoginRequest {
    /// Machine key that the connection proved.
    pub machine_key: MachineKey,
    /// Node key to register.
    pub node_key: NodeKey,
    /// Node key that it replaces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old_node_key: Option<NodeKey>,
    /// Tailnet lock key, at most 256 bytes.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub lock_key: String,
    /// Expiry that the client asks for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expiry: Option<Timestamp>,
    /// Whether the device is to be ephemeral.
    #[serde(default)]
    pub ephemeral: bool,
    /// Capability version.
    pub capability_version: u32,
    /// Host info: what its peers will see of it.
    pub hostinfo: RawJson,
    /// What the server uses of it.
    pub facts: HostFacts,
}

/// What became of a login.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum LoginOutcome {
    /// The device is in.
    Confirmed {
        /// Its tailnet.
        tailnet: TailnetId,
        /// The device.
        device: DeviceId,
    },
    /// Somebody refused it.
    Refused,
}

/// An SSH session that is to begin.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SshSession {
    /// The tailnet of both devices.
    pub tailnet: TailnetId,
    /// Where it comes from.
    pub source: DeviceId,
    /// Where it goes to.
    pub target: DeviceId,
    /// The local user there.
    pub user: String,
}

/// An SSH session that waits for somebody to confirm it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WaitingSession {
    /// Its id.
    pub id: WaitingSessionId,
    /// The session.
    pub session: SshSession,
    /// Since when it waits.
    pub since: Timestamp,
    /// Until when.
    pub expires: Timestamp,
    /// What somebody decided: whether it may begin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decided: Option<bool>,
}

/// An SSH session that somebody confirmed, good for the policy's period.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConfirmedSession {
    /// Its id.
    pub id: ConfirmedSessionId,
    /// The session.
    pub session: SshSession,
    /// Whose both devices were.
    pub ends: SessionEnds,
    /// When it was confirmed.
    pub at: Timestamp,
    /// After this, no period of a policy reaches back to it.
    pub expires: Timestamp,
}

/// Whose both devices of a session are: the policy speaks of that, and so did who confirmed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SessionEnds {
    /// The device that it comes from.
    pub source: DeviceOwner,
    /// The device that it goes to.
    pub target: DeviceOwner,
}

/// Whose a device is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeviceOwner {
    /// Its user, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<UserId>,
    /// Its tags.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub tags: BTreeSet<Tag>,
}

impl Record for WaitingLogin {
    const VERSION: u32 = 1;
}

impl Stored for WaitingLogin {
    const KIND: Kind = Kind::WaitingLogin;
    const NAME: &'static str = "waitinglogin";
    const TABLE: &'static str = "waiting_logins";
    type Id = WaitingLoginId;

    fn id(&self, _: TailnetId) -> WaitingLoginId {
        self.id
    }
}

impl Record for WaitingSession {
    const VERSION: u32 = 1;
}

impl Stored for WaitingSession {
    const KIND: Kind = Kind::SshCheck;
    const NAME: &'static str = "sshcheck";
    const TABLE: &'static str = "ssh_checks";
    type Id = WaitingSessionId;

    fn id(&self, _: TailnetId) -> WaitingSessionId {
        self.id
    }
}

impl Record for ConfirmedSession {
    const VERSION: u32 = 1;
}

impl Stored for ConfirmedSession {
    const KIND: Kind = Kind::SshConfirmation;
    const NAME: &'static str = "sshconfirmation";
    const TABLE: &'static str = "ssh_confirmations";
    type Id = ConfirmedSessionId;

    fn id(&self, _: TailnetId) -> ConfirmedSessionId {
        self.id
    }
}

/// A code by which something that waits is found: 32 hexadecimal digits. Whoever has it may decide
/// about it, as far as they may do that at all.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Code(u128);

impl Code {
    /// Reads a code as it is shown. `None` for every other text.
    pub fn parse(text: &str) -> Option<Self> {
        let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        if text.len() != 32 || !text.bytes().all(is_digit) {
            return None;
        }
        u128::from_str_radix(text, 16).ok().map(Self)
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Code")
    }
}

/// What a code is for: with the same number, a login and a session have different codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CodeOf {
    /// A login that waits.
    Login(WaitingLoginId),
    /// An SSH session that waits.
    Session(WaitingSessionId),
}

/// Makes codes of ids. With the same key, the same codes come back after a restart.
#[derive(Clone)]
pub struct CodeKey(Key);

impl CodeKey {
    /// A key of 32 random bytes.
    pub fn new(bytes: &[u8; 32]) -> Self {
        Self(Key::new(HMAC_SHA256, bytes))
    }

    /// The code of something that waits.
    pub fn code(&self, of: CodeOf) -> Code {
        let (kind, number) = match of {
            CodeOf::Login(id) => (b'l', id.get()),
            CodeOf::Session(id) => (b's', id.get()),
        };
        let mut text = [kind; 9];
        text[1..].copy_from_slice(&number.to_be_bytes());
        let tag = sign(&self.0, &text);
        let start = tag.as_ref().first_chunk().copied().unwrap_or_default();
        Code(u128::from_be_bytes(start))
    }
}

impl fmt::Debug for CodeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CodeKey")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_follows_from_key_kind_and_id_and_reads_back() {
        let login = |number| CodeOf::Login(WaitingLoginId::new(number).unwrap());
        let session = CodeOf::Session(WaitingSessionId::new(1).unwrap());
        let (key, other) = (CodeKey::new(&[1; 32]), CodeKey::new(&[2; 32]));
        let code = key.code(login(1));
        assert_eq!(code, CodeKey::new(&[1; 32]).code(login(1)));
        for different in [key.code(login(2)), key.code(session), other.code(login(1))] {
            assert_ne!(code, different);
        }
        assert_eq!(code.to_string().len(), 32);
        assert_eq!(Code::parse(&code.to_string()), Some(code));
        let long = format!("0{code}");
        for text in [
            "",
            "+123",
            &"x".repeat(32),
            &"A".repeat(32),
            &long,
            &long[..31],
        ] {
            assert_eq!(Code::parse(text), None, "{text}");
        }
    }

    #[test]
    fn neither_codes_nor_their_key_print_themselves_by_accident() {
        let key = CodeKey::new(&[1; 32]);
        let code = key.code(CodeOf::Login(WaitingLoginId::MIN));
        assert_eq!(format!("{key:?} {code:?}"), "CodeKey Code");
    }
}
