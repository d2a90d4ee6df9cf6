//! Credentials: auth keys, API access tokens, OAuth clients, federated identities, SCIM keys.
//! The access tokens that are made from clients and identities are records of their own ([`crate::access_token`]).
//!
//! Source: `docs/protocol/api-behaviour.md`, section 2.4.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::id::{DeviceId, KeyId, TailnetId, UserId};
use crate::key::{MachineKey, NodeKey};
use crate::kind::{self, Stored};
use crate::record::Record;
use crate::scope::Scopes;
use crate::secret::{Presented, SecretHash};
use crate::tag::Tag;

/// Longest lifetime of an auth key or access token, and an auth key's default, in seconds: 90 days.
pub const LIFETIME_MAX_SECONDS: u32 = 7_776_000;

/// A credential. Its secret is not in it, only the hash.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Credential {
    /// Its id, which its secret names too.
    pub id: KeyId,
    /// What it is for.
    pub kind: Kind,
    /// Hash of the secret's whole text. Absent: it has none, and nobody can present it (federated
    /// identities).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash: Option<SecretHash>,
    /// The user who owns it; absent: the tailnet does. What it is good for is said by its kind, and
    /// never by this: an API access token without a user is good for nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<UserId>,
    /// What its maker wrote about it, at most 50 characters.
    #[serde(default)]
    pub description: String,
    /// When it was made.
    pub created: Timestamp,
    /// When it was changed last. Absent: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub updated: Option<Timestamp>,
    /// When it stops being good. Absent: never (OAuth clients, federated identities, SCIM keys).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Timestamp>,
    /// When a timer noted that this moment has come, in an audit event. What the credential is good for
    /// follows from `expires`, so that a clock which was wrong for a while ends nothing; how long it
    /// is kept follows from this, so that no jump forgets it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expired: Option<Timestamp>,
    /// The moment of expiry that was told ahead, so that each is told once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expiry_told: Option<Timestamp>,
    /// When somebody revoked it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked: Option<Timestamp>,
}

/// What a credential is for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase")]
pub enum Kind {
    /// Registers devices.
    Auth(AuthKey),
    /// Calls the API as its user.
    Api,
    /// An OAuth client: its secret gets access tokens, and calls nothing itself.
    Client(OAuthClient),
    /// A federated identity: tokens of another issuer get access tokens.
    Federated(FederatedIdentity),
    /// A SCIM key: a directory provisions users and groups with it, and calls no operation of the API.
    /// A tailnet has one at most that is good.
    Scim,
}

impl Kind {
    /// The API's word for it.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Auth(_) => "auth",
            Self::Api => "api",
            Self::Client(_) => "client",
            Self::Federated(_) => "federated",
            Self::Scim => "scim",
        }
    }
}

/// An OAuth client. Its client id is the credential's id.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct OAuthClient {
    /// What its access tokens may be given.
    pub scopes: Scopes,
    /// Tags of what it makes.
    pub tags: BTreeSet<Tag>,
}

/// A federated identity: whose tokens it trusts, and what they are good for.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct FederatedIdentity {
    /// What its access tokens may be given.
    pub scopes: Scopes,
    /// Tags of what it makes.
    pub tags: BTreeSet<Tag>,
    /// URL of the issuer, `https://…`, which a token's `iss` must equal.
    pub issuer: String,
    /// Pattern that a token's `sub` must match; `*` stands for any characters.
    pub subject: String,
    /// What a token's `aud` must contain.
    pub audience: String,
    /// Patterns that other claims must match, by the claim's path.
    pub custom_claim_rules: BTreeMap<String, String>,
}

/// What an auth key allows, and what it was used for.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AuthKey {
    /// Good for more than one device.
    pub reusable: bool,
    /// Its devices are deleted some time after they go offline.
    pub ephemeral: bool,
    /// Its devices need no approval.
    pub preauthorized: bool,
    /// Its devices carry these tags, and belong to them.
    pub tags: BTreeSet<Tag>,
    /// The user who made it, where that is another than the one it is for: a device may ask for tags
    /// that both of them may assign. Absent: it was made by its own user, whose rights alone count, by
    /// the operator of the server, or by an OAuth client, whose keys have tags. It only ever narrows
    /// what the key is good for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub maker: Option<UserId>,
    /// The one use of a key that is not reusable.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub used: Option<Use>,
}

/// The one use of a one-off auth key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Use {
    /// When.
    pub at: Timestamp,
    /// Machine key that used it.
    pub machine_key: MachineKey,
    /// Node key that it registered.
    pub node_key: NodeKey,
    /// Device that it made or renewed.
    pub device: DeviceId,
}

impl Record for Credential {
    const VERSION: u32 = 1;
}

impl Stored for Credential {
    const KIND: kind::Kind = kind::Kind::Key;
    const NAME: &'static str = "key";
    const TABLE: &'static str = "keys";
    type Id = KeyId;

    fn id(&self, _: TailnetId) -> KeyId {
        self.id
    }
}

impl Credential {
    /// Whether it may be used at all: neither revoked nor expired nor used up.
    pub fn is_valid(&self, now: Timestamp) -> bool {
        !self.is_expired(now) && self.revoked.is_none() && !self.is_used_up()
    }

    /// Whether its last moment has come.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.expires.is_some_and(|expires| expires <= now)
    }

    /// Whether somebody presents its secret.
    pub fn is_presented_by(&self, presented: &Presented) -> bool {
        self.id == presented.id && self.hash == Some(presented.hash)
    }

    /// Whether it is a one-off auth key that was used.
    pub fn is_used_up(&self) -> bool {
        matches!(&self.kind, Kind::Auth(key) if !key.reusable && key.used.is_some())
    }

    /// What the access tokens of an OAuth client or a federated identity may be given: scopes and
    /// tags. `None` for other kinds, from which none are made.
    pub fn granted(&self) -> Option<(&Scopes, &BTreeSet<Tag>)> {
        match &self.kind {
            Kind::Client(client) => Some((&client.scopes, &client.tags)),
            Kind::Federated(identity) => Some((&identity.scopes, &identity.tags)),
            Kind::Auth(_) | Kind::Api | Kind::Scim => None,
        }
    }

    /// The auth key in it.
    pub fn auth_key(&self) -> Option<&AuthKey> {
        match &self.kind {
            Kind::Auth(key) => Some(key),
            Kind::Api | Kind::Client(_) | Kind::Federated(_) | Kind::Scim => None,
        }
    }
}

/// Whether a text may describe a credential: at most 50 of letters, digits, space, `-` and `_`.
pub fn is_description(text: &str) -> bool {
    text.chars().count() <= 50
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, ' ' | '-' | '_'))
}
