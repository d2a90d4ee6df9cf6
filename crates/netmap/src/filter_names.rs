//! Names of the parts of packet filters.
//!
//! A filter is sent in named parts, one for each place in the policy's rules, and clients put the
//! parts together in the order of their names. A name is a number; a new policy's rules that were
//! in the old one keep theirs, and those between them get numbers between, so that a change of the
//! policy is told in the parts that differ.

use std::collections::HashMap;

/// Distance between the names of neighbours at first.
const SPACING: u64 = 1 << 32;

/// The names of a policy's places, in their order.
#[derive(Debug, Clone, Default)]
pub(crate) struct FilterNames {
    prints: Vec<u64>,
    names: Vec<u64>,
}

impl FilterNames {
    /// The name of a place.
    pub(crate) fn get(&self, place: usize) -> String {
        format!("{:016x}", self.names.get(place).copied().unwrap_or(0))
    }

    /// The names of another policy's places, by what the places say.
    pub(crate) fn follow(&self, prints: Vec<u64>) -> Self {
        let mut names: Vec<Option<u64>> = vec![None; prints.len()];
        for (old, new) in self.kept(&prints) {
            if let (Some(name), Some(kept)) = (names.get_mut(new), self.names.get(old)) {
                *name = Some(*kept);
            }
        }
        Self {
            names: fill(&names).unwrap_or_else(|| {
                let count = u64::try_from(prints.len()).unwrap_or(u64::MAX);
                (1..=count).map(|n| n.saturating_mul(SPACING)).collect()
            }),
            prints,
        }
    }

    /// Pairs of old and new places that say the same, ascending in both: as many as there can be
    /// among those that stand in only one place.
    fn kept(&self, prints: &[u64]) -> Vec<(usize, usize)> {
        let same_start = self
            .prints
            .iter()
            .zip(prints)
            .take_while(|(old, new)| old == new)
            .count();
        let same_end = (self.prints[same_start..].iter().rev())
            .zip(prints[same_start..].iter().rev())
            .take_while(|(old, new)| old == new)
            .count();
        let (old_end, new_end) = (self.prints.len() - same_end, prints.len() - same_end);
        let mut pairs: Vec<(usize, usize)> = (0..same_start).map(|at| (at, at)).collect();
        pairs.extend(between(
            (&self.prints[same_start..old_end], same_start),
            (&prints[same_start..new_end], same_start),
        ));
        pairs.extend((0..same_end).map(|at| (old_end + at, new_end + at)));
        pairs
    }
}

/// The places of prints that occur once.
fn unique(prints: &[u64]) -> HashMap<u64, usize> {
    let mut places: HashMap<u64, Option<usize>> = HashMap::new();
    for (at, print) in prints.iter().enumerate() {
        places
            .entry(*print)
            .and_modify(|place| *place = None)
            .or_insert(Some(at));
    }
    let once = places.into_iter();
    once.filter_map(|(print, place)| Some((print, place?)))
        .collect()
}

/// The longest ascending series of places with the same print on both sides.
fn between(
    (old, old_start): (&[u64], usize),
    (new, new_start): (&[u64], usize),
) -> Vec<(usize, usize)> {
    let (in_old, in_new) = (unique(old), unique(new));
    let mut pairs: Vec<(usize, usize)> = in_new
        .into_iter()
        .filter_map(|(print, at)| Some((*in_old.get(&print)?, at)))
        .collect();
    pairs.sort_unstable_by_key(|(_, at)| *at);
    // `ends[n]` is the pair that a series of n + 1 pairs ends with, with the lowest old place.
    let mut ends: Vec<usize> = Vec::new();
    let mut before: Vec<Option<usize>> = Vec::with_capacity(pairs.len());
    for (index, (place, _)) in pairs.iter().enumerate() {
        let at = ends.partition_point(|end| pairs[*end].0 < *place);
        before.push(at.checked_sub(1).map(|at| ends[at]));
        if at == ends.len() {
            ends.push(index);
        } else {
            ends[at] = index;
        }
    }
    let mut series = Vec::with_capacity(ends.len());
    let mut next = ends.last().copied();
    while let Some(index) = next {
        let (place, at) = pairs[index];
        series.push((old_start + place, new_start + at));
        next = before[index];
    }
    series.reverse();
    series
}

/// Gives names to places without one, between their neighbours'. `None`: there is no room.
fn fill(names: &[Option<u64>]) -> Option<Vec<u64>> {
    let mut filled = Vec::with_capacity(names.len());
    let mut last = 0u64;
    let mut at = 0;
    while at < names.len() {
        if let Some(name) = names[at] {
            filled.push(name);
            last = name;
            at += 1;
            continue;
        }
        let missing = names[at..].iter().take_while(|name| name.is_none()).count();
        let count = u64::try_from(missing).ok()?;
        let step = match names.get(at + missing).copied().flatten() {
            Some(next) => (next - last) / (count + 1),
            None => SPACING,
        };
        if step == 0 || last.checked_add(step.checked_mul(count)?).is_none() {
            return None;
        }
        for n in 1..=count {
            filled.push(last + n * step);
        }
        last += count * step;
        at += missing;
    }
    Some(filled)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn rules_that_stay_keep_their_names() {
        let first = FilterNames::default().follow(vec![10, 20, 30, 40]);
        let second = first.follow(vec![5, 10, 30, 35, 36, 40]);
        assert_eq!(second.get(1), first.get(0));
        assert_eq!(second.get(2), first.get(2));
        assert_eq!(second.get(5), first.get(3));
        assert!(second.get(0) < second.get(1) && second.get(3) > second.get(2));
        assert!(second.get(4) > second.get(3) && second.get(4) < second.get(5));
    }

    #[test]
    fn where_there_is_no_room_all_names_are_new() {
        let mut names = FilterNames::default().follow(vec![1, 2]);
        for n in 0..100 {
            names = names.follow(vec![1, 100 + n, 2]);
            names = names.follow(vec![1, 100 + n]);
            names = names.follow(vec![1, 100 + n, 2]);
            let list: Vec<String> = (0..3).map(|place| names.get(place)).collect();
            assert!(list.is_sorted() && list[0] != list[1] && list[1] != list[2]);
        }
    }

    proptest! {
        #[test]
        fn names_ascend(lists in prop::collection::vec(prop::collection::vec(0u64..12, 0..12), 1..40)) {
            let mut names = FilterNames::default();
            for prints in lists {
                names = names.follow(prints.clone());
                prop_assert_eq!(names.names.len(), prints.len());
                prop_assert!(names.names.windows(2).all(|pair| pair[0] < pair[1]));
                prop_assert!(names.names.first().is_none_or(|name| *name > 0));
            }
        }
    }
}
