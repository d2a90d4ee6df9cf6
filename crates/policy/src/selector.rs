//! Selectors: the words that name devices and addresses.

use crate::hujson::quote;
use ipnet::IpNet;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// A selector, with the names that the policy itself defines already looked up.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Selector {
    /// `*`
    Everything,
    /// A login name, in lower case.
    User(String),
    /// `user:*@domain`: the domain, as written.
    Domain(String),
    /// `group:name`
    Group(String),
    /// `tag:name`
    Tag(String),
    /// `autogroup:name`
    Auto(Autogroup),
    /// An address, a prefix, or the host of that name.
    Prefix(IpNet),
    /// `ipset:name`
    IpSet(String),
    /// `svc:name`
    Service(String),
}

/// The sets that exist without being defined.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Autogroup {
    Member,
    Tagged,
    Role(Role),
    SelfDevices,
    Internet,
    Shared,
    DangerAll,
    NonRoot,
}

/// A user's role. `Shared` is a user of another tailnet to whom a device was shared.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// The one owner; counts as admin too.
    Owner,
    /// Admin.
    Admin,
    /// IT admin.
    ItAdmin,
    /// Billing admin.
    BillingAdmin,
    /// Network admin.
    NetworkAdmin,
    /// Auditor.
    Auditor,
    /// None of the others.
    #[default]
    Member,
    /// Not of this tailnet: a device of theirs is shared in.
    Shared,
}

impl Role {
    /// The role of this name, as the users API spells it.
    pub fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "owner" => Self::Owner,
            "admin" => Self::Admin,
            "it-admin" => Self::ItAdmin,
            "billing-admin" => Self::BillingAdmin,
            "network-admin" => Self::NetworkAdmin,
            "auditor" => Self::Auditor,
            "member" => Self::Member,
            "shared" => Self::Shared,
            _ => return None,
        })
    }

    /// Whether `autogroup:<self>` has users of role `other`: admins include the owner.
    pub(crate) fn includes(self, other: Self) -> bool {
        self == other || (self == Self::Admin && other == Self::Owner)
    }
}

impl Autogroup {
    pub(crate) fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "member" | "members" => Self::Member,
            "tagged" => Self::Tagged,
            "self" => Self::SelfDevices,
            "internet" => Self::Internet,
            "shared" => Self::Shared,
            "danger-all" => Self::DangerAll,
            "nonroot" => Self::NonRoot,
            "owner" | "admin" | "it-admin" | "billing-admin" | "network-admin" | "auditor" => {
                Self::Role(Role::parse(name)?)
            }
            _ => return None,
        })
    }
}

/// What selectors may refer to.
#[derive(Debug, Default)]
pub(crate) struct Names {
    /// Groups that the file defines, with their members in lower case.
    pub(crate) groups: BTreeMap<String, Vec<String>>,
    pub(crate) hosts: BTreeMap<String, IpNet>,
    /// Tags that the file declares, in lower case.
    pub(crate) tags: std::collections::BTreeSet<String>,
    pub(crate) ipsets: std::collections::BTreeSet<String>,
}

impl Names {
    /// Reads a selector of any kind.
    ///
    /// # Errors
    /// The service's text for names that are not defined.
    pub(crate) fn selector(&self, text: &str) -> Result<Selector, String> {
        let not_found = |what: &str| Err(format!("{what} not found: {}", quote(text)));
        if text == "*" {
            return Ok(Selector::Everything);
        }
        if let Some(name) = text.strip_prefix("autogroup:") {
            return Autogroup::parse(name)
                .map(Selector::Auto)
                .map_or_else(|| not_found("autogroup"), Ok);
        }
        if text.starts_with("tag:") {
            let tag = tag_name(text);
            return if self.tags.contains(&tag) {
                Ok(Selector::Tag(tag))
            } else {
                not_found("tag")
            };
        }
        if text.starts_with("group:") {
            // A group with an at sign comes from a directory and needs no definition.
            return if self.groups.contains_key(text) || text.contains('@') {
                Ok(Selector::Group(text.to_owned()))
            } else {
                not_found("group")
            };
        }
        if text.starts_with("ipset:") {
            let set = || Selector::IpSet(text.to_owned());
            return if self.ipsets.contains(text) {
                Ok(set())
            } else {
                not_found("ipset")
            };
        }
        if text.starts_with("svc:") {
            return Ok(Selector::Service(text.to_owned()));
        }
        if let Some(domain) = text.strip_prefix("user:*@") {
            return Ok(Selector::Domain(domain.to_owned()));
        }
        if let Some(prefix) = self.hosts.get(text) {
            return Ok(Selector::Prefix(*prefix));
        }
        if text.contains('@') {
            return Ok(Selector::User(text.to_lowercase()));
        }
        parse_prefix(text).map(Selector::Prefix)
    }
}

/// Reads an address or a prefix; bits behind the prefix length are dropped.
///
/// # Errors
/// The service's text.
pub(crate) fn parse_prefix(text: &str) -> Result<IpNet, String> {
    let bare = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'))
        .unwrap_or(text);
    let parsed = match bare.parse::<IpAddr>() {
        Ok(address) => Some(IpNet::from(address)),
        Err(_) => bare.parse::<IpNet>().ok().map(|prefix| prefix.trunc()),
    };
    parsed.ok_or_else(|| format!("{}: invalid address", quote(text)))
}

/// A tag as it is compared: case does not matter, and devices carry theirs in lower case.
pub(crate) fn tag_name(text: &str) -> String {
    text.to_ascii_lowercase()
}

/// Checks a tag's spelling.
///
/// # Errors
/// The service's text.
pub fn check_tag(tag: &str) -> Result<(), &'static str> {
    let Some(name) = tag.strip_prefix("tag:") else {
        return Err("tags must start with 'tag:'");
    };
    match name.as_bytes().first() {
        None => Err("tag names must not be empty"),
        Some(first) if !first.is_ascii_alphabetic() => {
            Err("tag names must start with a letter, after 'tag:'")
        }
        _ if name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') =>
        {
            Ok(())
        }
        _ => Err("tag names can only contain numbers, letters, or dashes"),
    }
}
