use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// Groups of two levels: `(wide, None)` and in it `(wide, Some(narrow))`.
type Group = (u8, Option<u8>);

fn path(wide: u8, narrow: u8) -> [Group; 2] {
    [(wide, None), (wide, Some(narrow))]
}

#[test]
fn the_largest_group_loses_its_oldest_and_in_it_the_largest_part() {
    let mut crowd = Crowd::default();
    // One who is alone, one wide group of which a part is larger than the rest.
    for (number, (wide, narrow)) in [(1, 0), (2, 1), (2, 2), (2, 2), (2, 2), (2, 1)]
        .into_iter()
        .enumerate()
    {
        crowd.insert(number as u64, path(wide, narrow), 1);
    }
    let mut gone = Vec::new();
    while let Some(number) = crowd.first_to_go(None) {
        crowd.remove(number);
        gone.push(number);
    }
    // Part 2 has three: its oldest. Then both parts have two, and part 1 began first.
    assert_eq!(gone, [2, 1, 3, 5, 0, 4]);
    assert!(crowd.is_empty() && crowd.groups.is_empty() && crowd.all.groups.is_empty());
    assert_eq!(crowd.total(), 0);
}

#[test]
fn a_group_at_its_share_loses_its_own_and_no_other() {
    let mut crowd = Crowd::default();
    for number in 0..4 {
        crowd.insert(number, path(1, 1), 1);
    }
    crowd.insert(9, path(2, 1), 1);
    let share = |group: &Group| if group.1.is_none() { 4 } else { 3 };
    let in_the_way = |crowd: &Crowd<Group>, wide| crowd.in_the_way(path(wide, 7), 1, share, 5);
    assert_eq!(in_the_way(&crowd, 1), Some(0), "the group is full");
    assert_eq!(in_the_way(&crowd, 2), Some(0), "all is full: the largest");
    crowd.remove(0);
    assert_eq!(in_the_way(&crowd, 2), None);
}

proptest! {
    /// Against counting everything anew.
    #[test]
    fn counts_are_those_of_what_is_there(
        steps in proptest::collection::vec((0..4_u8, 0..20_u64, 0..3_u8, 0..3_u8, 0..5_usize), 0..200),
    ) {
        let mut crowd = Crowd::default();
        let mut model: BTreeMap<u64, ([Group; 2], usize)> = BTreeMap::new();
        for (what, number, wide, narrow, weight) in steps {
            match what {
                0 | 1 => {
                    crowd.insert(number, path(wide, narrow), weight);
                    model.insert(number, (path(wide, narrow), weight));
                }
                2 => {
                    crowd.resize(number, weight);
                    if let Some(entry) = model.get_mut(&number) {
                        entry.1 = weight;
                    }
                }
                _ => {
                    prop_assert_eq!(crowd.remove(number), model.remove(&number).is_some());
                }
            }
            let weigh = |group: &Group| -> usize {
                let within = model.values().filter(|(path, _)| path.contains(group));
                within.map(|(_, weight)| weight).sum()
            };
            prop_assert_eq!(crowd.len(), model.len());
            prop_assert_eq!(crowd.total(), model.values().map(|(_, weight)| weight).sum::<usize>());
            for wide in 0..3 {
                prop_assert_eq!(crowd.weight(&(wide, None)), weigh(&(wide, None)));
                for narrow in 0..3 {
                    let group = (wide, Some(narrow));
                    prop_assert_eq!(crowd.weight(&group), weigh(&group));
                }
            }
            let heaviest = (0..3).map(|wide| weigh(&(wide, None))).max().unwrap_or(0);
            match crowd.first_to_go(None) {
                None => prop_assert!(model.is_empty()),
                Some(number) => {
                    let (path, _) = model[&number];
                    prop_assert_eq!(weigh(&path[0]), heaviest);
                    let older = model.range(..number).any(|(_, (other, _))| *other == path);
                    prop_assert!(!older, "an older one of the same group is there");
                }
            }
        }
    }
}
