//! How peers are shown to viewers.

use std::sync::Arc;

use bowline_model::address::is_exit_route;
use ipnet::IpNet;

/// How a peer is shown to a viewer, apart from what all viewers see alike.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Variant {
    /// Without its IPv4 address.
    pub without_ipv4: bool,
    /// Its routes that the viewer is told of, sorted.
    pub routes: Arc<[IpNet]>,
}

impl Variant {
    /// Whether it is how most peers are shown.
    pub fn is_plain(&self) -> bool {
        !self.without_ipv4 && self.routes.is_empty()
    }

    /// The subnet routes among its routes.
    pub fn subnets(&self) -> impl Iterator<Item = &IpNet> {
        self.routes.iter().filter(|route| !is_exit_route(route))
    }

    /// Whether it is an exit node.
    pub fn is_exit_node(&self) -> bool {
        self.routes.iter().any(is_exit_route)
    }
}
