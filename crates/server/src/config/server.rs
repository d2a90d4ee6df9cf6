//! Settings before the first section: where the server is and what clients are told.

use std::net::SocketAddr;
use std::path::PathBuf;

use ipnet::IpNet;

use super::address::BaseUrl;
use super::section::section;

section! {
    /// Where the server keeps its data, listens, and is found by clients. In the file these stand
    /// before the first section.
    pub struct Server[""] {
        /// The data directory: the SQLite database, the keys and certificate that the server
        /// makes, and the socket of the command line.
        ///
        /// It is made with mode 0700 if it is not there. One server uses it at a time.
        data: PathBuf, flag "data", default "bowline-data" { PathBuf::from("bowline-data") };

        /// The address and port of the control protocol and the API: plain HTTP.
        ///
        /// The default is reached from this machine only. For clients elsewhere listen on
        /// `0.0.0.0:8080` or `[::]:8080` and set `url`.
        listen: SocketAddr, flag "listen", default "127.0.0.1:8080" {
            SocketAddr::from(([127, 0, 0, 1], 8080))
        };

        /// The URL that clients and API users are told: in login lines, and as the relay's host.
        ///
        /// Scheme, host and perhaps a port, without a path. It must be set where `listen` is an
        /// address of all interfaces (`0.0.0.0`, `[::]`), since no client can go there. Behind a
        /// reverse proxy it is the proxy's URL.
        url: BaseUrl, flag "url", default "`http://` and `listen`" { BaseUrl::plain(listen) };

        /// The networks of reverse proxies whose `X-Forwarded-For` header is believed.
        ///
        /// From everyone else the header is ignored, and the address of the connection counts.
        trusted_proxies: Vec<IpNet>, default "none" { Vec::new() };
    }
}
