//! Settings of the metrics listener.

use std::net::SocketAddr;

use super::address::Listen;
use super::section::section;

section! {
    /// The listener for Prometheus. It serves `GET /metrics` and asks for no credential, so it
    /// stands apart from the API.
    pub struct Metrics["metrics"] {
        /// The address and port of `/metrics`, or `off`.
        listen: Listen, flag "metrics-listen", default "127.0.0.1:9090" {
            Listen::At(SocketAddr::from(([127, 0, 0, 1], 9090)))
        };
    }
}
