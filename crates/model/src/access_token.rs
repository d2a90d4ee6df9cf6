//! Access tokens that are made from another credential: what an OAuth client or a federated identity
//! calls the API with, for an hour.
//!
//! They are a kind of their own, and a cold one: a busy pipeline makes thousands in an hour, each is
//! read a few times, and none is worth a place in every draft.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::id::{KeyId, TailnetId};
use crate::kind::{Cold, Kind, Stored};
use crate::record::Record;
use crate::scope::Scopes;
use crate::secret::{Presented, SecretHash};
use crate::tag::Tag;

/// An access token. Its secret is not in it, only the hash.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AccessToken {
    /// Its id, which its secret names too.
    pub id: KeyId,
    /// Hash of the secret's whole text.
    pub hash: SecretHash,
    /// The credential that it was made from. The token is good only while that one is.
    pub parent: KeyId,
    /// What it may do: at most what its parent may.
    pub scopes: Scopes,
    /// Tags that it may give: at most those of its parent.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub tags: BTreeSet<Tag>,
    /// Whether its tags were asked for, and not taken over from its parent: then it gives these and
    /// what they own, also where its scopes would give any.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub narrows_tags: bool,
    /// When it was made.
    pub created: Timestamp,
    /// When it stops being good.
    pub expires: Timestamp,
    /// When somebody revoked it, and not what it was made from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked: Option<Timestamp>,
}

/// How long an access token is good, in seconds: an hour. It cannot be chosen.
/// Source: `docs/protocol/api-behaviour.md`, section 2.1.
pub const LIFETIME_SECONDS: u32 = 3600;

impl AccessToken {
    /// Whether it may be used, as far as it says so itself: what it was made from must be good too.
    pub fn is_valid(&self, now: Timestamp) -> bool {
        self.revoked.is_none() && now < self.expires
    }

    /// Whether somebody presents its secret.
    pub fn is_presented_by(&self, presented: &Presented) -> bool {
        self.id == presented.id && self.hash == presented.hash
    }
}

impl Record for AccessToken {
    const VERSION: u32 = 1;
}

impl Stored for AccessToken {
    const KIND: Kind = Kind::AccessToken;
    const NAME: &'static str = "accesstoken";
    const TABLE: &'static str = "access_tokens";
    type Id = KeyId;

    fn id(&self, _: TailnetId) -> KeyId {
        self.id
    }
}

impl Cold for AccessToken {
    fn expires(&self) -> Option<Timestamp> {
        Some(self.expires)
    }
}
