//! The relay and the STUN responder from outside, over memory and over loopback.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "what the tests share may fail as the tests do"
)]

mod corpus;
mod forwarding;
mod handshake;
mod harness;
mod http;
mod limits;
mod presence;
mod stun;
mod tailnets;
mod websocket;
