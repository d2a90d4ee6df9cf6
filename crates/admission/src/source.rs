//! What an address is counted by.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// Prefix lengths of IPv6 that are counted, the widest first: what a provider gives to a site, to a
/// home, and to one network there.
const IPV6_PREFIXES: [u8; 3] = [48, 56, 64];

/// The networks that an address is counted by, the widest first: of IPv4 the address itself, of
/// IPv6 its /48, /56 and /64. An IPv4 address in its IPv6 form is that IPv4 address.
///
/// One person can use every address of an IPv6 /64, and whoever has a /48 can use 65,536 of those:
/// no single length says who is behind an address.
///
/// ```
/// use bowline_admission::networks;
///
/// let of = |text: &str| networks(text.parse().unwrap()).map(|net| net.to_string()).collect::<Vec<_>>();
/// assert_eq!(of("192.0.2.7"), ["192.0.2.7/32"]);
/// assert_eq!(of("2001:db8:1:203::7"), ["2001:db8:1::/48", "2001:db8:1:200::/56", "2001:db8:1:203::/64"]);
/// ```
pub fn networks(address: IpAddr) -> impl Iterator<Item = IpNet> + Clone {
    let (v4, v6) = match address.to_canonical() {
        IpAddr::V4(address) => (Some(IpNet::V4(Ipv4Net::from(address))), None),
        IpAddr::V6(address) => (None, Some(address)),
    };
    let wide = IPV6_PREFIXES.into_iter().filter_map(move |length| {
        let net = Ipv6Net::new(v6?, length).ok()?;
        Some(IpNet::V6(net.trunc()))
    });
    v4.into_iter().chain(wide)
}

/// How many a network may have where one address of IPv4, or one IPv6 /64, may have `most`: twice
/// that for a /56, and four times for a /48.
pub fn share(network: &IpNet, most: usize) -> usize {
    match network {
        IpNet::V6(net) if net.prefix_len() <= 48 => most.saturating_mul(4),
        IpNet::V6(net) if net.prefix_len() <= 56 => most.saturating_mul(2),
        _ => most,
    }
}
