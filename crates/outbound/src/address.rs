//! Which addresses a request may go to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// Networks that requests may go to beside the public ones.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Networks {
    listed: Vec<IpNet>,
}

const fn v4(a: u8, b: u8, c: u8, d: u8, length: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), length)
}

const fn v6(a: u16, b: u16, c: u16, length: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0), length)
}

/// What is not public of IPv4.
///
/// Source: IANA IPv4 Special-Purpose Address Registry (RFC 6890), RFC 5771.
const NOT_PUBLIC_V4: [Ipv4Net; 16] = [
    v4(0, 0, 0, 0, 8),
    v4(10, 0, 0, 0, 8),
    // Carrier-grade NAT, and a tailnet's own addresses.
    v4(100, 64, 0, 0, 10),
    v4(127, 0, 0, 0, 8),
    // Metadata services of most clouds are here.
    v4(169, 254, 0, 0, 16),
    v4(172, 16, 0, 0, 12),
    v4(192, 0, 0, 0, 24),
    v4(192, 0, 2, 0, 24),
    v4(192, 88, 99, 0, 24),
    v4(192, 168, 0, 0, 16),
    v4(198, 18, 0, 0, 15),
    v4(198, 51, 100, 0, 24),
    v4(203, 0, 113, 0, 24),
    v4(224, 0, 0, 0, 4),
    v4(240, 0, 0, 0, 4),
    // Registered as public, but inside Azure it is the host's own service, which hands out what a
    // virtual machine is trusted with.
    v4(168, 63, 129, 16, 32),
];

/// All that is assigned as global unicast of IPv6. What lies outside is loopback, mapped and translated
/// addresses, unique local, link-local, site-local and multicast.
const GLOBAL_UNICAST: Ipv6Net = v6(0x2000, 0, 0, 3);

/// What is not public within it.
///
/// Source: IANA IPv6 Special-Purpose Address Registry (RFC 6890).
const NOT_PUBLIC_V6: [Ipv6Net; 4] = [
    // Protocol assignments, Teredo among them, which has an IPv4 address inside.
    v6(0x2001, 0, 0, 23),
    v6(0x2001, 0x0db8, 0, 32),
    // 6to4, which has an IPv4 address inside.
    v6(0x2002, 0, 0, 16),
    v6(0x3fff, 0, 0, 20),
];

/// IPv4 addresses as an IPv6-only network reaches them (RFC 6052); the last 32 bits are the address.
const NAT64: Ipv6Net = v6(0x64, 0xff9b, 0, 96);

impl Networks {
    /// Public addresses alone.
    #[must_use]
    pub const fn public() -> Self {
        Self { listed: Vec::new() }
    }

    /// Public addresses, and these networks whatever they are.
    #[must_use]
    pub fn public_and(listed: impl IntoIterator<Item = IpNet>) -> Self {
        Self {
            listed: listed.into_iter().collect(),
        }
    }

    /// Whether a request may go to this address.
    #[must_use]
    pub fn may_reach(&self, address: IpAddr) -> bool {
        self.is_listed(address) || is_public(address)
    }

    /// Whether a setting lists the network of this address. An IPv4 address in an IPv6 one is not the
    /// same address: it is refused in every case.
    #[must_use]
    pub fn is_listed(&self, address: IpAddr) -> bool {
        self.listed.iter().any(|network| network.contains(&address))
    }
}

fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) if NAT64.contains(&address) => {
            let [.., a, b, c, d] = address.octets();
            is_public_v4(Ipv4Addr::new(a, b, c, d))
        }
        IpAddr::V6(address) => {
            GLOBAL_UNICAST.contains(&address)
                && !NOT_PUBLIC_V6
                    .iter()
                    .any(|network| network.contains(&address))
        }
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    !NOT_PUBLIC_V4
        .iter()
        .any(|network| network.contains(&address))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn only_public_addresses_are_reached() {
        let networks = Networks::public();
        for public in [
            "1.1.1.1",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "172.15.255.255",
            "172.32.0.0",
            "192.0.1.0",
            "223.255.255.255",
            "2606:4700::1111",
            "2001:200::1",
            "64:ff9b::101:101",
        ] {
            assert!(networks.may_reach(address(public)), "{public}");
        }
        for refused in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "100.64.0.1",
            "100.100.100.200",
            "127.0.0.1",
            "127.255.255.254",
            "168.63.129.16",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.192",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "239.255.255.250",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::127.0.0.1",
            "::ffff:127.0.0.1",
            "::ffff:8.8.8.8",
            "64:ff9b::7f00:1",
            "64:ff9b::a9fe:a9fe",
            "64:ff9b:1::1",
            "100::1",
            "2001::1",
            "2001:db8::1",
            "2002:7f00:1::1",
            "3fff::1",
            "5f00::1",
            "fc00::1",
            "fd7a:115c:a1e0::1",
            "fd00:ec2::254",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ] {
            assert!(!networks.may_reach(address(refused)), "{refused}");
        }
    }

    #[test]
    fn a_listed_network_is_reached_and_its_neighbour_is_not() {
        let networks = Networks::public_and(["10.1.0.0/16".parse().unwrap()]);
        assert!(networks.may_reach(address("10.1.2.3")));
        assert!(!networks.may_reach(address("10.2.0.1")));
        assert!(!networks.may_reach(address("::ffff:10.1.2.3")));
        assert!(networks.may_reach(address("1.1.1.1")));
    }
}
