//! Routes that the policy's `autoApprovers` approve.
//!
//! Source: `docs/protocol/policy-language.md`, section 7.4: approval happens when routes are advertised or
//! the policy changes, and an approver who is taken away withdraws nothing.

use std::collections::HashSet;
use std::sync::Arc;

use bowline_model::address::{is_exit_route, sort_routes};
use bowline_model::device::Device;
use bowline_model::event::{DeviceRef, Event};
use bowline_model::id::DeviceId;
use bowline_netmap::snapshot::Snapshot;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::core::draft::Draft;

/// The most routes that somebody may enable on one device. Clients' advertisements are cut there too.
pub(crate) const ROUTES_MAX: usize = 1024;

/// Both routes of an exit node, which is one only with both. The policy approves them together.
const EXIT_ROUTES: [IpNet; 2] = [
    IpNet::V4(Ipv4Net::new_assert(std::net::Ipv4Addr::UNSPECIFIED, 0)),
    IpNet::V6(Ipv6Net::new_assert(std::net::Ipv6Addr::UNSPECIFIED, 0)),
];

/// Enables the routes that a device advertises and that the policy in force approves by itself.
/// Says whether anything changed. Doing it twice is the same as once; a device that waits for
/// approval gets nothing until it has it.
///
/// To be called after the device's record (or the policy) is in the draft, by whatever changes
/// what a device advertises, its owner, its tags, its approval, or the policy.
pub(crate) fn approve_routes(draft: &mut Draft<'_>, id: DeviceId) -> bool {
    let Some((device, approved)) = approvable(draft.view(), id) else {
        return false;
    };
    enable(draft, &device, approved);
    true
}

/// The device and its not yet enabled routes that the policy approves; `None` if there are none.
fn approvable(snapshot: &Snapshot, id: DeviceId) -> Option<(Arc<Device>, Vec<IpNet>)> {
    let device = snapshot.device(id)?.device.clone();
    // The policy is asked only where there is something to approve: most devices route nothing.
    let enabled: HashSet<&IpNet> = device.enabled_routes.iter().collect();
    let is_enabled = |route: &IpNet| enabled.contains(route);
    if device.facts.advertised_routes.iter().all(is_enabled) {
        return None;
    }
    let mut approved = snapshot.compiled().auto_approved_routes(id.get());
    if approved.iter().any(is_exit_route) {
        approved.extend(EXIT_ROUTES);
    }
    approved.retain(|route| !is_enabled(route));
    (!approved.is_empty()).then(|| (device.clone(), approved))
}

fn enable(draft: &mut Draft<'_>, device: &Device, mut approved: Vec<IpNet>) {
    let mut enabled_routes = device.enabled_routes.clone();
    if enabled_routes.len() + approved.len() > ROUTES_MAX {
        // A connector that learns addresses all the time must not make its record grow for ever:
        // what it advertises no more makes room.
        let advertised: HashSet<&IpNet> = device.facts.advertised_routes.iter().collect();
        enabled_routes.retain(|route| advertised.contains(route));
    }
    enabled_routes.append(&mut approved);
    sort_routes(&mut enabled_routes);
    draft.audit(Event::DeviceRoutesApproved {
        device: DeviceRef::of(device),
        old: device.enabled_routes.clone(),
        new: enabled_routes.clone(),
    });
    draft.put(Device {
        enabled_routes,
        ..device.clone()
    });
}

/// The same for every device. The policy is applied to the tailnet once for all of them: that one
/// device's routes are approved changes nothing for another's.
pub(crate) fn approve_all_routes(draft: &mut Draft<'_>) {
    let snapshot = draft.view();
    let all: Vec<_> = snapshot
        .devices()
        .filter_map(|entry| approvable(snapshot, entry.device.id))
        .collect();
    for (device, approved) in all {
        enable(draft, &device, approved);
    }
}
