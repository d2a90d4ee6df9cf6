//! A committed state on top of a published one that has moved on meanwhile.
//!
//! Both follow from the same state: one by the changes that were committed, the other by changes of
//! soft state, which were applied to the first as well. Map streams have been told of the second,
//! and compare states by what changed from one to the next, so the result must be made from it.

use std::collections::BTreeSet;

use bowline_model::device::Device;
use bowline_model::id::DeviceId;
use bowline_model::kind::ObjectId;
use bowline_netmap::hot::hot;
use bowline_netmap::snapshot::Snapshot;

use crate::core::draft::Changes;

/// `published` with all objects as they are in `committed` that `changes` or soft state touched.
pub(super) fn onto(
    published: &Snapshot,
    committed: &Snapshot,
    changes: &Changes,
    softened: &BTreeSet<DeviceId>,
) -> Snapshot {
    let mut next = published.clone();
    let mut touched = changes.touched.clone();
    touched.extend(softened.iter().copied().map(ObjectId::of::<Device>));
    let is_gone = |id: &ObjectId| {
        id.get::<Device>()
            .is_some_and(|id| committed.device(id).is_none())
    };
    let (gone, here): (Vec<ObjectId>, Vec<ObjectId>) = touched.into_iter().partition(is_gone);
    // Removals come first: they make room for what is added.
    for id in gone.into_iter().chain(here) {
        if let Some(objects) = hot(id.kind) {
            objects.copy(committed, &mut next, id.number);
        }
        let device = id.get::<Device>();
        let Some(entry) = device.and_then(|id| committed.device(id)) else {
            continue;
        };
        let own = next.device(entry.device.id);
        if own.is_some_and(|own| own.live != entry.live) {
            next.set_live(entry.device.id, (*entry.live).clone());
        }
    }
    next
}
