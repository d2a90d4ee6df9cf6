//! The part of a device's host info that its peers see.

use bowline_model::record::RawJson;
use serde::Serialize;

use super::read::{self, Location, Members, Service};
use crate::fields::Fields;

/// The most bytes of JSON that one device has in each of its peers' maps for its host info.
pub const PEERS_PART_MAX: usize = 8 * 1024;

/// Kinds of services that peers are told of. The official Rust client knows a closed set of kinds.
const FOR_PEERS: [&str; 3] = ["peerapi4", "peerapi6", "peerapi-dns-proxy"];

/// What peers need to know of a device: to find its services (Taildrop, exit-node DNS), its SSH host
/// keys, its system, and its place. Never log ids, push tokens, latencies, hardware addresses or
/// open ports.
///
/// Each member has the clients' own type, at most [`PEERS_PART_MAX`] bytes in all. Absent: nothing
/// was said, or it did not fit.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct PeerHostinfo {
    /// Program that embeds the client.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub app: String,
    /// Whether it is an app connector; absent: not said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub app_connector: Option<bool>,
    /// Host name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub hostname: String,
    /// It has an endpoint that is open to the internet.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub ingress_enabled: bool,
    /// Where it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub location: Option<Location>,
    /// Operating system.
    #[serde(rename = "OS", skip_serializing_if = "String::is_empty")]
    pub os: String,
    /// Services for peers only (`peerapi…`).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub services: Vec<Service>,
    /// It is in the map because it belongs to a user something is shared with.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub sharee_node: bool,
    /// It would like to be reachable from the internet.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub wire_ingress: bool,
    /// Its SSH host keys, a line of `known_hosts` each without the host.
    #[serde(rename = "sshHostKeys", skip_serializing_if = "Vec::is_empty")]
    pub ssh_host_keys: Vec<String>,
}

impl PeerHostinfo {
    /// Reads it from a host info, whatever is stored there: older servers kept what they were sent.
    pub fn of(json: &RawJson) -> Self {
        Fields::parse(json.as_str().as_bytes())
            .map(|fields| Self::read(&fields).0)
            .unwrap_or_default()
    }

    /// The same, and whether it had to be shortened to [`PEERS_PART_MAX`].
    pub(super) fn read(fields: &Fields<'_>) -> (Self, bool) {
        let mut members = Members::new(fields);
        let mut services = members.take("Services", read::services).unwrap_or_default();
        services.retain(|service| FOR_PEERS.contains(&service.proto.as_str()));
        let keys = members
            .take("sshHostKeys", read::host_keys)
            .unwrap_or_default();
        let mut peer = Self {
            app: members.text("App"),
            app_connector: members.take("AppConnector", read::exact),
            hostname: members.text("Hostname"),
            ingress_enabled: members.flag("IngressEnabled"),
            location: members.take("Location", read::location),
            os: members.text("OS"),
            sharee_node: members.flag("ShareeNode"),
            wire_ingress: members.flag("WireIngress"),
            ..Self::default()
        };
        // The texts alone always fit. Without its services a device is of less use to its peers than
        // without a host key, which they ask for at the first session then.
        let mut left = PEERS_PART_MAX.saturating_sub(length(&peer) + 64);
        let all = services.len() + keys.len();
        peer.services = fitting(services, &mut left);
        peer.ssh_host_keys = fitting(keys, &mut left);
        let is_shortened = peer.services.len() + peer.ssh_host_keys.len() < all;
        (peer, is_shortened)
    }
}

fn length<T: Serialize>(value: &T) -> usize {
    // Serialising into memory fails only for maps whose keys are not strings; there are none.
    serde_json::to_string(value).map_or(PEERS_PART_MAX, |json| json.len())
}

/// The first entries of a list that there is room for.
fn fitting<T: Serialize>(list: Vec<T>, left: &mut usize) -> Vec<T> {
    let mut fits = |entry: &T| {
        let length = length(entry) + 1;
        let fits = length <= *left;
        *left = if fits { *left - length } else { 0 };
        fits
    };
    list.into_iter().take_while(|entry| fits(entry)).collect()
}
