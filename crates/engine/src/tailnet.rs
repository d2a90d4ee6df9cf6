//! Tailnets as wholes: how one is made, and what all hold in numbers.

pub(crate) mod census;
pub mod create;
