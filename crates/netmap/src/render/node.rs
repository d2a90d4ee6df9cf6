//! Devices as nodes: for their peers, for themselves, and what changed between two states.

use std::net::SocketAddr;

use bowline_model::device::{Device, Live};
use bowline_model::record::RawJson;
use bowline_wire::capability::{self, CapabilityVersion};
use bowline_wire::hostinfo::{OwnHostinfo, PeerHostinfo};
use bowline_wire::map_request::ENDPOINTS_MAX;
use bowline_wire::net_info::home_region;
use bowline_wire::node::{Node, NodeHostinfo, PeerChange};
use bowline_wire::user::TAGGED_DEVICES_ID;
use bytes::Bytes;
use ipnet::IpNet;

use crate::chunk::Entry;
use crate::render::caps;
use crate::snapshot::Snapshot;
use crate::visibility::Variant;

/// Id of the user that clients see as the owner.
pub fn owner_id(device: &Device) -> u64 {
    match device.user {
        Some(user) if !device.is_tagged() => user.get(),
        _ => TAGGED_DEVICES_ID,
    }
}

/// What is the same in all views; addresses and routes are not in it.
fn base(entry: &Entry) -> Node {
    let device = &entry.device;
    let live = &entry.live;
    Node {
        id: device.id.get(),
        stable_id: device.id.stable(),
        name: format!("{}.{}.", device.name, entry.suffix),
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
fn endpoints(live: &Live) -> Vec<SocketAddr> {
    live.endpoints.iter().take(ENDPOINTS_MAX).copied().collect()
}

/// A capability version as every client can read it: a row of an older server may have any number.
fn version(version: CapabilityVersion) -> CapabilityVersion {
    version.min(u16::MAX.into())
}

fn addresses(device: &Device, without_ipv4: bool) -> Vec<IpNet> {
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

/// A device as a peer is shown it.
pub fn peer(entry: &Entry, variant: &Variant) -> Node {
    let addresses = addresses(&entry.device, variant.without_ipv4);
    let mut cap_map = std::collections::BTreeMap::new();
    if variant.is_exit_node() {
        // Source: recordings of the real service, `peer_caps`.
        cap_map.insert(capability::SUGGEST_EXIT_NODE.to_owned(), Vec::new());
    }
    Node {
        hostinfo: NodeHostinfo::Peer(Box::new(PeerHostinfo::of(&entry.device.hostinfo))),
        allowed_ips: addresses.iter().chain(&*variant.routes).copied().collect(),
        primary_routes: variant.subnets().copied().collect(),
        addresses,
        cap_map,
        ..base(entry)
    }
}

/// A device as it sees itself: with its machine key, its whole host info, all its routes and all
/// capabilities; without what only peers need (endpoints, last seen), so that its own reports do
/// not come back to it as changes.
pub fn own(entry: &Entry, snapshot: &Snapshot) -> Node {
    let device = &entry.device;
    let access = snapshot.access();
    let addresses = addresses(device, access.without_ipv4().contains(&device.id));
    Node {
        machine: Some(device.machine_key),
        hostinfo: NodeHostinfo::Own(OwnHostinfo::of(&device.hostinfo)),
        cap_map: caps::own(entry, snapshot),
        endpoints: Vec::new(),
        last_seen: None,
        online: true,
        allowed_ips: addresses
            .iter()
            .chain(device.active_routes())
            .copied()
            .collect(),
        primary_routes: access.net().primary_routes(device.id.get()),
        addresses,
        ..base(entry)
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

/// What peers must be told when a device's state goes from one entry to another.
#[derive(Debug, Clone, PartialEq)]
pub enum PeerUpdate {
    /// Nothing.
    None,
    /// A patch.
    Patch(PeerChange),
    /// The complete node.
    Full,
}

/// Compares two states of one device.
///
/// A patch is applied last and cannot clear, so that what became absent needs the complete node;
/// and a path discovery key in a patch of an offline node may be dropped as stale by clients.
/// Clients turn a complete node that differs little into a patch themselves: a home region or a
/// last-seen time that was known once cannot be taken away by either (the engine never does), and
/// endpoints only by an empty list, never by absence.
pub fn update(old: (&Entry, &Variant), new: (&Entry, &Variant)) -> PeerUpdate {
    let ((old, old_variant), (new, variant)) = (old, new);
    let same_record = std::sync::Arc::ptr_eq(&old.device, &new.device) && old.suffix == new.suffix;
    if old_variant != variant || (!same_record && !equal_but_for_live(old, new, variant)) {
        return PeerUpdate::Full;
    }
    let (before, after) = (&old.live, &new.live);
    let mut change = PeerChange {
        node_id: new.device.id.get(),
        ..PeerChange::default()
    };
    let empty = change.clone();
    if before.endpoints != after.endpoints {
        if after.endpoints.is_empty() {
            return PeerUpdate::Full;
        }
        change.endpoints = Some(endpoints(after));
    }
    let home = home_region(after.home_derp);
    if home_region(before.home_derp) != home {
        if home == 0 {
            return PeerUpdate::Full;
        }
        change.derp_region = Some(home);
    }
    if before.disco_key != after.disco_key {
        match after.disco_key {
            Some(key) if after.online => change.disco_key = Some(key),
            _ => return PeerUpdate::Full,
        }
    }
    if before.online != after.online {
        change.online = Some(after.online);
    }
    if !after.online && (before.last_seen != after.last_seen || before.online) {
        match after.last_seen {
            Some(time) => change.last_seen = Some(time),
            None => return PeerUpdate::Full,
        }
    }
    if change == empty {
        PeerUpdate::None
    } else {
        PeerUpdate::Patch(change)
    }
}

/// A patch sent beside the full node of an offline device. Go clients turn a full node that differs
/// only in patchable fields into a patch, and drop a new `LastSeen`.
pub fn last_seen(old: &Entry, new: &Entry) -> Option<PeerChange> {
    let (before, after) = (&old.live, &new.live);
    let is_news = !after.online
        && after.last_seen.is_some()
        && (before.online || before.last_seen != after.last_seen);
    is_news.then(|| PeerChange {
        node_id: new.device.id.get(),
        online: Some(false),
        last_seen: after.last_seen,
        ..PeerChange::default()
    })
}

/// Whether two states of a device look the same to peers, soft state apart.
fn equal_but_for_live(old: &Entry, new: &Entry, variant: &Variant) -> bool {
    let with_new_live = Entry::new(old.device.clone(), new.live.clone(), old.suffix.clone());
    peer(&with_new_live, variant) == peer(new, variant)
}
