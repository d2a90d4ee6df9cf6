//! Tests of what is stored.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "what the settings allow in tests does not reach the functions that tests share"
)]

mod bodies;
