//! The difference between two snapshots, as one viewer is told of it.
//!
//! The part about peers is the same for every viewer of a class who went from the same publication
//! to the same publication, so it is made once and shared. A viewer that is itself among the changed devices
//! gets a copy without itself: a node is never its own peer.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, OnceLock};

use bowline_model::id::DeviceId;
use bowline_wire::map_request::Encoding;
use bowline_wire::node::PeerChange;
use bytes::Bytes;
use imbl::ordmap::DiffItem;
use jiff::Timestamp;

use crate::applied_policy::Perspective;
use crate::chunk::{Chunk, Entry, SIZE};
use crate::codec;
use crate::full::{self, Viewer};
use crate::json::{field, push_json};
use crate::message::Message;
use crate::render::update::{self, PeerUpdate};
use crate::render::{derp, dns, filter, health, node, own, profiles, ssh};
use crate::snapshot::Snapshot;
use crate::variant::Variant;
use crate::visibility::View;

/// The most deltas to one publication that are remembered: one for each class of viewers and
/// publication that they come from.
const REMEMBERED: usize = 4096;

/// From a publication in one perspective to another perspective.
type Way = (u64, Perspective, Perspective);

/// The peer parts of deltas to one publication.
#[derive(Debug, Default)]
pub(crate) struct SharedDeltas(Mutex<HashMap<Way, Arc<PeerDelta>>>);

/// What happened to the devices that a class of viewers sees, between two publications.
#[derive(Debug, Default)]
struct PeerDelta {
    removed: Vec<u64>,
    changed: Vec<Shown>,
    patched: Vec<PeerChange>,
    /// Users whose profile changed, and owners of changed devices.
    owners: BTreeSet<u64>,
    /// Whether there are users of the first kind.
    has_renamed: bool,
    plain: Encoded,
    zstd: Encoded,
}

/// Devices of one block: what a viewer that is in it has encoded for itself alone.
const BLOCK: usize = 32;

/// The parts of a delta that viewers share, in one encoding.
#[derive(Debug, Default)]
struct Encoded {
    /// All of it, for those who are not among the devices that it is about.
    whole: OnceLock<Bytes>,
    /// Everything before the lists of changed and patched peers.
    head: OnceLock<Bytes>,
    changed: Vec<OnceLock<Bytes>>,
    patched: Vec<OnceLock<Bytes>>,
}

impl Encoded {
    fn of(changed: usize, patched: usize) -> Self {
        let blocks = |count: usize| {
            (0..count.div_ceil(BLOCK))
                .map(|_| OnceLock::new())
                .collect()
        };
        Self {
            changed: blocks(changed),
            patched: blocks(patched),
            ..Self::default()
        }
    }
}

/// An entry of a list of peers.
trait Listed {
    fn id(&self) -> u64;
    fn push(&self, text: &mut String);
}

/// A device, and how it is shown.
#[derive(Debug)]
struct Shown {
    entry: Arc<Entry>,
    variant: Variant,
}

impl Listed for Shown {
    fn id(&self) -> u64 {
        self.entry.device.id.get()
    }

    fn push(&self, text: &mut String) {
        let json = self.entry.peer_json(&self.variant);
        text.push_str(std::str::from_utf8(&json).unwrap_or("{}"));
    }
}

impl Listed for PeerChange {
    fn id(&self) -> u64 {
        self.node_id
    }

    fn push(&self, text: &mut String) {
        push_json(text, self);
    }
}

/// Entries with commas between them; empty when there is none but `skip`.
fn listed<T: Listed>(list: &[T], skip: u64) -> String {
    let mut text = String::new();
    for one in list.iter().filter(|one| one.id() != skip) {
        if !text.is_empty() {
            text.push(',');
        }
        one.push(&mut text);
    }
    text
}

/// What a viewer that is at `from` must be told to be at `to`.
///
/// `to` follows from `from` by changes, and both had the policy applied ([`Snapshot::apply_policy`]) before copies
/// were changed: as publications are.
///
/// `Ok(None)`: nothing. `Err(Gone)`: the device is no longer in the tailnet.
///
/// # Errors
/// [`Gone`] when `to` has no such device.
pub fn delta(
    viewer: Viewer,
    from: &Snapshot,
    to: &Snapshot,
    now: Timestamp,
) -> Result<Option<Message>, Gone> {
    let new = to.device(viewer.device).ok_or(Gone)?;
    let Some(old) = from.device(viewer.device) else {
        return Ok(full::full(viewer, to, now));
    };
    let (saw, sees) = (from.perspective(old), to.perspective(new));
    if sees.is_some() && saw.is_none() {
        return Ok(full::full(viewer, to, now));
    }
    let mut own = own_part(viewer, (old, from), (new, to));
    let id = viewer.device;
    let peers = match (saw, sees) {
        (Some(saw), Some(sees)) => Some(between(id, (from, saw), (to, sees))),
        (Some(saw), None) => Some(Arc::new(everything_removed(from, &from.view(saw, id)))),
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
    // Soft state is in neither of these.
    let record_differs = !Arc::ptr_eq(&old.device, &new.device);
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
    (from, saw): (&Snapshot, Perspective),
    (to, sees): (&Snapshot, Perspective),
) -> Arc<PeerDelta> {
    let way = (from.revision, saw, sees);
    if let Ok(deltas) = to.shared.deltas.0.lock()
        && let Some(found) = deltas.get(&way)
    {
        return found.clone();
    }
    let (before, after) = (from.view(saw, viewer), to.view(sees, viewer));
    let made = Arc::new(compare((from, &before), (to, &after)));
    if let Ok(mut deltas) = to.shared.deltas.0.lock() {
        if deltas.len() >= REMEMBERED {
            deltas.clear();
        }
        deltas.insert(way, made.clone());
    }
    made
}

fn compare((from, saw): (&Snapshot, &View), (to, sees): (&Snapshot, &View)) -> PeerDelta {
    let mut delta = PeerDelta::default();
    let (before, after) = (from.chunks(), to.chunks());
    let all_otherwise = saw.without_ipv4 != sees.without_ipv4;
    let otherwise = saw.shown_otherwise(sees);
    for index in 0..before.len().max(after.len()) {
        let (old, new) = (before.get(index), after.get(index));
        let mask = |chunk: Option<&Arc<Chunk>>, view: &View| {
            chunk.map_or(0, |chunk| chunk.visible() & view.mask(index))
        };
        let (saw_mask, sees_mask) = (mask(old, saw), mask(new, sees));
        let same_chunk = match (old, new) {
            (Some(old), Some(new)) => Arc::ptr_eq(old, new),
            (_, _) => false,
        };
        // Bit per slot to compare.
        let mut suspects = saw_mask | sees_mask;
        if same_chunk && !all_otherwise {
            let start = index * SIZE;
            let first = otherwise.partition_point(|slot| *slot < start);
            let special = otherwise[first..]
                .iter()
                .take_while(|slot| **slot < start + SIZE);
            let special = special.fold(0, |mask, slot| mask | 1u64 << (slot - start));
            suspects &= (saw_mask ^ sees_mask) | special;
        }
        while suspects != 0 {
            let bit = suspects.trailing_zeros();
            suspects &= suspects - 1;
            let at = usize::try_from(bit).unwrap_or(0);
            let shown = |chunk: Option<&Arc<Chunk>>, mask: u64, view: &View| {
                let entry = chunk?.get(at).filter(|_| mask >> bit & 1 == 1)?;
                Some(Shown {
                    entry: entry.clone(),
                    variant: view.variant(index * SIZE + at),
                })
            };
            delta.compare_slot(shown(old, saw_mask, saw), shown(new, sees_mask, sees));
        }
    }
    let mut renamed: BTreeSet<u64> = BTreeSet::new();
    for item in from.users_map().diff(to.users_map()) {
        if let DiffItem::Update {
            old: (_, old),
            new: (id, new),
        } = item
            && profiles::of_user(old) != profiles::of_user(new)
        {
            renamed.insert(id.get());
        }
    }
    if !renamed.is_empty() {
        let owners: BTreeSet<u64> = full::seen(to, sees)
            .map(|entry| node::owner_id(&entry.device))
            .filter(|owner| renamed.contains(owner))
            .collect();
        delta.has_renamed = !owners.is_empty();
        delta.owners.extend(owners);
    }
    // A slot can be used again by another device, which is then both here and there.
    delta.removed.sort_unstable();
    delta.changed.sort_by_key(Listed::id);
    delta.patched.sort_by_key(|change| change.node_id);
    let changed: BTreeSet<u64> = delta.changed.iter().map(Listed::id).collect();
    delta.removed.retain(|id| !changed.contains(id));
    let (changed, patched) = (delta.changed.len(), delta.patched.len());
    delta.plain = Encoded::of(changed, patched);
    delta.zstd = Encoded::of(changed, patched);
    delta
}

/// For a viewer that sees nobody any more.
fn everything_removed(from: &Snapshot, saw: &View) -> PeerDelta {
    let mut removed: Vec<u64> = full::seen(from, saw)
        .map(|entry| entry.device.id.get())
        .collect();
    removed.sort_unstable();
    PeerDelta {
        removed,
        ..PeerDelta::default()
    }
}

impl PeerDelta {
    fn compare_slot(&mut self, old: Option<Shown>, new: Option<Shown>) {
        match (old, new) {
            (None, None) => {}
            (Some(old), Some(new)) if old.id() == new.id() => {
                if Arc::ptr_eq(&old.entry, &new.entry) && old.variant == new.variant {
                    return;
                }
                let update = update::update((&old.entry, &old.variant), (&new.entry, &new.variant));
                match update {
                    PeerUpdate::None => {}
                    PeerUpdate::Patch(change) => self.patched.push(change),
                    PeerUpdate::Full => {
                        self.patched
                            .extend(update::last_seen(&old.entry, &new.entry));
                        self.add(new);
                    }
                }
            }
            (old, new) => {
                self.removed.extend(old.map(|old| old.id()));
                if let Some(new) = new {
                    self.add(new);
                }
            }
        }
    }

    fn add(&mut self, shown: Shown) {
        self.owners.insert(node::owner_id(&shown.entry.device));
        self.changed.push(shown);
    }

    /// Whether the viewer is among the devices that this is about.
    fn concerns(&self, viewer: DeviceId) -> bool {
        let id = viewer.get();
        self.changed.binary_search_by_key(&id, Listed::id).is_ok()
            || self
                .patched
                .binary_search_by_key(&id, |change| change.node_id)
                .is_ok()
            || self.removed.binary_search(&id).is_ok()
    }

    fn is_empty_for(&self, viewer: DeviceId) -> bool {
        let others = |count: usize| count - usize::from(count > 0 && self.concerns(viewer));
        !self.has_renamed
            && others(self.removed.len() + self.changed.len() + self.patched.len()) == 0
    }

    /// Appends the fields about peers and the closing brace. `owner` is one more profile to tell.
    fn push_for(&self, viewer: Viewer, owner: Option<u64>, to: &Snapshot, message: &mut Message) {
        let encoding = viewer.encoding;
        let shared = match encoding {
            Encoding::Plain => &self.plain,
            Encoding::Zstd => &self.zstd,
        };
        let encode = |text: &str| codec::encode(text.as_bytes(), encoding);
        if !self.concerns(viewer.device) && owner.is_none() {
            let whole = || encode(&self.text(0, None, to));
            message.push(shared.whole.get_or_init(whole).clone());
            return;
        }
        let own = viewer.device.get();
        if self.changed.len() + self.patched.len() <= BLOCK {
            message.push(encode(&self.text(own, owner, to)));
            return;
        }
        // Many changed at once, and each of them sees all others: only the block that has the
        // viewer is its own.
        if owner.is_some() || self.removed.binary_search(&own).is_ok() {
            message.push(encode(&self.head(own, owner, to)));
        } else {
            let head = shared.head.get_or_init(|| encode(&self.head(0, None, to)));
            message.push(head.clone());
        }
        let changed = blocks(&self.changed, &shared.changed, own, encode);
        let patched = blocks(&self.patched, &shared.patched, own, encode);
        let has_both = !changed.is_empty() && !patched.is_empty();
        let lists = [(CHANGED, changed), (PATCHED, patched)];
        for (index, (name, blocks)) in lists.into_iter().enumerate() {
            if blocks.is_empty() {
                continue;
            }
            let between = if index > 0 && has_both { "," } else { "" };
            message.push(encode(&format!("{between}{name}[")));
            for (index, block) in blocks.into_iter().enumerate() {
                if index > 0 {
                    message.push(codec::comma(encoding));
                }
                message.push(block);
            }
            message.push(encode("]"));
        }
        message.push(encode("}"));
    }

    /// Everything before the lists of changed and patched peers, each field with a comma.
    fn head(&self, skip: u64, owner: Option<u64>, to: &Snapshot) -> String {
        let mut text = String::new();
        if owner.is_some() || !self.owners.is_empty() {
            let owners = self.owners.iter().copied().chain(owner);
            let list: Vec<_> = owners.map(|id| profiles::of_owner(id, to)).collect();
            field(&mut text, "UserProfiles", &list);
        }
        let removed: Vec<u64> = self
            .removed
            .iter()
            .copied()
            .filter(|id| *id != skip)
            .collect();
        if !removed.is_empty() {
            field(&mut text, "PeersRemoved", &removed);
        }
        text
    }

    /// All fields about peers and the closing brace, without the peer `skip`.
    fn text(&self, skip: u64, owner: Option<u64>, to: &Snapshot) -> String {
        let mut text = self.head(skip, owner, to);
        for (name, list) in [
            (CHANGED, listed(&self.changed, skip)),
            (PATCHED, listed(&self.patched, skip)),
        ] {
            if !list.is_empty() {
                text.push_str(name);
                text.push('[');
                text.push_str(&list);
                text.push_str("],");
            }
        }
        text.truncate(text.trim_end_matches(',').len());
        text.push('}');
        text
    }
}

const CHANGED: &str = r#""PeersChanged":"#;
const PATCHED: &str = r#""PeersChangedPatch":"#;

/// A list in encoded blocks, all shared but the one that has `own`.
fn blocks<T: Listed>(
    list: &[T],
    shared: &[OnceLock<Bytes>],
    own: u64,
    encode: impl Fn(&str) -> Bytes,
) -> Vec<Bytes> {
    list.chunks(BLOCK)
        .zip(shared)
        .filter_map(|(block, shared)| {
            if block.iter().any(|one| one.id() == own) {
                let rest = listed(block, own);
                return (!rest.is_empty()).then(|| encode(&rest));
            }
            Some(shared.get_or_init(|| encode(&listed(block, 0))).clone())
        })
        .collect()
}
