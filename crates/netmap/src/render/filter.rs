//! The packet filter of a device under the default policy: every device may reach every other,
//! and the subnets behind it.

use bowline_model::address::is_exit_route;
use bowline_wire::filter::{FilterRule, NetPortRange, PortRange};

use crate::chunk::Entry;
use crate::snapshot::Snapshot;
use crate::visibility;

/// The tailnet's own ranges: 100.64.0.0/10 without the part that belongs to `ChromeOS`, and the
/// IPv6 range.
const TAILNET: [&str; 3] = [
    "100.64.0.0-100.115.91.255",
    "100.115.94.0-100.127.255.255",
    "fd7a:115c:a1e0::/48",
];

/// The rules of a device. Empty: it accepts nothing, because it waits for approval or its key has
/// expired.
pub fn rules(entry: &Entry, snapshot: &Snapshot) -> Vec<FilterRule> {
    if !visibility::sees_peers(entry) {
        return Vec::new();
    }
    let mut src_ips: Vec<String> = TAILNET.iter().map(ToString::to_string).collect();
    src_ips.extend(
        snapshot
            .routed()
            .filter(|route| !is_exit_route(route))
            .map(ToString::to_string),
    );
    vec![FilterRule {
        src_ips,
        dst_ports: vec![NetPortRange {
            ip: "*".to_owned(),
            ports: PortRange::ALL,
        }],
        ip_proto: Vec::new(),
    }]
}
