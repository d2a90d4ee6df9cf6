//! Settings of the STUN responder.

use std::net::SocketAddr;

use super::address::Listen;
use super::section::section;
use super::server::Server;
use super::value::Whole;

/// STUN's registered port, which clients try when the DERP map names none.
const DEFAULT_PORT: u16 = 3478;

section! {
    /// The STUN responder, by which devices learn their public address. It belongs to the
    /// embedded relay's region.
    pub struct Stun["stun"] from server: &Server {
        /// The address and UDP port of STUN, or `off`.
        listen: Listen, flag "stun-listen", default "the address of `listen`, port 3478" {
            Listen::At(SocketAddr::new(server.listen.ip(), DEFAULT_PORT))
        };

        /// The UDP port that clients are told, where it is not the one that STUN listens on.
        public_port: Option<Whole<1, 65535>>, default "none" { None };
    }
}

impl Stun {
    /// The port that clients are told of a responder that listens on `bound`.
    #[must_use]
    pub fn told_port(&self, bound: u16) -> u16 {
        self.public_port
            .and_then(|port| u16::try_from(port.get()).ok())
            .unwrap_or(bound)
    }
}
