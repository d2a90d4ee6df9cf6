//! Tests of the store as its users see it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stderr,
    reason = "what the settings allow in tests does not reach the functions that tests share"
)]

mod backup;
mod chain;
mod contract;
mod crash;
mod damage;
mod database;
mod file;
mod full_disk;
mod lease;
mod model;
mod network;
mod pool;
mod replaced;
mod rows;
mod wire;
