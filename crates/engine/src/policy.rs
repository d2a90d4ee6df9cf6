//! The policy file of a tailnet.

pub mod file;
