//! Tests that need more than one module: recordings of the real service, properties, cases.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "tests stop at the first surprise, and the recordings' runner prints a table"
)]

mod bombs;
mod chains;
mod corpus;
mod errors;
mod properties;
mod questions;
mod recordings;
mod sections;
