//! Where a request comes from, when reverse proxies stand in between.

use std::net::IpAddr;

use http::HeaderMap;
use http::header::{FORWARDED, HeaderName};
use ipnet::IpNet;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The address of the client of a request that came over a connection from `peer`: the nearest one
/// that is not in a trusted network.
///
/// Every proxy appends to what it was sent, so that the list is read from its end: as long as an
/// address is that of a trusted proxy, what stands before it was said by that proxy. All lines of
/// `X-Forwarded-For` are one list; `Forwarded` (RFC 7239) is read where there is none, and of two
/// headers that disagree the one that names the nearer hop is not known, so that
/// `X-Forwarded-For` wins: it is what every common proxy writes. Ports and brackets are
/// understood. Behind something that is not an address (`unknown`, a name) nothing can be believed:
/// the last address that can be counts.
pub fn client(headers: &HeaderMap, peer: IpAddr, trusted: &[IpNet]) -> IpAddr {
    let mut client = peer.to_canonical();
    let is_trusted = |address: IpAddr| trusted.iter().any(|network| network.contains(&address));
    if !is_trusted(client) {
        return client;
    }
    for hop in hops(headers).into_iter().rev() {
        let Some(address) = hop else {
            return client;
        };
        client = address;
        if !is_trusted(client) {
            return client;
        }
    }
    client
}

/// Whether a request says that it was forwarded.
pub fn is_forwarded(headers: &HeaderMap) -> bool {
    headers.contains_key(X_FORWARDED_FOR) || headers.contains_key(FORWARDED)
}

/// The addresses of a request's headers, the farthest first; `None` for what is not an address.
fn hops(headers: &HeaderMap) -> Vec<Option<IpAddr>> {
    if headers.contains_key(X_FORWARDED_FOR) {
        return lines(headers, &X_FORWARDED_FOR)
            .flat_map(|line| line.split(','))
            .filter(|hop| !hop.trim().is_empty())
            .map(address)
            .collect();
    }
    lines(headers, &FORWARDED)
        .flat_map(|line| parts(line, ','))
        .filter(|element| !element.trim().is_empty())
        .map(|element| {
            let mut pairs = parts(element, ';').into_iter();
            pairs.find_map(|pair| {
                let (name, value) = pair.split_once('=')?;
                let is_for = name.trim().eq_ignore_ascii_case("for");
                is_for.then(|| address(value.trim().trim_matches('"')))?
            })
        })
        .collect()
}

/// The values of all lines of a header; of one that is not text, a hop that is not an address.
fn lines<'h>(headers: &'h HeaderMap, name: &'h HeaderName) -> impl Iterator<Item = &'h str> {
    let lines = headers.get_all(name).into_iter();
    lines.map(|line| line.to_str().unwrap_or("?"))
}

/// The parts of a text between separators that are not in quotes.
fn parts(text: &str, separator: char) -> Vec<&str> {
    let mut is_quoted = false;
    text.split(|c| {
        is_quoted ^= c == '"';
        c == separator && !is_quoted
    })
    .collect()
}

/// An address as proxies write it: `192.0.2.7`, `192.0.2.7:51234`, `2001:db8::7`, `[2001:db8::7]`,
/// `[2001:db8::7]:51234`.
fn address(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let address = if let Some(rest) = text.strip_prefix('[') {
        let (inside, after) = rest.split_once(']')?;
        let is_port = after.is_empty() || is_port(after.strip_prefix(':')?);
        inside.parse().ok().filter(|_| is_port)
    } else if let Ok(address) = text.parse() {
        Some(address)
    } else {
        let (address, port) = text.split_once(':')?;
        address.parse().ok().filter(|_| is_port(port))
    };
    address.map(|address: IpAddr| address.to_canonical())
}

fn is_port(text: &str) -> bool {
    text.parse::<u16>().is_ok()
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn with(name: &HeaderName, lines: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(name.clone(), HeaderValue::from_str(line).unwrap());
        }
        headers
    }

    fn of(lines: &[&str]) -> IpAddr {
        let trusted = ["127.0.0.1/32", "10.0.0.0/8", "fd00::/8"].map(|net| net.parse().unwrap());
        client(&with(&X_FORWARDED_FOR, lines), ip("127.0.0.1"), &trusted)
    }

    #[test]
    fn the_nearest_address_that_is_not_trusted_counts() {
        for (lines, expected) in [
            (&["203.0.113.7"][..], "203.0.113.7"),
            // What the client said itself stands in front.
            (&["198.51.100.1, 203.0.113.7"], "203.0.113.7"),
            (&["198.51.100.1", "203.0.113.7"], "203.0.113.7"),
            (&["203.0.113.7, 10.1.2.3"], "203.0.113.7"),
            (
                &["198.51.100.1", "203.0.113.7", "10.1.2.3, fd00::1"],
                "203.0.113.7",
            ),
            (&["203.0.113.7:51234"], "203.0.113.7"),
            (&["[2001:db8::7]:51234"], "2001:db8::7"),
            (&["[2001:db8::7]", "[fd00::1]:1"], "2001:db8::7"),
            (&["2001:db8::7"], "2001:db8::7"),
            (&["::ffff:203.0.113.7"], "203.0.113.7"),
            (&["::ffff:203.0.113.7, ::ffff:10.0.0.1"], "203.0.113.7"),
            // All trusted: the farthest.
            (&["10.9.9.9, 10.1.2.3"], "10.9.9.9"),
            (&[], "127.0.0.1"),
            (&["", " , "], "127.0.0.1"),
            // Behind what is not an address nothing is known.
            (&["198.51.100.1, unknown"], "127.0.0.1"),
            (&["198.51.100.1, unknown, 10.1.2.3"], "10.1.2.3"),
            (&["203.0.113.7:port"], "127.0.0.1"),
            (&["[203.0.113.7"], "127.0.0.1"),
        ] {
            assert_eq!(of(lines), ip(expected), "{lines:?}");
        }
    }

    #[test]
    fn the_standard_header_is_understood_as_well() {
        let trusted = ["10.0.0.0/8".parse().unwrap()];
        let of = |lines: &[&str]| client(&with(&FORWARDED, lines), ip("10.0.0.1"), &trusted);
        for (lines, expected) in [
            (&["for=203.0.113.7"][..], "203.0.113.7"),
            (&["For=\"[2001:db8::7]:4711\";proto=https"], "2001:db8::7"),
            (
                &["for=198.51.100.1, proto=https;for=\"203.0.113.7:1\";by=10.0.0.1"],
                "203.0.113.7",
            ),
            (&["for=203.0.113.7", "for=10.1.2.3"], "203.0.113.7"),
            (&["for=\"198.51.100.1,10.0.0.9\", for=_hidden"], "10.0.0.1"),
            (&["for=198.51.100.1, proto=http"], "10.0.0.1"),
        ] {
            assert_eq!(of(lines), ip(expected), "{lines:?}");
        }
    }

    #[test]
    fn from_anybody_else_the_headers_are_not_looked_at() {
        let headers = with(&X_FORWARDED_FOR, &["203.0.113.7"]);
        assert_eq!(client(&headers, ip("192.0.2.1"), &[]), ip("192.0.2.1"));
        let trusted = ["10.0.0.0/8".parse().unwrap()];
        assert_eq!(client(&headers, ip("192.0.2.1"), &trusted), ip("192.0.2.1"));
        assert_eq!(
            client(&headers, ip("::ffff:10.0.0.1"), &trusted),
            ip("203.0.113.7")
        );
    }

    proptest! {
        /// Whatever the client sends itself, in however many lines: behind one trusted proxy it
        /// counts as what that proxy saw, and behind two as well.
        #[test]
        fn nobody_chooses_their_own_address(
            sent in proptest::collection::vec("[ -~]{0,40}", 0..4),
            own_line in any::<bool>(),
            seen in any::<[u8; 4]>(),
            port in any::<Option<u16>>(),
            inner in any::<Option<u8>>(),
        ) {
            let trusted = ["10.0.0.0/8".parse().unwrap()];
            let seen = IpAddr::from(seen);
            prop_assume!(!trusted.iter().any(|net: &IpNet| net.contains(&seen)));
            let mut appended = match port {
                Some(port) => format!("{seen}:{port}"),
                None => seen.to_string(),
            };
            if let Some(host) = inner {
                appended = format!("{appended}, 10.0.0.{host}");
            }
            let mut lines: Vec<String> = sent;
            match lines.last_mut() {
                Some(last) if !own_line => *last = format!("{last}, {appended}"),
                _ => lines.push(appended),
            }
            let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
            let headers = with(&X_FORWARDED_FOR, &lines);
            prop_assert_eq!(client(&headers, ip("10.0.0.1"), &trusted), seen);
        }
    }
}
