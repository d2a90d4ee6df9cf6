//! The addresses of devices: which ranges they come from, and which addresses are never given out.
//!
//! Source: `docs/protocol/control-protocol.md`, section 6.1 (ts-go `net/tsaddr/tsaddr.go`).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// First address of 100.64.0.0/10, the range of device IPv4 addresses.
const CGNAT: u32 = 0x6440_0000;
const CGNAT_SIZE: u32 = 1 << 22;

/// Whether an IPv4 address lies in 100.64.0.0/10 and may belong to a device.
///
/// Kept free: 100.100.0.0/24 and 100.100.100.0/24 (the client's own DNS service lives there),
/// 100.115.92.0/23 (`ChromeOS` virtual machines), and the first and last address of the range.
pub fn is_device_ipv4(address: Ipv4Addr) -> bool {
    let number = u32::from(address);
    let [a, b, c, _] = address.octets();
    number > CGNAT
        && number < CGNAT + CGNAT_SIZE - 1
        && !(a == 100 && b == 100 && (c == 0 || c == 100))
        && !(a == 100 && b == 115 && (c == 92 || c == 93))
}

/// A device IPv4 address for a random number; `None` when it falls on a reserved one.
pub fn ipv4_from_random(random: u32) -> Option<Ipv4Addr> {
    let address = Ipv4Addr::from(CGNAT + random % CGNAT_SIZE);
    is_device_ipv4(address).then_some(address)
}

/// A device IPv6 address in fd7a:115c:a1e0::/48 for random bytes; `None` when it falls on a
/// reserved range: the address ending in 53, addresses mapped from IPv4, 4via6 routes and the
/// ranges for ephemeral nodes.
pub fn ipv6_from_random(random: [u8; 10]) -> Option<Ipv6Addr> {
    let mut octets = [0u8; 16];
    octets[..6].copy_from_slice(&[0xfd, 0x7a, 0x11, 0x5c, 0xa1, 0xe0]);
    octets[6..].copy_from_slice(&random);
    let reserved = matches!(
        [octets[6], octets[7]],
        [0xab, 0x12] | [0xef, 0xe3] | [0x0b, 0x1a]
    ) || octets[6..14].iter().all(|&byte| byte == 0);
    (!reserved).then(|| Ipv6Addr::from(octets))
}

/// Whether a prefix is one of the two that make an exit node: `0.0.0.0/0` or `::/0`.
pub fn is_exit_route(route: &IpNet) -> bool {
    route.prefix_len() == 0
}

/// A prefix whose host bits are zero; `None` otherwise.
pub fn parse_route(text: &str) -> Option<IpNet> {
    let net: IpNet = text.parse().ok()?;
    (net.addr() == net.network()).then_some(net)
}

/// Sorts prefixes the way the API lists them: IPv4 before IPv6, then by address, then by length.
pub fn sort_routes(routes: &mut Vec<IpNet>) {
    routes.sort_by_key(|net| match net.addr() {
        IpAddr::V4(v4) => (0, u128::from(u32::from(v4)), net.prefix_len()),
        IpAddr::V6(v6) => (1, u128::from(v6), net.prefix_len()),
    });
    routes.dedup();
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reserved_addresses_belong_to_no_device() {
        for text in [
            "100.100.100.100",
            "100.100.0.7",
            "100.115.92.1",
            "100.115.93.255",
            "100.64.0.0",
            "100.127.255.255",
            "10.0.0.1",
            "100.128.0.1",
            "100.63.255.255",
        ] {
            assert!(!is_device_ipv4(text.parse().unwrap()), "{text}");
        }
        for text in [
            "100.64.0.1",
            "100.80.0.1",
            "100.115.94.0",
            "100.100.1.0",
            "100.127.255.254",
        ] {
            assert!(is_device_ipv4(text.parse().unwrap()), "{text}");
        }
    }

    proptest! {
        #[test]
        fn random_addresses_are_device_addresses(v4: u32, v6: [u8; 10]) {
            if let Some(address) = ipv4_from_random(v4) {
                prop_assert!(is_device_ipv4(address));
            }
            if let Some(address) = ipv6_from_random(v6) {
                prop_assert!(address.to_string().starts_with("fd7a:115c:a1e0:"));
            }
        }
    }

    #[test]
    fn routes_sort_by_number_not_by_text() {
        let mut routes: Vec<IpNet> = [
            "10.0.1.0/24",
            "::/0",
            "2.0.0.0/24",
            "10.0.1.0/24",
            "10.0.0.0/8",
        ]
        .iter()
        .map(|t| t.parse().unwrap())
        .collect();
        sort_routes(&mut routes);
        let texts: Vec<String> = routes.iter().map(ToString::to_string).collect();
        assert_eq!(texts, ["2.0.0.0/24", "10.0.0.0/8", "10.0.1.0/24", "::/0"]);
    }

    #[test]
    fn a_prefix_with_host_bits_is_refused() {
        assert!(parse_route("10.0.0.1/8").is_none());
        assert!(parse_route("10.0.0.0/8").is_some());
        assert!(parse_route("10.0.0.0").is_none());
    }
}
