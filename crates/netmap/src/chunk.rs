//! Devices in groups of 64: the unit in which snapshots are copied, compared and shared.

use std::sync::{Arc, Mutex, OnceLock};

use bowline_model::device::{Device, Live};
use bowline_model::key::NodeKey;
use bowline_model::user::Hold;
use bowline_wire::map_request::Encoding;
use bytes::Bytes;

use crate::codec;
use crate::render::node;
use crate::variant::Variant;

/// Devices in one chunk.
pub const SIZE: usize = 64;
/// Compressed groups that one chunk remembers. Each class of viewers needs one per encoding.
const GROUPS_MAX: usize = 16;
/// Renderings that one device remembers, apart from the one that most see.
const VARIANTS_MAX: usize = 8;

/// One device in a snapshot, with its rendering for peers once somebody needed it.
#[derive(Debug)]
pub struct Entry {
    /// The stored record.
    pub device: Arc<Device>,
    /// Its soft state.
    pub live: Arc<Live>,
    /// MagicDNS suffix of the tailnet, part of the rendering.
    pub(crate) suffix: Arc<str>,
    /// Why the user that it belongs to may not use the network; `None` where they may.
    pub(crate) hold: Option<Hold>,
    plain_json: OnceLock<Bytes>,
    other_json: Mutex<Vec<(Variant, Bytes)>>,
}

impl Entry {
    pub(crate) fn new(
        device: Arc<Device>,
        live: Arc<Live>,
        suffix: Arc<str>,
        hold: Option<Hold>,
    ) -> Self {
        Self {
            device,
            live,
            suffix,
            hold,
            plain_json: OnceLock::new(),
            other_json: Mutex::default(),
        }
    }

    /// Whether the device can be shown to anybody: it waits for no approval, and its user may use the
    /// network.
    pub fn is_shown(&self) -> bool {
        self.device.authorized && self.hold.is_none()
    }

    /// Whether the device sees its peers, and may use the relay: it can be shown, and its key has not
    /// expired.
    pub fn sees_peers(&self) -> bool {
        self.is_shown() && !self.device.expired
    }

    /// Whether the two are the same in all that is kept of a device.
    pub(crate) fn is_same_as(&self, other: &Self) -> bool {
        self.device == other.device
            && self.live == other.live
            && self.suffix == other.suffix
            && self.hold == other.hold
    }

    /// The node key that stops being good where this gives way to another state of the device, or to
    /// none.
    pub(crate) fn ended_node_key(&self, next: Option<&Self>) -> Option<NodeKey> {
        let is_held = next.is_some_and(|next| next.hold.is_some() && self.hold.is_none());
        if is_held {
            return Some(self.device.node_key);
        }
        self.device.revoked_by(next.map(|next| &*next.device))
    }

    /// What the device reports that is over a limit or of another kind than clients have, so that it
    /// was left out or shortened: names of parts.
    pub(crate) fn shortened(&self) -> Vec<&str> {
        let (facts, live) = (&self.device.facts, &self.live);
        let endpoints = live.endpoints_shortened.then_some("Endpoints");
        let net_info = live.net_info_shortened.then_some("NetInfo");
        let members = facts.shortened.iter().map(String::as_str);
        members.chain(endpoints).chain(net_info).collect()
    }

    /// The node as peers see it, as JSON. Serialised once per change and variant.
    pub fn peer_json(&self, variant: &Variant) -> Bytes {
        let render = || node::to_json(&node::peer(&self.device, &self.live, &self.suffix, variant));
        if variant.is_plain() {
            return self.plain_json.get_or_init(render).clone();
        }
        if let Ok(known) = self.other_json.lock()
            && let Some((_, bytes)) = known.iter().find(|(found, _)| found == variant)
        {
            return bytes.clone();
        }
        let bytes = render();
        if let Ok(mut known) = self.other_json.lock() {
            if known.len() >= VARIANTS_MAX {
                known.remove(0);
            }
            known.push((variant.clone(), bytes.clone()));
        }
        bytes
    }
}

/// Which of a chunk's devices, in which encoding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GroupKey {
    /// Bit per slot; not empty.
    pub(crate) mask: u64,
    pub(crate) encoding: Encoding,
    /// No IPv4 addresses.
    pub(crate) without_ipv4: bool,
    /// Slots that are shown in another way than most.
    pub(crate) special: Vec<(usize, Variant)>,
}

/// Up to [`SIZE`] devices.
#[derive(Debug, Default)]
pub struct Chunk {
    entries: Vec<Option<Arc<Entry>>>,
    /// Bit per slot: devices that peers may see at all.
    visible: u64,
    groups: Mutex<Vec<(GroupKey, Bytes)>>,
}

impl Chunk {
    /// A copy with one slot replaced.
    pub(crate) fn with(&self, slot: usize, entry: Option<Arc<Entry>>) -> Self {
        let mut entries = self.entries.clone();
        if entries.len() <= slot {
            entries.resize(slot + 1, None);
        }
        entries[slot] = entry;
        let visible = entries.iter().enumerate().fold(0, |mask, (index, entry)| {
            mask | (u64::from(entry.as_deref().is_some_and(Entry::is_shown)) << index)
        });
        Self {
            entries,
            visible,
            groups: Mutex::default(),
        }
    }

    /// The device in a slot.
    pub fn get(&self, slot: usize) -> Option<&Arc<Entry>> {
        self.entries.get(slot)?.as_ref()
    }

    /// All devices, by slot.
    pub fn iter(&self) -> impl Iterator<Item = (usize, &Arc<Entry>)> {
        self.entries
            .iter()
            .enumerate()
            .filter_map(|(slot, entry)| Some((slot, entry.as_ref()?)))
    }

    /// Bit per slot: devices that peers may see.
    pub fn visible(&self) -> u64 {
        self.visible
    }

    /// The devices of a group as peers see them, comma-separated, encoded. Shared by everybody who
    /// sees this group.
    pub(crate) fn group(&self, key: GroupKey) -> Bytes {
        if let Ok(groups) = self.groups.lock()
            && let Some((_, bytes)) = groups.iter().find(|(found, _)| *found == key)
        {
            return bytes.clone();
        }
        // Outside the lock: two viewers may do the same work once, but none waits for another's.
        let bytes = self.group_unshared(&key);
        if let Ok(mut groups) = self.groups.lock() {
            if groups.len() >= GROUPS_MAX {
                groups.remove(0);
            }
            groups.push((key, bytes.clone()));
        }
        bytes
    }

    /// The same for a group that only one viewer has: the one without itself.
    pub(crate) fn group_unshared(&self, key: &GroupKey) -> Bytes {
        let size = usize::try_from(key.mask.count_ones()).unwrap_or(0);
        let mut text = Vec::with_capacity(1024 * size);
        for (slot, entry) in self.iter() {
            if key.mask >> slot & 1 == 1 {
                if !text.is_empty() {
                    text.push(b',');
                }
                let special = key.special.iter().find(|(at, _)| *at == slot);
                let mut variant = special
                    .map(|(_, variant)| variant.clone())
                    .unwrap_or_default();
                variant.without_ipv4 |= key.without_ipv4;
                text.extend_from_slice(&entry.peer_json(&variant));
            }
        }
        codec::encode(&text, key.encoding)
    }
}
