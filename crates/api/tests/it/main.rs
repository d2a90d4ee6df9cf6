//! The API as its callers see it: a real engine on SQLite, driven through the router.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "what the settings allow in tests does not reach the functions that tests share"
)]

mod access;
mod access_table;
mod attributes;
mod bodies;
mod clock;
mod devices;
mod differences;
mod dns;
mod document;
mod errors;
mod events;
mod identify;
mod keys;
mod largest;
mod limits;
mod logs;
mod oauth;
mod policy;
mod policy_questions;
mod reference;
mod requests;
mod schema;
mod secrets;
mod server;
mod tags;
mod tailnets;
mod user_changes;
mod users;
mod waiting;
mod webhooks;
mod workload;
