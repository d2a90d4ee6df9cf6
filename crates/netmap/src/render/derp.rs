//! The DERP map as a client of some version can use it.

use bowline_wire::capability::{CapabilityVersion, PINNED_RELAY_CERTIFICATE};
use bowline_wire::derp_map::DerpMap;

/// The map for a client. A relay whose self-signed certificate is pinned (`sha256-raw:`) is sent
/// without the pin to clients before release 1.82: they take `CertName` for a DNS name, so that
/// the relay would fail (`docs/protocol/control-protocol.md`, 9.4).
pub fn map(all: &DerpMap, version: CapabilityVersion) -> DerpMap {
    let mut map = all.clone();
    if version < PINNED_RELAY_CERTIFICATE {
        for relay in map
            .regions
            .values_mut()
            .flat_map(|region| &mut region.nodes)
        {
            if relay.cert_name.starts_with("sha256-raw:") {
                relay.cert_name.clear();
            }
        }
    }
    map.regions.retain(|_, region| !region.nodes.is_empty());
    map
}
