//! Sets of devices.

use std::sync::Arc;

/// Index of a device in its tailnet. Indexes of devices that left are used again.
pub(crate) type Slot = u32;

const WORDS: usize = 16;
const CHUNK: u32 = 64 * WORDS as u32;

type Chunk = [u64; WORDS];

/// A set of devices, as bits over their indexes.
///
/// Bits stand in chunks that copies of the set share until one of them changes, so that a copy
/// costs little and a change costs one chunk.
#[derive(Debug, Clone, Default)]
pub struct DeviceSet {
    chunks: Vec<Option<Arc<Chunk>>>,
}

impl DeviceSet {
    const fn place(slot: Slot) -> (usize, usize, u64) {
        let inside = slot % CHUNK;
        ((slot / CHUNK) as usize, (inside / 64) as usize, 1 << (inside % 64))
    }

    fn chunk(&self, index: usize) -> Option<&Arc<Chunk>> {
        self.chunks.get(index).and_then(Option::as_ref)
    }

    /// Whether the device with this index is in the set.
    pub(crate) fn contains(&self, slot: Slot) -> bool {
        let (chunk, word, bit) = Self::place(slot);
        self.chunk(chunk).and_then(|chunk| chunk.get(word)).is_some_and(|word| word & bit != 0)
    }

    /// Adds a device; whether it was missing.
    pub(crate) fn insert(&mut self, slot: Slot) -> bool {
        if self.contains(slot) {
            return false;
        }
        let (chunk, word, bit) = Self::place(slot);
        if self.chunks.len() <= chunk {
            self.chunks.resize(chunk + 1, None);
        }
        if let Some(chunk) = self.chunks.get_mut(chunk) {
            let chunk = Arc::make_mut(chunk.get_or_insert_default());
            if let Some(word) = chunk.get_mut(word) {
                *word |= bit;
            }
        }
        true
    }

    /// Takes a device out; whether it was there.
    pub(crate) fn remove(&mut self, slot: Slot) -> bool {
        if !self.contains(slot) {
            return false;
        }
        let (chunk, word, bit) = Self::place(slot);
        if let Some(place) = self.chunks.get_mut(chunk)
            && let Some(shared) = place
        {
            let chunk = Arc::make_mut(shared);
            if let Some(word) = chunk.get_mut(word) {
                *word &= !bit;
            }
            if chunk.iter().all(|word| *word == 0) {
                *place = None;
            }
        }
        true
    }

    /// Puts a device in or takes it out; whether that changed anything.
    pub(crate) fn set(&mut self, slot: Slot, wanted: bool) -> bool {
        if wanted { self.insert(slot) } else { self.remove(slot) }
    }

    /// Adds all devices of another set.
    pub(crate) fn union(&mut self, other: &Self) {
        if self.chunks.len() < other.chunks.len() {
            self.chunks.resize(other.chunks.len(), None);
        }
        for (mine, theirs) in self.chunks.iter_mut().zip(&other.chunks) {
            let Some(theirs) = theirs else { continue };
            match mine {
                None => *mine = Some(Arc::clone(theirs)),
                Some(mine) if Arc::ptr_eq(mine, theirs) => {}
                Some(mine) => {
                    let missing = mine.iter().zip(theirs.iter()).any(|(mine, theirs)| theirs & !mine != 0);
                    if missing {
                        let words = Arc::make_mut(mine).iter_mut().zip(theirs.iter());
                        words.for_each(|(mine, theirs)| *mine |= theirs);
                    }
                }
            }
        }
    }

    /// The devices that are in both sets.
    pub(crate) fn intersection(&self, other: &Self) -> Self {
        let pairs = self.chunks.iter().zip(&other.chunks);
        let chunks = pairs.map(|(mine, theirs)| {
            let (Some(mine), Some(theirs)) = (mine, theirs) else { return None };
            if Arc::ptr_eq(mine, theirs) {
                return Some(Arc::clone(mine));
            }
            let mut both = **mine;
            both.iter_mut().zip(theirs.iter()).for_each(|(mine, theirs)| *mine &= theirs);
            both.iter().any(|word| *word != 0).then(|| Arc::new(both))
        });
        Self { chunks: chunks.collect() }
    }

    /// The devices that are not in the other set.
    pub(crate) fn difference(&self, other: &Self) -> Self {
        let chunks = self.chunks.iter().enumerate().map(|(index, mine)| {
            let mine = mine.as_ref()?;
            let Some(theirs) = other.chunk(index) else { return Some(Arc::clone(mine)) };
            if Arc::ptr_eq(mine, theirs) {
                return None;
            }
            let mut rest = **mine;
            rest.iter_mut().zip(theirs.iter()).for_each(|(mine, theirs)| *mine &= !theirs);
            rest.iter().any(|word| *word != 0).then(|| Arc::new(rest))
        });
        Self { chunks: chunks.collect() }
    }

    /// The indexes in the set, ascending.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Slot> + '_ {
        self.chunks.iter().zip(0u32..).flat_map(|(chunk, index)| {
            let words = chunk.as_ref().map_or(&[][..], |chunk| &chunk[..]);
            words.iter().zip(0u32..).flat_map(move |(word, at)| {
                let start = index * CHUNK + at * 64;
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

    /// How many devices are in the set.
    pub fn len(&self) -> usize {
        let words = self.chunks.iter().flatten().flat_map(|chunk| chunk.iter());
        words.map(|word| word.count_ones() as usize).sum()
    }

    /// Whether no device is in the set.
    pub fn is_empty(&self) -> bool {
        self.chunks.iter().all(Option::is_none)
    }
}

impl PartialEq for DeviceSet {
    fn eq(&self, other: &Self) -> bool {
        let length = self.chunks.len().max(other.chunks.len());
        (0..length).all(|index| match (self.chunk(index), other.chunk(index)) {
            (Some(mine), Some(theirs)) => Arc::ptr_eq(mine, theirs) || mine == theirs,
            (mine, theirs) => mine.is_none() == theirs.is_none(),
        })
    }
}

impl Eq for DeviceSet {}

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
