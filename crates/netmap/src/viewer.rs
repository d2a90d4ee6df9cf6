//! Whom a map is made for.

use bowline_model::id::DeviceId;
use bowline_wire::capability::CapabilityVersion;
use bowline_wire::map_request::Encoding;

/// Who looks, and how they want it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Viewer {
    /// The device.
    pub device: DeviceId,
    /// Its capability version.
    pub version: CapabilityVersion,
    /// How to encode what it gets.
    pub encoding: Encoding,
    /// Whether its client may upload its logs to Tailscale.
    pub log_upload: bool,
}
