//! What happened to the peers of a class of viewers from one snapshot to another.

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};

use bowline_model::id::DeviceId;
use bowline_wire::map_request::Encoding;
use bowline_wire::node::PeerChange;
use bytes::Bytes;
use imbl::ordmap::DiffItem;

use crate::chunk::{Chunk, Entry, SIZE};
use crate::codec;
use crate::json::{field, push_json};
use crate::message::Message;
use crate::render::update::{self, PeerUpdate};
use crate::render::{node, profiles};
use crate::snapshot::Snapshot;
use crate::variant::Variant;
use crate::view::View;
use crate::viewer::Viewer;

const CHANGED: &str = r#""PeersChanged":"#;
const PATCHED: &str = r#""PeersChangedPatch":"#;

/// What happened to the devices that a class of viewers sees, between two publications.
#[derive(Debug, Default)]
pub(crate) struct PeerDelta {
    removed: Vec<u64>,
    changed: Vec<Shown>,
    patched: Vec<PeerChange>,
    /// Users whose profile changed, and owners of changed devices.
    pub(crate) owners: BTreeSet<u64>,
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

impl PeerDelta {
    /// From one snapshot, as one perspective sees it, to another.
    pub(crate) fn between((from, saw): (&Snapshot, &View), (to, sees): (&Snapshot, &View)) -> Self {
        let mut delta = Self::default();
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
            let owners: BTreeSet<u64> = sees
                .entries(to)
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
    pub(crate) fn everything_removed(from: &Snapshot, saw: &View) -> Self {
        let mut removed: Vec<u64> = saw
            .entries(from)
            .map(|entry| entry.device.id.get())
            .collect();
        removed.sort_unstable();
        Self {
            removed,
            ..Self::default()
        }
    }

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

    /// Whether there is nothing that the viewer must be told.
    pub(crate) fn is_empty_for(&self, viewer: DeviceId) -> bool {
        let others = |count: usize| count - usize::from(count > 0 && self.concerns(viewer));
        !self.has_renamed
            && others(self.removed.len() + self.changed.len() + self.patched.len()) == 0
    }

    /// Appends the fields about peers and the closing brace. `owner` is one more profile to tell.
    pub(crate) fn push_for(
        &self,
        viewer: Viewer,
        owner: Option<u64>,
        to: &Snapshot,
        message: &mut Message,
    ) {
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
