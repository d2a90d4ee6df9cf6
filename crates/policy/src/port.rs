//! Ports and protocols.

use crate::hujson::quote;
use serde::Serialize;

/// A range of ports, both ends included. Serialised as in packet filters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct PortRange {
    /// First port.
    pub first: u16,
    /// Last port, not below the first.
    pub last: u16,
}

impl PortRange {
    /// Every port, and what protocols without ports get.
    pub const ALL: Self = Self {
        first: 0,
        last: u16::MAX,
    };

    /// Whether the range has this port.
    pub const fn contains(self, port: u16) -> bool {
        self.first <= port && port <= self.last
    }
}

/// Protocols by name. The first name of a number is the one that is shown.
const PROTOCOLS: &[(&str, u8)] = &[
    ("icmp", 1),
    ("icmpv4", 1),
    ("igmp", 2),
    ("ipv4", 4),
    ("ip-in-ip", 4),
    ("tcp", 6),
    ("egp", 8),
    ("igp", 9),
    ("udp", 17),
    ("dccp", 33),
    ("gre", 47),
    ("esp", 50),
    ("ah", 51),
    ("ipv6-icmp", 58),
    ("icmpv6", 58),
    ("tsmp", 99),
    ("sctp", 132),
    ("fc", 133),
];

/// The protocols that a rule without one covers: TCP, UDP and both ICMPs.
pub(crate) const UNSPECIFIED: &[u8] = &[6, 17, 1, 58];

/// Reads a protocol name or number. Names are not case-sensitive.
///
/// # Errors
/// The service's text for an unknown name.
pub(crate) fn parse_protocol(text: &str) -> Result<u8, String> {
    let lower = text.to_ascii_lowercase();
    let named = PROTOCOLS
        .iter()
        .find(|(name, _)| *name == lower)
        .map(|(_, number)| *number);
    named.or_else(|| parse_number(&lower)).ok_or_else(|| {
        format!(
            "proto name {} not known; use protocol number 0-255",
            quote(text)
        )
    })
}

/// The name of a protocol, or its number.
pub(crate) fn show_protocol(protocol: u8) -> String {
    let named = PROTOCOLS.iter().find(|(_, number)| *number == protocol);
    named.map_or_else(|| protocol.to_string(), |(name, _)| (*name).to_owned())
}

/// Whether ports mean anything for a protocol.
pub(crate) const fn has_ports(protocol: u8) -> bool {
    matches!(protocol, 6 | 17 | 132)
}

/// Digits only, as Go's `ParseUint`: no sign.
fn parse_number<T: std::str::FromStr>(text: &str) -> Option<T> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if digits { text.parse().ok() } else { None }
}

/// Reads `*`, `22` or `80-443`.
///
/// # Errors
/// The service's text.
pub(crate) fn parse_range(text: &str) -> Result<PortRange, String> {
    if text == "*" {
        return Ok(PortRange::ALL);
    }
    let wrong = |reason: &str| Err(format!("port range {}: {reason}", quote(text)));
    let mut parts = text.split('-');
    let first = parts.next().unwrap_or_default();
    let last = parts.next();
    if parts.next().is_some() {
        return wrong("too many dashes(-)");
    }
    let Some(first) = parse_number::<u16>(first) else {
        return wrong("invalid first integer");
    };
    let last = match last {
        None => first,
        Some(last) => match parse_number::<u16>(last) {
            Some(last) => last,
            None => return wrong("invalid last integer"),
        },
    };
    if first == 0 {
        return wrong("first port must be >0, or use '*' for wildcard");
    }
    if first > last {
        return wrong("first port must be >= last port");
    }
    Ok(PortRange { first, last })
}

/// Splits `HOST:PORTS` at the last colon.
///
/// # Errors
/// The service's text.
pub(crate) fn split_host_port(text: &str) -> Result<(&str, &str), String> {
    let Some((host, ports)) = text.rsplit_once(':') else {
        return Err("hostport must contain a colon (\":\")".to_owned());
    };
    if host.contains(',') {
        return Err("host cannot contain a comma (\",\")".to_owned());
    }
    Ok((host, ports))
}

/// Reads the ports of an `acls` destination: `*`, or numbers and ranges with commas between them.
///
/// # Errors
/// The service's text.
pub(crate) fn parse_list(text: &str) -> Result<Vec<PortRange>, String> {
    if text.split(',').any(str::is_empty) && text.contains(',') {
        return Err(format!("invalid port list: {}", quote(text)));
    }
    text.split(',').map(parse_range).collect()
}

/// Reads an `ip` entry of a grant: `*`, `PORTS`, `PROTO:PORTS`. No protocol is `None`.
///
/// # Errors
/// The service's text.
pub(crate) fn parse_ip_entry(text: &str) -> Result<(Option<u8>, PortRange), String> {
    if text.is_empty() {
        return Err("empty string".to_owned());
    }
    let lower = text.to_lowercase();
    let (protocol, ports) = match lower.rsplit_once(':') {
        None => ("*", lower.as_str()),
        Some(("", _)) => return Err("empty protocol".to_owned()),
        Some(parts) => parts,
    };
    if protocol.contains(',') {
        return Err("host cannot contain a comma (\",\")".to_owned());
    }
    if ports.contains(',') {
        return Err(format!("invalid port list: {}", quote(ports)));
    }
    let range = parse_range(ports)?;
    let protocol = if protocol == "*" {
        None
    } else {
        Some(parse_protocol(protocol)?)
    };
    Ok((protocol, range))
}

#[cfg(test)]
mod tests {
    use super::{PortRange, parse_ip_entry, parse_list, parse_protocol, parse_range};

    #[test]
    fn ranges_follow_the_service_to_the_letter() {
        assert_eq!(
            parse_range("80-443"),
            Ok(PortRange {
                first: 80,
                last: 443
            })
        );
        for (text, reason) in [
            ("ssh", "invalid first integer"),
            ("-1", "invalid first integer"),
            ("65536", "invalid first integer"),
            ("1-x", "invalid last integer"),
            ("1-2-3", "too many dashes(-)"),
            ("0", "first port must be >0, or use '*' for wildcard"),
            ("9-8", "first port must be >= last port"),
        ] {
            assert_eq!(
                parse_range(text),
                Err(format!("port range {text:?}: {reason}"))
            );
        }
    }

    #[test]
    fn lists_are_for_acls_only() {
        assert_eq!(parse_list("22,80-81").map(|list| list.len()), Ok(2));
        assert_eq!(
            parse_list("22,,80"),
            Err("invalid port list: \"22,,80\"".to_owned())
        );
        assert_eq!(
            parse_ip_entry("22,80"),
            Err("invalid port list: \"22,80\"".to_owned())
        );
    }

    #[test]
    fn protocols_have_names_and_numbers() {
        assert_eq!(parse_protocol("TCP"), Ok(6));
        assert_eq!(parse_protocol("255"), Ok(255));
        assert!(parse_protocol("256").is_err());
        assert_eq!(parse_ip_entry("icmp:*"), Ok((Some(1), PortRange::ALL)));
        assert_eq!(parse_ip_entry("*"), Ok((None, PortRange::ALL)));
        assert_eq!(
            parse_ip_entry("tcp:"),
            Err("port range \"\": invalid first integer".into())
        );
    }
}
