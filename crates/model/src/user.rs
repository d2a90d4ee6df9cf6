//! The user record.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::id::{TailnetId, UserId};
use crate::kind::{Column, Kind, Stored};
use crate::record::Record;

/// A person (or account) of one tailnet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct User {
    /// Their id; the protocol's `UserID`.
    pub id: UserId,
    /// Login name, e-mail-like, unique in the tailnet without regard to case.
    pub login_name: String,
    /// Name that other people see.
    pub display_name: String,
    /// What they may do.
    pub role: Role,
    /// Whether they may do it now.
    #[serde(default)]
    pub status: Status,
    /// Whether somebody has to approve them first. It is apart from [`Self::status`], so that a user
    /// who is suspended and restored meanwhile is not approved by that.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub needs_approval: bool,
    /// When they were made.
    pub created: Timestamp,
}

impl Record for User {
    const VERSION: u32 = 1;
}

impl Stored for User {
    const KIND: Kind = Kind::User;
    const NAME: &'static str = "user";
    const TABLE: &'static str = "users";
    const COLUMNS: &'static [Column] = &[Column::UserLogin];
    type Id = UserId;

    fn id(&self, _: TailnetId) -> UserId {
        self.id
    }

    fn columns(&self) -> Vec<(Column, String)> {
        vec![(Column::UserLogin, self.login_name.to_lowercase())]
    }
}

impl User {
    /// Why they may not act, nor their devices exchange traffic. `None`: they may.
    pub fn hold(&self) -> Option<Hold> {
        match self.status {
            Status::Suspended => Some(Hold::Suspended),
            Status::Active if self.needs_approval => Some(Hold::NeedsApproval),
            Status::Active => None,
        }
    }

    /// Whether they may act, and their devices exchange traffic.
    pub fn is_active(&self) -> bool {
        self.hold().is_none()
    }
}

/// Why a user may not act.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Hold {
    /// Somebody suspended them.
    Suspended,
    /// Nobody has approved them yet.
    NeedsApproval,
}

impl std::fmt::Display for Hold {
    /// What is said of the user: `is suspended`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Suspended => "is suspended",
            Self::NeedsApproval => "waits for approval",
        })
    }
}

/// A user's role. Source: `docs/protocol/api-behaviour.md`, section 4.3.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// The one owner of the tailnet.
    Owner,
    /// Everything but ownership.
    Admin,
    /// Policy, DNS and routes.
    NetworkAdmin,
    /// Devices, users and settings.
    ItAdmin,
    /// Plan and billing.
    BillingAdmin,
    /// Reads everything.
    Auditor,
    /// Uses the network; no access to the API.
    Member,
}

impl Role {
    /// Every role, from the most rights to none.
    pub const EVERY: [Self; 7] = [
        Self::Owner,
        Self::Admin,
        Self::NetworkAdmin,
        Self::ItAdmin,
        Self::BillingAdmin,
        Self::Auditor,
        Self::Member,
    ];

    /// The API's word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Owner => "owner",
            Self::Admin => "admin",
            Self::NetworkAdmin => "network-admin",
            Self::ItAdmin => "it-admin",
            Self::BillingAdmin => "billing-admin",
            Self::Auditor => "auditor",
            Self::Member => "member",
        }
    }

    /// Its name in sentences, such as `IT admin`.
    pub const fn display_name(self) -> &'static str {
        match self {
            Self::Owner => "Owner",
            Self::Admin => "Admin",
            Self::NetworkAdmin => "Network admin",
            Self::ItAdmin => "IT admin",
            Self::BillingAdmin => "Billing admin",
            Self::Auditor => "Auditor",
            Self::Member => "Member",
        }
    }

    /// Reads the API's word.
    pub fn parse(text: &str) -> Option<Self> {
        Self::EVERY.into_iter().find(|role| role.as_str() == text)
    }
}

/// Whether a user may act.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// May act.
    #[default]
    Active,
    /// May not act until restored.
    Suspended,
}

/// Whether a text can be a login name: one `@` with something in front and a domain of letters,
/// digits, `-`, `_` and dots behind; no white space, no control characters, quotes or backslashes
/// (the official Rust client cannot read them), nothing that policies, paths or lists give a
/// meaning (`*`, `:`, `,`, `/`, brackets); at most 254 bytes.
///
/// `*@example.com` or `tag:x@example.com` as a login name would be somebody else in a policy.
pub fn is_login_name(text: &str) -> bool {
    let Some((local, domain)) = text.split_once('@') else {
        return false;
    };
    !local.is_empty()
        && crate::name::is_domain(domain)
        && text.len() <= 254
        && !local.chars().any(|c| {
            c.is_whitespace()
                || c.is_control()
                // Marks and formatting could make one name look like another.
                || (!c.is_ascii() && !c.is_alphanumeric())
                || matches!(
                    c,
                    '"' | '\\' | '<' | '>' | '&' | '*' | ':' | ',' | ';' | '/' | '(' | ')' | '[' | ']'
                )
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn login_names_look_like_addresses() {
        for text in [
            "ann@example.com",
            "ann+lab@example.com",
            "o'brien@example.com",
            "ann@github",
            "zoë@example.com",
        ] {
            assert!(is_login_name(text), "{text}");
        }
        for text in [
            "ann",
            "@x",
            "ann@",
            "a@b@c",
            "a b@c",
            "a\"@c",
            "a\\@c",
            "",
            "*@x.com",
            "tag:x@y.z",
            "group:a@b.c",
            "autogroup:owner@x.com",
            "a,b@x.com",
            "a/b@x.com",
            "ann@x..com",
            "ann@x.com.",
            "ann@*.com",
            "ann@x:y",
            "[a]@x.com",
            "(a)@x.com",
        ] {
            assert!(!is_login_name(text), "{text}");
        }
    }

    #[test]
    fn roles_read_back() {
        assert_eq!(Role::parse("network-admin"), Some(Role::NetworkAdmin));
        assert_eq!(Role::parse("boss"), None);
    }
}
