//! How many connections may be unfinished at once.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, PoisonError},
};

/// Counts the connections that have not finished their handshake.
pub(super) struct Gate {
    total: usize,
    per_source: usize,
    inside: Mutex<Inside>,
}

#[derive(Default)]
struct Inside {
    total: usize,
    by_source: HashMap<IpAddr, usize>,
}

/// A place among the connections that have not finished their handshake; given back when dropped.
#[must_use = "dropping it gives the place back"]
pub struct Slot {
    gate: Arc<Gate>,
    source: Option<IpAddr>,
}

impl Gate {
    pub(super) fn new(total: usize, per_source: usize) -> Arc<Self> {
        let no_limit = |limit| if limit == 0 { usize::MAX } else { limit };
        Arc::new(Self {
            total: no_limit(total),
            per_source: no_limit(per_source),
            inside: Mutex::default(),
        })
    }

    pub(super) fn enter(self: &Arc<Self>, source: IpAddr) -> Option<Slot> {
        let source = counted_as(source);
        let mut inside = self.inside.lock().unwrap_or_else(PoisonError::into_inner);
        if inside.total >= self.total {
            return None;
        }
        if let Some(source) = source {
            let from_there = inside.by_source.entry(source).or_default();
            if *from_there >= self.per_source {
                return None;
            }
            *from_there += 1;
        }
        inside.total += 1;
        Some(Slot {
            gate: Arc::clone(self),
            source,
        })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut inside = self
            .gate
            .inside
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        inside.total -= 1;
        if let Some(source) = self.source
            && let Some(from_there) = inside.by_source.get_mut(&source)
        {
            *from_there -= 1;
            if *from_there == 0 {
                inside.by_source.remove(&source);
            }
        }
    }
}

impl std::fmt::Debug for Slot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Slot")
            .field("source", &self.source)
            .finish_non_exhaustive()
    }
}

/// What a source is counted as: one person can use all addresses of an IPv6 /64.
fn counted_as(source: IpAddr) -> Option<IpAddr> {
    let source = source.to_canonical();
    if source.is_loopback() {
        return None;
    }
    let IpAddr::V6(ip) = source else {
        return Some(source);
    };
    let network = ip.to_bits() & (u128::MAX << 64);
    Some(IpAddr::V6(Ipv6Addr::from_bits(network)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn enter(gate: &Arc<Gate>, source: &str) -> Option<Slot> {
        gate.enter(source.parse().unwrap())
    }

    #[test]
    fn one_source_cannot_take_the_places_of_others() {
        let gate = Gate::new(3, 1);
        let first = enter(&gate, "192.0.2.1").unwrap();
        assert!(enter(&gate, "192.0.2.1").is_none());
        assert!(
            enter(&gate, "::ffff:192.0.2.1").is_none(),
            "the same address in another form"
        );
        let _second = enter(&gate, "2001:db8::1").unwrap();
        assert!(enter(&gate, "2001:db8::ffff").is_none(), "the same /64");
        let _third = enter(&gate, "2001:db8:0:1::1").unwrap();
        assert!(enter(&gate, "192.0.2.2").is_none(), "no place left at all");
        drop(first);
        assert!(enter(&gate, "192.0.2.1").is_some());
    }

    #[test]
    fn loopback_counts_in_all_but_not_by_source() {
        let gate = Gate::new(2, 1);
        let _slots = [
            enter(&gate, "127.0.0.1").unwrap(),
            enter(&gate, "127.0.0.1").unwrap(),
        ];
        assert!(enter(&gate, "127.0.0.1").is_none());
    }

    #[test]
    fn zero_is_no_limit_and_nothing_is_remembered_of_who_left() {
        let gate = Gate::new(0, 0);
        let slots: Vec<_> = (0..1000)
            .map(|_| enter(&gate, "192.0.2.1").unwrap())
            .collect();
        drop(slots);
        let inside = gate.inside.lock().unwrap();
        assert_eq!((inside.total, inside.by_source.len()), (0, 0));
    }
}
