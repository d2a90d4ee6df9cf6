//! The control protocol of a server in this process, spoken by the tests' own client.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

mod id_token;
mod liveness;
mod login;
mod machine;
mod map;
mod server;
mod ssh_action;
mod websocket;
