//! What waits in memory for somebody to confirm or refuse it, under a code that nobody guesses.
//!
//! A restart forgets it: whoever waits asks again and gets another code.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;

use crate::clock::Random;

/// Requests of one kind. `K` tells them apart, `T` is what is asked, `O` what became of it.
#[derive(Debug)]
pub(crate) struct WaitingRoom<K, T, O> {
    state: Mutex<State<K, T, O>>,
    /// The most that wait at once: one more sends the oldest away.
    limit: usize,
    lifetime: SignedDuration,
}

#[derive(Debug)]
struct State<K, T, O> {
    counter: u64,
    entries: HashMap<String, Entry<K, T, O>>,
    by_key: HashMap<K, String>,
    /// Codes by age.
    order: BTreeMap<u64, String>,
}

#[derive(Debug)]
struct Entry<K, T, O> {
    number: u64,
    key: K,
    subject: T,
    since: Timestamp,
    expires: Timestamp,
    /// Somebody is about to decide.
    is_claimed: bool,
    outcome: watch::Sender<Option<O>>,
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

impl<K: Clone + Eq + Hash, T: Clone + PartialEq, O: Clone> WaitingRoom<K, T, O> {
    pub(crate) fn new(limit: usize, lifetime: SignedDuration) -> Self {
        Self {
            state: Mutex::new(State {
                counter: 0,
                entries: HashMap::new(),
                by_key: HashMap::new(),
                order: BTreeMap::new(),
            }),
            limit,
            lifetime,
        }
    }

    fn state(&self, now: Timestamp) -> MutexGuard<'_, State<K, T, O>> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.sweep(now);
        state
    }

    /// Lets whatever is too old go: those who wait for it are told.
    pub(crate) fn sweep(&self, now: Timestamp) {
        drop(self.state(now));
    }

    /// Begins to wait; the code. `shared`: the code of one with the same key that asks for the same,
    /// where nobody has decided about that. One that asks for something else ends that one: what
    /// somebody was shown under a code is what they decide about.
    pub(crate) fn enter(
        &self,
        now: Timestamp,
        random: &dyn Random,
        key: K,
        subject: T,
        shared: bool,
    ) -> String {
        let mut state = self.state(now);
        if let Some(code) = state.by_key.get(&key).cloned()
            && let Some(entry) = state.entries.get(&code)
        {
            let is_decided = entry.outcome.borrow().is_some();
            if shared && !is_decided && entry.subject == subject {
                return code;
            }
            if shared || is_decided {
                state.remove(&code);
            }
        }
        while state.entries.len() >= self.limit {
            let Some(oldest) = state.order.values().next().cloned() else {
                break;
            };
            state.remove(&oldest);
        }
        let mut bytes = [0; 16];
        random.fill(&mut bytes);
        let code = format!("{:032x}", u128::from_be_bytes(bytes));
        state.counter += 1;
        let number = state.counter;
        let entry = Entry {
            number,
            key: key.clone(),
            subject,
            since: now,
            expires: now + self.lifetime,
            is_claimed: false,
            outcome: watch::Sender::new(None),
        };
        state.by_key.insert(key, code.clone());
        state.order.insert(number, code.clone());
        state.entries.insert(code.clone(), entry);
        code
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

    /// The same as something to wait on; it ends when the request is forgotten.
    pub(crate) fn follow(
        &self,
        now: Timestamp,
        code: &str,
        is_own: impl FnOnce(&K) -> bool,
    ) -> Option<(watch::Receiver<Option<O>>, Timestamp)> {
        let state = self.state(now);
        let entry = state.entries.get(code).filter(|entry| is_own(&entry.key))?;
        Some((entry.outcome.subscribe(), entry.expires))
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
            }
        }
    }
}

impl<K: Eq + Hash, T, O> State<K, T, O> {
    fn remove(&mut self, code: &str) {
        if let Some(entry) = self.entries.remove(code) {
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

impl<K, T: Clone, O: Clone> Entry<K, T, O> {
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

    type Room = WaitingRoom<u8, &'static str, bool>;

    fn at(minutes: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + SignedDuration::from_mins(minutes)
    }

    fn room() -> Room {
        Room::new(3, SignedDuration::from_hours(1))
    }

    fn enter(room: &Room, minutes: i64, key: u8) -> String {
        room.enter(at(minutes), &SystemRandom, key, "x", true)
    }

    #[test]
    fn a_code_is_long_shared_while_nobody_decides_and_another_afterwards() {
        let room = room();
        let code = enter(&room, 0, 1);
        assert_eq!(code.len(), 32);
        assert_eq!(enter(&room, 1, 1), code);
        let own = room.enter(at(1), &SystemRandom, 1, "y", false);
        assert_ne!(own, code);
        assert_eq!(room.list(at(2)).len(), 2);
        assert_eq!(room.claim(at(2), &own), Some("y"));
        assert_eq!(room.claim(at(2), &own), None, "one decides at a time");
        room.settle(at(2), &own, None);
        assert_eq!(room.claim(at(2), &own), Some("y"));
        room.settle(at(2), &own, Some(true));
        assert_eq!(room.claim(at(2), &own), None, "and once");
        assert_eq!(room.get(at(2), &own).unwrap().outcome, Some(true));
        assert_ne!(enter(&room, 3, 1), own);
    }

    #[test]
    fn who_asks_for_something_else_gets_another_code_and_the_first_is_gone() {
        let room = room();
        let code = enter(&room, 0, 1);
        let (outcome, _) = room.follow(at(0), &code, |_| true).unwrap();
        let other = room.enter(at(1), &SystemRandom, 1, "y", true);
        assert_ne!(other, code);
        assert!(room.get(at(1), &code).is_none() && outcome.has_changed().is_err());
        assert_eq!(room.claim(at(1), &code), None);
        assert_eq!(room.claim(at(1), &other), Some("y"));
    }

    #[test]
    fn whoever_waits_too_long_or_is_one_too_many_is_forgotten_and_told() {
        let room = room();
        let codes: Vec<String> = (0..3).map(|n| enter(&room, i64::from(n), n)).collect();
        let (first, _) = room.follow(at(3), &codes[0], |key| *key == 0).unwrap();
        assert!(room.follow(at(3), &codes[0], |key| *key == 1).is_none());
        let fourth = enter(&room, 3, 9);
        assert!(first.has_changed().is_err(), "the oldest went");
        let (second, expires) = room.follow(at(59), &codes[1], |_| true).unwrap();
        assert_eq!(expires, at(61));
        room.sweep(at(61));
        assert!(second.has_changed().is_err());
        assert!(room.get(at(61), &codes[1]).is_none() && room.get(at(61), &codes[2]).is_some());
        assert_eq!(room.list(at(62)).len(), 1);
        assert_eq!(room.list(at(62))[0].code, fourth);
    }
}
