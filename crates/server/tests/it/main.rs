//! The binary as people and programs use it.

#![expect(
    clippy::unwrap_used,
    reason = "the whole of this is a test; clippy allows it in the test functions only"
)]

mod audit;
mod backup;
mod commands;
mod database;
mod devices;
mod doctor;
mod documents;
mod elsewhere;
mod events;
mod home;
mod keys;
mod logins;
mod memory;
mod nothing_new;
mod placement;
mod policy;
mod process;
mod refusals;
mod secrets;
mod serving;
mod tls;
mod webhooks;
