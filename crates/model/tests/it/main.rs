//! Tests of what is stored, and of the page on who may do what.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "what the settings allow in tests does not reach the functions that tests share"
)]

mod access;
mod bodies;
