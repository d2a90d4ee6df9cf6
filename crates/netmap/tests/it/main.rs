//! The laws of the core, and what views never show.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

mod bytes;
mod history;
mod hot;
mod law;
mod message;
mod policy;
mod records;
mod said;
mod view;
