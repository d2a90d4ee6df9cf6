//! What waits in memory for somebody to confirm or refuse it, under a code that nobody guesses.
//!
//! A restart forgets it: whoever waits asks again and gets another code.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;

use crate::clock::Random;

/// Requests of one kind. `K` tells them apart, `T` is what is asked, `O` what became of it, `G` what
/// they are counted by.
#[derive(Debug)]
pub(crate) struct WaitingRoom<K, T, O, G> {
    state: Mutex<State<K, T, O, G>>,
    limits: Limits,
}

/// What a room has place for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// The most requests at once. One more is refused: whoever waits stays.
    pub(crate) requests: usize,
    pub(crate) lifetime: SignedDuration,
    /// Whether one at a time waits for what becomes of a request, and another takes its place.
    pub(crate) one_follower: bool,
}

/// Somebody who begins to wait.
#[derive(Debug)]
pub(crate) struct Entrant<K, T, G> {
    pub(crate) key: K,
    pub(crate) subject: T,
    /// Whether it may have the code of one with the same key that asks for the same, where nobody
    /// has decided about that. One that asks for something else ends that one: what somebody was
    /// shown under a code is what they decide about.
    pub(crate) shared: bool,
    /// What it is counted by, and how many of that may wait at once.
    pub(crate) counted_by: Vec<(G, usize)>,
}

#[derive(Debug)]
struct State<K, T, O, G> {
    counter: u64,
    entries: HashMap<String, Entry<K, T, O, G>>,
    by_key: HashMap<K, String>,
    /// Codes by age.
    order: BTreeMap<u64, String>,
    /// How many wait, decided ones not included.
    counts: HashMap<G, usize>,
}

#[derive(Debug)]
struct Entry<K, T, O, G> {
    number: u64,
    key: K,
    subject: T,
    since: Timestamp,
    expires: Timestamp,
    /// Somebody is about to decide.
    is_claimed: bool,
    outcome: watch::Sender<Option<O>>,
    /// What it counts for until it is decided.
    counted_by: Vec<G>,
}

/// One request as it stands.
#[derive(Debug, Clone)]
pub(crate) struct Waiting<T, O> {
    pub(crate) code: String,
    pub(crate) subject: T,
    pub(crate) since: Timestamp,
    pub(crate) expires: Timestamp,
    /// `None` while nobody has decided.
    pub(crate) outcome: Option<O>,
}

/// One request as something to wait on: `outcome` ends when the request is forgotten, or somebody
/// else waits in this place.
#[derive(Debug)]
pub(crate) struct Following<T, O> {
    pub(crate) subject: T,
    pub(crate) expires: Timestamp,
    pub(crate) outcome: watch::Receiver<Option<O>>,
}

impl<K, T, O, G> WaitingRoom<K, T, O, G>
where
    K: Clone + Eq + Hash,
    T: Clone + PartialEq,
    O: Clone,
    G: Clone + Eq + Hash,
{
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            state: Mutex::new(State {
                counter: 0,
                entries: HashMap::new(),
                by_key: HashMap::new(),
                order: BTreeMap::new(),
                counts: HashMap::new(),
            }),
            limits,
        }
    }

    fn state(&self, now: Timestamp) -> MutexGuard<'_, State<K, T, O, G>> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.sweep(now);
        state
    }

    /// Lets whatever is too old go: those who wait for it are told.
    pub(crate) fn sweep(&self, now: Timestamp) {
        drop(self.state(now));
    }

    /// Begins to wait; the code. `None`: there is no place.
    pub(crate) fn enter(
        &self,
        now: Timestamp,
        random: &dyn Random,
        entrant: Entrant<K, T, G>,
    ) -> Option<String> {
        let Entrant {
            key,
            subject,
            shared,
            counted_by,
        } = entrant;
        let mut state = self.state(now);
        if let Some(code) = state.by_key.get(&key).cloned()
            && let Some(entry) = state.entries.get(&code)
        {
            let is_decided = entry.outcome.borrow().is_some();
            if shared && !is_decided && entry.subject == subject {
                return Some(code);
            }
            if shared || is_decided {
                state.remove(&code);
            }
        }
        let count = |group: &G| state.counts.get(group).copied().unwrap_or(0);
        if counted_by.iter().any(|(group, most)| count(group) >= *most) {
            return None;
        }
        if state.entries.len() >= self.limits.requests {
            let oldest_decided = state.oldest_decided()?;
            state.remove(&oldest_decided);
        }
        let mut bytes = [0; 16];
        random.fill(&mut bytes);
        let code = format!("{:032x}", u128::from_be_bytes(bytes));
        state.counter += 1;
        let number = state.counter;
        let counted_by: Vec<G> = counted_by.into_iter().map(|(group, _)| group).collect();
        for group in &counted_by {
            *state.counts.entry(group.clone()).or_default() += 1;
        }
        let entry = Entry {
            number,
            key: key.clone(),
            subject,
            since: now,
            expires: now + self.limits.lifetime,
            is_claimed: false,
            outcome: watch::Sender::new(None),
            counted_by,
        };
        state.by_key.insert(key, code.clone());
        state.order.insert(number, code.clone());
        state.entries.insert(code.clone(), entry);
        Some(code)
    }

    /// Whether there is a request with this key, decided or not.
    pub(crate) fn has(&self, now: Timestamp, key: &K) -> bool {
        self.state(now).by_key.contains_key(key)
    }

    /// A request by its code, decided or not.
    pub(crate) fn get(&self, now: Timestamp, code: &str) -> Option<Waiting<T, O>> {
        let state = self.state(now);
        state.entries.get(code).map(|entry| entry.shown(code))
    }

    /// Requests that nobody has decided about, the oldest first.
    pub(crate) fn list(&self, now: Timestamp) -> Vec<Waiting<T, O>> {
        let state = self.state(now);
        let codes = state.order.values();
        codes
            .filter_map(|code| Some(state.entries.get(code)?.shown(code)))
            .filter(|waiting| waiting.outcome.is_none())
            .collect()
    }

    /// The same as something to wait on.
    pub(crate) fn follow(
        &self,
        now: Timestamp,
        code: &str,
        is_own: impl FnOnce(&K) -> bool,
    ) -> Option<Following<T, O>> {
        let mut state = self.state(now);
        let entry = state.entries.get_mut(code)?;
        if !is_own(&entry.key) {
            return None;
        }
        if self.limits.one_follower {
            let outcome = entry.outcome.borrow().clone();
            entry.outcome = watch::Sender::new(outcome);
        }
        Some(Following {
            subject: entry.subject.clone(),
            expires: entry.expires,
            outcome: entry.outcome.subscribe(),
        })
    }

    /// Takes a request to decide about it. `None`: there is none, or somebody decides already.
    pub(crate) fn claim(&self, now: Timestamp, code: &str) -> Option<T> {
        let mut state = self.state(now);
        let entry = state.entries.get_mut(code)?;
        if entry.is_claimed || entry.outcome.borrow().is_some() {
            return None;
        }
        entry.is_claimed = true;
        Some(entry.subject.clone())
    }

    /// Decides what was claimed, or leaves it to the next one.
    pub(crate) fn settle(&self, now: Timestamp, code: &str, outcome: Option<O>) {
        let mut state = self.state(now);
        if let Some(entry) = state.entries.get_mut(code) {
            entry.is_claimed = false;
            if outcome.is_some() {
                entry.outcome.send_replace(outcome);
                let counted_by = std::mem::take(&mut entry.counted_by);
                state.discount(&counted_by);
            }
        }
    }
}

impl<K: Eq + Hash, T, O, G: Eq + Hash> State<K, T, O, G> {
    fn discount(&mut self, groups: &[G]) {
        for group in groups {
            if let Some(count) = self.counts.get_mut(group) {
                *count -= 1;
                if *count == 0 {
                    self.counts.remove(group);
                }
            }
        }
    }

    /// Kept for who lost the answer only.
    fn oldest_decided(&self) -> Option<String> {
        let is_decided = |code: &&String| {
            let entry = self.entries.get(*code);
            entry.is_some_and(|entry| entry.outcome.borrow().is_some())
        };
        self.order.values().find(is_decided).cloned()
    }

    fn remove(&mut self, code: &str) {
        if let Some(entry) = self.entries.remove(code) {
            self.discount(&entry.counted_by);
            self.order.remove(&entry.number);
            if self.by_key.get(&entry.key).is_some_and(|own| own == code) {
                self.by_key.remove(&entry.key);
            }
        }
    }

    fn sweep(&mut self, now: Timestamp) {
        // All live equally long, so the oldest goes first.
        while let Some(code) = self.order.values().next().cloned() {
            let is_over = self
                .entries
                .get(&code)
                .is_none_or(|entry| entry.expires <= now);
            if !is_over {
                return;
            }
            self.remove(&code);
        }
    }
}

impl<K, T: Clone, O: Clone, G> Entry<K, T, O, G> {
    fn shown(&self, code: &str) -> Waiting<T, O> {
        Waiting {
            code: code.to_owned(),
            subject: self.subject.clone(),
            since: self.since,
            expires: self.expires,
            outcome: self.outcome.borrow().clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SystemRandom;

    type Room = WaitingRoom<u8, &'static str, bool, &'static str>;

    fn at(minutes: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + SignedDuration::from_mins(minutes)
    }

    fn room() -> Room {
        Room::new(Limits {
            requests: 3,
            lifetime: SignedDuration::from_hours(1),
            one_follower: true,
        })
    }

    fn entrant(key: u8) -> Entrant<u8, &'static str, &'static str> {
        Entrant {
            key,
            subject: "x",
            shared: true,
            counted_by: Vec::new(),
        }
    }

    fn enter(
        room: &Room,
        minutes: i64,
        entrant: Entrant<u8, &'static str, &'static str>,
    ) -> String {
        room.enter(at(minutes), &SystemRandom, entrant).unwrap()
    }

    #[test]
    fn a_code_is_long_shared_while_nobody_decides_and_another_afterwards() {
        let room = room();
        let code = enter(&room, 0, entrant(1));
        assert_eq!(code.len(), 32);
        assert_eq!(enter(&room, 1, entrant(1)), code);
        let alone = Entrant {
            subject: "y",
            shared: false,
            ..entrant(1)
        };
        let own = enter(&room, 1, alone);
        assert_ne!(own, code);
        assert_eq!(room.list(at(2)).len(), 2);
        assert_eq!(room.claim(at(2), &own), Some("y"));
        assert_eq!(room.claim(at(2), &own), None, "one decides at a time");
        room.settle(at(2), &own, None);
        assert_eq!(room.claim(at(2), &own), Some("y"));
        room.settle(at(2), &own, Some(true));
        assert_eq!(room.claim(at(2), &own), None, "and once");
        assert_eq!(room.get(at(2), &own).unwrap().outcome, Some(true));
        assert_ne!(enter(&room, 3, entrant(1)), own);
    }

    #[test]
    fn who_asks_for_something_else_gets_another_code_and_the_first_is_gone() {
        let room = room();
        let code = enter(&room, 0, entrant(1));
        let first = room.follow(at(0), &code, |_| true).unwrap();
        let changed = Entrant {
            subject: "y",
            ..entrant(1)
        };
        let other = enter(&room, 1, changed);
        assert_ne!(other, code);
        assert!(room.get(at(1), &code).is_none() && first.outcome.has_changed().is_err());
        assert_eq!(room.claim(at(1), &code), None);
        assert_eq!(room.claim(at(1), &other), Some("y"));
    }

    #[test]
    fn whoever_waits_too_long_is_forgotten_and_told() {
        let room = room();
        let first = enter(&room, 0, entrant(0));
        let second = enter(&room, 1, entrant(1));
        assert!(room.follow(at(1), &first, |key| *key == 1).is_none());
        let following = room.follow(at(59), &first, |key| *key == 0).unwrap();
        assert_eq!(following.expires, at(60));
        room.sweep(at(60));
        assert!(following.outcome.has_changed().is_err());
        assert!(!room.has(at(60), &0) && room.has(at(60), &1));
        assert!(room.get(at(60), &first).is_none());
        assert_eq!(room.list(at(60))[0].code, second);
    }

    #[test]
    fn a_full_room_refuses_who_comes_and_sends_nobody_away_who_waits() {
        let room = room();
        let codes: Vec<String> = (0..3).map(|key| enter(&room, 0, entrant(key))).collect();
        assert_eq!(room.enter(at(1), &SystemRandom, entrant(9)), None);
        assert_eq!(enter(&room, 1, entrant(0)), codes[0], "who is in stays in");
        assert_eq!(room.list(at(1)).len(), 3);
        // What is decided makes room, and so does time.
        assert!(room.claim(at(1), &codes[1]).is_some());
        room.settle(at(1), &codes[1], Some(true));
        enter(&room, 1, entrant(9));
        assert!(room.get(at(1), &codes[1]).is_none());
        assert_eq!(room.enter(at(59), &SystemRandom, entrant(8)), None);
        enter(&room, 60, entrant(8));
    }

    #[test]
    fn what_is_counted_has_a_limit_of_its_own() {
        let room = room();
        let of = |key, group| Entrant {
            counted_by: vec![(group, 1), ("all", 2)],
            ..entrant(key)
        };
        let try_enter = |key, group| room.enter(at(0), &SystemRandom, of(key, group));
        let first = try_enter(1, "a").unwrap();
        assert_eq!(try_enter(2, "a"), None);
        assert_eq!(try_enter(1, "a"), Some(first.clone()), "it is in already");
        try_enter(2, "b").unwrap();
        assert_eq!(try_enter(3, "c"), None, "all");
        assert!(room.claim(at(0), &first).is_some());
        room.settle(at(0), &first, Some(false));
        try_enter(3, "a").unwrap();
        assert_eq!(try_enter(4, "a"), None);
        room.sweep(at(60));
        assert!(room.state(at(60)).counts.is_empty());
    }

    #[test]
    fn a_second_follower_takes_the_place_of_the_first() {
        let room = room();
        let code = enter(&room, 0, entrant(1));
        let follow = || room.follow(at(0), &code, |_| true).unwrap().outcome;
        let (first, second) = (follow(), follow());
        assert!(first.has_changed().is_err() && second.has_changed().is_ok());
        assert!(room.claim(at(0), &code).is_some());
        room.settle(at(0), &code, Some(true));
        assert_eq!((*first.borrow(), *second.borrow()), (None, Some(true)));
        assert_eq!(*follow().borrow(), Some(true), "who lost the answer");
    }
}
