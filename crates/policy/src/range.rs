//! Sets of addresses as sorted, disjoint ranges.

use ipnet::{IpNet, IpSubnets, Ipv4Net, Ipv4Subnets, Ipv6Net, Ipv6Subnets};
use std::collections::BinaryHeap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::LazyLock;

/// A set of addresses of both families.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Ranges {
    v4: Vec<(u128, u128)>,
    v6: Vec<(u128, u128)>,
}

/// One step in building a set: these addresses come in, or go out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Step {
    /// The first address.
    pub(crate) first: IpAddr,
    /// The last one, of the same family.
    pub(crate) last: IpAddr,
    pub(crate) removes: bool,
}

impl Step {
    /// The addresses of a prefix come in, or go out.
    pub(crate) fn prefix(prefix: IpNet, removes: bool) -> Self {
        Self {
            first: prefix.network(),
            last: prefix.broadcast(),
            removes,
        }
    }
}

/// A step on the addresses of one family: start, place among the steps, end, whether it removes.
type Interval = (u128, usize, u128, bool);

impl Ranges {
    /// Memory that building takes for each step, in bytes.
    pub(crate) const STEP: usize = 2 * size_of::<Interval>() + size_of::<Step>();
    /// Memory of each range, in bytes.
    pub(crate) const RANGE: usize = size_of::<(u128, u128)>();

    /// The set after all steps, each on the outcome of those before it. Takes `n log n` for `n`
    /// steps in whatever order, since the last step that has an address decides about it.
    pub(crate) fn new(steps: impl IntoIterator<Item = Step>) -> Self {
        let (mut v4, mut v6): (Vec<Interval>, Vec<Interval>) = (Vec::new(), Vec::new());
        for (place, step) in steps.into_iter().enumerate() {
            let family = if step.first.is_ipv4() {
                &mut v4
            } else {
                &mut v6
            };
            family.push((number(step.first), place, number(step.last), step.removes));
        }
        Self {
            v4: sweep(v4),
            v6: sweep(v6),
        }
    }

    /// How many ranges the set has.
    pub(crate) const fn len(&self) -> usize {
        self.v4.len() + self.v6.len()
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
    pub(crate) fn prefixes(&self) -> impl Iterator<Item = IpNet> + '_ {
        let v4 = self
            .v4
            .iter()
            .map(|(first, last)| IpSubnets::V4(Ipv4Subnets::new(v4(*first), v4(*last), 0)));
        let v6 = self
            .v6
            .iter()
            .map(|(first, last)| IpSubnets::V6(Ipv6Subnets::new(v6(*first), v6(*last), 0)));
        v4.chain(v6).flatten()
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

/// Goes along the addresses from the lowest to the highest. Of the steps that have an address the
/// last decides; it is on top of the heap, where those that ended are left until they come up.
fn sweep(mut intervals: Vec<Interval>) -> Vec<(u128, u128)> {
    intervals.sort_unstable();
    let mut intervals = intervals.into_iter().peekable();
    let mut open: BinaryHeap<(usize, u128, bool)> = BinaryHeap::new();
    let mut ranges: Vec<(u128, u128)> = Vec::new();
    let mut at = 0;
    loop {
        if open.is_empty() {
            match intervals.peek() {
                Some((start, ..)) => at = *start,
                None => return ranges,
            }
        }
        while let Some((_, place, end, removes)) = intervals.next_if(|(start, ..)| *start <= at) {
            open.push((place, end, removes));
        }
        let Some((_, end, removes)) = open.peek().copied() else {
            continue;
        };
        if end < at {
            open.pop();
            continue;
        }
        let stop = match intervals.peek() {
            Some((next, ..)) => end.min(next - 1),
            None => end,
        };
        if !removes {
            match ranges.last_mut() {
                Some((_, last)) if last.checked_add(1) == Some(at) => *last = stop,
                _ => ranges.push((at, stop)),
            }
        }
        match stop.checked_add(1) {
            Some(next) => at = next,
            None => return ranges,
        }
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
pub(crate) fn internet() -> &'static Ranges {
    static INTERNET: LazyLock<Ranges> = LazyLock::new(|| {
        let all = Step {
            first: Ipv4Addr::UNSPECIFIED.into(),
            last: Ipv4Addr::BROADCAST.into(),
            removes: false,
        };
        let private = [
            ([10, 0, 0, 0], 8),
            ([100, 64, 0, 0], 10),
            ([169, 254, 0, 0], 16),
            ([172, 16, 0, 0], 12),
            ([192, 168, 0, 0], 16),
        ];
        let private = private.map(|(address, length)| {
            let prefix = Ipv4Net::new_assert(Ipv4Addr::from(address), length);
            Step::prefix(prefix.into(), true)
        });
        let global = Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0);
        let global = Step::prefix(Ipv6Net::new_assert(global, 3).into(), false);
        Ranges::new(std::iter::once(all).chain(private).chain([global]))
    });
    &INTERNET
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
    use super::{Ranges, Step, internet};
    use ipnet::IpNet;
    use std::net::{IpAddr, Ipv4Addr};

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

    fn add(text: &str) -> Step {
        Step::prefix(net(text), false)
    }

    fn remove(text: &str) -> Step {
        Step::prefix(net(text), true)
    }

    #[test]
    fn ranges_join_and_split() {
        let prefixes = |steps: &[Step]| {
            let ranges = Ranges::new(steps.iter().copied());
            ranges.prefixes().collect::<Vec<_>>()
        };
        let mut steps = vec![add("10.0.0.0/9"), add("10.128.0.0/9")];
        assert_eq!(prefixes(&steps), [net("10.0.0.0/8")]);
        steps.extend([remove("10.1.0.0/16"), add("10.1.2.0/24")]);
        let ranges = Ranges::new(steps.iter().copied());
        assert!(ranges.overlaps(net("10.1.2.3/32")));
        assert!(!ranges.overlaps(net("10.1.3.0/24")));
        assert!(ranges.overlaps(net("0.0.0.0/0")));
        assert!(!ranges.overlaps(net("::/0")));
        steps.extend([
            add("0.0.0.0/0"),
            add("::/0"),
            remove("::/1"),
            remove("ff00::/8"),
        ]);
        let all = prefixes(&steps);
        assert_eq!(all.first(), Some(&net("0.0.0.0/0")));
        assert!(all.contains(&net("8000::/2")) && !all.contains(&net("ff00::/8")));
    }

    proptest::proptest! {
        /// The same as looking for the last step of each address.
        #[test]
        fn the_last_step_that_has_an_address_decides(
            steps in proptest::collection::vec((0u32..40, 0u32..12, proptest::bool::ANY), 0..30),
        ) {
            let address = |number: u32| IpAddr::from(Ipv4Addr::from(number));
            let steps: Vec<Step> = steps
                .into_iter()
                .map(|(first, length, removes)| Step {
                    first: address(first),
                    last: address(first + length),
                    removes,
                })
                .collect();
            let ranges = Ranges::new(steps.iter().copied());
            for number in 0..60 {
                let last = steps
                    .iter()
                    .rev()
                    .find(|step| (step.first..=step.last).contains(&address(number)));
                let wanted = last.is_some_and(|step| !step.removes);
                proptest::prop_assert_eq!(ranges.contains(address(number)), wanted);
            }
            // Disjoint, and with something between them.
            for pair in ranges.v4.windows(2) {
                proptest::prop_assert!(pair[0].1 + 1 < pair[1].0);
            }
        }
    }

    #[test]
    fn neither_order_nor_alternation_makes_building_slow() {
        // Each of these took a time that was the square of the count.
        const COUNT: u32 = 200_000;
        let one = |number: u32, removes| Step {
            first: Ipv4Addr::from(number).into(),
            last: Ipv4Addr::from(number).into(),
            removes,
        };
        let descending = Ranges::new((0..COUNT).rev().map(|number| one(2 * number, false)));
        assert_eq!(descending.len(), COUNT as usize);
        let holes = std::iter::once(add("0.0.0.0/0"));
        let holes = Ranges::new(holes.chain((1..COUNT).map(|number| one(2 * number, true))));
        assert_eq!(holes.len(), COUNT as usize);
        let by_turns =
            (0..COUNT).flat_map(|number| [one(4 * number, false), one(4 * number + 1, true)]);
        assert_eq!(Ranges::new(by_turns).len(), COUNT as usize);
    }
}
