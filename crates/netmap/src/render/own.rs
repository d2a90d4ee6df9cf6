//! A device as it sees itself.

use bowline_wire::hostinfo::OwnHostinfo;
use bowline_wire::node::{Node, NodeHostinfo};

use crate::chunk::Entry;
use crate::render::{caps, node};
use crate::snapshot::Snapshot;

/// A device as it sees itself: with its machine key, its whole host info, all its routes and all
/// capabilities; without what only peers need (endpoints, last seen), so that its own reports do
/// not come back to it as changes.
pub fn node(entry: &Entry, snapshot: &Snapshot) -> Node {
    let device = &entry.device;
    let policy = snapshot.applied_policy();
    let addresses = node::addresses(device, policy.without_ipv4().contains(&device.id));
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
        primary_routes: policy.net().primary_routes(device.id.get()),
        addresses,
        ..node::base(device, &entry.live, &entry.suffix)
    }
}
