//! A device as the API shows it.
//!
//! Source: official OpenAPI document, `Device`; `docs/protocol/api-behaviour.md`, section 10.2.

use std::collections::BTreeMap;

use bowline_model::address::sort_routes;
use bowline_netmap::chunk::Entry;
use bowline_netmap::snapshot::Snapshot;
use bowline_wire::net_info::NetInfo;
use schemars::JsonSchema;
use serde::Serialize;

use super::Fields;
use crate::answer::Shape;
use crate::text::{Time, time};

// The order of the fields is that of the official documentation.
/// A device. Routes, connectivity, SSH and distribution are shown with `fields=all` only.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Device<'a> {
    #[schemars(with = "Vec<std::net::IpAddr>")]
    addresses: [std::net::IpAddr; 2],
    /// Decimal digits.
    id: String,
    /// The stable id, which is preferred.
    node_id: String,
    /// Login name of the user who owns it, or `tagged-devices`.
    user: &'a str,
    /// The full MagicDNS name.
    name: String,
    hostname: &'a str,
    client_version: &'a str,
    update_available: bool,
    os: &'a str,
    created: Time,
    connected_to_control: bool,
    /// Absent while it is connected, and where it was never seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_seen: Option<Time>,
    key_expiry_disabled: bool,
    /// The year 1: never.
    expires: Time,
    authorized: bool,
    is_external: bool,
    /// `true` while two machines use its node key, whose state was copied; else absent.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    multiple_connections: bool,
    #[schemars(with = "String")]
    machine_key: bowline_model::key::MachineKey,
    #[schemars(with = "String")]
    node_key: bowline_model::key::NodeKey,
    blocks_incoming_connections: bool,
    tailnet_lock_key: &'a str,
    tailnet_lock_error: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tags: Vec<&'a str>,
    is_ephemeral: bool,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    more: Option<More<'a>>,
}

/// What only `fields=all` shows.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
struct More<'a> {
    #[schemars(with = "Vec<String>")]
    enabled_routes: Vec<ipnet::IpNet>,
    #[schemars(with = "Vec<String>")]
    advertised_routes: Vec<ipnet::IpNet>,
    client_connectivity: Connectivity,
    ssh_enabled: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    distro: Option<Distro<'a>>,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
struct Distro<'a> {
    name: &'a str,
    version: &'a str,
    code_name: &'a str,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
struct Connectivity {
    #[schemars(with = "Vec<String>")]
    endpoints: Vec<std::net::SocketAddr>,
    #[serde(rename = "mappingVariesByDestIP")]
    mapping_varies_by_dest_ip: bool,
    /// By name of the DERP region.
    latency: BTreeMap<String, Latency>,
    client_supports: Supports,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
struct Latency {
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    preferred: bool,
    latency_ms: f64,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
struct Supports {
    /// Not tracked by anybody any more: always `null`.
    hair_pinning: Option<bool>,
    ipv6: Option<bool>,
    pcp: Option<bool>,
    pmp: Option<bool>,
    udp: Option<bool>,
    upnp: Option<bool>,
}

impl Shape for Device<'_> {
    type Schema = Device<'static>;
}

impl<'a> Device<'a> {
    pub(crate) fn new(entry: &'a Entry, snapshot: &'a Snapshot, fields: Fields) -> Self {
        let (device, live) = (&entry.device, &entry.live);
        let user = device
            .user
            .and_then(|id| snapshot.user(id))
            .map_or("tagged-devices", |user| &user.login_name);
        Self {
            addresses: device.addresses(),
            id: device.id.to_string(),
            node_id: device.id.stable(),
            user,
            name: format!("{}.{}", device.name, snapshot.tailnet().dns_name),
            hostname: &device.facts.hostname,
            client_version: &device.facts.client_version,
            update_available: false,
            os: &device.facts.os,
            created: time(device.created),
            connected_to_control: live.online,
            last_seen: if live.online {
                None
            } else {
                live.last_seen.map(time)
            },
            key_expiry_disabled: device.key_expiry_disabled,
            expires: device.key_expiry.map_or(Time::Zero, time),
            authorized: device.authorized,
            is_external: false,
            multiple_connections: live.multiple_connections,
            machine_key: device.machine_key,
            node_key: device.node_key,
            blocks_incoming_connections: device.facts.shields_up,
            tailnet_lock_key: &device.lock_key,
            tailnet_lock_error: "",
            tags: device
                .tags
                .iter()
                .map(bowline_model::tag::Tag::as_str)
                .collect(),
            is_ephemeral: device.ephemeral,
            more: (fields == Fields::All).then(|| More::new(entry, snapshot)),
        }
    }
}

impl<'a> More<'a> {
    fn new(entry: &'a Entry, snapshot: &Snapshot) -> Self {
        let device = &entry.device;
        let [name, version, code_name] = &device.facts.distro;
        let mut enabled_routes = device.enabled_routes.clone();
        sort_routes(&mut enabled_routes);
        Self {
            enabled_routes,
            advertised_routes: device.facts.advertised_routes.clone(),
            client_connectivity: connectivity(entry, snapshot),
            ssh_enabled: device.facts.ssh,
            distro: (!name.is_empty()).then_some(Distro {
                name,
                version,
                code_name,
            }),
        }
    }
}

fn connectivity(entry: &Entry, snapshot: &Snapshot) -> Connectivity {
    let net = entry
        .live
        .net_info
        .as_ref()
        .and_then(|json| NetInfo::parse(json.as_str()))
        .unwrap_or_default();
    let mut latency: BTreeMap<String, Latency> = BTreeMap::new();
    for (path, seconds) in &net.derp_latency {
        let Some(id) = path.split('-').next().and_then(|id| id.parse::<u32>().ok()) else {
            continue;
        };
        let name = snapshot
            .derp_map()
            .regions
            .get(&id)
            .map_or_else(|| id.to_string(), |region| region.name.clone());
        let ms = seconds * 1000.0;
        let best = latency.entry(name).or_insert(Latency {
            preferred: id == entry.live.home_derp,
            latency_ms: ms,
        });
        best.latency_ms = best.latency_ms.min(ms);
    }
    Connectivity {
        endpoints: entry.live.endpoints.clone(),
        mapping_varies_by_dest_ip: net.mapping_varies_by_dest_ip.unwrap_or(false),
        latency,
        client_supports: Supports {
            hair_pinning: None,
            ipv6: net.os_has_ipv6.or(net.working_ipv6),
            pcp: net.pcp,
            pmp: net.pmp,
            udp: net.working_udp,
            upnp: net.upnp,
        },
    }
}
