//! Packet filters: what a device accepts from whom.
//!
//! Source: `control-protocol` facts, section 7 (ts-go `tailcfg/tailcfg.go`, `FilterRule`).

use serde::Serialize;

/// One rule. The receiving device enforces it; what no rule allows is dropped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FilterRule {
    /// Sources: addresses, prefixes without host bits, `a-b` ranges, or `*`.
    #[serde(rename = "SrcIPs")]
    pub src_ips: Vec<String>,
    /// Destinations and ports.
    #[serde(rename = "DstPorts", skip_serializing_if = "Vec::is_empty")]
    pub dst_ports: Vec<NetPortRange>,
    /// IP protocol numbers. Empty: TCP, UDP and ICMP.
    #[serde(rename = "IPProto", skip_serializing_if = "Vec::is_empty")]
    pub ip_proto: Vec<u8>,
}

/// A destination and a range of its ports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NetPortRange {
    /// Address, prefix, range or `*`.
    #[serde(rename = "IP")]
    pub ip: String,
    /// Ports.
    #[serde(rename = "Ports")]
    pub ports: PortRange,
}

/// A range of ports, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct PortRange {
    /// First port.
    pub first: u16,
    /// Last port.
    pub last: u16,
}

impl PortRange {
    /// Every port.
    pub const ALL: Self = Self {
        first: 0,
        last: 65_535,
    };
}
