//! Sets of addresses as sorted, disjoint ranges.

use ipnet::{IpNet, Ipv4Net, Ipv4Subnets, Ipv6Net, Ipv6Subnets};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A set of addresses of both families.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Ranges {
    v4: Vec<(u128, u128)>,
    v6: Vec<(u128, u128)>,
}

impl Ranges {
    fn family(&mut self, is_v4: bool) -> &mut Vec<(u128, u128)> {
        if is_v4 { &mut self.v4 } else { &mut self.v6 }
    }

    /// Adds all addresses from `first` to `last`, which are of one family.
    pub(crate) fn add(&mut self, first: IpAddr, last: IpAddr) {
        let (start, end) = (number(first), number(last));
        let ranges = self.family(first.is_ipv4());
        let from = ranges.partition_point(|(_, old)| old.saturating_add(1) < start);
        let to = ranges.partition_point(|(old, _)| *old <= end.saturating_add(1));
        let joined = ranges.get(from..to).unwrap_or_default();
        let start = joined.first().map_or(start, |(old, _)| start.min(*old));
        let end = joined.last().map_or(end, |(_, old)| end.max(*old));
        ranges.splice(from..to.max(from), [(start, end)]);
    }

    /// Takes all addresses from `first` to `last` away.
    pub(crate) fn remove(&mut self, first: IpAddr, last: IpAddr) {
        let (start, end) = (number(first), number(last));
        let ranges = self.family(first.is_ipv4());
        let mut kept = Vec::with_capacity(ranges.len() + 1);
        for (old_start, old_end) in ranges.drain(..) {
            if old_end < start || old_start > end {
                kept.push((old_start, old_end));
                continue;
            }
            if old_start < start {
                kept.push((old_start, start - 1));
            }
            if old_end > end {
                kept.push((end + 1, old_end));
            }
        }
        *ranges = kept;
    }

    pub(crate) fn add_all(&mut self, other: &Self) {
        other.each().for_each(|(first, last)| self.add(first, last));
    }

    pub(crate) fn remove_all(&mut self, other: &Self) {
        other
            .each()
            .for_each(|(first, last)| self.remove(first, last));
    }

    pub(crate) fn add_prefix(&mut self, prefix: IpNet) {
        self.add(prefix.network(), prefix.broadcast());
    }

    pub(crate) fn remove_prefix(&mut self, prefix: IpNet) {
        self.remove(prefix.network(), prefix.broadcast());
    }

    /// The ranges, IPv4 first, ascending.
    pub(crate) fn each(&self) -> impl Iterator<Item = (IpAddr, IpAddr)> + '_ {
        let v4 = self
            .v4
            .iter()
            .map(|(first, last)| (v4(*first).into(), v4(*last).into()));
        let v6 = self
            .v6
            .iter()
            .map(|(first, last)| (v6(*first).into(), v6(*last).into()));
        v4.chain(v6)
    }

    /// The fewest prefixes that are the same set, IPv4 first, ascending.
    pub(crate) fn prefixes(&self) -> Vec<IpNet> {
        self.each()
            .flat_map(|(first, last)| -> Vec<IpNet> {
                match (first, last) {
                    (IpAddr::V4(first), IpAddr::V4(last)) => {
                        Ipv4Subnets::new(first, last, 0).map(IpNet::from).collect()
                    }
                    (IpAddr::V6(first), IpAddr::V6(last)) => {
                        Ipv6Subnets::new(first, last, 0).map(IpNet::from).collect()
                    }
                    _ => Vec::new(),
                }
            })
            .collect()
    }

    /// Whether some address of the prefix is in the set.
    pub(crate) fn overlaps(&self, prefix: IpNet) -> bool {
        let (start, end) = (number(prefix.network()), number(prefix.broadcast()));
        let ranges = if prefix.addr().is_ipv4() {
            &self.v4
        } else {
            &self.v6
        };
        let at = ranges.partition_point(|(_, last)| *last < start);
        ranges.get(at).is_some_and(|(first, _)| *first <= end)
    }

    /// Whether the address is in the set.
    pub(crate) fn contains(&self, address: IpAddr) -> bool {
        self.overlaps(IpNet::from(address))
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(u32::from(address)),
        IpAddr::V6(address) => u128::from(address),
    }
}

fn v4(number: u128) -> Ipv4Addr {
    Ipv4Addr::from(u32::try_from(number).unwrap_or(u32::MAX))
}

fn v6(number: u128) -> Ipv6Addr {
    Ipv6Addr::from(number)
}

/// Whether two prefixes have an address in common.
pub(crate) fn overlap(left: IpNet, right: IpNet) -> bool {
    left.contains(&right) || right.contains(&left)
}

/// The addresses that tailnets use, less those that ChromeOS keeps for itself.
pub(crate) const TAILNET_RANGES: [&str; 3] = [
    "100.115.94.0-100.127.255.255",
    "100.64.0.0-100.115.91.255",
    "fd7a:115c:a1e0::/48",
];

/// `100.64.0.0/10`
pub(crate) const CGNAT: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(100, 64, 0, 0), 10);

/// `fd7a:115c:a1e0::/48`
pub(crate) const TAILNET_V6: Ipv6Net =
    Ipv6Net::new_assert(Ipv6Addr::new(0xfd7a, 0x115c, 0xa1e0, 0, 0, 0, 0, 0), 48);

/// Whether a prefix stands for an IPv4 subnet of a site (4via6), where no devices are.
pub(crate) fn is_4via6(prefix: IpNet) -> bool {
    let site = Ipv6Addr::new(0xfd7a, 0x115c, 0xa1e0, 0xb1a, 0, 0, 0, 0);
    IpNet::from(Ipv6Net::new_assert(site, 64)).contains(&prefix)
}

/// Whether a prefix has addresses that devices of a tailnet may have.
pub(crate) fn in_tailnet(prefix: IpNet) -> bool {
    overlap(prefix, CGNAT.into()) || overlap(prefix, TAILNET_V6.into())
}

/// The addresses of `autogroup:internet`: the public ones.
pub(crate) fn internet() -> Ranges {
    let mut ranges = Ranges::default();
    ranges.add(Ipv4Addr::UNSPECIFIED.into(), Ipv4Addr::BROADCAST.into());
    for (address, length) in [
        ([10, 0, 0, 0], 8),
        ([100, 64, 0, 0], 10),
        ([169, 254, 0, 0], 16),
        ([172, 16, 0, 0], 12),
        ([192, 168, 0, 0], 16),
    ] {
        ranges.remove_prefix(Ipv4Net::new_assert(Ipv4Addr::from(address), length).into());
    }
    let global = Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0);
    ranges.add_prefix(Ipv6Net::new_assert(global, 3).into());
    ranges
}

/// A prefix as policies and filters show it: a single address without its length.
pub(crate) fn show(prefix: IpNet) -> String {
    if prefix.prefix_len() == prefix.max_prefix_len() {
        prefix.addr().to_string()
    } else {
        prefix.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::{Ranges, internet};
    use ipnet::IpNet;

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    #[test]
    fn the_internet_is_everything_public() {
        let shown: Vec<String> = internet()
            .each()
            .map(|(first, last)| format!("{first}-{last}"))
            .collect();
        assert_eq!(
            shown,
            [
                "0.0.0.0-9.255.255.255",
                "11.0.0.0-100.63.255.255",
                "100.128.0.0-169.253.255.255",
                "169.255.0.0-172.15.255.255",
                "172.32.0.0-192.167.255.255",
                "192.169.0.0-255.255.255.255",
                "2000::-3fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
            ]
        );
    }

    #[test]
    fn ranges_join_and_split() {
        let mut ranges = Ranges::default();
        ranges.add_prefix(net("10.0.0.0/9"));
        ranges.add_prefix(net("10.128.0.0/9"));
        assert_eq!(ranges.prefixes(), [net("10.0.0.0/8")]);
        ranges.remove_prefix(net("10.1.0.0/16"));
        ranges.add_prefix(net("10.1.2.0/24"));
        assert!(ranges.overlaps(net("10.1.2.3/32")));
        assert!(!ranges.overlaps(net("10.1.3.0/24")));
        assert!(ranges.overlaps(net("0.0.0.0/0")));
        assert!(!ranges.overlaps(net("::/0")));
        ranges.add_prefix(net("0.0.0.0/0"));
        assert_eq!(ranges.prefixes(), [net("0.0.0.0/0")]);
    }
}
