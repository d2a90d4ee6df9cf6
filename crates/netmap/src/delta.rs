//! The difference between two snapshots, as one viewer is told of it.
//!
//! The part about peers is the same for everybody who went from the same publication to the same
//! publication, so it is made once and shared. A viewer that is itself among the changed devices
//! gets a copy without itself: a node is never its own peer.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, OnceLock};

use bowline_model::id::DeviceId;
use bowline_wire::map_request::Encoding;
use bowline_wire::node::PeerChange;
use bytes::Bytes;
use imbl::ordmap::DiffItem;
use jiff::Timestamp;

use crate::chunk::{Chunk, Entry, SIZE};
use crate::codec;
use crate::full::{self, Viewer, field, own_filter, push_json};
use crate::message::Message;
use crate::render::node::PeerUpdate;
use crate::render::{derp, dns, filter, node, profiles};
use crate::snapshot::Snapshot;
use crate::visibility;

/// Publications back from which deltas are remembered; streams that lag make their own.
const REMEMBERED: usize = 32;

/// The peer parts of deltas to one publication, by the publication that they start from.
#[derive(Debug, Default)]
pub(crate) struct SharedDeltas(Mutex<Vec<(u64, Arc<PeerDelta>)>>);

/// What happened to the devices between two publications, for everybody who sees peers.
#[derive(Debug, Default)]
struct PeerDelta {
    removed: Vec<u64>,
    changed: Vec<Arc<Entry>>,
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

impl Listed for Arc<Entry> {
    fn id(&self) -> u64 {
        self.device.id.get()
    }

    fn push(&self, text: &mut String) {
        text.push_str(std::str::from_utf8(self.peer_json()).unwrap_or("{}"));
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
    let (saw, sees) = (visibility::sees_peers(old), visibility::sees_peers(new));
    if sees && !saw {
        return Ok(full::full(viewer, to, now));
    }
    let mut own = own_part(viewer, (old, from), (new, to));
    let peers = match (saw, sees) {
        (true, true) => Some(between(from, to)),
        (true, false) => Some(Arc::new(everything_removed(from))),
        (false, _) => None,
    };
    let peers = peers.filter(|delta| !delta.is_empty_for(viewer.device));
    // The part about peers has the owner's profile too: never in both, a key may be there once.
    if peers.is_none() || !sees {
        own_profile(&mut own, (old, from), (new, to));
    }
    if own.is_empty() && peers.is_none() {
        return Ok(None);
    }
    let mut message = Message::default();
    match peers {
        None => {
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
            peers.push_for(viewer, to, &mut message);
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
    let self_may_differ = !Arc::ptr_eq(old, new) || role(old, from) != role(new, to);
    if self_may_differ {
        let (before, after) = (node::own(old, from), node::own(new, to));
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
    if (self_may_differ || !from.routers_map().ptr_eq(to.routers_map()))
        && filter::rules(old, from) != filter::rules(new, to)
    {
        own_filter(&mut text, new, to);
    }
    text
}

/// The profile of the viewer's owner, when it is another than before.
fn own_profile(
    text: &mut String,
    (old, from): (&Entry, &Snapshot),
    (new, to): (&Entry, &Snapshot),
) {
    let profile =
        |entry: &Entry, snapshot| profiles::of_owner(node::owner_id(&entry.device), snapshot);
    let after = profile(new, to);
    if profile(old, from) != after {
        field(text, "UserProfiles", &[after]);
    }
}

/// The shared peer part of the way from one publication to another.
fn between(from: &Snapshot, to: &Snapshot) -> Arc<PeerDelta> {
    if let Ok(deltas) = to.shared.deltas.0.lock()
        && let Some((_, found)) = deltas.iter().find(|(start, _)| *start == from.publication)
    {
        return found.clone();
    }
    let made = Arc::new(compare(from, to));
    if let Ok(mut deltas) = to.shared.deltas.0.lock() {
        if deltas.len() >= REMEMBERED {
            deltas.remove(0);
        }
        deltas.push((from.publication, made.clone()));
    }
    made
}

fn shown(chunk: Option<&Arc<Chunk>>, slot: usize) -> Option<&Arc<Entry>> {
    chunk?.get(slot).filter(|entry| visibility::is_shown(entry))
}

fn compare(from: &Snapshot, to: &Snapshot) -> PeerDelta {
    let mut delta = PeerDelta::default();
    let (before, after) = (from.chunks(), to.chunks());
    for index in 0..before.len().max(after.len()) {
        let (old, new) = (before.get(index), after.get(index));
        if let (Some(old), Some(new)) = (old, new)
            && Arc::ptr_eq(old, new)
        {
            continue;
        }
        for slot in 0..SIZE {
            delta.compare_slot(shown(old, slot), shown(new, slot));
        }
    }
    for item in from.users_map().diff(to.users_map()) {
        if let DiffItem::Update {
            old: (_, old),
            new: (id, new),
        } = item
            && profiles::of_user(old) != profiles::of_user(new)
        {
            delta.owners.insert(id.get());
            delta.has_renamed = true;
        }
    }
    // A slot can be used again by another device, which is then both here and there.
    delta.removed.sort_unstable();
    delta.changed.sort_by_key(|entry| entry.device.id);
    delta.patched.sort_by_key(|change| change.node_id);
    let changed: BTreeSet<u64> = delta
        .changed
        .iter()
        .map(|entry| entry.device.id.get())
        .collect();
    delta.removed.retain(|id| !changed.contains(id));
    let (changed, patched) = (delta.changed.len(), delta.patched.len());
    delta.plain = Encoded::of(changed, patched);
    delta.zstd = Encoded::of(changed, patched);
    delta
}

/// For a viewer that sees nobody any more.
fn everything_removed(from: &Snapshot) -> PeerDelta {
    let mut removed: Vec<u64> = from
        .devices()
        .filter(|entry| visibility::is_shown(entry))
        .map(|entry| entry.device.id.get())
        .collect();
    removed.sort_unstable();
    PeerDelta {
        removed,
        ..PeerDelta::default()
    }
}

impl PeerDelta {
    fn compare_slot(&mut self, old: Option<&Arc<Entry>>, new: Option<&Arc<Entry>>) {
        match (old, new) {
            (None, None) => {}
            (Some(old), Some(new)) if Arc::ptr_eq(old, new) => {}
            (Some(old), Some(new)) if old.device.id == new.device.id => {
                match node::update(old, new) {
                    PeerUpdate::None => {}
                    PeerUpdate::Patch(change) => self.patched.push(change),
                    PeerUpdate::Full => {
                        self.add(new);
                        self.patched.extend(node::went_offline(old, new));
                    }
                }
            }
            (old, new) => {
                self.removed.extend(old.map(|entry| entry.device.id.get()));
                if let Some(new) = new {
                    self.add(new);
                }
            }
        }
    }

    fn add(&mut self, entry: &Arc<Entry>) {
        self.owners.insert(node::owner_id(&entry.device));
        self.changed.push(entry.clone());
    }

    /// Whether the viewer is among the devices that this is about.
    fn concerns(&self, viewer: DeviceId) -> bool {
        let id = viewer.get();
        self.changed
            .binary_search_by_key(&viewer, |entry| entry.device.id)
            .is_ok()
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

    /// Appends the fields about peers and the closing brace.
    fn push_for(&self, viewer: Viewer, to: &Snapshot, message: &mut Message) {
        let encoding = viewer.encoding;
        let shared = match encoding {
            Encoding::Plain => &self.plain,
            Encoding::Zstd => &self.zstd,
        };
        let encode = |text: &str| codec::encode(text.as_bytes(), encoding);
        if !self.concerns(viewer.device) {
            let whole = || encode(&self.text(0, to));
            message.push(shared.whole.get_or_init(whole).clone());
            return;
        }
        let own = viewer.device.get();
        if self.changed.len() + self.patched.len() <= BLOCK {
            message.push(encode(&self.text(own, to)));
            return;
        }
        // Many changed at once, and each of them sees all others: only the block that has the
        // viewer is its own.
        if self.removed.binary_search(&own).is_ok() {
            message.push(encode(&self.head(own, to)));
        } else {
            let head = shared.head.get_or_init(|| encode(&self.head(0, to)));
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
    fn head(&self, skip: u64, to: &Snapshot) -> String {
        let mut text = String::new();
        if !self.owners.is_empty() {
            let owners = self.owners.iter();
            let list: Vec<_> = owners.map(|id| profiles::of_owner(*id, to)).collect();
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
    fn text(&self, skip: u64, to: &Snapshot) -> String {
        let mut text = self.head(skip, to);
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
