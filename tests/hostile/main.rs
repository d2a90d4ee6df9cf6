//! What hostile parties try, on the binary as people start it.
//!
//! Each module is one kind of attack. It asserts two things: that the attacker is held, and that
//! meanwhile another address and another tailnet are served in under a second ([`harness::Bystander`]).
//! The load is bounded and comes from loopback addresses: the attacker's is 127.0.0.66.

#![expect(
    clippy::unwrap_used,
    reason = "the whole of this is a test; clippy allows it in the test functions only"
)]

#[allow(dead_code, reason = "each attack uses a part of it")]
mod harness;
#[path = "../../crates/server/tests/it/home.rs"]
#[allow(
    dead_code,
    reason = "shared with the other tests of the binary, which use all of it"
)]
mod home;

mod acting;
mod bodies;
mod bystander;
mod connections;
mod fleet;
mod lists;
mod login_room;
mod plain_http;
mod policies;
mod relay;
mod said;
mod smaller;
mod unread;
