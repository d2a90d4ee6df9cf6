//! The time that the engine goes by: the wall clock, held against the monotonic one.
//!
//! A wall clock that is wrong for a moment must not end every key and token. So a jump of more than
//! a day is not followed: time goes on at the pace of the monotonic clock until the wall clock comes
//! back, or the operator confirms that it is right. Everything in the engine goes by this one time,
//! so that lifetimes that begin while a jump is held back are as long as they should be.
//!
//! A start has no monotonic history. It takes the moment that the server noted last instead.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::core::clock::{Clock, EPOCH};

/// From so far on, a deviation is a step of the clock and no slewing or a slow reading.
const STEP: SignedDuration = SignedDuration::from_secs(5);
/// Holds the wall clock against the monotonic one.
pub(crate) struct Timekeeper {
    clock: Arc<dyn Clock>,
    /// From so far on, a jump is held back; `None`: the wall clock is always believed.
    tolerance: Option<SignedDuration>,
    state: Mutex<State>,
    /// How often the engine's time stepped.
    steps: AtomicU64,
    /// How often a jump began to be held back.
    jumps: AtomicU64,
}

#[derive(Debug, Clone, Copy)]
struct State {
    /// The time that was told last, and the monotonic clock then.
    told: Timestamp,
    at: Duration,
    is_held: bool,
}

/// What the clocks show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockStatus {
    /// The time that the server goes by.
    pub time: Timestamp,
    /// The wall clock of the machine.
    pub wall: Timestamp,
    /// Whether the wall clock jumped, and the server waits for it to come back or for the
    /// operator's word.
    pub is_held: bool,
    /// How often a jump was held back since the start.
    pub jumps: u64,
}

impl Timekeeper {
    pub(crate) fn new(clock: Arc<dyn Clock>, tolerance: Duration) -> Self {
        let state = State {
            told: clock.now(),
            at: clock.monotonic(),
            is_held: false,
        };
        Self {
            clock,
            tolerance: SignedDuration::try_from(tolerance)
                .ok()
                .filter(|tolerance| !tolerance.is_zero()),
            state: Mutex::new(state),
            steps: AtomicU64::new(0),
            jumps: AtomicU64::new(0),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The time.
    pub(crate) fn now(&self) -> Timestamp {
        let mut state = self.state();
        let (wall, at) = (self.clock.now(), self.clock.monotonic());
        let expected = later(state.told, at.saturating_sub(state.at));
        let gap = wall.duration_since(expected);
        let is_held = self
            .tolerance
            .is_some_and(|tolerance| gap.abs() >= tolerance);
        let was_held = state.is_held;
        *state = State {
            told: if is_held { expected } else { wall },
            at,
            is_held,
        };
        if is_held && !was_held {
            self.jumps.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(
                wall_clock = %wall,
                time = %expected,
                "the clock jumped by {gap:#}: what falls due because of it waits until the clock comes back, or until its time is confirmed with `bowline clock confirm`"
            );
        } else if was_held && !is_held {
            tracing::info!(time = %wall, "the clock came back: the server goes by it again");
        }
        if !is_held && gap.abs() >= STEP {
            self.steps.fetch_add(1, Ordering::Release);
        }
        state.told
    }

    /// How often time stepped: by so much that a silence measured across a step says nothing.
    pub(crate) fn steps(&self) -> u64 {
        self.steps.load(Ordering::Acquire)
    }

    /// Goes on from a moment that was noted before this start.
    pub(crate) fn resume(&self, noted: Timestamp) {
        let mut state = self.state();
        state.told = noted;
        state.at = self.clock.monotonic();
        drop(state);
        self.now();
    }

    pub(crate) fn status(&self) -> ClockStatus {
        let time = self.now();
        ClockStatus {
            time,
            wall: self.clock.now(),
            is_held: self.state().is_held,
            jumps: self.jumps.load(Ordering::Relaxed),
        }
    }

    /// Goes by the wall clock from now on.
    pub(crate) fn believe(&self) {
        let before = self.now();
        let mut state = self.state();
        let wall = self.clock.now();
        *state = State {
            told: wall,
            at: self.clock.monotonic(),
            is_held: false,
        };
        self.steps.fetch_add(1, Ordering::Release);
        tracing::info!(before = %before, time = %wall, "the operator confirmed the clock");
    }
}

fn later(moment: Timestamp, by: Duration) -> Timestamp {
    SignedDuration::try_from(by)
        .ok()
        .and_then(|by| moment.checked_add(by).ok())
        .unwrap_or(Timestamp::MAX)
}

/// Whether the clock cannot be right: it shows a moment from before this program was made.
pub(crate) fn is_impossible(now: Timestamp) -> bool {
    now.as_millisecond() < EPOCH
}

#[cfg(test)]
mod tests;
