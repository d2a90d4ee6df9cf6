//! Who is there, counted by groups within groups, and who goes first where there are too many.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;

/// Entries with a weight, in groups within groups: an address in its /64, that in its /56.
///
/// An entry is named by a number that grows from each entry to the next, so that the smaller of two
/// is the older one. The groups of an entry are its *path*, the widest first; one group is always
/// in the same wider one.
///
/// Every operation costs the logarithm of what is there, never a look at all of it.
#[derive(Debug)]
pub struct Crowd<G> {
    all: Members<G>,
    groups: HashMap<G, Members<G>>,
    entries: HashMap<u64, Entry<G>>,
}

#[derive(Debug)]
struct Entry<G> {
    path: Vec<G>,
    weight: usize,
}

/// What a group has in it: narrower groups, or entries.
#[derive(Debug)]
struct Members<G> {
    weight: usize,
    /// The number of the entry by which it began.
    since: u64,
    groups: BTreeSet<Size<G>>,
    entries: BTreeSet<u64>,
}

/// Of two groups that weigh the same, the one that began first counts as the larger: a source that
/// keeps one place for long goes before one that has just come.
type Size<G> = (usize, Reverse<u64>, G);

impl<G> Members<G> {
    const fn new(since: u64) -> Self {
        Self {
            weight: 0,
            since,
            groups: BTreeSet::new(),
            entries: BTreeSet::new(),
        }
    }

    fn is_empty(&self) -> bool {
        self.groups.is_empty() && self.entries.is_empty()
    }
}

impl<G: Copy + Ord + Hash> Default for Crowd<G> {
    fn default() -> Self {
        Self {
            all: Members::new(0),
            groups: HashMap::new(),
            entries: HashMap::new(),
        }
    }
}

impl<G: Copy + Ord + Hash> Crowd<G> {
    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The weight of all.
    pub const fn total(&self) -> usize {
        self.all.weight
    }

    /// The weight of a group; 0 for one that is not there.
    pub fn weight(&self, group: &G) -> usize {
        self.groups.get(group).map_or(0, |members| members.weight)
    }

    /// Adds an entry. One of the same number is replaced.
    pub fn insert(&mut self, number: u64, path: impl IntoIterator<Item = G>, weight: usize) {
        self.remove(number);
        let path: Vec<G> = path.into_iter().collect();
        for group in &path {
            self.groups
                .entry(*group)
                .or_insert_with(|| Members::new(number));
        }
        self.leaf(&path).entries.insert(number);
        self.entries.insert(
            number,
            Entry {
                path: path.clone(),
                weight,
            },
        );
        self.weigh(&path, |old| old + weight);
    }

    /// Gives an entry another weight.
    pub fn resize(&mut self, number: u64, weight: usize) {
        let Some(entry) = self.entries.get_mut(&number) else {
            return;
        };
        let (path, old) = (entry.path.clone(), entry.weight);
        entry.weight = weight;
        self.weigh(&path, |whole| whole - old + weight);
    }

    /// Removes an entry, if it is there.
    pub fn remove(&mut self, number: u64) -> bool {
        let Some(Entry { path, weight }) = self.entries.remove(&number) else {
            return false;
        };
        self.leaf(&path).entries.remove(&number);
        self.weigh(&path, |old| old - weight);
        true
    }

    /// The oldest entry of the largest group: of the largest group that is in the largest one, and
    /// so on. `within`: of that group alone.
    pub fn first_to_go(&self, within: Option<&G>) -> Option<u64> {
        let mut members = match within {
            Some(group) => self.groups.get(group)?,
            None => &self.all,
        };
        while let Some((_, _, largest)) = members.groups.last() {
            members = self.groups.get(largest)?;
        }
        members.entries.first().copied()
    }

    /// The next entry that has to go before `weight` more of this path fits. `None`: it fits, or
    /// nothing that could go would help. `share` says how much a group may weigh, `total` how much
    /// all of them.
    pub fn in_the_way(
        &self,
        path: impl IntoIterator<Item = G>,
        weight: usize,
        share: impl Fn(&G) -> usize,
        total: usize,
    ) -> Option<u64> {
        // The widest group that is too full says who goes: within it that is the largest part.
        let full = path
            .into_iter()
            .find(|group| self.weight(group).saturating_add(weight) > share(group));
        if let Some(group) = full {
            return self.first_to_go(Some(&group));
        }
        if self.all.weight.saturating_add(weight) > total {
            return self.first_to_go(None);
        }
        None
    }

    /// The group that weighs most, of the widest ones.
    pub fn largest(&self) -> Option<(G, usize)> {
        let (weight, _, group) = self.all.groups.last()?;
        Some((*group, *weight))
    }

    fn leaf(&mut self, path: &[G]) -> &mut Members<G> {
        match path.last().and_then(|group| self.groups.get_mut(group)) {
            Some(members) => members,
            None => &mut self.all,
        }
    }

    /// Changes the weight of all groups of a path, and forgets those that have become empty.
    fn weigh(&mut self, path: &[G], change: impl Fn(usize) -> usize) {
        // From the narrowest, so that a wider group is asked last whether anything is left in it.
        for (at, group) in path.iter().enumerate().rev() {
            let Some(members) = self.groups.get_mut(group) else {
                continue;
            };
            let before = (members.weight, Reverse(members.since), *group);
            members.weight = change(members.weight);
            let after = (members.weight, Reverse(members.since), *group);
            let is_empty = members.is_empty();
            if is_empty {
                self.groups.remove(group);
            }
            let outer = self.leaf(&path[..at]);
            outer.groups.remove(&before);
            if !is_empty {
                outer.groups.insert(after);
            }
        }
        self.all.weight = change(self.all.weight);
    }
}

#[cfg(test)]
mod tests;
