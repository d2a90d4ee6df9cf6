//! The device record, and the soft state that goes with it.

use std::collections::BTreeMap;
use std::collections::{BTreeSet, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use ipnet::IpNet;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::address::is_exit_route;
use crate::id::{DeviceId, KeyId, TailnetId, UserId};
use crate::key::{DiscoKey, MachineKey, NodeKey};
use crate::kind::{Column, Kind, Stored};
use crate::record::{RawJson, Record};
use crate::tag::Tag;

/// A device of one tailnet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Device {
    /// Its id: the protocol's `NodeID`.
    pub id: DeviceId,
    /// The user who registered it. While it has no tags, they own it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<UserId>,
    /// Its tags. When there are any, they own it.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub tags: BTreeSet<Tag>,
    /// Machine key that registered it; every request of the device must come from it.
    pub machine_key: MachineKey,
    /// Its node key.
    pub node_key: NodeKey,
    /// Tailnet lock public key, opaque text; empty when the client sent none.
    #[serde(default)]
    pub lock_key: String,
    /// First label of its MagicDNS name, unique in the tailnet.
    pub name: String,
    /// Whether an administrator gave the name. Otherwise it follows the host name.
    #[serde(default)]
    pub name_given: bool,
    /// Its IPv4 address, unique in the tailnet.
    pub ipv4: Ipv4Addr,
    /// Its IPv6 address, unique in the server.
    pub ipv6: Ipv6Addr,
    /// When it was registered first.
    pub created: Timestamp,
    /// When its node key expires; absent: never. Kept while expiry is disabled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_expiry: Option<Timestamp>,
    /// Whether expiry is disabled.
    #[serde(default)]
    pub key_expiry_disabled: bool,
    /// Whether it was the server that disabled expiry, because the device logged in with tags, and
    /// no administrator has said so since: its next login as a person ends that.
    #[serde(default)]
    pub key_expiry_disabled_for_tags: bool,
    /// Whether the node key has expired. It follows from `key_expiry` and `key_ended`: a timer marks
    /// who was told, and takes the mark back where the clock that said so was wrong.
    #[serde(default)]
    pub expired: bool,
    /// Whether somebody ended the node key: a logout, an administrator, a request that needs a login.
    /// No clock makes it good again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub key_ended: bool,
    /// Whether it may exchange traffic (device approval).
    pub authorized: bool,
    /// Whether it is deleted some time after it goes offline.
    #[serde(default)]
    pub ephemeral: bool,
    /// The auth key that registered it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth_key: Option<KeyId>,
    /// The user who let it in at its last login: who made its auth key, or confirmed its login.
    /// Absent: the operator of the server did. It may be somebody else than [`Self::user`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registered_by: Option<UserId>,
    /// Whether it has ever opened a map stream with its node key. Until then a repeated
    /// registration may still replace the node key (a lost answer).
    #[serde(default)]
    pub seen: bool,
    /// The last node key with which it did open a map stream, while it has not with the present
    /// one: a client that lost the answer about the present one still has that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaced_key: Option<NodeKey>,
    /// Capability version it last spoke.
    #[serde(default)]
    pub capability_version: u32,
    /// Host info as it last sent it, without `NetInfo`.
    pub hostinfo: RawJson,
    /// The parts of the host info that the server itself uses.
    #[serde(default)]
    pub facts: HostFacts,
    /// Routes that somebody enabled, sorted. They work where they are advertised too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub enabled_routes: Vec<IpNet>,
    /// Custom posture attributes by key (`custom:…`).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<String, Attribute>,
    /// Tags that it asks for and cannot have, as it spells them: it stayed as it was.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refused_tags: Vec<String>,
    /// Attributes whose time is over. They count for nothing, and are kept for a while: where the
    /// clock was wrong, they come back.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub ended_attributes: BTreeMap<String, Attribute>,
    /// The moment of expiry of which an event told a day ahead. Another moment is told of again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expiry_told: Option<Timestamp>,
}

impl Record for Device {
    const VERSION: u32 = 1;
}

impl Stored for Device {
    const KIND: Kind = Kind::Device;
    const NAME: &'static str = "device";
    const TABLE: &'static str = "devices";
    const COLUMNS: &'static [Column] = &[Column::NodeKey, Column::Ipv6];
    type Id = DeviceId;

    fn id(&self, _: TailnetId) -> DeviceId {
        self.id
    }

    fn columns(&self) -> Vec<(Column, String)> {
        vec![
            (Column::NodeKey, self.node_key.to_string()),
            (Column::Ipv6, self.ipv6.to_string()),
        ]
    }
}

/// What the server itself uses of a device's host info.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HostFacts {
    /// Host name that the operating system reports.
    pub hostname: String,
    /// Operating system, Tailscale's word for it (`linux`, `macOS`, …).
    pub os: String,
    /// Its version.
    pub os_version: String,
    /// Client version, as reported.
    pub client_version: String,
    /// Linux distribution: name, version, code name; empty when not reported.
    pub distro: [String; 3],
    /// Routes that the device advertises, sorted.
    pub advertised_routes: Vec<IpNet>,
    /// Tags that the device asks for.
    pub request_tags: Vec<String>,
    /// Whether it blocks incoming connections.
    pub shields_up: bool,
    /// Whether it runs Tailscale SSH.
    pub ssh: bool,
    /// Whether it encrypts its state, where reported.
    pub state_encrypted: Option<bool>,
    /// Whether it updates itself, where reported.
    pub auto_update: Option<bool>,
    /// Whether it says that it cannot serve the routes that it advertises, since its system does not
    /// forward IP packets. It says so beside its host info.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub forwarding_off: bool,
    /// Members of its host info that were over a limit or of another type than clients have, so that
    /// they were left out or shortened: by name. `Hostinfo`: all of it, and what is kept is older.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub shortened: BTreeSet<String>,
}

/// The entry of [`HostFacts::shortened`] that says all of a host info.
pub const WHOLE_HOSTINFO: &str = "Hostinfo";
/// The entry of [`HostFacts::shortened`] that says the tags that a device asks for.
pub const REQUEST_TAGS: &str = "RequestTags";

/// One custom posture attribute.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Attribute {
    /// Its value.
    pub value: AttributeValue,
    /// When it ends; absent: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Timestamp>,
}

/// Value of a posture attribute. Its first value fixes the type for the key, tailnet-wide.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum AttributeValue {
    /// A boolean.
    Bool(bool),
    /// An integer of at most 2^53 - 1 either way.
    Number(i64),
    /// At most 50 of letters, digits, `_` and `.`.
    String(String),
}

/// Largest integer either way that every JSON reader keeps exactly: 2^53 - 1.
pub const INTEGER_MAX: i64 = 9_007_199_254_740_991;
/// Largest integer either way that may be written with a fraction or an exponent: 2^49.
const FLOAT_MAX: f64 = 562_949_953_421_312.0;

/// A JSON number that is an integer of at most [`INTEGER_MAX`] either way, however it is written: 87,
/// 87.0 and 8.7e1 are the same. `None` for every other value, and for one with a fraction or an
/// exponent above 2^49.
pub fn integer(value: &serde_json::Value) -> Option<i64> {
    let number = value.as_number()?;
    let integer = number.as_i64().or_else(|| {
        let float = number.as_f64()?;
        // Beyond this bound reading a text as a float may round to another integer.
        let is_exact = float.fract() == 0.0 && float.abs() <= FLOAT_MAX;
        #[expect(
            clippy::cast_possible_truncation,
            reason = "it is an integer below 2^49"
        )]
        is_exact.then_some(float as i64)
    });
    integer.filter(|number| (-INTEGER_MAX..=INTEGER_MAX).contains(number))
}

impl AttributeValue {
    /// Name of the value's type in messages.
    pub const fn type_name(&self) -> &'static str {
        match self {
            Self::Bool(_) => "boolean",
            Self::Number(_) => "number",
            Self::String(_) => "string",
        }
    }
}

impl Device {
    /// Whether tags own it.
    pub fn is_tagged(&self) -> bool {
        !self.tags.is_empty()
    }

    /// The user that it belongs to; `None` where its tags own it.
    pub fn owner(&self) -> Option<UserId> {
        self.user.filter(|_| !self.is_tagged())
    }

    /// When its node key expires for clients: `None` when expiry is disabled or there is none.
    pub fn effective_expiry(&self) -> Option<Timestamp> {
        if self.key_expiry_disabled {
            None
        } else {
            self.key_expiry
        }
    }

    /// The node key that stops being good where this record gives way to another, or to none: the
    /// streams and relay sessions of that key end. `None`: this changes nothing about it.
    ///
    /// It follows from the records and not from events, since what another process changed arrives as
    /// rows. That no key ends unsaid is held by [`crate::event::told`].
    pub fn revoked_by(&self, next: Option<&Self>) -> Option<NodeKey> {
        let is_good = next.is_some_and(|next| {
            next.node_key == self.node_key
                && (!next.expired || self.expired)
                && (next.authorized || !self.authorized)
        });
        (!is_good).then_some(self.node_key)
    }

    /// Both addresses, IPv4 first.
    pub fn addresses(&self) -> [IpAddr; 2] {
        [IpAddr::V4(self.ipv4), IpAddr::V6(self.ipv6)]
    }

    /// Posture attributes that follow from what the device reports (`node:…`).
    ///
    /// Source: `docs/protocol/api-behaviour.md`, section 5.2; operating systems are in lower case there.
    pub fn reported_attributes(&self) -> BTreeMap<String, AttributeValue> {
        let facts = &self.facts;
        let mut attributes = BTreeMap::new();
        let mut set = |key: &str, value| attributes.insert(key.to_owned(), value);
        let version = facts.client_version.split('-').next().unwrap_or("");
        for (key, text) in [
            ("node:os", facts.os.to_lowercase()),
            ("node:osVersion", facts.os_version.clone()),
            ("node:tsVersion", version.to_owned()),
        ] {
            if !text.is_empty() {
                set(key, AttributeValue::String(text));
            }
        }
        // The official releases: an even minor version is stable.
        let minor = version.split('.').nth(1);
        if let Some(minor) = minor.and_then(|minor| minor.parse::<u32>().ok()) {
            let track = if minor.is_multiple_of(2) {
                "stable"
            } else {
                "unstable"
            };
            set(
                "node:tsReleaseTrack",
                AttributeValue::String(track.to_owned()),
            );
        }
        if let Some(on) = facts.auto_update {
            set("node:tsAutoUpdate", AttributeValue::Bool(on));
        }
        if let Some(on) = facts.state_encrypted {
            set("node:tsStateEncrypted", AttributeValue::Bool(on));
        }
        attributes
    }

    /// Routes that are both advertised and enabled, sorted. An exit node is one only with both of
    /// its routes: clients that use it send it the traffic of both families.
    pub fn active_routes(&self) -> impl Iterator<Item = &IpNet> {
        let advertised = &self.facts.advertised_routes;
        // A set: a router may have a thousand of each, and this runs at each of its renderings.
        let enabled: HashSet<&IpNet> = if advertised.is_empty() {
            HashSet::new()
        } else {
            self.enabled_routes.iter().collect()
        };
        let active: Vec<&IpNet> = advertised
            .iter()
            .filter(|route| enabled.contains(route))
            .collect();
        let exit_routes = active.iter().filter(|route| is_exit_route(route)).count();
        active
            .into_iter()
            .filter(move |route| exit_routes == 2 || !is_exit_route(route))
    }
}

/// What is known of a device's connection. It lives in the snapshot and is flushed in batches.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Live {
    /// Whether it has an open map stream (or had one a moment ago).
    pub online: bool,
    /// When it was last connected; kept from its last disconnect.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_seen: Option<Timestamp>,
    /// When a device that is not connected last gave another sign of life, such as a registration.
    /// Noted for ephemeral devices only, which are deleted after a silence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub heard: Option<Timestamp>,
    /// Whether two machines use its node key at the same time: its state was copied. Found out anew
    /// by each process.
    #[serde(skip)]
    pub multiple_connections: bool,
    /// Its path discovery key; zero bytes are `None`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disco_key: Option<DiscoKey>,
    /// Where it may be reached, in the order that it reported.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub endpoints: Vec<SocketAddr>,
    /// DERP region that it listens on; 0 when not known yet.
    pub home_derp: u32,
    /// Its last `NetInfo` as reported.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub net_info: Option<RawJson>,
    /// It reported more endpoints than are kept.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub endpoints_shortened: bool,
    /// Something in its last `NetInfo` did not fit.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub net_info_shortened: bool,
}

impl Record for Live {
    const VERSION: u32 = 1;
}

/// A device and its soft state, as snapshots hold them.
pub type SharedDevice = Arc<Device>;
