//! Prefixes by the addresses in them.

use super::AtomId;
use ipnet::IpNet;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// Prefixes that selectors name, each once. Looking one up takes as many steps as there are
/// lengths of prefixes, however many prefixes there are.
#[derive(Debug, Default)]
pub(crate) struct Prefixes {
    atoms: BTreeMap<IpNet, AtomId>,
    v4_lengths: BTreeSet<u8>,
    v6_lengths: BTreeSet<u8>,
}

impl Prefixes {
    /// Adds a prefix without bits behind its length.
    pub(crate) fn insert(&mut self, prefix: IpNet, atom: AtomId) {
        let lengths = match prefix {
            IpNet::V4(_) => &mut self.v4_lengths,
            IpNet::V6(_) => &mut self.v6_lengths,
        };
        lengths.insert(prefix.prefix_len());
        self.atoms.insert(prefix, atom);
    }

    /// The prefixes that an address or a whole prefix is in.
    pub(crate) fn around(&self, inner: IpNet) -> impl Iterator<Item = AtomId> + '_ {
        let lengths = match inner {
            IpNet::V4(_) => &self.v4_lengths,
            IpNet::V6(_) => &self.v6_lengths,
        };
        lengths
            .range(..=inner.prefix_len())
            .filter_map(move |length| {
                let outer = IpNet::new(inner.addr(), *length).ok()?.trunc();
                self.atoms.get(&outer).copied()
            })
    }

    /// The prefixes that overlap one: those around it, itself, and those inside.
    pub(crate) fn overlapping(&self, prefix: IpNet) -> impl Iterator<Item = AtomId> + '_ {
        let bound = |address: IpAddr, length| IpNet::new(address, length).ok();
        let first = bound(prefix.network(), 0);
        let last = bound(prefix.broadcast(), prefix.max_prefix_len());
        let inside = first.zip(last).map(|(first, last)| {
            let inside = self.atoms.range(first..=last);
            inside
                .filter(move |(inner, _)| inner.prefix_len() > prefix.prefix_len())
                .map(|(_, atom)| *atom)
        });
        self.around(prefix).chain(inside.into_iter().flatten())
    }
}

#[cfg(test)]
mod tests {
    use super::Prefixes;
    use crate::range::overlap;
    use ipnet::IpNet;
    use proptest::prelude::*;

    fn prefix() -> impl Strategy<Value = IpNet> {
        let v4 = (0u32..16, 26u8..=31).prop_map(|(address, length)| {
            let net = ipnet::Ipv4Net::new_assert((address << 2).into(), length);
            IpNet::V4(net).trunc()
        });
        let v6 = (0u128..16, 122u8..=127).prop_map(|(address, length)| {
            let net = ipnet::Ipv6Net::new_assert((address << 2).into(), length);
            IpNet::V6(net).trunc()
        });
        prop_oneof![v4, v6]
    }

    proptest! {
        #[test]
        fn prefixes_are_found_by_what_they_share(
            known in proptest::collection::btree_set(prefix(), 0..20),
            asked in prefix(),
        ) {
            let mut prefixes = Prefixes::default();
            for (net, atom) in known.iter().zip(0..) {
                prefixes.insert(*net, atom);
            }
            let list = |wanted: &dyn Fn(&IpNet) -> bool| -> Vec<u32> {
                let all = known.iter().zip(0..);
                all.filter(|(net, _)| wanted(net)).map(|(_, atom)| atom).collect()
            };
            let sorted = |found: Vec<u32>| {
                let mut found = found;
                found.sort_unstable();
                found
            };
            prop_assert_eq!(
                sorted(prefixes.overlapping(asked).collect()),
                list(&|net| overlap(*net, asked))
            );
            prop_assert_eq!(
                sorted(prefixes.around(asked).collect()),
                list(&|net| net.contains(&asked))
            );
        }
    }
}
