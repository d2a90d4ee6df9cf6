//! Settings of the embedded relay.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::address::{HostName, Listen};
use super::section::section;
use super::server::Server;
use super::value::{Label, Value, Whole};

/// Where the TLS of relay connections ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RelayTls {
    /// At the relay.
    Here,
    /// At a proxy, which makes TLS of its own to the relay.
    Proxy,
    /// At a proxy, which speaks plain HTTP to the relay.
    ProxyPlain,
}

impl Value for RelayTls {
    fn expected() -> String {
        "here, proxy or proxy-plain".to_owned()
    }

    fn from_text(text: &str) -> Option<Self> {
        match text {
            "here" => Some(Self::Here),
            "proxy" => Some(Self::Proxy),
            "proxy-plain" => Some(Self::ProxyPlain),
            _ => None,
        }
    }

    fn show(&self) -> String {
        match self {
            Self::Here => "here",
            Self::Proxy => "proxy",
            Self::ProxyPlain => "proxy-plain",
        }
        .to_owned()
    }
}

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

        /// Where the relay's TLS ends: `here`, or at a reverse proxy in front of it, which speaks
        /// TLS (`proxy`) or plain HTTP (`proxy-plain`) to the relay.
        ///
        /// Behind a proxy clients check the proxy's certificate for `hostname` and are told no
        /// fingerprint, so it must be one that they trust. Set `public_port` to the proxy's port.
        tls: RelayTls, default "here" { RelayTls::Here };

        /// The relay's certificate chain: PEM, its own certificate first.
        ///
        /// Without it the server makes a self-signed certificate in the data directory, and tells
        /// clients its fingerprint. Set it together with `key_file`. Both files are read again
        /// when they change, and on SIGHUP.
        certificate_file: Option<PathBuf>,
            default "`tls_certificate_file`, where `hostname` is the host of `url`" {
            server.tls_certificate_file.clone().filter(|_| hostname.is(server.url.host()))
        };

        /// The private key of `certificate_file`: PEM.
        key_file: Option<PathBuf>, default "`tls_key_file`, where `hostname` is the host of `url`" {
            server.tls_key_file.clone().filter(|_| hostname.is(server.url.host()))
        };

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
