//! Logs.

pub(crate) mod configuration;
