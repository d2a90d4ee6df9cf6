//! What was done, and what was refused.

pub(crate) mod refused;
pub(crate) mod retention;
