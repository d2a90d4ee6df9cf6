//! The difference between two publications, as one viewer is told of it.
//!
//! The part about peers is the same for every viewer of a class who went from the same publication
//! to the same publication, so it is made once and shared. A viewer that is itself among the changed devices
//! gets a copy without itself: a node is never its own peer.

use std::sync::Arc;

use bowline_model::id::DeviceId;
use jiff::Timestamp;

use crate::applied_policy::Perspective;
use crate::chunk::Entry;
use crate::codec;
use crate::full;
use crate::json::field;
use crate::message::Message;
use crate::peer_delta::PeerDelta;
use crate::publication::Publication;
use crate::render::{derp, dns, filter, health, node, own, profiles, ssh};
use crate::snapshot::Snapshot;
use crate::viewer::Viewer;

/// What a viewer that is at one publication must be told to be at a later one, which follows from it
/// by changes.
///
/// `Ok(None)`: nothing. `Err(Gone)`: the device is no longer in the tailnet.
///
/// # Errors
/// [`Gone`] when the later one has no such device.
pub fn delta(
    viewer: Viewer,
    earlier: &Publication,
    later: &Publication,
    now: Timestamp,
) -> Result<Option<Message>, Gone> {
    let (from, to) = (&**earlier.snapshot(), &**later.snapshot());
    let new = to.device(viewer.device).ok_or(Gone)?;
    let Some(old) = from.device(viewer.device) else {
        return Ok(full::full(viewer, later, now));
    };
    let (saw, sees) = (from.perspective(old), to.perspective(new));
    if sees.is_some() && saw.is_none() {
        return Ok(full::full_after(Some(old), viewer, later, now));
    }
    let mut own = own_part(viewer, (old, from), (new, to));
    let id = viewer.device;
    let peers = match (saw, sees) {
        (Some(saw), Some(sees)) => Some(between(id, (earlier, saw), (later, sees))),
        (Some(saw), None) => Some(Arc::new(PeerDelta::everything_removed(
            from,
            &earlier.view(saw, id),
        ))),
        (None, _) => None,
    };
    let peers = peers.filter(|delta| !delta.is_empty_for(id));
    // A field may be in a message once: the owner's profile goes with those of peers' owners.
    let profile = own_profile((old, from), (new, to));
    let mut message = Message::default();
    match peers {
        None => {
            if let Some(id) = profile {
                field(&mut own, "UserProfiles", &[profiles::of_owner(id, to)]);
            }
            if own.is_empty() {
                return Ok(None);
            }
            let mut text = String::with_capacity(own.len() + 2);
            text.push('{');
            text.push_str(own.trim_end_matches(','));
            text.push('}');
            message.push(codec::encode(text.as_bytes(), viewer.encoding));
        }
        Some(peers) => {
            let mut text = String::with_capacity(own.len() + 1);
            text.push('{');
            text.push_str(&own);
            message.push(codec::encode(text.as_bytes(), viewer.encoding));
            let profile = profile.filter(|id| !peers.owners.contains(id));
            peers.push_for(viewer, profile, to, &mut message);
        }
    }
    Ok(Some(message))
}

/// The viewer's device has been deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the device is no longer in the tailnet")]
pub struct Gone;

/// Fields about the viewer itself and the tailnet, each followed by a comma.
fn own_part(
    viewer: Viewer,
    (old, from): (&Arc<Entry>, &Snapshot),
    (new, to): (&Arc<Entry>, &Snapshot),
) -> String {
    let mut text = String::new();
    let role = |entry: &Entry, snapshot: &Snapshot| {
        entry
            .device
            .user
            .and_then(|id| snapshot.user(id))
            .map(|user| user.role)
    };
    let id = viewer.device;
    let (earlier, later) = (from.applied_policy(), to.applied_policy());
    let self_may_differ = !Arc::ptr_eq(old, new)
        || role(old, from) != role(new, to)
        || from.tailnet().name != to.tailnet().name
        || later.device_differs(earlier, id);
    if self_may_differ {
        let (before, after) = (own::node(old, from), own::node(new, to));
        if before != after {
            field(&mut text, "Node", &after);
        }
    }
    if !Arc::ptr_eq(from.derp_map(), to.derp_map()) {
        // The whole map, which takes the place of the old one. No `null` for a region that is
        // gone: the official Rust client cannot read it.
        let after = derp::map(to.derp_map(), viewer.version);
        if derp::map(from.derp_map(), viewer.version) != after {
            field(&mut text, "DERPMap", &after);
        }
    }
    if !Arc::ptr_eq(from.dns(), to.dns()) || old.suffix != new.suffix {
        let after = dns::config(to.dns(), &new.suffix);
        if dns::config(from.dns(), &old.suffix) != after {
            field(&mut text, "DNSConfig", &after);
        }
    }
    if from.tailnet().name != to.tailnet().name {
        field(&mut text, "Domain", &to.tailnet().name);
    }
    if !Arc::ptr_eq(old, new) {
        let (before, after) = (health::messages(old), health::messages(new));
        health::push_change(&mut text, &before, &after, viewer.version);
    }
    // Soft state is in none of these.
    let record_differs = !Arc::ptr_eq(&old.device, &new.device) || old.hold != new.hold;
    let (class, before) = (later.perspective(id), earlier.perspective(id));
    let filter_may_differ = record_differs
        || class.map(|now| now.class) != before.map(|then| then.class)
        || class.is_some_and(|now| later.filter_differs(earlier, now.class));
    if filter_may_differ {
        let (before, after) = (filter::parts(old, from), filter::parts(new, to));
        filter::push_changes(&mut text, &before, &after);
    }
    let is_told = ssh::is_told(old) || ssh::is_told(new);
    if is_told && (record_differs || later.ssh_differs(earlier, id)) {
        let after = ssh::policy(new, to);
        if ssh::policy(old, from) != after {
            field(&mut text, "SSHPolicy", &after);
        }
    }
    text
}

/// The viewer's owner, when their profile is another than before.
fn own_profile((old, from): (&Entry, &Snapshot), (new, to): (&Entry, &Snapshot)) -> Option<u64> {
    let profile =
        |entry: &Entry, snapshot| profiles::of_owner(node::owner_id(&entry.device), snapshot);
    let after = profile(new, to);
    (profile(old, from) != after).then_some(after.id)
}

/// The shared peer part of the way from one publication to another.
fn between(
    viewer: DeviceId,
    (from, saw): (&Publication, Perspective),
    (to, sees): (&Publication, Perspective),
) -> Arc<PeerDelta> {
    let way = (from.snapshot().revision, saw, sees);
    to.peer_delta(way, || {
        let (before, after) = (from.view(saw, viewer), to.view(sees, viewer));
        PeerDelta::between((from.snapshot(), &before), (to.snapshot(), &after))
    })
}
