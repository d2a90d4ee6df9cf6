//! Values that are addresses: of listeners, of the server, of relays and domains.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use super::value::Value;

/// Where an optional listener listens: an address and port, or `off`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listen {
    /// No listener.
    Off,
    /// A listener at this address; port 0 takes a free one.
    At(SocketAddr),
}

impl Listen {
    /// The address, unless it is off.
    #[must_use]
    pub const fn address(self) -> Option<SocketAddr> {
        match self {
            Self::Off => None,
            Self::At(address) => Some(address),
        }
    }
}

impl Value for Listen {
    fn expected() -> String {
        "an IP address and a port, such as 127.0.0.1:8080 or [::1]:8080, or off".to_owned()
    }

    fn from_text(text: &str) -> Option<Self> {
        if text == "off" {
            return Some(Self::Off);
        }
        text.parse().ok().map(Self::At)
    }

    fn show(&self) -> String {
        match self {
            Self::Off => "off".to_owned(),
            Self::At(address) => address.to_string(),
        }
    }
}

/// The URL that clients and API users are told: scheme, host and perhaps a port, no path.
/// Example: `https://bowline.example.com`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseUrl {
    text: String,
    host: String,
    port: Option<u16>,
}

impl BaseUrl {
    /// `http://` or `https://`, and this address.
    #[must_use]
    pub fn of(address: SocketAddr, is_tls: bool) -> Self {
        let scheme = if is_tls { "https" } else { "http" };
        Self {
            text: format!("{scheme}://{address}"),
            host: address.ip().to_string(),
            port: Some(address.port()),
        }
    }

    /// The same host at another port.
    #[must_use]
    pub fn at(&self, port: u16, is_tls: bool) -> Self {
        let scheme = if is_tls { "https" } else { "http" };
        let host = if self.host.contains(':') {
            format!("[{}]", self.host)
        } else {
            self.host.clone()
        };
        Self {
            text: format!("{scheme}://{host}:{port}"),
            host: self.host.clone(),
            port: Some(port),
        }
    }

    /// The URL without a slash at its end.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The host's name or address; an IPv6 address is without its brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Whether clients come over TLS.
    #[must_use]
    pub fn is_https(&self) -> bool {
        self.text.starts_with("https://")
    }

    /// Whether the host is this machine.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        if let Ok(ip) = self.host.parse::<IpAddr>() {
            return ip.to_canonical().is_loopback();
        }
        let name = self.host.to_ascii_lowercase();
        name == "localhost" || name.ends_with(".localhost")
    }

    /// Whether what passes between clients and this URL stays within one network: the host is this
    /// machine or an address that is not routed on the internet. A name may lead anywhere.
    #[must_use]
    pub fn is_private(&self) -> bool {
        let ip = self.host.parse::<IpAddr>().map(|ip| ip.to_canonical());
        self.is_loopback()
            || match ip {
                Ok(IpAddr::V4(ip)) => {
                    let is_shared = ip.octets()[0] == 100 && ip.octets()[1] & 0xc0 == 64;
                    ip.is_private() || ip.is_link_local() || is_shared
                }
                Ok(IpAddr::V6(ip)) => ip.is_unique_local() || ip.is_unicast_link_local(),
                Err(_) => false,
            }
    }

    /// The port that the URL names or, by its scheme, implies.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port.unwrap_or(if self.is_https() { 443 } else { 80 })
    }
}

impl fmt::Display for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Value for BaseUrl {
    fn expected() -> String {
        "a URL without a path, such as https://bowline.example.com or http://192.168.1.10:8080"
            .to_owned()
    }

    fn from_text(text: &str) -> Option<Self> {
        let uri: http::Uri = text.parse().ok()?;
        let scheme = uri.scheme_str()?;
        let authority = uri.authority()?;
        let has_only_authority = uri.path() == "/" && uri.query().is_none();
        // The text form is compared as well: `http` drops a fragment without a word.
        let text = text.strip_suffix('/').unwrap_or(text);
        if !matches!(scheme, "http" | "https")
            || !has_only_authority
            || authority.as_str().contains('@')
            || text != format!("{scheme}://{authority}")
        {
            return None;
        }
        let bracketed = authority.host();
        let host = bracketed
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
            .unwrap_or(bracketed);
        if host.parse::<IpAddr>().is_err() && !is_host_name(host) {
            return None;
        }
        let rest = &authority.as_str()[bracketed.len()..];
        let port = match rest.strip_prefix(':') {
            None => None,
            Some(digits) => Some(digits.parse().ok()?),
        };
        Some(Self {
            text: text.to_owned(),
            host: host.to_owned(),
            port,
        })
    }

    fn show(&self) -> String {
        self.text.clone()
    }
}

/// A DNS name in lower case without a dot at its end: `tailnet.internal`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostName(String);

impl HostName {
    /// A name that is known to be good.
    pub(super) fn known(name: &str) -> Self {
        Self(name.to_owned())
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is this host, in whatever case.
    pub(super) fn is(&self, host: &str) -> bool {
        self.0.eq_ignore_ascii_case(host)
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Also takes an IP address: a relay without a DNS name is told by its address.
impl Value for HostName {
    fn expected() -> String {
        "a DNS name, such as relay.example.com, or an IP address".to_owned()
    }

    fn from_text(text: &str) -> Option<Self> {
        let is_good = is_host_name(text) || text.parse::<IpAddr>().is_ok();
        is_good.then(|| Self(text.to_ascii_lowercase()))
    }

    fn show(&self) -> String {
        self.0.clone()
    }
}

/// A DNS domain in lower case, without a dot at its end: `internal`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Domain(String);

impl Domain {
    /// A domain that is known to be good.
    pub(super) fn known(name: &str) -> Self {
        Self(name.to_owned())
    }

    /// The domain.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Value for Domain {
    fn expected() -> String {
        "a DNS domain, such as internal or tailnet.example.com".to_owned()
    }

    fn from_text(text: &str) -> Option<Self> {
        let is_good = is_host_name(text) && text.parse::<IpAddr>().is_err();
        is_good.then(|| Self(text.to_ascii_lowercase()))
    }

    fn show(&self) -> String {
        self.0.clone()
    }
}

fn is_host_name(text: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    text.len() <= 253 && text.split('.').all(is_label)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Option<(String, String, u16, bool)> {
        BaseUrl::from_text(text).map(|url| {
            (
                url.to_string(),
                url.host().to_owned(),
                url.port(),
                url.is_https(),
            )
        })
    }

    #[test]
    fn a_base_url_knows_its_host_port_and_scheme() {
        assert_eq!(
            url("https://bowline.example.com/"),
            Some((
                "https://bowline.example.com".into(),
                "bowline.example.com".into(),
                443,
                true
            ))
        );
        assert_eq!(
            url("http://[2001:db8::1]:8080"),
            Some((
                "http://[2001:db8::1]:8080".into(),
                "2001:db8::1".into(),
                8080,
                false
            ))
        );
    }

    #[test]
    fn a_url_is_private_where_the_internet_does_not_route_it() {
        let is = |host: &str| {
            let url = BaseUrl::from_text(&format!("http://{host}:8080")).expect(host);
            (url.is_loopback(), url.is_private())
        };
        for host in [
            "127.0.0.1",
            "127.9.9.9",
            "[::1]",
            "localhost",
            "LOCALHOST",
            "a.localhost",
        ] {
            assert_eq!(is(host), (true, true), "{host}");
        }
        for host in [
            "10.0.0.1",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.10",
            "100.64.0.1",
            "100.127.255.255",
            "169.254.1.1",
            "[fd00::1]",
            "[fe80::1]",
            "[::ffff:10.0.0.1]",
        ] {
            assert_eq!(is(host), (false, true), "{host}");
        }
        for host in [
            "192.0.2.10",
            "172.32.0.1",
            "100.63.255.255",
            "100.128.0.1",
            "8.8.8.8",
            "[2001:db8::1]",
            "[::ffff:8.8.8.8]",
            "bowline.example.com",
            "bowline.internal",
            "bowline",
            "localhost.example.com",
            // What looks like an address and is a name.
            "10.0.0.1.example.com",
            "0x7f.1",
        ] {
            assert_eq!(is(host), (false, false), "{host}");
        }
    }

    #[test]
    fn a_base_url_has_nothing_but_scheme_host_and_port() {
        for bad in [
            "bowline.example.com",
            "ftp://bowline.example.com",
            "https://bowline.example.com/path",
            "https://bowline.example.com?x=1",
            "https://bowline.example.com#part",
            "https://user@bowline.example.com",
            "https://bowline.example.com:70000",
            "https://",
            "https://bow_line.example.com",
            "",
        ] {
            assert_eq!(url(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_domain_is_no_address_and_has_no_dot_at_its_end() {
        assert_eq!(
            Domain::from_text("Tailnet.Internal")
                .map(|d| d.show())
                .as_deref(),
            Some("tailnet.internal")
        );
        for bad in ["", "tailnet.internal.", "-a.b", "10.0.0.1", "a..b"] {
            assert_eq!(Domain::from_text(bad), None, "{bad}");
        }
    }
}
