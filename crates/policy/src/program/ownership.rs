//! Which tags own which.

use super::AtomId;
use std::collections::{HashMap, HashSet};

/// `tagOwners` in numbers. A tag's number is its place among all tags, sorted.
///
/// Tags may own tags in chains of any length and in circles, so that nothing here calls itself:
/// a chain of some ten thousand tags would exhaust the stack, which ends the process.
#[derive(Debug, Default)]
pub(crate) struct Ownership {
    names: Vec<String>,
    owners: Vec<Owners>,
}

/// The owners of one tag.
#[derive(Debug, Default)]
pub(crate) struct Owners {
    /// Numbers of tags.
    pub(crate) tags: Vec<u32>,
    /// Selectors of users.
    pub(crate) users: Vec<AtomId>,
}

impl Ownership {
    /// Ownership among these tags, which are sorted, each with its owners.
    pub(crate) fn new(tags: impl IntoIterator<Item = (String, Owners)>) -> Self {
        let (names, owners) = tags.into_iter().unzip();
        Self { names, owners }
    }

    /// The number of a tag, or `None` if it is not declared.
    pub(crate) fn number(&self, tag: &str) -> Option<u32> {
        let found = self.names.binary_search_by(|name| name.as_str().cmp(tag));
        found.ok().and_then(|at| u32::try_from(at).ok())
    }

    /// Those of the wanted tags that are owned, directly or through other tags, where `is_direct`
    /// says which lists of owners name the asking party itself.
    ///
    /// Each tag from which a wanted one could be owned is looked at once, however many are wanted.
    pub(crate) fn owned(
        &self,
        wanted: impl IntoIterator<Item = u32>,
        is_direct: impl Fn(&Owners) -> bool,
    ) -> HashSet<u32> {
        // First everything above the wanted tags, with the way back; then down again from those
        // that are owned directly.
        let mut waiting: Vec<u32> = wanted.into_iter().collect();
        let mut owns: HashMap<u32, Vec<u32>> = HashMap::new();
        let mut seen: HashSet<u32> = waiting.iter().copied().collect();
        let mut direct: Vec<u32> = Vec::new();
        while let Some(tag) = waiting.pop() {
            let Some(owners) = self.owners.get(tag as usize) else {
                continue;
            };
            if is_direct(owners) {
                direct.push(tag);
                continue;
            }
            for owner in &owners.tags {
                owns.entry(*owner).or_default().push(tag);
                if seen.insert(*owner) {
                    waiting.push(*owner);
                }
            }
        }
        let mut owned: HashSet<u32> = direct.iter().copied().collect();
        while let Some(tag) = direct.pop() {
            for below in owns.remove(&tag).unwrap_or_default() {
                if owned.insert(below) {
                    direct.push(below);
                }
            }
        }
        owned
    }
}
