//! Devices in groups of 64: the unit in which snapshots are copied, compared and shared.

use std::sync::{Arc, Mutex, OnceLock};

use bowline_model::device::{Device, Live};
use bowline_wire::map_request::Encoding;
use bytes::Bytes;
use ipnet::IpNet;

use crate::codec;
use crate::render::node;
use crate::visibility;

/// Devices in one chunk.
pub const SIZE: usize = 64;
/// Compressed groups that one chunk remembers. Each class of viewers needs one per encoding.
const GROUPS_MAX: usize = 16;

/// One device in a snapshot, with its rendering for peers once somebody needed it.
#[derive(Debug)]
pub struct Entry {
    /// The stored record.
    pub device: Arc<Device>,
    /// Its soft state.
    pub live: Arc<Live>,
    /// Subnet routes that it is the elected router of, sorted.
    pub primary_routes: Arc<[IpNet]>,
    /// MagicDNS suffix of the tailnet, part of the rendering.
    pub(crate) suffix: Arc<str>,
    peer_json: OnceLock<Bytes>,
}

impl Entry {
    pub(crate) fn new(
        device: Arc<Device>,
        live: Arc<Live>,
        primary_routes: Arc<[IpNet]>,
        suffix: Arc<str>,
    ) -> Self {
        Self {
            device,
            live,
            primary_routes,
            suffix,
            peer_json: OnceLock::new(),
        }
    }

    /// The node as every peer sees it, as JSON. Serialised once per change.
    pub fn peer_json(&self) -> &Bytes {
        self.peer_json
            .get_or_init(|| node::to_json(&node::peer(self)))
    }
}

/// Which of a chunk's devices, in which encoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct GroupKey {
    mask: u64,
    encoding: Encoding,
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
            mask | (u64::from(entry.as_deref().is_some_and(visibility::is_shown)) << index)
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

    /// The devices of `mask` as peers see them, comma-separated, encoded. Shared by everybody who
    /// sees this group; `mask` must not be empty.
    pub(crate) fn group(&self, mask: u64, encoding: Encoding) -> Bytes {
        let key = GroupKey { mask, encoding };
        if let Ok(groups) = self.groups.lock()
            && let Some((_, bytes)) = groups.iter().find(|(found, _)| *found == key)
        {
            return bytes.clone();
        }
        // Outside the lock: two viewers may do the same work once, but none waits for another's.
        let bytes = self.group_unshared(mask, encoding);
        if let Ok(mut groups) = self.groups.lock() {
            if groups.len() >= GROUPS_MAX {
                groups.remove(0);
            }
            groups.push((key, bytes.clone()));
        }
        bytes
    }

    /// The same for a group that only one viewer has: the one without itself.
    pub(crate) fn group_unshared(&self, mask: u64, encoding: Encoding) -> Bytes {
        let mut text = Vec::with_capacity(1024 * usize::try_from(mask.count_ones()).unwrap_or(0));
        for (slot, entry) in self.iter() {
            if mask >> slot & 1 == 1 {
                if !text.is_empty() {
                    text.push(b',');
                }
                text.extend_from_slice(entry.peer_json());
            }
        }
        codec::encode(&text, encoding)
    }
}
