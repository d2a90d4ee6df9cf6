//! A model of how Tailscale clients apply map responses, for tests.
//!
//! It answers two questions about a stream of messages: would a client accept them, and what would
//! it know after them. The second is what the law of deltas is tested with: a client that got a
//! full map and then a delta must know the same as one that got the later full map.
//!
//! It is pure: no IO, no clock, no randomness. It must never depend on the code that makes the
//! messages, or it would repeat that code's mistakes.
//!
//! ```
//! use bowline_modelclient::{ModelClient, Rules};
//!
//! let mut client = ModelClient::new(Rules { complete_first: false, ..Rules::default() });
//! let delta = br#"{"PeersRemoved":[7]}"#;
//! let violation = client.apply(delta).unwrap_err();
//! assert_eq!(violation.rule, bowline_modelclient::Rule::FirstWithoutNode);
//! ```
//!
//! Source: tailscale `control/controlclient/map.go`, `control/controlclient/direct.go`;
//! tailscale-rs `ts_control_serde/src/netmap.rs`, `ts_control/src/client/map_stream.rs`.

mod check;
mod filter;
mod json;
mod node;
mod peers;
mod schema;
mod session;
mod violation;

pub use session::{ModelClient, Rules};
pub use violation::{ProtocolViolation, Rule};
