//! One map stream, as a client lives through it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use crate::check::{self, Checked};
use crate::peers::Peers;
use crate::violation::{ProtocolViolation, Rule};
use crate::{filter, json, node, schema};

/// Which clients' rules apply. All by default.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// Refuse also what only the official Rust client cannot read: escapes in strings, `null`,
    /// `Peers: []` in a delta.
    pub rust_client: bool,
    /// Refuse nodes with other addresses than one IPv4 and one IPv6, which the Rust client cannot
    /// read. Policies can hide IPv4 addresses; tests of those switch it off.
    pub both_addresses: bool,
    /// Ask the first message for everything that a client needs to work. Tests of one part of a
    /// map switch it off.
    pub complete_first: bool,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            rust_client: true,
            both_addresses: true,
            complete_first: true,
        }
    }
}

const FIELDS: &[&str] = &[
    "MapSessionHandle",
    "Seq",
    "KeepAlive",
    "PingRequest",
    "PopBrowserURL",
    "Node",
    "DERPMap",
    "Peers",
    "PeersChanged",
    "PeersRemoved",
    "PeersChangedPatch",
    "PeerSeenChange",
    "OnlineChange",
    "DNSConfig",
    "Domain",
    "CollectServices",
    "PacketFilter",
    "PacketFilters",
    "UserProfiles",
    "Health",
    "DisplayMessages",
    "SSHPolicy",
    "ControlTime",
    "TKAInfo",
    "DomainDataPlaneAuditLogID",
    "Debug",
    "ControlDialPlan",
    "ClientVersion",
    "DefaultAutoUpdate",
];

/// What a client looks at in a keep-alive.
const KEEP_ALIVE_FIELDS: &[&str] = &[
    "KeepAlive",
    "PingRequest",
    "PopBrowserURL",
    "ClientVersion",
    "ControlTime",
    "ControlDialPlan",
];

/// Replaced as a whole when present. `DefaultAutoUpdate` and `CollectServices` may be `false`.
const REPLACED: &[&str] = &[
    "DNSConfig",
    "Domain",
    "CollectServices",
    "Health",
    "SSHPolicy",
    "TKAInfo",
    "ControlDialPlan",
    "ClientVersion",
    "DefaultAutoUpdate",
];

/// A client on one map stream. Begin a new one for each stream, as clients do.
#[derive(Debug, Clone)]
pub struct ModelClient {
    rules: Rules,
    is_dead: bool,
    own: Option<Map<String, Value>>,
    peers: Peers,
    profiles: BTreeMap<u64, Value>,
    filters: BTreeMap<String, Value>,
    messages: BTreeMap<String, Value>,
    derp_map: Map<String, Value>,
    replaced: BTreeMap<&'static str, Value>,
    keep_alives: u64,
}

impl ModelClient {
    /// A client that has received nothing.
    pub fn new(rules: Rules) -> Self {
        Self {
            rules,
            is_dead: false,
            own: None,
            peers: Peers::default(),
            profiles: BTreeMap::new(),
            filters: BTreeMap::new(),
            messages: BTreeMap::new(),
            derp_map: Map::new(),
            replaced: BTreeMap::new(),
            keep_alives: 0,
        }
    }

    /// Applies one decoded message: the bytes of one JSON value, without length and compression.
    ///
    /// # Errors
    /// The first rule that the message breaks. The client has then left the stream, and every
    /// later call says so.
    pub fn apply(&mut self, message: &[u8]) -> Result<(), ProtocolViolation> {
        if self.is_dead {
            return Err(ProtocolViolation::new(
                Rule::StreamIsDead,
                "the client has left",
            ));
        }
        let outcome = self.try_apply(message);
        self.is_dead = outcome.is_err();
        outcome
    }

    /// What the client knows, in a form that is equal for two clients that behave the same:
    /// defaults left out, peers and profiles as maps by id, profiles only of users that a node
    /// refers to, no `LastSeen` of nodes that are online, empty filters left out.
    pub fn state(&self) -> Value {
        let mut state = Map::new();
        let mut users = BTreeSet::new();
        if let Some(own) = &self.own {
            users.extend(node_users(own));
            state.insert("Node".into(), node::canonical(own));
        }
        let mut peers = Map::new();
        for (id, peer) in self.peers.iter() {
            users.extend(node_users(peer));
            peers.insert(id.to_string(), node::canonical(peer));
        }
        state.insert("Peers".into(), peers.into());
        let profiles = self.profiles.iter().filter(|(id, _)| users.contains(id));
        state.insert("UserProfiles".into(), by_text(profiles));
        // The filter that is in force: its parts one after the other, in the order of their names.
        let parts = self.filters.values().filter_map(Value::as_array);
        let rules: Vec<Value> = parts.flatten().cloned().collect();
        state.insert("PacketFilter".into(), rules.into());
        state.insert("DisplayMessages".into(), by_text(&self.messages));
        state.insert("DERPMap".into(), self.derp_map.clone().into());
        for (field, value) in &self.replaced {
            // An empty SSH policy has no rules, however that is said.
            let is_nothing = check::is_zero(value)
                || *field == "SSHPolicy" && value.get("rules").is_none_or(check::is_zero);
            if !is_nothing {
                state.insert((*field).into(), value.clone());
            }
        }
        state.into()
    }

    /// The client's own node as kept (defaults left out), once a full map has come.
    pub fn node(&self) -> Option<&Map<String, Value>> {
        self.own.as_ref()
    }

    /// One peer as kept (defaults left out).
    pub fn peer(&self, id: u64) -> Option<&Map<String, Value>> {
        self.peers.get(id)
    }

    /// Peers by id, in the order of ids.
    pub fn peers(&self) -> impl Iterator<Item = (u64, &Map<String, Value>)> {
        self.peers.iter()
    }

    /// How many peers there are.
    pub fn peer_count(&self) -> usize {
        self.peers.len()
    }

    /// How many keep-alives have come.
    pub const fn keep_alives(&self) -> u64 {
        self.keep_alives
    }

    fn try_apply(&mut self, bytes: &[u8]) -> Checked<()> {
        let message = json::decode(bytes)?;
        if self.rules.rust_client {
            json::check_rust_client(bytes, &message)?;
        }
        check::known_fields("MapResponse", &message, FIELDS)?;
        let outcome = self.take_in(bytes, &message);
        // Where a value of a wrong type breaks a rule of its own too, that says more.
        outcome.and_then(|()| schema::check(&message))
    }

    fn take_in(&mut self, bytes: &[u8], message: &Map<String, Value>) -> Checked<()> {
        if check::flag("KeepAlive", message.get("KeepAlive"))? {
            return self.keep_alive(bytes, message);
        }
        let is_first = self.own.is_none();
        if is_first {
            self.check_first(message)?;
        }
        let is_empty_list = message
            .get("Peers")
            .is_some_and(|peers| peers == &Value::Array(vec![]));
        if is_empty_list && !is_first && self.rules.rust_client {
            return Err(ProtocolViolation::new(
                Rule::EmptyPeers,
                "Peers: [] in a delta",
            ));
        }
        self.apply_own(message)?;
        self.peers.apply(message, &self.rules)?;
        self.apply_profiles(message)?;
        self.apply_derp_map(message)?;
        self.apply_filters(message)?;
        apply_entries(
            &mut self.messages,
            check::optional_object("DisplayMessages", message.get("DisplayMessages"))?,
        );
        for field in REPLACED {
            match message.get(*field) {
                None | Some(Value::Null) => {}
                // An empty domain is "unchanged"; for the others empty means "none".
                Some(Value::String(text)) if text.is_empty() => {}
                Some(value) => {
                    self.replaced.insert(field, value.clone());
                }
            }
        }
        self.check_whole()
    }

    fn keep_alive(&mut self, bytes: &[u8], message: &Map<String, Value>) -> Checked<()> {
        if bytes == br#"{"KeepAlive":true}"# {
            return Err(ProtocolViolation::new(
                Rule::KeepAliveText,
                "send it with a space",
            ));
        }
        if let Some(field) = message
            .keys()
            .find(|key| !KEEP_ALIVE_FIELDS.contains(&key.as_str()))
        {
            return Err(ProtocolViolation::new(Rule::KeepAliveWithContent, field));
        }
        self.keep_alives += 1;
        Ok(())
    }

    fn check_first(&self, message: &Map<String, Value>) -> Checked<()> {
        let has = |field: &str| message.get(field).is_some_and(|value| !value.is_null());
        if !has("Node") {
            return Err(ProtocolViolation::new(Rule::FirstWithoutNode, "no Node"));
        }
        if self.rules.complete_first {
            let missing = ["DERPMap", "DNSConfig", "Domain", "UserProfiles"]
                .into_iter()
                .find(|field| !has(field))
                .or_else(|| {
                    (!has("PacketFilter") && !has("PacketFilters")).then_some("PacketFilters")
                });
            if let Some(field) = missing {
                return Err(ProtocolViolation::new(Rule::FirstIncomplete, field));
            }
        }
        Ok(())
    }

    fn apply_own(&mut self, message: &Map<String, Value>) -> Checked<()> {
        let Some(raw) = check::optional_object("Node", message.get("Node"))? else {
            return Ok(());
        };
        node::check(raw, true, &self.rules)?;
        let own = node::normalise(raw);
        if let Some(before) = &self.own {
            for (field, rule) in [("ID", Rule::BadId), ("StableID", Rule::BadStableId)] {
                if before.get(field) != own.get(field) {
                    return Err(ProtocolViolation::new(rule, "the node has become another"));
                }
            }
        }
        self.own = Some(own);
        Ok(())
    }

    fn apply_profiles(&mut self, message: &Map<String, Value>) -> Checked<()> {
        for profile in check::list("UserProfiles", message.get("UserProfiles"))? {
            let fields = check::object("UserProfiles", profile)?;
            let known = ["ID", "LoginName", "DisplayName", "ProfilePicURL", "Groups"];
            check::known_fields("UserProfiles", fields, &known)?;
            let id = check::id("UserProfiles.ID", fields.get("ID"))?;
            if check::text("LoginName", fields.get("LoginName"))?.is_empty() {
                return Err(ProtocolViolation::new(
                    Rule::BadUserProfile,
                    format!("user {id}"),
                ));
            }
            let said = fields.iter().filter(|(_, value)| !check::is_zero(value));
            self.profiles.insert(id, by_text(said));
        }
        Ok(())
    }

    fn apply_derp_map(&mut self, message: &Map<String, Value>) -> Checked<()> {
        let Some(new) = check::optional_object("DERPMap", message.get("DERPMap"))? else {
            return Ok(());
        };
        let mut new = new.clone();
        if let Some(Value::Object(regions)) = new.get_mut("Regions") {
            regions.retain(|_, region| !region.is_null());
            for (number, region) in regions.iter() {
                check_region(number, region, &self.rules)?;
            }
        } else {
            for field in ["Regions", "omitDefaultRegions"] {
                new.remove(field);
                new.extend(self.derp_map.remove_entry(field));
            }
        }
        if new.get("HomeParams").is_none_or(Value::is_null) {
            new.remove("HomeParams");
            new.extend(self.derp_map.remove_entry("HomeParams"));
        }
        new.retain(|_, value| !check::is_zero(value));
        self.derp_map = new;
        Ok(())
    }

    fn apply_filters(&mut self, message: &Map<String, Value>) -> Checked<()> {
        if let Some(rules) = message.get("PacketFilter").filter(|rules| !rules.is_null()) {
            self.filters.insert("base".into(), rules.clone());
        }
        let named = check::optional_object("PacketFilters", message.get("PacketFilters"))?;
        apply_entries(&mut self.filters, named);
        for (name, rules) in &self.filters {
            filter::check(name, check::list(name, Some(rules))?)?;
        }
        Ok(())
    }

    /// What must hold between the parts after each message.
    fn check_whole(&self) -> Checked<()> {
        let Some(own) = &self.own else {
            return Ok(());
        };
        let mut keys = BTreeSet::new();
        for (id, peer) in self.peers.iter() {
            if own.get("ID") == peer.get("ID") || own.get("Key") == peer.get("Key") {
                return Err(ProtocolViolation::new(
                    Rule::SelfAsPeer,
                    format!("node {id}"),
                ));
            }
            if !keys.insert(peer.get("Key").and_then(Value::as_str)) {
                return Err(ProtocolViolation::new(
                    Rule::DuplicatePeer,
                    format!("the key of node {id} is that of another peer"),
                ));
            }
        }
        for node in self.peers.iter().map(|(_, peer)| peer).chain([own]) {
            if let Some(user) = node_users(node).find(|user| !self.profiles.contains_key(user)) {
                return Err(ProtocolViolation::new(
                    Rule::NoUserProfile,
                    format!("user {user} of node {:?}", node.get("ID")),
                ));
            }
        }
        Ok(())
    }
}

fn check_region(number: &str, region: &Value, rules: &Rules) -> Checked<()> {
    let fail = |detail: &str| {
        Err(ProtocolViolation::new(
            Rule::BadDerpMap,
            format!("region {number}: {detail}"),
        ))
    };
    let region = check::object("Regions", region)?;
    let id = region.get("RegionID").and_then(Value::as_u64);
    if id.is_none() || id != number.parse().ok() {
        return fail("another RegionID than its key");
    }
    let nodes = check::list("Nodes", region.get("Nodes"))?;
    if nodes.is_empty() {
        return fail("no nodes");
    }
    let named = |object: &Map<String, Value>, fields: [&str; 2]| {
        !rules.rust_client
            || fields
                .iter()
                .all(|field| object.get(*field).is_some_and(|name| !check::is_zero(name)))
    };
    if !named(region, ["RegionCode", "RegionName"]) {
        return fail("no RegionCode or RegionName");
    }
    for node in nodes {
        let node = check::object("Nodes", node)?;
        if node.get("RegionID").and_then(Value::as_u64) != id || !named(node, ["Name", "HostName"])
        {
            return fail("a node of another region, or without its names");
        }
    }
    Ok(())
}

/// Merges a map in which `null` removes an entry, and `null` under `*` all of them first.
fn apply_entries(kept: &mut BTreeMap<String, Value>, new: Option<&Map<String, Value>>) {
    let Some(new) = new else {
        return;
    };
    if new.get("*").is_some_and(Value::is_null) {
        kept.clear();
    }
    for (name, value) in new.iter().filter(|(name, _)| *name != "*") {
        if value.is_null() {
            kept.remove(name);
        } else {
            kept.insert(name.clone(), value.clone());
        }
    }
}

fn node_users(node: &Map<String, Value>) -> impl Iterator<Item = u64> {
    ["User", "Sharer"]
        .into_iter()
        .filter_map(|field| node.get(field)?.as_u64())
}

fn by_text<K: ToString, V: std::borrow::Borrow<Value>>(
    entries: impl IntoIterator<Item = (K, V)>,
) -> Value {
    entries
        .into_iter()
        .map(|(key, value)| (key.to_string(), value.borrow().clone()))
        .collect::<Map<_, _>>()
        .into()
}
