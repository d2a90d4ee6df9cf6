//! Who sees whom, and in which rendering: what the policy says, without devices that wait for
//! approval, and for nobody whose key has expired.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use bowline_model::id::DeviceId;
use bowline_policy::DeviceSet;

use crate::applied_policy::{Perspective, Special};
use crate::chunk::{Entry, SIZE};
use crate::snapshot::Snapshot;
use crate::variant::Variant;

/// The most views that one snapshot remembers; there is one for each class of devices.
const REMEMBERED: usize = 4096;

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

/// Views of one snapshot.
#[derive(Debug, Default)]
pub(crate) struct SharedViews(Mutex<HashMap<Perspective, Arc<View>>>);

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

    fn make(perspective: Perspective, viewer: DeviceId, snapshot: &Snapshot) -> Self {
        let policy = snapshot.applied_policy();
        Self {
            seen: policy.visible_to(perspective.class),
            without_ipv4: perspective.without_ipv4,
            special: policy.special_of(perspective.class, viewer, snapshot.devices_by_slot()),
        }
    }
}

impl Snapshot {
    /// How a device sees others; `None`: it sees nobody.
    pub(crate) fn perspective(&self, viewer: &Entry) -> Option<Perspective> {
        self.applied_policy()
            .perspective(viewer.device.id)
            .filter(|_| viewer.sees_peers())
    }

    /// What a viewer sees, shared by all viewers of its class.
    pub(crate) fn view(&self, perspective: Perspective, viewer: DeviceId) -> Arc<View> {
        if let Ok(views) = self.shared.views.0.lock()
            && let Some(view) = views.get(&perspective)
        {
            return view.clone();
        }
        let view = Arc::new(View::make(perspective, viewer, self));
        if let Ok(mut views) = self.shared.views.0.lock() {
            if views.len() >= REMEMBERED {
                views.clear();
            }
            views.insert(perspective, view.clone());
        }
        view
    }

    /// Whether one device is told of another.
    pub fn is_visible(&self, viewer: DeviceId, peer: DeviceId) -> bool {
        let shown = self.device(peer).is_some_and(|entry| entry.is_shown());
        let sees = self.device(viewer).is_some_and(|entry| entry.sees_peers());
        shown && sees && self.compiled().visible(viewer.get(), peer.get())
    }
}
