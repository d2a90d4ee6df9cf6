//! Devices as nodes, from their records alone: what their peers are shown.

use std::net::SocketAddr;

use bowline_model::device::{Device, Live};
use bowline_model::record::RawJson;
use bowline_wire::capability::{self, CapabilityVersion};
use bowline_wire::hostinfo::PeerHostinfo;
use bowline_wire::map_request::ENDPOINTS_MAX;
use bowline_wire::net_info::home_region;
use bowline_wire::node::{Node, NodeHostinfo};
use bowline_wire::user::TAGGED_DEVICES_ID;
use bytes::Bytes;
use ipnet::IpNet;

use crate::variant::Variant;

/// Id of the user that clients see as the owner.
pub fn owner_id(device: &Device) -> u64 {
    match device.user {
        Some(user) if !device.is_tagged() => user.get(),
        _ => TAGGED_DEVICES_ID,
    }
}

/// What is the same in all views; addresses and routes are not in it.
pub(super) fn base(device: &Device, live: &Live, suffix: &str) -> Node {
    Node {
        id: device.id.get(),
        stable_id: device.id.stable(),
        name: format!("{}.{suffix}.", device.name),
        user: owner_id(device),
        key: device.node_key,
        key_expiry: device.effective_expiry(),
        machine: None,
        disco_key: live.disco_key,
        addresses: Vec::new(),
        allowed_ips: Vec::new(),
        endpoints: endpoints(live),
        home_derp: home_region(live.home_derp),
        hostinfo: NodeHostinfo::Peer(Box::default()), // set by both callers
        created: device.created,
        cap: version(device.capability_version),
        tags: device.tags.iter().map(ToString::to_string).collect(),
        primary_routes: Vec::new(),
        last_seen: if live.online { None } else { live.last_seen },
        online: live.online,
        machine_authorized: device.authorized,
        cap_map: std::collections::BTreeMap::new(),
        expired: device.expired,
    }
}

/// Where a device may be reached, in the length that a report may have: rows of older servers too.
pub(super) fn endpoints(live: &Live) -> Vec<SocketAddr> {
    live.endpoints.iter().take(ENDPOINTS_MAX).copied().collect()
}

/// A capability version as every client can read it: a row of an older server may have any number.
fn version(version: CapabilityVersion) -> CapabilityVersion {
    version.min(u16::MAX.into())
}

pub(super) fn addresses(device: &Device, without_ipv4: bool) -> Vec<IpNet> {
    let shown = device.addresses().into_iter();
    shown
        .filter(|address| !(without_ipv4 && address.is_ipv4()))
        .map(IpNet::from)
        .collect()
}

/// The part of a host info that peers will see, as a host info of its own: at most 8 KiB.
pub fn peers_part(hostinfo: &RawJson) -> RawJson {
    RawJson::of(&PeerHostinfo::of(hostinfo)).unwrap_or_else(|_| RawJson::empty_object())
}

/// A device as a peer is shown it. `suffix` is the `MagicDNS` suffix of the tailnet, without a dot at
/// the end.
pub fn peer(device: &Device, live: &Live, suffix: &str, variant: &Variant) -> Node {
    let addresses = addresses(device, variant.without_ipv4);
    let mut cap_map = std::collections::BTreeMap::new();
    if variant.is_exit_node() {
        // Source: recordings of the real service, `peer_caps`.
        cap_map.insert(capability::SUGGEST_EXIT_NODE.to_owned(), Vec::new());
    }
    Node {
        hostinfo: NodeHostinfo::Peer(Box::new(PeerHostinfo::of(&device.hostinfo))),
        allowed_ips: addresses.iter().chain(&*variant.routes).copied().collect(),
        primary_routes: variant.subnets().copied().collect(),
        addresses,
        cap_map,
        ..base(device, live, suffix)
    }
}

/// A node as JSON.
pub fn to_json(node: &Node) -> Bytes {
    // Serialising into memory fails only for maps whose keys are not strings; there are none.
    // Without the room to grow: there is one of these for every device.
    serde_json::to_vec(node)
        .unwrap_or_default()
        .into_boxed_slice()
        .into()
}
