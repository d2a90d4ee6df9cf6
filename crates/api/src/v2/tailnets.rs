//! Tailnets of the server: for its operator only. Operations of ours.

pub(crate) mod create;
pub(crate) mod list;
