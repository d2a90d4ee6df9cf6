//! Host info: what a client says about the machine it runs on.
//!
//! It is kept as sent (so that fields of later clients survive), except for `NetInfo`, which
//! changes often and is soft state. Peers see only the part that they need.
//!
//! Source: ts-go `tailcfg/tailcfg.go`, `Hostinfo` and `NetInfo`.

use std::collections::BTreeMap;

use bowline_model::address;
use bowline_model::device::HostFacts;
use bowline_model::record::RawJson;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::fields::{BadRequest, Fields};

/// The names that Go clients use, for keys that other clients spell otherwise.
const NAMES: &[&str] = &[
    "IPNVersion",
    "FrontendLogID",
    "BackendLogID",
    "OS",
    "OSVersion",
    "Container",
    "Env",
    "Distro",
    "DistroVersion",
    "DistroCodeName",
    "App",
    "Desktop",
    "Package",
    "DeviceModel",
    "PushDeviceToken",
    "Hostname",
    "ShieldsUp",
    "ShareeNode",
    "NoLogsNoSupport",
    "RemoteConfig",
    "WireIngress",
    "IngressEnabled",
    "AllowsUpdate",
    "Machine",
    "GoArch",
    "GoArchVar",
    "GoVersion",
    "RoutableIPs",
    "RequestTags",
    "WoLMACs",
    "Services",
    "NetInfo",
    "sshHostKeys",
    "Cloud",
    "Userspace",
    "UserspaceRouter",
    "AppConnector",
    "ServicesHash",
    "PeerRelay",
    "ExitNodeID",
    "Location",
    "TPM",
    "StateEncrypted",
];

/// A client's host info, taken apart.
#[derive(Debug, Clone, PartialEq)]
pub struct Hostinfo {
    /// Everything but `NetInfo`, with Go's names.
    pub json: RawJson,
    /// What the server itself uses.
    pub facts: HostFacts,
    /// The network report in it, when there was one.
    pub net_info: Option<NetInfo>,
}

impl Hostinfo {
    /// Reads a `Hostinfo` object.
    ///
    /// # Errors
    /// When it is not an object. Fields of unexpected types are kept and otherwise ignored.
    pub fn parse(json: &str) -> Result<Self, BadRequest> {
        let fields = Fields::parse(json.as_bytes())?;
        let mut object = Map::new();
        let mut net_info = None;
        for (key, raw) in fields.iter() {
            let name = NAMES
                .iter()
                .find(|name| name.eq_ignore_ascii_case(key))
                .copied()
                .unwrap_or(key);
            if name == "NetInfo" {
                net_info = NetInfo::parse(raw.get());
                continue;
            }
            let value: Value = serde_json::from_str(raw.get())?;
            if !value.is_null() {
                object.insert(name.to_owned(), value);
            }
        }
        let facts = facts(&object);
        Ok(Self {
            json: RawJson::of(&object)?,
            facts,
            net_info,
        })
    }
}

fn text(object: &Map<String, Value>, name: &str) -> String {
    object
        .get(name)
        .and_then(Value::as_str)
        .map(readable)
        .unwrap_or_default()
}

fn flag(object: &Map<String, Value>, name: &str) -> bool {
    object.get(name).and_then(Value::as_bool).unwrap_or(false)
}

fn texts(object: &Map<String, Value>, name: &str) -> Vec<String> {
    object
        .get(name)
        .and_then(Value::as_array)
        .map(|list| {
            list.iter()
                .filter_map(Value::as_str)
                .map(str::to_owned)
                .collect()
        })
        .unwrap_or_default()
}

/// The most advertised routes of one device that are kept.
const ROUTES_MAX: usize = 1024;

fn facts(object: &Map<String, Value>) -> HostFacts {
    let mut routes: Vec<_> = texts(object, "RoutableIPs")
        .iter()
        .filter_map(|route| address::parse_route(route))
        .take(ROUTES_MAX)
        .collect();
    address::sort_routes(&mut routes);
    HostFacts {
        hostname: text(object, "Hostname"),
        os: text(object, "OS"),
        os_version: text(object, "OSVersion"),
        client_version: text(object, "IPNVersion"),
        distro: [
            text(object, "Distro"),
            text(object, "DistroVersion"),
            text(object, "DistroCodeName"),
        ],
        advertised_routes: routes,
        request_tags: texts(object, "RequestTags"),
        shields_up: flag(object, "ShieldsUp"),
        ssh: object
            .get("sshHostKeys")
            .and_then(Value::as_array)
            .is_some_and(|keys| !keys.is_empty()),
        state_encrypted: object.get("StateEncrypted").and_then(Value::as_bool),
        // Go leaves out what is false: a client that tells its version has told this too.
        auto_update: object
            .contains_key("IPNVersion")
            .then(|| flag(object, "AllowsUpdate")),
    }
}

/// A text without the characters that JSON must escape: the official Rust client drops a whole
/// message when any string in it has an escape. At most 256 characters.
pub fn readable(text: &str) -> String {
    text.chars()
        .filter(|c| !c.is_control() && !matches!(c, '"' | '\\'))
        .take(256)
        .collect()
}

/// The part of a device's host info that its peers see: what they need to find its services
/// (Taildrop, exit-node DNS), its SSH host keys, its system, and its place. Never log ids, push
/// tokens, latencies, hardware addresses or open ports.
///
/// `json` is a stored host info; something unreadable gives an empty object, since clients cannot
/// bear a peer without one.
pub fn for_peers(json: &RawJson) -> Value {
    let Ok(mut all) = serde_json::from_str::<Map<String, Value>>(json.as_str()) else {
        return Value::Object(Map::new());
    };
    let mut shown = Map::new();
    for name in [
        "OS",
        "Hostname",
        "App",
        "ShareeNode",
        "AppConnector",
        "IngressEnabled",
        "WireIngress",
        "Location",
        "sshHostKeys",
    ] {
        if let Some(value) = all.remove(name) {
            shown.insert(name.to_owned(), clean(value));
        }
    }
    if let Some(Value::Array(services)) = all.remove("Services") {
        let peerapi: Vec<Value> = services
            .into_iter()
            .filter(|service| {
                service
                    .get("Proto")
                    .and_then(Value::as_str)
                    .is_some_and(|proto| proto.starts_with("peerapi"))
            })
            .map(clean)
            .collect();
        if !peerapi.is_empty() {
            shown.insert("Services".to_owned(), Value::Array(peerapi));
        }
    }
    Value::Object(shown)
}

/// The host info as its own device gets it back: all of it, in strings that every client reads.
pub fn for_self(json: &RawJson) -> Value {
    serde_json::from_str(json.as_str()).map_or_else(|_| Value::Object(Map::new()), clean)
}

fn clean(value: Value) -> Value {
    match value {
        Value::String(text)
            if text.contains(|c: char| c.is_control() || matches!(c, '"' | '\\')) =>
        {
            Value::String(
                text.chars()
                    .filter(|c| !c.is_control() && !matches!(c, '"' | '\\'))
                    .collect(),
            )
        }
        Value::Array(list) => Value::Array(list.into_iter().map(clean).collect()),
        Value::Object(object) => Value::Object(
            object
                .into_iter()
                .filter(|(key, _)| readable(key) == *key)
                .map(|(key, value)| (key, clean(value)))
                .collect(),
        ),
        other => other,
    }
}

/// A client's report on its network.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct NetInfo {
    /// Region it wants to be reached through; 0 when not known yet.
    #[serde(rename = "PreferredDERP")]
    pub preferred_derp: u32,
    /// Seconds to each region, by `<region>-v4` and `<region>-v6`.
    #[serde(rename = "DERPLatency")]
    pub derp_latency: BTreeMap<String, f64>,
    /// Whether its NAT maps a port differently for different destinations.
    #[serde(rename = "MappingVariesByDestIP")]
    pub mapping_varies_by_dest_ip: Option<bool>,
    /// Whether IPv6 reaches the internet.
    #[serde(rename = "WorkingIPv6")]
    pub working_ipv6: Option<bool>,
    /// Whether the system has IPv6 at all.
    #[serde(rename = "OSHasIPv6")]
    pub os_has_ipv6: Option<bool>,
    /// Whether UDP works.
    #[serde(rename = "WorkingUDP")]
    pub working_udp: Option<bool>,
    /// Whether the router offers `UPnP`.
    #[serde(rename = "UPnP")]
    pub upnp: Option<bool>,
    /// Whether the router offers NAT-PMP.
    #[serde(rename = "PMP")]
    pub pmp: Option<bool>,
    /// Whether the router offers PCP.
    #[serde(rename = "PCP")]
    pub pcp: Option<bool>,
}

impl NetInfo {
    /// Reads a `NetInfo`; `None` when it is not an object. Fields of other types count as absent.
    pub fn parse(json: &str) -> Option<Self> {
        let fields = Fields::parse(json.as_bytes()).ok()?;
        Some(Self {
            preferred_derp: fields.or_default("PreferredDERP").unwrap_or_default(),
            derp_latency: fields.or_default("DERPLatency").unwrap_or_default(),
            mapping_varies_by_dest_ip: fields.optional("MappingVariesByDestIP").unwrap_or_default(),
            working_ipv6: fields.optional("WorkingIPv6").unwrap_or_default(),
            os_has_ipv6: fields.optional("OSHasIPv6").unwrap_or_default(),
            working_udp: fields.optional("WorkingUDP").unwrap_or_default(),
            upnp: fields.optional("UPnP").unwrap_or_default(),
            pmp: fields.optional("PMP").unwrap_or_default(),
            pcp: fields.optional("PCP").unwrap_or_default(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rust_clients_spelling_is_understood() {
        let host = Hostinfo::parse(r#"{"Hostname":"a","OsVersion":"12","IpnVersion":"1.2","RoutableIps":["10.0.0.0/8","1.2.3.4/8"],"NetInfo":{"PreferredDerp":900,"DerpLatency":{"900-v4":0.01}}}"#).unwrap();
        assert_eq!(host.facts.os_version, "12");
        assert_eq!(
            host.facts.advertised_routes.len(),
            1,
            "host bits must be zero"
        );
        let net = host.net_info.unwrap();
        assert_eq!(
            (net.preferred_derp, net.derp_latency["900-v4"]),
            (900, 0.01)
        );
        assert!(host.json.as_str().contains("\"IPNVersion\":\"1.2\""));
        assert!(!host.json.as_str().contains("NetInfo"));
    }

    #[test]
    fn peers_see_services_that_they_need_and_nothing_private() {
        let host = Hostinfo::parse(r#"{"OS":"linux","Hostname":"a\"b","BackendLogID":"secret","WoLMACs":["x"],"Services":[{"Proto":"tcp","Port":22},{"Proto":"peerapi4","Port":1234}],"Future":1}"#).unwrap();
        let shown = serde_json::to_string(&for_peers(&host.json)).unwrap();
        assert_eq!(
            shown,
            r#"{"Hostname":"ab","OS":"linux","Services":[{"Port":1234,"Proto":"peerapi4"}]}"#
        );
        assert!(for_self(&host.json).get("Future").is_some());
    }

    #[test]
    fn escapes_never_reach_a_client() {
        let host = Hostinfo::parse(r#"{"Hostname":"a\u0026b\/c\\d\ne"}"#).unwrap();
        let shown = serde_json::to_string(&for_self(&host.json)).unwrap();
        assert!(!shown.contains('\\'), "{shown}");
    }
}
