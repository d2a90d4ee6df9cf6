//! What falls due: time enters the state as a command, and views never look at the clock.
//!
//! What has expired follows from stored moments; the marks in the records say what was told. So each
//! mark is taken back when the clock turns out to have been wrong and shows an earlier time again.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bowline_model::audit::EventGroup;
use bowline_model::kind::Kind;
use bowline_netmap::hot::hot;
use bowline_netmap::snapshot::Snapshot;
use jiff::Timestamp;

use crate::core::draft::{Changes, Draft};
use crate::core::sessions::Sessions;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    /// Place of its rule.
    rule: usize,
    id: u64,
}

/// What falls due of one kind of record. Idempotent: what has been done is not done again.
pub(crate) struct Rule {
    /// The kind.
    pub(crate) kind: Kind,
    /// When one object is to be looked at.
    pub(crate) moments: fn(&Snapshot, u64, Spans) -> Moments,
    /// Marks what is due of one object by the draft's time. What it looked at counts as touched.
    pub(crate) run: fn(&mut Draft<'_>, u64, &Sessions, Spans),
}

/// The next due moment of everything.
pub(crate) struct Queue {
    rules: &'static [Rule],
    order: BTreeSet<(Timestamp, Key)>,
    moments: BTreeMap<Key, Timestamp>,
    /// The newest moment of each that was told to have come: it has not where it is ahead of the
    /// clock.
    told: BTreeSet<(Timestamp, Key)>,
    told_moments: BTreeMap<Key, Timestamp>,
    spans: Spans,
}

/// When what was touched is due next.
#[derive(Debug)]
pub(crate) struct Plan(Vec<(Key, Moments)>);

/// When one object is to be looked at.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Moments {
    pub(crate) due: Option<Timestamp>,
    /// The newest moment that was told to have come.
    pub(crate) told: Option<Timestamp>,
}

/// How long before or after a moment something falls due.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Spans {
    /// How long an ephemeral device may be silent.
    pub(crate) silence: Duration,
    /// Since when this process listens, and the clock has not stepped: silence before that is the
    /// server's own.
    pub(crate) since: Timestamp,
    /// How long before a credential expires that is told. Zero: it is not.
    pub(crate) reminder: Duration,
}

impl Queue {
    pub(crate) fn of(rules: &'static [Rule], snapshot: &Snapshot, spans: Spans) -> Self {
        let mut queue = Self {
            rules,
            order: BTreeSet::new(),
            moments: BTreeMap::new(),
            told: BTreeSet::new(),
            told_moments: BTreeMap::new(),
            spans,
        };
        for (place, rule) in rules.iter().enumerate() {
            for id in hot(rule.kind).map_or_else(Vec::new, |objects| objects.ids(snapshot)) {
                let key = Key { rule: place, id };
                queue.set(key, (rule.moments)(snapshot, id, spans));
            }
        }
        queue
    }

    fn set(&mut self, key: Key, Moments { due, told }: Moments) {
        set(&mut self.order, &mut self.moments, key, due);
        set(&mut self.told, &mut self.told_moments, key, told);
    }

    /// When objects that were touched are due next.
    pub(crate) fn plan(&self, snapshot: &Snapshot, changes: &Changes) -> Plan {
        let mut plan = Vec::new();
        for (place, rule) in self.rules.iter().enumerate() {
            for id in changes.touched_numbers(rule.kind) {
                let key = Key { rule: place, id };
                plan.push((key, (rule.moments)(snapshot, id, self.spans)));
            }
        }
        Plan(plan)
    }

    /// Looks at what was touched when it is due next.
    pub(crate) fn follow(&mut self, plan: Plan) {
        for (key, moments) in plan.0 {
            self.set(key, moments);
        }
    }

    /// When something is to be done next: now, where the clock shows an earlier time than one that
    /// was told to have come.
    pub(crate) fn next(&self, now: Timestamp) -> Option<Timestamp> {
        if self.told.last().is_some_and(|(moment, _)| *moment > now) {
            return Some(now);
        }
        self.order.first().map(|(due, _)| *due)
    }

    /// Marks everything that is due by the draft's time. Safe to run twice. What it looked at
    /// counts as touched, so that the queue goes on even where nothing changed.
    pub(crate) fn run(&self, draft: &mut Draft<'_>, sessions: &Sessions) {
        let now = draft.now();
        let due: Vec<Key> = self
            .order
            .iter()
            .take_while(|(moment, _)| *moment <= now)
            .chain(self.told.iter().rev().take_while(|(told, _)| *told > now))
            .map(|(_, key)| *key)
            .collect();
        for key in due {
            // What happens to one object has nothing to do with what happens to the next.
            let group = EventGroup::new(draft.random());
            draft.begin_group(group);
            if let Some(rule) = self.rules.get(key.rule) {
                (rule.run)(draft, key.id, sessions, self.spans);
            }
        }
    }
}

/// Gives a key another moment in an order, or none.
fn set(
    order: &mut BTreeSet<(Timestamp, Key)>,
    moments: &mut BTreeMap<Key, Timestamp>,
    key: Key,
    moment: Option<Timestamp>,
) {
    if let Some(old) = moments.remove(&key) {
        order.remove(&(old, key));
    }
    if let Some(moment) = moment {
        moments.insert(key, moment);
        order.insert((moment, key));
    }
}
