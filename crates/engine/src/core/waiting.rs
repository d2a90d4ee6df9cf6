//! What waits in memory for somebody to confirm or refuse it, under a code that nobody guesses.
//!
//! A restart forgets it: whoever waits asks again and gets another code.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bowline_admission::Crowd;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;

use crate::core::clock::Random;

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
    /// The most requests at once. One more takes the place of the oldest of the largest group.
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
    /// The groups that it is counted by, the widest first, and how many of each may wait at once.
    /// One more takes the place of the oldest of the largest part of that group.
    pub(crate) path: Vec<(G, usize)>,
    /// Who asks, and how many they may ask at once; a group apart from the others.
    pub(crate) asker: Option<(G, usize)>,
}

#[derive(Debug)]
struct State<K, T, O, G> {
    counter: u64,
    entries: HashMap<String, Entry<K, T, O>>,
    by_key: HashMap<K, String>,
    /// Codes by age.
    order: BTreeMap<u64, String>,
    /// Those that nobody has decided about, by their groups.
    undecided: Crowd<G>,
    /// The same by who asks.
    by_asker: Crowd<G>,
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

/// One request as something to wait on: `outcome` ends when the request is forgotten, or somebody
/// else waits in this place. Where it ends before `expires` and the room has nothing else of this
/// key, the request was forgotten for want of room.
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
    G: Copy + Ord + Hash,
{
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            state: Mutex::new(State {
                counter: 0,
                entries: HashMap::new(),
                by_key: HashMap::new(),
                order: BTreeMap::new(),
                undecided: Crowd::default(),
                by_asker: Crowd::default(),
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

    /// Begins to wait; the code. There is always a place: where the room or a group is full, the
    /// oldest of the largest part of it is forgotten.
    pub(crate) fn enter(
        &self,
        now: Timestamp,
        random: &dyn Random,
        entrant: Entrant<K, T, G>,
    ) -> String {
        let Entrant {
            key,
            subject,
            shared,
            path,
            asker,
        } = entrant;
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
        state.make_room(&path, asker, self.limits.requests);
        let mut bytes = [0; 16];
        random.fill(&mut bytes);
        let code = format!("{:032x}", u128::from_be_bytes(bytes));
        state.counter += 1;
        let number = state.counter;
        let groups = path.into_iter().map(|(group, _)| group);
        state.undecided.insert(number, groups, 1);
        let asker = asker.into_iter().map(|(group, _)| group);
        state.by_asker.insert(number, asker, 1);
        let entry = Entry {
            number,
            key: key.clone(),
            subject,
            since: now,
            expires: now + self.limits.lifetime,
            is_claimed: false,
            outcome: watch::Sender::new(None),
        };
        state.by_key.insert(key, code.clone());
        state.order.insert(number, code.clone());
        state.entries.insert(code.clone(), entry);
        code
    }

    /// Whether anything of this group waits that nobody has decided about.
    pub(crate) fn counts(&self, group: &G) -> bool {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.undecided.weight(group) + state.by_asker.weight(group) > 0
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

    /// How many requests wait that nobody has decided about.
    pub(crate) fn count(&self, now: Timestamp) -> usize {
        let state = self.state(now);
        let entries = state.entries.values();
        entries
            .filter(|entry| entry.outcome.borrow().is_none())
            .count()
    }

    /// Requests that are wanted and that nobody has decided about, the oldest first.
    pub(crate) fn list(
        &self,
        now: Timestamp,
        is_wanted: impl Fn(&T) -> bool,
    ) -> Vec<Waiting<T, O>> {
        let state = self.state(now);
        let entries = state
            .order
            .values()
            .filter_map(|code| Some((code, state.entries.get(code)?)));
        // Others wait for the lock: only what is asked for is copied.
        entries
            .filter(|(_, entry)| entry.outcome.borrow().is_none() && is_wanted(&entry.subject))
            .map(|(code, entry)| entry.shown(code))
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
                let number = entry.number;
                state.undecided.remove(number);
                state.by_asker.remove(number);
            }
        }
    }
}

impl<K: Eq + Hash, T, O, G: Copy + Ord + Hash> State<K, T, O, G> {
    /// Forgets as many as have to go before one more has its place.
    fn make_room(&mut self, path: &[(G, usize)], asker: Option<(G, usize)>, most: usize) {
        while let Some((group, limit)) = asker
            && self.by_asker.weight(&group) >= limit
            && let Some(oldest) = self.by_asker.first_to_go(Some(&group))
        {
            self.forget(oldest);
        }
        let groups = path.iter().map(|(group, _)| *group);
        let limit = |group: &G| {
            let found = path.iter().find(|(other, _)| other == group);
            found.map_or(usize::MAX, |(_, limit)| *limit)
        };
        while let Some(oldest) = self
            .undecided
            .in_the_way(groups.clone(), 1, limit, usize::MAX)
        {
            self.forget(oldest);
        }
        while self.entries.len() >= most {
            // What is decided is kept for those who lost the answer only.
            if let Some(decided) = self.oldest_decided() {
                self.remove(&decided);
            } else if let Some(oldest) = self.undecided.first_to_go(None) {
                self.forget(oldest);
            } else {
                return;
            }
        }
    }

    fn forget(&mut self, number: u64) {
        // Out of both in any case: whoever makes room goes on until one is gone.
        self.undecided.remove(number);
        self.by_asker.remove(number);
        if let Some(code) = self.order.get(&number).cloned() {
            self.remove(&code);
        }
    }

    fn oldest_decided(&self) -> Option<String> {
        let is_decided = |code: &&String| {
            let entry = self.entries.get(*code);
            entry.is_some_and(|entry| entry.outcome.borrow().is_some())
        };
        self.order.values().find(is_decided).cloned()
    }

    fn remove(&mut self, code: &str) {
        if let Some(entry) = self.entries.remove(code) {
            self.undecided.remove(entry.number);
            self.by_asker.remove(entry.number);
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
            path: Vec::new(),
            asker: None,
        }
    }

    fn enter(
        room: &Room,
        minutes: i64,
        entrant: Entrant<u8, &'static str, &'static str>,
    ) -> String {
        room.enter(at(minutes), &SystemRandom, entrant)
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
        assert_eq!(room.list(at(2), |_| true).len(), 2);
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
        assert_eq!(room.list(at(60), |_| true)[0].code, second);
    }

    #[test]
    fn in_a_full_room_the_oldest_of_the_largest_group_makes_room() {
        let room = room();
        let of = |key, group| Entrant {
            path: vec![(group, 3)],
            ..entrant(key)
        };
        let bystander = enter(&room, 0, of(1, "bystander"));
        let [first, second] = [2, 3].map(|key| enter(&room, 1, of(key, "many")));
        let following = room.follow(at(1), &first, |_| true).unwrap();
        let newcomer = enter(&room, 2, of(4, "newcomer"));
        assert!(following.outcome.has_changed().is_err() && !room.has(at(2), &2));
        let waiting = room
            .list(at(2), |_| true)
            .into_iter()
            .map(|waiting| waiting.code);
        assert_eq!(
            waiting.collect::<Vec<_>>(),
            [bystander.as_str(), &second, &newcomer]
        );
        assert_eq!(enter(&room, 3, of(1, "bystander")), bystander, "it is in");
        // What is decided goes before anybody who waits.
        assert!(room.claim(at(3), &second).is_some());
        room.settle(at(3), &second, Some(true));
        enter(&room, 3, of(5, "newcomer"));
        assert!(room.get(at(3), &second).is_none());
        assert_eq!(room.list(at(3), |_| true).len(), 3);
    }

    #[test]
    fn a_group_at_its_limit_loses_its_own_oldest() {
        let room = room();
        let of = |key, group| Entrant {
            path: vec![("all", 2), (group, 1)],
            asker: Some(("asker", 5)),
            ..entrant(key)
        };
        let first = enter(&room, 0, of(1, "a"));
        let second = enter(&room, 0, of(2, "a"));
        assert!(room.get(at(0), &first).is_none(), "one of a");
        let third = enter(&room, 0, of(3, "b"));
        assert_eq!(enter(&room, 0, of(2, "a")), second, "it is in already");
        enter(&room, 0, of(4, "c"));
        assert!(
            room.get(at(0), &second).is_none(),
            "two of all, the one that began first"
        );
        assert!(room.counts(&"b") && !room.counts(&"a") && room.counts(&"asker"));
        assert!(room.claim(at(0), &third).is_some());
        room.settle(at(0), &third, Some(false));
        assert!(!room.counts(&"b"), "decided");
        room.sweep(at(60));
        let state = room.state(at(60));
        assert!(state.undecided.is_empty() && state.by_asker.is_empty());
    }

    #[test]
    fn who_asks_again_and_again_pushes_out_itself() {
        let room = room();
        let of = |key, group| Entrant {
            path: vec![(group, 3)],
            asker: Some(("machine", 2)),
            ..entrant(key)
        };
        let codes: Vec<String> = [(1, "a"), (2, "b"), (3, "c")]
            .map(|(key, group)| enter(&room, 0, of(key, group)))
            .into();
        let is_in: Vec<bool> = codes
            .iter()
            .map(|code| room.get(at(0), code).is_some())
            .collect();
        assert_eq!(is_in, [false, true, true]);
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
