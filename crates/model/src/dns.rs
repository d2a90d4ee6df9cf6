//! The DNS record: what a tailnet's administrators set.

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

use crate::id::TailnetId;
use crate::kind::{Kind, Stored};
use crate::record::Record;

/// DNS settings of one tailnet. Order is kept everywhere: clients of the API compare it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Dns {
    /// Global nameservers.
    pub nameservers: Vec<Resolver>,
    /// Nameservers per domain, as it was written; no two are the same to clients ([`plain`]). No
    /// list is empty.
    #[serde(rename = "splitDNS")]
    pub split: IndexMap<String, Vec<Resolver>>,
    /// Search domains beside the tailnet's own.
    pub search_paths: Vec<String>,
    /// Whether names of devices resolve.
    #[serde(rename = "magicDNS")]
    pub magic_dns: bool,
    /// Whether clients use the global nameservers for everything, in place of the ones that their
    /// local network gave them.
    #[serde(rename = "overrideLocalDNS")]
    pub override_local_dns: bool,
}

impl Default for Dns {
    /// A new tailnet resolves the names of its devices and changes nothing else.
    fn default() -> Self {
        Self {
            nameservers: Vec::new(),
            split: IndexMap::new(),
            search_paths: Vec::new(),
            magic_dns: true,
            override_local_dns: false,
        }
    }
}

impl Record for Dns {
    const VERSION: u32 = 1;
}

impl Stored for Dns {
    const KIND: Kind = Kind::Dns;
    const NAME: &'static str = "dns";
    const TABLE: &'static str = "dns";
    type Id = TailnetId;

    fn id(&self, tailnet: TailnetId) -> TailnetId {
        tailnet
    }
}

/// One nameserver.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Resolver {
    /// IP address, `ip:port`, or `https://…` DNS-over-HTTPS URL.
    pub address: String,
    /// Whether it is used also while the client uses an exit node (clients of 1.88.1 and later).
    #[serde(default)]
    pub use_with_exit_node: bool,
}

/// A domain as clients compare it: in lower case, without a dot at the end.
pub fn plain(domain: &str) -> String {
    domain
        .strip_suffix('.')
        .unwrap_or(domain)
        .to_ascii_lowercase()
}

/// Whether a text can be a nameserver: an IP address, `ip:port`, or an `https://` URL with a host.
pub fn is_resolver_address(text: &str) -> bool {
    if text.parse::<std::net::IpAddr>().is_ok() || text.parse::<std::net::SocketAddr>().is_ok() {
        return true;
    }
    text.strip_prefix("https://").is_some_and(|rest| {
        let host = rest.split(['/', '?', '#']).next().unwrap_or("");
        let name = host.rsplit_once(':').map_or(host, |(name, port)| {
            if port.parse::<u16>().is_ok() {
                name
            } else {
                host
            }
        });
        crate::name::is_domain(name)
            && text.len() <= 2048
            && text
                .bytes()
                .all(|b| b.is_ascii_graphic() && !matches!(b, b'"' | b'\\' | b'<' | b'>'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nameservers_are_addresses_or_https_urls() {
        for text in [
            "8.8.8.8",
            "2606:4700::1111",
            "1.1.1.1:5353",
            "https://dns.google/dns-query",
            "https://dns.nextdns.io:443/abc",
        ] {
            assert!(is_resolver_address(text), "{text}");
        }
        for text in [
            "",
            "dns.google",
            "http://dns.google",
            "https://",
            "https://a\"b/",
            "8.8.8",
            "tls://1.1.1.1",
        ] {
            assert!(!is_resolver_address(text), "{text}");
        }
    }
}
