//! What must hold for any request body, for the fuzzer and for the tests that run its corpus.

use crate::hostinfo::{Hostinfo, for_peers, for_self};
use crate::map_request::MapRequest;
use crate::register::RegisterRequest;

/// Reads a registration.
///
/// # Panics
/// When a promise of [`RegisterRequest`] or [`Hostinfo`] is broken.
pub fn register(body: &[u8]) {
    if let Ok(request) = RegisterRequest::parse(body) {
        check(&request.hostinfo);
        assert!(request.old_node_key.is_none_or(|key| !key.is_zero()));
    }
}

/// Reads a map request.
///
/// # Panics
/// When a promise of [`MapRequest`] or [`Hostinfo`] is broken.
pub fn map(body: &[u8]) {
    if let Ok(request) = MapRequest::parse(body) {
        if let Some(hostinfo) = &request.hostinfo {
            check(hostinfo);
        }
        assert!(
            request
                .endpoints
                .is_none_or(|list| list.iter().all(|at| at.port() != 0))
        );
    }
}

/// What is sent on to clients has no escape, which the official Rust client could not read, and
/// what is stored reads back.
fn check(hostinfo: &Hostinfo) {
    for shown in [for_peers(&hostinfo.json), for_self(&hostinfo.json)] {
        assert!(!shown.to_string().contains('\\'), "an escape: {shown}");
    }
    assert!(for_peers(&hostinfo.json).get("BackendLogID").is_none());
    assert_eq!(
        Hostinfo::parse(hostinfo.json.as_str())
            .ok()
            .map(|again| again.facts)
            .as_ref(),
        Some(&hostinfo.facts)
    );
}
