//! Who sees whom, and in which rendering: what the policy says, without devices that wait for
//! approval or whose user is suspended, and for nobody whose key has expired.

use std::sync::Arc;

use bowline_model::id::DeviceId;
use bowline_policy::DeviceSet;

use crate::applied_policy::{Perspective, Special};
use crate::chunk::{Entry, SIZE};
use crate::snapshot::Snapshot;
use crate::variant::Variant;

/// What all viewers of one perspective see of one snapshot.
#[derive(Debug)]
pub(crate) struct View {
    /// Slots of the devices that are seen, the viewer's own perhaps among them.
    pub(crate) seen: Arc<DeviceSet>,
    /// No peer's IPv4 address is shown.
    pub(crate) without_ipv4: bool,
    /// Peers that are shown in another way than most, by slot; without IPv4 aside.
    pub(crate) special: Arc<Special>,
}

impl View {
    /// Bit per slot of a chunk: the devices in it that are seen.
    pub(crate) fn mask(&self, chunk: usize) -> u64 {
        u32::try_from(chunk).map_or(0, |chunk| self.seen.word(chunk))
    }

    /// How the device in a slot is shown.
    pub(crate) fn variant(&self, slot: usize) -> Variant {
        let variant = self.special.get(&slot).cloned().unwrap_or_default();
        Variant {
            without_ipv4: variant.without_ipv4 || self.without_ipv4,
            ..variant
        }
    }

    /// Peers of a chunk that are shown in another way than most, by slot within it.
    pub(crate) fn special_in(&self, chunk: usize, mask: u64) -> Vec<(usize, Variant)> {
        let start = chunk * SIZE;
        self.special
            .range(start..start + SIZE)
            .map(|(slot, variant)| (slot - start, variant.clone()))
            .filter(|(slot, _)| mask >> slot & 1 == 1)
            .collect()
    }

    /// Slots whose devices two views show in different ways.
    pub(crate) fn shown_otherwise(&self, other: &Self) -> Vec<usize> {
        if Arc::ptr_eq(&self.special, &other.special) {
            return Vec::new();
        }
        let one_way = |mine: &Self, theirs: &Self| -> Vec<usize> {
            let special = mine.special.iter();
            special
                .filter(|(slot, variant)| theirs.special.get(slot) != Some(variant))
                .map(|(slot, _)| *slot)
                .collect()
        };
        let mut slots = one_way(self, other);
        slots.extend(one_way(other, self));
        slots.sort_unstable();
        slots.dedup();
        slots
    }

    /// What is seen of a snapshot. `viewer` is one of the perspective.
    pub(crate) fn of(perspective: Perspective, viewer: DeviceId, snapshot: &Snapshot) -> Self {
        let policy = snapshot.applied_policy();
        Self {
            seen: policy.visible_to(perspective.class),
            without_ipv4: perspective.without_ipv4,
            special: policy.special_of(perspective.class, viewer, snapshot.devices_by_slot()),
        }
    }

    /// All devices that are seen.
    pub(crate) fn entries<'a>(
        &'a self,
        snapshot: &'a Snapshot,
    ) -> impl Iterator<Item = &'a Arc<Entry>> {
        let chunks = snapshot.chunks().iter().enumerate();
        chunks.flat_map(|(index, chunk)| {
            let mask = chunk.visible() & self.mask(index);
            chunk
                .iter()
                .filter(move |(slot, _)| mask >> slot & 1 == 1)
                .map(|(_, entry)| entry)
        })
    }
}
