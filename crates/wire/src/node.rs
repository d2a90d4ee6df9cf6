//! Nodes: devices as clients see them. Source: `docs/protocol/control-protocol.md`, section 5.3.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use bowline_model::key::{DiscoKey, MachineKey, NodeKey};
use ipnet::IpNet;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

use crate::hostinfo::{OwnHostinfo, PeerHostinfo};

/// The host info of a node. There is no way to put JSON into it that was not read into the clients'
/// types.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum NodeHostinfo {
    /// What peers see.
    Peer(Box<PeerHostinfo>),
    /// What the node itself gets back.
    Own(OwnHostinfo),
}

/// One node, complete.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Node {
    /// Positive, never reused, below 2^53.
    #[serde(rename = "ID")]
    pub id: u64,
    /// Never empty, or the client forgets its login.
    #[serde(rename = "StableID")]
    pub stable_id: String,
    /// Full name with a dot at the end.
    #[serde(rename = "Name")]
    pub name: String,
    /// The owner; a profile of this id must be known to the client.
    #[serde(rename = "User")]
    pub user: u64,
    /// Node key.
    #[serde(rename = "Key")]
    pub key: NodeKey,
    /// When it expires; absent: never.
    #[serde(rename = "KeyExpiry", skip_serializing_if = "Option::is_none")]
    pub key_expiry: Option<Timestamp>,
    /// Machine key; only in a node's view of itself.
    #[serde(rename = "Machine", skip_serializing_if = "Option::is_none")]
    pub machine: Option<MachineKey>,
    /// Path discovery key.
    #[serde(rename = "DiscoKey", skip_serializing_if = "Option::is_none")]
    pub disco_key: Option<DiscoKey>,
    /// Exactly one IPv4 and one IPv6 host prefix, in this order.
    #[serde(rename = "Addresses")]
    pub addresses: Vec<IpNet>,
    /// Own addresses and the routes that the viewer may use through it.
    #[serde(rename = "AllowedIPs")]
    pub allowed_ips: Vec<IpNet>,
    /// Where it may be reached. Always there: a client that has other endpoints of the node keeps
    /// them when the list is absent, and drops them for `[]`.
    #[serde(rename = "Endpoints")]
    pub endpoints: Vec<SocketAddr>,
    /// Region of its relay; 0 when not known.
    #[serde(rename = "HomeDERP", skip_serializing_if = "is_zero")]
    pub home_derp: u32,
    /// Never `null`.
    #[serde(rename = "Hostinfo")]
    pub hostinfo: NodeHostinfo,
    /// When it was registered.
    #[serde(rename = "Created")]
    pub created: Timestamp,
    /// Capability version.
    #[serde(rename = "Cap", skip_serializing_if = "is_zero")]
    pub cap: u32,
    /// Its tags.
    #[serde(rename = "Tags", skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// Subnet routes that it is the elected router of.
    #[serde(rename = "PrimaryRoutes", skip_serializing_if = "Vec::is_empty")]
    pub primary_routes: Vec<IpNet>,
    /// When it was last connected; only when it is offline.
    #[serde(rename = "LastSeen", skip_serializing_if = "Option::is_none")]
    pub last_seen: Option<Timestamp>,
    /// Whether it is connected.
    #[serde(rename = "Online")]
    pub online: bool,
    /// Whether it may exchange traffic.
    #[serde(rename = "MachineAuthorized")]
    pub machine_authorized: bool,
    /// Capabilities: all of them each time, since absence turns one off.
    #[serde(rename = "CapMap", skip_serializing_if = "BTreeMap::is_empty")]
    pub cap_map: BTreeMap<String, Vec<Value>>,
    /// The node key has expired.
    #[serde(rename = "Expired", skip_serializing_if = "std::ops::Not::not")]
    pub expired: bool,
}

/// A change of a peer that clients apply without rebuilding their netmap. Absent: unchanged.
/// A patch cannot clear a field.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct PeerChange {
    /// Which node.
    #[serde(rename = "NodeID")]
    pub node_id: u64,
    /// New region of its relay.
    #[serde(rename = "DERPRegion", skip_serializing_if = "Option::is_none")]
    pub derp_region: Option<u32>,
    /// New endpoints; never empty.
    #[serde(rename = "Endpoints", skip_serializing_if = "Option::is_none")]
    pub endpoints: Option<Vec<SocketAddr>>,
    /// New path discovery key.
    #[serde(rename = "DiscoKey", skip_serializing_if = "Option::is_none")]
    pub disco_key: Option<DiscoKey>,
    /// Whether it is connected.
    #[serde(rename = "Online", skip_serializing_if = "Option::is_none")]
    pub online: Option<bool>,
    /// When it was last connected.
    #[serde(rename = "LastSeen", skip_serializing_if = "Option::is_none")]
    pub last_seen: Option<Timestamp>,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the signature that serde asks for"
)]
fn is_zero(number: &u32) -> bool {
    *number == 0
}
