//! Settings before the first section: where the server is and what clients are told.

use std::net::SocketAddr;
use std::path::PathBuf;

use ipnet::IpNet;

use super::address::BaseUrl;
use super::section::section;
use super::value::Whole;

section! {
    /// Where the server keeps its data, listens, and is found by clients. In the file these stand
    /// before the first section.
    pub struct Server[""] {
        /// The data directory: the SQLite database, the keys and certificate that the server
        /// makes, and the socket of the command line.
        ///
        /// It is made with mode 0700 if it is not there. One server uses it at a time.
        data: PathBuf, flag "data", default "bowline-data" { PathBuf::from("bowline-data") };

        /// The address and port of the control protocol and the API: HTTP, or HTTPS with
        /// `tls_certificate_file`.
        ///
        /// The default is reached from this machine only. For clients elsewhere give it an address
        /// that they reach, or those of all interfaces (`0.0.0.0:443`, `[::]:443`), and set `url`.
        listen: SocketAddr, flag "listen", default "127.0.0.1:8080" {
            SocketAddr::from(([127, 0, 0, 1], 8080))
        };

        /// The address and port of the API, where it shall not be on `listen`.
        ///
        /// `listen` then has the control protocol, the pages and `/verify` alone, and this listener
        /// nothing but the API; `/health` is on both. It speaks HTTPS where `listen` does.
        api_listen: Option<SocketAddr>, default "none" { None };

        /// The certificate chain of `listen` and `api_listen`: PEM, its own certificate first.
        ///
        /// Set it together with `tls_key_file`. Both files are read again when they change, and on
        /// SIGHUP; a pair that cannot be used leaves the one before it in force.
        tls_certificate_file: Option<PathBuf>, default "none" { None };

        /// The private key of `tls_certificate_file`: PEM.
        tls_key_file: Option<PathBuf>, default "none" { None };

        /// The URL that clients and API users are told: in login lines, and as the relay's host.
        ///
        /// Scheme, host and perhaps a port, without a path. It must be set where `listen` is an
        /// address of all interfaces (`0.0.0.0`, `[::]`), since no client can go there. Behind a
        /// reverse proxy it is the proxy's URL. With `http://` its host must be this machine or a
        /// private address; see `allow_insecure_url`.
        url: BaseUrl, flag "url", default "`http://` or, with a certificate, `https://`, and `listen`" {
            BaseUrl::of(listen, tls_certificate_file.is_some())
        };

        /// Whether `url` may begin with `http://` though its host is a name or a public address.
        ///
        /// Without TLS clients cannot tell this server from somebody else on the way to it: who is
        /// there reads auth keys and API access tokens, and can answer in this server's place. So
        /// `http://` is for this machine and for private addresses (10.0.0.0/8, 172.16.0.0/12,
        /// 192.168.0.0/16, 100.64.0.0/10, 169.254.0.0/16, fc00::/7, fe80::/10), unless this is set.
        allow_insecure_url: bool, default "false" { false };

        /// From how many hours on a jump of the machine's clock is not followed before `bowline clock
        /// confirm`, or before the clock comes back. `0`: the clock is always believed.
        clock_jump_hours: Whole<0, 876_000>, default "24" { Whole::new(24) };

        /// The networks of reverse proxies whose `X-Forwarded-For` or `Forwarded` header is believed.
        ///
        /// The list is read from its end, past addresses of these networks. From everyone else the
        /// headers are ignored, and the address of the connection counts. Behind a proxy that is
        /// not named here all clients are one source, so that one of them can use up what all have.
        trusted_proxies: Vec<IpNet>, default "none" { Vec::new() };
    }
}
