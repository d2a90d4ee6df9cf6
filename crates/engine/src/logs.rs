//! What was done, and what was refused.

pub mod audit_log;
pub(crate) mod refused;
pub(crate) mod retention;
