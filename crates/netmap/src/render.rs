//! Rendering of the parts of a map response. `node` turns a device into a node.

pub mod caps;
pub mod derp;
pub mod dns;
pub mod filter;
pub(crate) mod health;
pub mod node;
pub mod own;
pub mod profiles;
pub mod ssh;
pub mod update;
