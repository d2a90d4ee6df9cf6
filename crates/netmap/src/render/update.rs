//! What peers must be told when a device changed.

use bowline_wire::net_info::home_region;
use bowline_wire::node::PeerChange;

use crate::chunk::Entry;
use crate::render::node;
use crate::variant::Variant;

/// What peers must be told when a device's state goes from one entry to another.
#[derive(Debug, Clone, PartialEq)]
pub enum PeerUpdate {
    /// Nothing.
    None,
    /// A patch.
    Patch(PeerChange),
    /// The complete node.
    Full,
}

/// Compares two states of one device.
///
/// A patch is applied last and cannot clear, so that what became absent needs the complete node;
/// and a path discovery key in a patch of an offline node may be dropped as stale by clients.
/// Clients turn a complete node that differs little into a patch themselves: a home region or a
/// last-seen time that was known once cannot be taken away by either (the engine never does), and
/// endpoints only by an empty list, never by absence.
pub fn update(old: (&Entry, &Variant), new: (&Entry, &Variant)) -> PeerUpdate {
    let ((old, old_variant), (new, variant)) = (old, new);
    let same_record = std::sync::Arc::ptr_eq(&old.device, &new.device) && old.suffix == new.suffix;
    if old_variant != variant || (!same_record && !equal_but_for_live(old, new, variant)) {
        return PeerUpdate::Full;
    }
    let (before, after) = (&old.live, &new.live);
    let mut change = PeerChange {
        node_id: new.device.id.get(),
        ..PeerChange::default()
    };
    let empty = change.clone();
    if before.endpoints != after.endpoints {
        if after.endpoints.is_empty() {
            return PeerUpdate::Full;
        }
        change.endpoints = Some(node::endpoints(after));
    }
    let home = home_region(after.home_derp);
    if home_region(before.home_derp) != home {
        if home == 0 {
            return PeerUpdate::Full;
        }
        change.derp_region = Some(home);
    }
    if before.disco_key != after.disco_key {
        match after.disco_key {
            Some(key) if after.online => change.disco_key = Some(key),
            _ => return PeerUpdate::Full,
        }
    }
    if before.online != after.online {
        change.online = Some(after.online);
    }
    if !after.online && (before.last_seen != after.last_seen || before.online) {
        match after.last_seen {
            Some(time) => change.last_seen = Some(time),
            None => return PeerUpdate::Full,
        }
    }
    if change == empty {
        PeerUpdate::None
    } else {
        PeerUpdate::Patch(change)
    }
}

/// A patch sent beside the full node of an offline device. Go clients turn a full node that differs
/// only in patchable fields into a patch, and drop a new `LastSeen`.
pub fn last_seen(old: &Entry, new: &Entry) -> Option<PeerChange> {
    let (before, after) = (&old.live, &new.live);
    let is_news = !after.online
        && after.last_seen.is_some()
        && (before.online || before.last_seen != after.last_seen);
    is_news.then(|| PeerChange {
        node_id: new.device.id.get(),
        online: Some(false),
        last_seen: after.last_seen,
        ..PeerChange::default()
    })
}

/// Whether two states of a device look the same to peers, soft state apart.
fn equal_but_for_live(old: &Entry, new: &Entry, variant: &Variant) -> bool {
    let of = |entry: &Entry| node::peer(&entry.device, &new.live, &entry.suffix, variant);
    of(old) == of(new)
}
