//! Use cases of the engine, on a real database.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

mod acting;
mod audit;
mod change;
mod clock;
mod crash;
mod due;
mod events;
mod full_store;
mod login;
mod names;
mod net;
mod oauth;
mod people;
mod policy_file;
mod presence;
mod register;
mod reminders;
mod reports;
mod retention;
mod server_wide;
mod ssh_check;
mod stalled_store;
mod start;
mod tags;
mod takeover;
mod unknown;
mod webhook_verifiers;
mod webhooks;
mod workload;
