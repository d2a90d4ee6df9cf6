//! The client against servers on loopback, which a listed network lets it reach.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod client;
mod server;
