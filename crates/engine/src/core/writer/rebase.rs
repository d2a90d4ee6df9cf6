//! A committed state on top of a published one that has moved on meanwhile.
//!
//! Both follow from the same state: one by the changes that were committed, the other by changes of
//! soft state, which were applied to the first as well. Map streams have been told of the second,
//! and compare states by what changed from one to the next, so the result must be made from it.

use std::collections::BTreeSet;
use std::sync::Arc;

use bowline_model::id::{DeviceId, KeyId, UserId};
use bowline_netmap::snapshot::Snapshot;
use bowline_store::Kind;

use crate::core::draft::Changes;

/// `published` with all objects as they are in `committed` that `changes` or soft state touched.
pub(super) fn onto(
    published: &Snapshot,
    committed: &Snapshot,
    changes: &Changes,
    softened: &BTreeSet<DeviceId>,
) -> Snapshot {
    let mut next = published.clone();
    for (kind, id) in changes
        .rows
        .iter()
        .map(|((_, id), (kind, _, _))| (kind, *id))
    {
        match kind {
            // Devices need an order of their own, below; the others are the server's.
            Kind::Device | Kind::WaitingLogin | Kind::SshCheck | Kind::SshConfirmation => {}
            Kind::Tailnet => next.set_tailnet((**committed.tailnet()).clone()),
            Kind::Dns => next.set_dns((**committed.dns()).clone()),
            Kind::Policy => next.set_parsed_policy(
                (**committed.policy()).clone(),
                Arc::clone(committed.compiled().policy()),
            ),
            Kind::User => {
                if let Some(user) = UserId::new(id).and_then(|id| committed.user(id)) {
                    next.put_user((**user).clone());
                }
            }
            Kind::Key => {
                let Some(id) = KeyId::new(id) else { continue };
                match committed.credential(id) {
                    Some(credential) => next.put_credential((**credential).clone()),
                    None => next.remove_credential(id),
                }
            }
        }
    }
    let devices = changes.touched_devices.union(softened);
    let (here, gone): (Vec<DeviceId>, Vec<DeviceId>) =
        devices.partition(|id| committed.device(**id).is_some());
    // Who goes makes room for who comes.
    for id in gone {
        next.remove_device(id);
    }
    for id in here {
        let Some(entry) = committed.device(id) else {
            continue;
        };
        let own = next.device(id).cloned();
        // What is the same keeps its place in memory: streams are told of what has another.
        if own.as_ref().is_none_or(|own| own.device != entry.device) {
            next.put_device((*entry.device).clone());
        }
        let live = own.map(|own| own.live.clone()).unwrap_or_default();
        if live != entry.live {
            next.set_live(id, (*entry.live).clone());
        }
    }
    next
}
