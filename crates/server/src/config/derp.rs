//! Settings of the embedded relay.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::address::{HostName, Listen};
use super::section::section;
use super::server::Server;
use super::value::{Label, Whole};

/// The port that the relay takes when none is set.
const DEFAULT_PORT: u16 = 8443;

section! {
    /// The embedded relay: DERP over TLS, for devices that reach each other on no direct path. It
    /// admits the devices of this server only.
    pub struct Derp["derp"] from server: &Server {
        /// The address and port of the relay, or `off`.
        ///
        /// Clients don't start without any relay: with `off`, `map_file` has to name one.
        listen: Listen, flag "derp-listen", default "the address of `listen`, port 8443" {
            Listen::At(SocketAddr::new(server.listen.ip(), DEFAULT_PORT))
        };

        /// The name or address of the relay that clients are told.
        hostname: HostName, default "the host of `url`" { HostName::known(server.url.host()) };

        /// The port that clients are told, where it is not the one that the relay listens on.
        ///
        /// For example 443, when a packet filter sends that port on to the relay.
        public_port: Option<Whole<1, 65535>>, default "none" { None };

        /// The number of the relay's region. Clients expect 900 to 999 for regions of one's own.
        region_id: Whole<1, 65535>, default "900" { Whole::new(900) };

        /// The region's short name, as `tailscale netcheck` shows it.
        region_code: Label, default "bowline" { Label::known("bowline") };

        /// The region's name for people.
        region_name: Label, default "Bowline" { Label::known("Bowline") };

        /// The relay's certificate chain: PEM, its own certificate first.
        ///
        /// Without it the server makes a self-signed certificate in the data directory, and tells
        /// clients its fingerprint. Set it together with `key_file`.
        certificate_file: Option<PathBuf>, default "none" { None };

        /// The private key of `certificate_file`: PEM.
        key_file: Option<PathBuf>, default "none" { None };

        /// A file with further regions: a DERP map in JSON, as Tailscale publishes it.
        ///
        /// Its regions are added to the embedded relay's; the embedded one wins where a number
        /// is in both.
        map_file: Option<PathBuf>, default "none" { None };
    }
}

impl Derp {
    /// The region's number as the DERP map has it.
    #[must_use]
    pub fn region(&self) -> u16 {
        u16::try_from(self.region_id.get()).unwrap_or(u16::MAX)
    }

    /// The port that clients are told of a relay that listens on `bound`.
    #[must_use]
    pub fn told_port(&self, bound: u16) -> u16 {
        self.public_port
            .and_then(|port| u16::try_from(port.get()).ok())
            .unwrap_or(bound)
    }
}
