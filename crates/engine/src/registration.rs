//! How a device joins a tailnet and stays in it: registration, and what lets it in.

pub(crate) mod admit;
pub mod register;
