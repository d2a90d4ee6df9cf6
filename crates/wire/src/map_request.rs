//! `POST /machine/map`: a client subscribes to its netmap, or reports about itself.

use std::net::{IpAddr, SocketAddr};

use bowline_model::key::{DiscoKey, NodeKey};

use crate::fields::{BadRequest, Fields};
use crate::hostinfo::{Hostinfo, TooLarge};

/// How a client wants map responses encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// Plain JSON.
    Plain,
    /// zstd frames.
    Zstd,
}

/// A map request. Source: `docs/protocol/control-protocol.md`, sections 2.6 and 5.1.
#[derive(Debug, Clone, PartialEq)]
pub struct MapRequest {
    /// Capability version. At most 65,535, as in the handshake: peers are told of it, and Go's `int`
    /// has 32 bits on some platforms.
    pub version: u32,
    /// How to encode the answer.
    pub encoding: Encoding,
    /// Node key of the device; the request's machine key must be the one that registered it.
    pub node_key: NodeKey,
    /// Path discovery key; the zero key counts as absent.
    pub disco_key: Option<DiscoKey>,
    /// A long poll. Otherwise one answer and the end.
    pub stream: bool,
    /// The client does not want peers: with `stream` false, a report that needs no answer.
    pub omit_peers: bool,
    /// The request must change nothing.
    pub read_only: bool,
    /// Where the device may be reached; absent when the client said nothing.
    pub endpoints: Option<Vec<SocketAddr>>,
    /// It said more endpoints than are kept.
    pub endpoints_shortened: bool,
    /// It says that its system does not forward IP packets, so that routes which it advertises do not
    /// work. Source: tailscale/tailscale `tailcfg/tailcfg.go`, `MapRequest.DebugFlags`.
    pub forwarding_off: bool,
    /// What it says of its machine.
    pub hostinfo: Option<Result<Hostinfo, TooLarge>>,
}

/// The debug flag of a device that advertises routes and does not forward IP packets.
const FORWARDING_OFF: &str = "warn-ip-forwarding-off";
/// The most endpoints of one device that are kept.
pub const ENDPOINTS_MAX: usize = 64;

impl MapRequest {
    /// Reads a request body.
    ///
    /// # Errors
    /// When it is not an object, or the node key is missing or a field has another type.
    pub fn parse(body: &[u8]) -> Result<Self, BadRequest> {
        let fields = Fields::parse(body)?;
        let compress: String = fields.or_default("Compress")?;
        let endpoints = fields.optional::<Vec<String>>("Endpoints")?;
        let mut endpoints: Option<Vec<SocketAddr>> =
            endpoints.map(|list| list.iter().filter_map(|text| endpoint(text)).collect());
        let endpoints_shortened = endpoints
            .as_ref()
            .is_some_and(|list| list.len() > ENDPOINTS_MAX);
        if let Some(list) = &mut endpoints {
            list.truncate(ENDPOINTS_MAX);
        }
        let flags: Vec<String> = fields.or_default("DebugFlags")?;
        Ok(Self {
            forwarding_off: flags.iter().any(|flag| flag == FORWARDING_OFF),
            version: fields.or_default::<u16>("Version")?.into(),
            encoding: if compress == "zstd" {
                Encoding::Zstd
            } else {
                Encoding::Plain
            },
            node_key: fields.required("NodeKey")?,
            disco_key: fields.optional_key("DiscoKey")?,
            stream: fields.or_default("Stream")?,
            omit_peers: fields.or_default("OmitPeers")?,
            read_only: fields.or_default("ReadOnly")?,
            endpoints,
            endpoints_shortened,
            hostinfo: fields
                .raw("Hostinfo")
                .map(|raw| Hostinfo::parse(raw.get()))
                .transpose()?,
        })
    }
}

/// An endpoint that peers can use: not IPv6 link-local, not with a zone, with a port.
fn endpoint(text: &str) -> Option<SocketAddr> {
    let address: SocketAddr = text.parse().ok()?;
    let usable = match address {
        SocketAddr::V4(_) => true,
        SocketAddr::V6(v6) => {
            v6.scope_id() == 0
                && !matches!(IpAddr::V6(*v6.ip()), IpAddr::V6(ip) if ip.is_unicast_link_local())
        }
    };
    (usable && address.port() != 0).then_some(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_that_no_peer_can_use_are_dropped() {
        let body = format!(
            r#"{{"NodeKey":"nodekey:{}","Endpoints":["10.0.0.1:41641","[fe80::1]:1","[fe80::1%eth0]:2","[2001:db8::1]:3","x","1.2.3.4:0"],"Stream":true}}"#,
            "01".repeat(32)
        );
        let request = MapRequest::parse(body.as_bytes()).unwrap();
        let endpoints: Vec<String> = request
            .endpoints
            .unwrap()
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(endpoints, ["10.0.0.1:41641", "[2001:db8::1]:3"]);
        assert_eq!(request.encoding, Encoding::Plain);
    }

    #[test]
    fn a_device_says_that_it_does_not_forward_packets() {
        let key = "01".repeat(32);
        for (flags, is_off) in [
            (r#""DebugFlags":["x","warn-ip-forwarding-off"],"#, true),
            (r#""DebugFlags":["warn-router-unhealthy"],"#, false),
            (r#""DebugFlags":null,"#, false),
            ("", false),
        ] {
            let body = format!(r#"{{{flags}"NodeKey":"nodekey:{key}"}}"#);
            let request = MapRequest::parse(body.as_bytes()).unwrap();
            assert_eq!(request.forwarding_off, is_off, "{flags}");
        }
    }

    #[test]
    fn the_rust_clients_spelling_of_hostinfo_is_understood() {
        let body = format!(
            r#"{{"NodeKey":"nodekey:{}","HostInfo":{{"Hostname":"x"}}}}"#,
            "01".repeat(32)
        );
        assert_eq!(
            MapRequest::parse(body.as_bytes())
                .unwrap()
                .hostinfo
                .unwrap()
                .unwrap()
                .facts
                .hostname,
            "x"
        );
    }
}
