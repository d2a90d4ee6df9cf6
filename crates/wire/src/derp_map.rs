//! The DERP map: which relays there are. Source: `docs/protocol/control-protocol.md`, section 9.4.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Number;

/// All relays. A client without one never starts.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct DerpMap {
    /// Do not add Tailscale's own regions.
    #[serde(rename = "omitDefaultRegions", default)]
    pub omit_default_regions: bool,
    /// Regions by id.
    #[serde(default)]
    pub regions: BTreeMap<u32, Region>,
}

/// A region: relays that are meshed with each other.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Region {
    /// Its id; own regions are 900 to 999.
    #[serde(rename = "RegionID", default)]
    pub id: u32,
    /// Short code.
    #[serde(rename = "RegionCode", default)]
    pub code: String,
    /// Name that people see.
    #[serde(rename = "RegionName", default)]
    pub name: String,
    /// Where it is, in degrees north.
    #[serde(rename = "Latitude", default, skip_serializing_if = "Option::is_none")]
    pub latitude: Option<Number>,
    /// Where it is, in degrees east.
    #[serde(rename = "Longitude", default, skip_serializing_if = "Option::is_none")]
    pub longitude: Option<Number>,
    /// Clients do not choose it as their home.
    #[serde(rename = "Avoid", default, skip_serializing_if = "std::ops::Not::not")]
    pub avoid: bool,
    /// Its relays; never empty.
    #[serde(rename = "Nodes", default)]
    pub nodes: Vec<Relay>,
}

/// One relay.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Relay {
    /// Unique over all regions.
    #[serde(rename = "Name", default)]
    pub name: String,
    /// Region that it is in.
    #[serde(rename = "RegionID", default)]
    pub region_id: u32,
    /// Host name; the certificate is for it.
    #[serde(rename = "HostName", default)]
    pub host_name: String,
    /// Expected certificate name, or `sha256-raw:<hex>` to pin a self-signed one.
    #[serde(rename = "CertName", default, skip_serializing_if = "String::is_empty")]
    pub cert_name: String,
    /// IPv4 address; empty: ask DNS; `none`: no IPv4.
    #[serde(rename = "IPv4", default, skip_serializing_if = "String::is_empty")]
    pub ipv4: String,
    /// IPv6 address; empty: ask DNS; `none`: no IPv6.
    #[serde(rename = "IPv6", default, skip_serializing_if = "String::is_empty")]
    pub ipv6: String,
    /// UDP port for STUN; 0: 3478; -1: none.
    #[serde(rename = "STUNPort", default, skip_serializing_if = "is_zero")]
    pub stun_port: i32,
    /// TCP port; 0: 443.
    #[serde(rename = "DERPPort", default, skip_serializing_if = "is_zero_u16")]
    pub derp_port: u16,
    /// It answers STUN and relays nothing.
    #[serde(
        rename = "STUNOnly",
        default,
        skip_serializing_if = "std::ops::Not::not"
    )]
    pub stun_only: bool,
    /// It answers on port 80, for finding captive portals.
    #[serde(
        rename = "CanPort80",
        default,
        skip_serializing_if = "std::ops::Not::not"
    )]
    pub can_port80: bool,
    /// Do not check the certificate (a pin in `CertName` is still checked since 1.82).
    #[serde(
        rename = "InsecureForTests",
        default,
        skip_serializing_if = "std::ops::Not::not"
    )]
    pub insecure_for_tests: bool,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the signature that serde asks for"
)]
fn is_zero(port: &i32) -> bool {
    *port == 0
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the signature that serde asks for"
)]
fn is_zero_u16(port: &u16) -> bool {
    *port == 0
}
