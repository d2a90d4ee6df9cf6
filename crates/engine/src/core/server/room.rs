//! A room: records of one kind, each under a key and a code, that go when their time is over.

use std::hash::Hash;
use std::sync::Arc;

use bowline_admission::Crowd;
use bowline_model::kind::Stored;
use bowline_model::record::Body;
use bowline_model::waiting::{Code, CodeKey, CodeOf};
use imbl::{OrdMap, OrdSet};
use jiff::Timestamp;

/// A record that waits in a room.
pub(crate) trait Waits: Stored {
    /// What tells requests apart: of two with one key, the newer one is found by it.
    type Key: Clone + Ord;
    /// What they are counted by.
    type Group: Copy + Ord + Hash;

    fn number(&self) -> u64;
    fn key(&self) -> Self::Key;
    fn expires(&self) -> Timestamp;
    /// Whether nothing more is to be decided about it: it is not counted any more, and makes room
    /// before anything else.
    fn is_decided(&self) -> bool;
    /// The groups that it is counted by, the widest first.
    fn groups(&self) -> Vec<Self::Group>;
    /// Who asks: a group apart from the others.
    fn asker(&self) -> Option<Self::Group>;
    /// What it is found by, where people are shown a code.
    fn code(&self) -> Option<CodeOf>;
}

/// What a room has place for. There is always a place: one more takes that of the oldest of the
/// largest part of what is full.
pub(crate) struct Limits<G> {
    /// The most records at once.
    pub(crate) records: usize,
    /// The most undecided ones of each group.
    pub(crate) share: fn(&G) -> usize,
    /// The most undecided ones of who asks.
    pub(crate) asker: usize,
}

/// Records of one kind. A copy is a few reference counts.
#[derive(Debug, Clone)]
pub(crate) struct Room<T: Waits> {
    /// By id, and so by age.
    records: OrdMap<u64, Arc<Body<T>>>,
    by_key: OrdSet<(T::Key, u64)>,
    by_expiry: OrdSet<(Timestamp, u64)>,
    by_code: OrdMap<Code, u64>,
}

impl<T: Waits> Default for Room<T> {
    fn default() -> Self {
        Self {
            records: OrdMap::new(),
            by_key: OrdSet::new(),
            by_expiry: OrdSet::new(),
            by_code: OrdMap::new(),
        }
    }
}

impl<T: Waits> Room<T> {
    pub(crate) fn len(&self) -> usize {
        self.records.len()
    }

    /// A record, though its time may be over.
    pub(crate) fn body(&self, number: u64) -> Option<&Arc<Body<T>>> {
        self.records.get(&number)
    }

    fn alive(&self, number: u64, now: Timestamp) -> Option<&Arc<Body<T>>> {
        let body = self.records.get(&number)?;
        (body.record.expires() > now).then_some(body)
    }

    /// A record by its id.
    pub(crate) fn get(&self, id: T::Id, now: Timestamp) -> Option<&Arc<Body<T>>> {
        self.alive(id.into(), now)
    }

    /// The newest record of a key.
    pub(crate) fn by_key(&self, key: &T::Key, now: Timestamp) -> Option<&T> {
        let of_key = (key.clone(), 0)..=(key.clone(), u64::MAX);
        let (_, newest) = self.by_key.range(of_key).next_back()?;
        Some(&self.alive(*newest, now)?.record)
    }

    /// The records of this key and of those after it, by key.
    pub(crate) fn keys_from(&self, key: T::Key, now: Timestamp) -> impl Iterator<Item = &T> {
        let found = self.by_key.range((key, 0)..);
        found.filter_map(move |(_, number)| Some(&self.alive(*number, now)?.record))
    }

    /// A record by its code.
    pub(crate) fn by_code(&self, code: &str, now: Timestamp) -> Option<&Arc<Body<T>>> {
        self.alive(*self.by_code.get(&Code::parse(code)?)?, now)
    }

    /// All records, the oldest first.
    pub(crate) fn all(&self, now: Timestamp) -> impl Iterator<Item = &T> {
        let records = self.records.values().map(|body| &body.record);
        records.filter(move |record| record.expires() > now)
    }

    /// The ids of all records.
    pub(crate) fn numbers(&self) -> impl Iterator<Item = u64> {
        self.records.keys().copied()
    }

    /// When the next record's time is over.
    pub(crate) fn next_expiry(&self) -> Option<Timestamp> {
        self.by_expiry.get_min().map(|(at, _)| *at)
    }

    /// The records whose time is over.
    pub(crate) fn expired(&self, now: Timestamp) -> Vec<u64> {
        let due = self.by_expiry.iter().take_while(|(at, _)| *at <= now);
        due.map(|(_, number)| *number).collect()
    }

    pub(super) fn put(&mut self, body: Body<T>, codes: &CodeKey) {
        let number = body.record.number();
        self.remove(number);
        let record = &body.record;
        self.by_key.insert((record.key(), number));
        self.by_expiry.insert((record.expires(), number));
        if let Some(of) = record.code() {
            self.by_code.insert(codes.code(of), number);
        }
        self.records.insert(number, Arc::new(body));
    }

    pub(super) fn remove(&mut self, number: u64) {
        let Some(body) = self.records.remove(&number) else {
            return;
        };
        let record = &body.record;
        self.by_key.remove(&(record.key(), number));
        self.by_expiry.remove(&(record.expires(), number));
    }

    /// Forgets the code of a record that was removed.
    pub(super) fn forget_code(&mut self, code: Code) {
        self.by_code.remove(&code);
    }
}

/// How many of each group are in a room: kept by the writer beside the state, which readers share.
#[derive(Debug)]
pub(crate) struct Places<T: Waits> {
    undecided: Crowd<T::Group>,
    by_asker: Crowd<T::Group>,
}

impl<T: Waits> Places<T> {
    pub(super) fn of(room: &Room<T>) -> Self {
        let mut places = Self {
            undecided: Crowd::default(),
            by_asker: Crowd::default(),
        };
        for body in room.records.values() {
            places.put(&body.record);
        }
        places
    }

    pub(super) fn put(&mut self, record: &T) {
        let number = record.number();
        self.remove(number);
        if !record.is_decided() {
            self.undecided.insert(number, record.groups(), 1);
            self.by_asker.insert(number, record.asker(), 1);
        }
    }

    pub(super) fn remove(&mut self, number: u64) {
        self.undecided.remove(number);
        self.by_asker.remove(number);
    }

    /// The next record that has to go before a newcomer has its place.
    pub(super) fn in_the_way(
        &self,
        room: &Room<T>,
        newcomer: &T,
        limits: &Limits<T::Group>,
    ) -> Option<u64> {
        if let Some(asker) = newcomer.asker()
            && self.by_asker.weight(&asker) >= limits.asker
        {
            return self.by_asker.first_to_go(Some(&asker));
        }
        let in_group = self
            .undecided
            .in_the_way(newcomer.groups(), 1, limits.share, usize::MAX);
        if in_group.is_some() {
            return in_group;
        }
        if room.len() < limits.records {
            return None;
        }
        // What is decided is kept for those who lost the answer only.
        let mut decided = None;
        if self.undecided.len() < room.len() {
            let mut records = room.records.iter();
            decided = records.find(|(_, body)| body.record.is_decided());
        }
        let decided = decided.map(|(number, _)| *number);
        decided.or_else(|| self.undecided.first_to_go(None))
    }
}

#[cfg(test)]
mod tests;
