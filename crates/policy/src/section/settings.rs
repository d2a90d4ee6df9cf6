//! The single settings: `derpMap`, `disableIPv4`, `OneCGNATRoute`, `randomizeClientPort`.

use super::derp_map::RelayMap;
use crate::decode::Part;
use crate::diagnostic::Diagnostic;
use crate::hujson::quote;

/// Settings of the whole tailnet that stand in the policy.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PolicySettings {
    /// `derpMap`; `None` if absent.
    pub derp_map: Option<RelayMap>,
    /// Devices get no IPv4 addresses.
    pub disable_ipv4: bool,
    /// `OneCGNATRoute`: empty, `mac-always` or `mac-never`.
    pub one_cgnat_route: String,
    /// All devices get the attribute `randomize-client-port`.
    pub randomize_client_port: bool,
}

/// Checks `OneCGNATRoute`.
pub(crate) fn one_cgnat_route(part: Part<'_>) -> Result<String, Diagnostic> {
    let text = part.text()?;
    match text.text.as_str() {
        "" | "mac-always" | "mac-never" => Ok(text.text),
        other => {
            let message = format!("OneCGNATRoute: {} is not a known value", quote(other));
            Err(Diagnostic::new(text.place, message))
        }
    }
}
