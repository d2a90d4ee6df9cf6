//! Whether changes can be stored: what readiness, metrics and the log say of the database.
//!
//! A condition is said once when it begins and once when it ends, with a count of what failed in
//! between, however many changes fail.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bowline_store::{CommitError, Condition};
use tokio::time::Instant;

/// A write that was not answered for this long means that the database stalls.
pub(crate) const STALL: Duration = Duration::from_secs(5);

/// So long nothing must have failed before a success counts as the end of a condition: on a disk
/// that is nearly full, writes that succeed and writes that fail follow each other.
const QUIET: Duration = Duration::from_secs(2);

/// Upper bounds of `Latency::buckets`, in seconds.
pub const LATENCY_BOUNDS: [f64; 12] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0,
];

/// How long commits took, from the start of the transaction until it was known to be durable.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Latency {
    /// Commits that took at most the bound of the same place in [`LATENCY_BOUNDS`], and longer
    /// than the one before; the last are those above all bounds.
    pub buckets: [u64; LATENCY_BOUNDS.len() + 1],
    /// All of it together, in seconds.
    pub sum: f64,
}

/// Why changes cannot be stored at present.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trouble {
    /// What is wrong with the database.
    pub condition: Condition,
    /// Since when.
    pub since: Duration,
    /// How many changes failed since then.
    pub failed: u64,
}

/// What is known of the store.
#[derive(Debug, Clone, Default)]
pub struct StoreReport {
    /// Why changes cannot be stored; `None` while they can.
    pub trouble: Option<Trouble>,
    /// Changes that were committed.
    pub committed: u64,
    /// Commits that failed, by condition.
    pub failed: Vec<(Condition, u64)>,
    /// How long commits took.
    pub latency: Latency,
    /// For how long the oldest write has been under way.
    pub oldest_write: Duration,
    /// Size of the database, where it is known.
    pub bytes: Option<u64>,
}

/// The state of the store, as this process has seen it.
#[derive(Debug, Default)]
pub(crate) struct StoreHealth {
    state: Mutex<State>,
    committed: AtomicU64,
    bytes: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    failing: Option<Failing>,
    failed: HashMap<Condition, u64>,
    /// Writes under way, and when each began.
    writes: BTreeMap<u64, Instant>,
    counter: u64,
    latency: Latency,
    last_success: Option<Instant>,
}

#[derive(Debug)]
struct Failing {
    condition: Condition,
    since: Instant,
    /// When something failed last.
    last: Instant,
    failed: u64,
    /// Conditions that were said: two that alternate do not fill the log.
    said: HashSet<Condition>,
}

/// A write under way. Dropping it says that its end is not known to be a success or a failure.
#[derive(Debug)]
pub(crate) struct Write<'a> {
    health: &'a StoreHealth,
    number: u64,
    began: Instant,
}

impl Drop for Write<'_> {
    fn drop(&mut self) {
        self.health.state().writes.remove(&self.number);
    }
}

impl Write<'_> {
    /// A change is durable.
    pub(crate) fn committed(self) {
        self.health.committed.fetch_add(1, Ordering::Relaxed);
        self.health
            .succeeded(self.number, Some(self.began.elapsed()));
    }

    /// The database has answered: a write, or (`false`) only a question.
    pub(crate) fn answered(self, is_write: bool) {
        if is_write {
            self.health.succeeded(self.number, None);
        } else {
            self.health.state().last_success = Some(Instant::now());
        }
    }
}

impl StoreHealth {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that a write begins.
    pub(crate) fn begin(&self) -> Write<'_> {
        let began = Instant::now();
        let mut state = self.state();
        state.counter += 1;
        let number = state.counter;
        state.writes.insert(number, began);
        Write {
            health: self,
            number,
            began,
        }
    }

    fn succeeded(&self, number: u64, commit: Option<Duration>) {
        let now = Instant::now();
        let ended = {
            let mut state = self.state();
            state.last_success = Some(now);
            if let Some(took) = commit {
                let seconds = took.as_secs_f64();
                let bucket = LATENCY_BOUNDS.iter().position(|bound| seconds <= *bound);
                state.latency.buckets[bucket.unwrap_or(LATENCY_BOUNDS.len())] += 1;
                state.latency.sum += seconds;
            }
            let mut others = state.writes.iter().filter(|(other, _)| **other != number);
            let is_stalled = others.any(|(_, began)| now.duration_since(*began) >= STALL);
            state
                .failing
                .take_if(|failing| !is_stalled && now.duration_since(failing.last) >= QUIET)
        };
        if let Some(failing) = ended {
            tracing::warn!(
                condition = failing.condition.name(),
                failed = failing.failed,
                seconds = failing.since.elapsed().as_secs(),
                "changes can be stored again"
            );
        }
    }

    /// Notes that a change could not be stored. Says so where that begins.
    pub(crate) fn failed(&self, error: &CommitError) {
        // Otherwise the change is at fault, not the database.
        if let Some(condition) = error.condition() {
            self.fails(condition, &causes(error), true);
        }
    }

    /// Notes that something fails of which no caller waits for an answer.
    pub(crate) fn lost(&self, error: &CommitError) {
        if let Some(condition) = error.condition() {
            self.fails(condition, &causes(error), false);
        }
    }

    fn fails(&self, condition: Condition, cause: &str, is_change: bool) {
        let now = Instant::now();
        let is_new = {
            let mut state = self.state();
            if is_change {
                *state.failed.entry(condition).or_default() += 1;
            }
            let failing = state.failing.get_or_insert_with(|| Failing {
                condition,
                since: now,
                last: now,
                failed: 0,
                said: HashSet::new(),
            });
            failing.failed += u64::from(is_change);
            failing.last = now;
            failing.condition = condition;
            failing.said.insert(condition)
        };
        if is_new {
            tracing::error!(
                condition = condition.name(),
                cause,
                "changes cannot be stored: {condition}; connected devices, reconnects and reads go on"
            );
        }
    }

    /// Notes that callers were answered although the database had not answered.
    pub(crate) fn withdrawn(&self, changes: u64) {
        if changes == 0 {
            return;
        }
        let mut state = self.state();
        *state.failed.entry(Condition::Stalled).or_default() += changes;
        if let Some(failing) = &mut state.failing {
            failing.failed += changes;
        }
    }

    /// Looks at how long writes have been under way. Returns how long ago anything was stored.
    pub(crate) fn look(&self) -> Duration {
        let (oldest, idle) = {
            let state = self.state();
            let oldest = state.writes.values().min().map(Instant::elapsed);
            let idle = state.last_success.map(|at| at.elapsed());
            (oldest, idle)
        };
        if oldest.is_some_and(|age| age >= STALL) {
            self.fails(Condition::Stalled, "a write is not answered", false);
        }
        idle.unwrap_or(Duration::MAX)
    }

    /// Whether changes fail at present.
    pub(crate) fn is_failing(&self) -> bool {
        self.state().failing.is_some()
    }

    pub(crate) fn set_bytes(&self, bytes: u64) {
        self.bytes.store(bytes, Ordering::Relaxed);
    }

    pub(crate) fn report(&self) -> StoreReport {
        let state = self.state();
        let bytes = self.bytes.load(Ordering::Relaxed);
        StoreReport {
            trouble: state.failing.as_ref().map(|failing| Trouble {
                condition: failing.condition,
                since: failing.since.elapsed(),
                failed: failing.failed,
            }),
            committed: self.committed.load(Ordering::Relaxed),
            failed: Condition::ALL
                .iter()
                .map(|one| (*one, state.failed.get(one).copied().unwrap_or(0)))
                .collect(),
            latency: state.latency,
            oldest_write: state
                .writes
                .values()
                .min()
                .map(Instant::elapsed)
                .unwrap_or_default(),
            bytes: (bytes > 0).then_some(bytes),
        }
    }
}

/// An error with all its causes, for the log.
pub(crate) fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}
