//! The parts of a map response that are rendered for one viewer.
//!
//! A response is put together from shared fragments (peers, profiles) and these, so there is no
//! one struct for it. Source: `docs/protocol/control-protocol.md`, section 5.2.

/// The keep-alive message. The space is on purpose: clients of 1.90 to 1.103 remember the
/// compressed bytes of exactly `{"KeepAlive":true}` in a buffer that they reuse, and then drop a
/// later message of the same length (`docs/protocol/control-protocol.md`, 2.5).
pub const KEEP_ALIVE: &str = r#"{"KeepAlive": true}"#;

/// Name of the packet filter that holds everything, in `PacketFilters`.
pub const BASE_FILTER: &str = "base";
