//! What must hold for any request body, for the fuzzer and for the tests that run its corpus.

use bowline_model::device::HostFacts;

use crate::hostinfo::{Hostinfo, OwnHostinfo, PEERS_PART_MAX, PeerHostinfo};
use crate::map_request::{ENDPOINTS_MAX, MapRequest};
use crate::net_info::LATENCY_MAX;
use crate::register::RegisterRequest;

/// Reads a registration.
///
/// # Panics
/// When a promise of [`RegisterRequest`] or [`Hostinfo`] is broken.
pub fn register(body: &[u8]) {
    if let Ok(request) = RegisterRequest::parse(body) {
        if let Ok(hostinfo) = &request.hostinfo {
            check(hostinfo);
        }
        assert!(body.is_empty() || *request.node_key.as_bytes() != [0; 32]);
    }
}

/// Reads a map request.
///
/// # Panics
/// When a promise of [`MapRequest`] or [`Hostinfo`] is broken.
pub fn map(body: &[u8]) {
    if let Ok(request) = MapRequest::parse(body) {
        if let Some(Ok(hostinfo)) = &request.hostinfo {
            check(hostinfo);
        }
        assert!(
            request.endpoints.is_none_or(
                |list| list.len() <= ENDPOINTS_MAX && list.iter().all(|at| at.port() != 0)
            )
        );
    }
}

/// What is sent on to clients has no escape, which the official Rust client could not read, and
/// what is stored reads back.
fn check(hostinfo: &Hostinfo) {
    let text = |shown: Result<String, serde_json::Error>| shown.unwrap_or_else(|_| "\\".to_owned());
    let peers = text(serde_json::to_string(&PeerHostinfo::of(&hostinfo.json)));
    let own = text(serde_json::to_string(&OwnHostinfo::of(&hostinfo.json)));
    for shown in [&peers, &own] {
        assert!(!shown.contains('\\'), "an escape: {shown}");
    }
    assert!(!peers.contains("BackendLogID"));
    assert!(peers.len() <= PEERS_PART_MAX, "too long: {peers}");
    let again = Hostinfo::parse(hostinfo.json.as_str())
        .ok()
        .and_then(Result::ok);
    let facts = again.map(|again| HostFacts {
        shortened: hostinfo.facts.shortened.clone(),
        ..again.facts
    });
    assert_eq!(facts.as_ref(), Some(&hostinfo.facts));
    if let Some(net_info) = &hostinfo.net_info {
        let good = |seconds: &f64| (0.0..=LATENCY_MAX).contains(seconds);
        assert!(net_info.derp_latency.values().all(good));
    }
}
