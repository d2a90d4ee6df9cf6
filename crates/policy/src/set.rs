//! Sets of devices.

use std::sync::Arc;

/// Index of a device in its tailnet. Indexes of devices that left are used again.
pub(crate) type Slot = u32;

const WORDS: usize = 16;
const CHUNK: u32 = 1024;
const _: () = assert!(CHUNK as usize == 64 * WORDS);

type Chunk = [u64; WORDS];

/// A set of devices, as bits over their indexes.
///
/// Sets belong to the [`Compiled`](crate::Compiled) that gave them and to its copies, before and
/// after changes: the same index is the same device, unless it left in between.
///
/// Bits stand in chunks that copies of the set share until one of them changes, so that a copy
/// costs little and a change costs one chunk. Chunks without bits are not kept.
#[derive(Debug, Clone, Default)]
pub struct DeviceSet {
    /// Ascending by number.
    chunks: Vec<(u32, Arc<Chunk>)>,
}

impl DeviceSet {
    const fn place(slot: Slot) -> (u32, usize, u64) {
        let inside = slot % CHUNK;
        (slot / CHUNK, (inside / 64) as usize, 1 << (inside % 64))
    }

    fn find(&self, number: u32) -> Result<usize, usize> {
        self.chunks
            .binary_search_by_key(&number, |(known, _)| *known)
    }

    fn chunk(&self, number: u32) -> Option<&Arc<Chunk>> {
        self.find(number)
            .ok()
            .and_then(|at| self.chunks.get(at))
            .map(|(_, chunk)| chunk)
    }

    /// Whether the device with this index is in the set.
    pub(crate) fn contains(&self, slot: Slot) -> bool {
        let (number, word, bit) = Self::place(slot);
        self.chunk(number)
            .and_then(|chunk| chunk.get(word))
            .is_some_and(|word| word & bit != 0)
    }

    /// Adds a device; whether it was missing.
    pub(crate) fn insert(&mut self, slot: Slot) -> bool {
        if self.contains(slot) {
            return false;
        }
        let (number, word, bit) = Self::place(slot);
        let at = self.find(number).unwrap_or_else(|at| {
            self.chunks.insert(at, (number, Arc::default()));
            at
        });
        if let Some((_, chunk)) = self.chunks.get_mut(at)
            && let Some(word) = Arc::make_mut(chunk).get_mut(word)
        {
            *word |= bit;
        }
        true
    }

    /// Takes a device out; whether it was there.
    pub(crate) fn remove(&mut self, slot: Slot) -> bool {
        if !self.contains(slot) {
            return false;
        }
        let (number, word, bit) = Self::place(slot);
        if let Ok(at) = self.find(number)
            && let Some((_, shared)) = self.chunks.get_mut(at)
        {
            let chunk = Arc::make_mut(shared);
            if let Some(word) = chunk.get_mut(word) {
                *word &= !bit;
            }
            if chunk.iter().all(|word| *word == 0) {
                self.chunks.remove(at);
            }
        }
        true
    }

    /// Puts a device in or takes it out; whether that changed anything.
    pub(crate) fn set(&mut self, slot: Slot, wanted: bool) -> bool {
        if wanted {
            self.insert(slot)
        } else {
            self.remove(slot)
        }
    }

    /// Adds all devices of another set.
    pub fn union(&mut self, other: &Self) {
        let mut at = 0;
        for (number, theirs) in &other.chunks {
            while self.chunks.get(at).is_some_and(|(known, _)| known < number) {
                at += 1;
            }
            match self.chunks.get_mut(at) {
                Some((known, mine)) if known == number => {
                    let missing = !Arc::ptr_eq(mine, theirs)
                        && mine
                            .iter()
                            .zip(theirs.iter())
                            .any(|(mine, theirs)| theirs & !mine != 0);
                    if missing {
                        let words = Arc::make_mut(mine).iter_mut().zip(theirs.iter());
                        words.for_each(|(mine, theirs)| *mine |= theirs);
                    }
                }
                _ => self.chunks.insert(at, (*number, Arc::clone(theirs))),
            }
        }
    }

    /// The devices that are in both sets.
    pub fn intersection(&self, other: &Self) -> Self {
        let (short, long) = if self.chunks.len() < other.chunks.len() {
            (self, other)
        } else {
            (other, self)
        };
        let chunks = short.chunks.iter().filter_map(|(number, mine)| {
            let theirs = long.chunk(*number)?;
            if Arc::ptr_eq(mine, theirs) {
                return Some((*number, Arc::clone(mine)));
            }
            let mut both = **mine;
            both.iter_mut()
                .zip(theirs.iter())
                .for_each(|(mine, theirs)| *mine &= theirs);
            both.iter()
                .any(|word| *word != 0)
                .then(|| (*number, Arc::new(both)))
        });
        Self {
            chunks: chunks.collect(),
        }
    }

    /// The devices that are not in the other set.
    pub fn difference(&self, other: &Self) -> Self {
        let chunks = self.chunks.iter().filter_map(|(number, mine)| {
            let Some(theirs) = other.chunk(*number) else {
                return Some((*number, Arc::clone(mine)));
            };
            if Arc::ptr_eq(mine, theirs) {
                return None;
            }
            let mut rest = **mine;
            rest.iter_mut()
                .zip(theirs.iter())
                .for_each(|(mine, theirs)| *mine &= !theirs);
            rest.iter()
                .any(|word| *word != 0)
                .then(|| (*number, Arc::new(rest)))
        });
        Self {
            chunks: chunks.collect(),
        }
    }

    /// The indexes in the set, ascending.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Slot> + '_ {
        self.chunks.iter().flat_map(|(number, chunk)| {
            chunk.iter().zip(0u32..).flat_map(move |(word, at)| {
                let start = number * CHUNK + at * 64;
                let mut rest = *word;
                std::iter::from_fn(move || {
                    (rest != 0).then(|| {
                        let bit = rest.trailing_zeros();
                        rest &= rest - 1;
                        start + bit
                    })
                })
            })
        })
    }

    /// The devices with the places `64 * index` to `64 * index + 63`, a bit each. For callers that
    /// number the devices themselves.
    pub fn word(&self, index: u32) -> u64 {
        let words = u32::try_from(WORDS).unwrap_or(1);
        self.chunk(index / words)
            .and_then(|chunk| chunk.get((index % words) as usize))
            .copied()
            .unwrap_or(0)
    }

    /// How many devices are in the set.
    pub fn len(&self) -> usize {
        let words = self.chunks.iter().flat_map(|(_, chunk)| chunk.iter());
        words.map(|word| word.count_ones() as usize).sum()
    }

    /// Whether no device is in the set.
    pub const fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }
}

impl PartialEq for DeviceSet {
    fn eq(&self, other: &Self) -> bool {
        self.chunks.len() == other.chunks.len()
            && self.chunks.iter().zip(&other.chunks).all(|(mine, theirs)| {
                mine.0 == theirs.0 && (Arc::ptr_eq(&mine.1, &theirs.1) || mine.1 == theirs.1)
            })
    }
}

impl Eq for DeviceSet {}

impl std::hash::Hash for DeviceSet {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.chunks.hash(state);
    }
}

impl FromIterator<Slot> for DeviceSet {
    fn from_iter<I: IntoIterator<Item = Slot>>(slots: I) -> Self {
        let mut set = Self::default();
        slots.into_iter().for_each(|slot| {
            set.insert(slot);
        });
        set
    }
}

#[cfg(test)]
mod tests {
    use super::{DeviceSet, Slot};
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn a_device_set_is_a_set(
            left in proptest::collection::btree_set(0u32..5000, 0..50),
            right in proptest::collection::btree_set(0u32..5000, 0..50),
        ) {
            let set = |slots: &BTreeSet<Slot>| slots.iter().copied().collect::<DeviceSet>();
            let list = |set: &DeviceSet| set.iter().collect::<BTreeSet<_>>();
            let (mine, theirs) = (set(&left), set(&right));
            let mut union = mine.clone();
            union.union(&theirs);
            prop_assert_eq!(list(&union), &left | &right);
            prop_assert_eq!(list(&mine.intersection(&theirs)), &left & &right);
            prop_assert_eq!(list(&mine.difference(&theirs)), &left - &right);
            prop_assert_eq!(mine.len(), left.len());
            let mut emptied = mine.clone();
            for slot in &left {
                prop_assert!(emptied.remove(*slot));
            }
            prop_assert!(emptied.is_empty() && emptied == DeviceSet::default());
            prop_assert_eq!(list(&mine), left);
        }
    }
}
