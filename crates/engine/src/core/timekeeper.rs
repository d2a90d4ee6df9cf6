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

use bowline_model::audit::{ActorRef, Target};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use tokio::sync::oneshot;

use crate::core::clock::{Clock, EPOCH};
use crate::core::engine::{Engine, OpenError};
use crate::core::failure::{Refusal, StoreFailure};
use crate::core::writer::Job;

/// Name of the noted moment in the store.
const MOMENT: &str = "clock";
/// How often it is noted. What is lost in a crash is far less than a jump that counts.
const NOTE_EVERY: Duration = Duration::from_mins(10);
/// How often the clock is looked at where nobody asks for the time.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// From so far on, a deviation is a step of the clock and no slewing or a slow reading.
const STEP: SignedDuration = SignedDuration::from_secs(5);
/// How far the clock may have gone on between an operator's look and their word.
const SEEN_WITHIN: SignedDuration = SignedDuration::from_hours(1);

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

/// What the operator's word about the clock would end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FallsDue {
    /// Devices whose node key would expire.
    pub devices: usize,
    /// Auth keys and API access tokens that would expire.
    pub credentials: usize,
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
    fn resume(&self, noted: Timestamp) {
        let mut state = self.state();
        state.told = noted;
        state.at = self.clock.monotonic();
        drop(state);
        self.now();
    }

    fn status(&self) -> ClockStatus {
        let time = self.now();
        ClockStatus {
            time,
            wall: self.clock.now(),
            is_held: self.state().is_held,
            jumps: self.jumps.load(Ordering::Relaxed),
        }
    }

    /// Goes by the wall clock from now on.
    fn believe(&self) {
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

impl Engine {
    /// Goes on from the moment that the server noted last. A database without one is new or was
    /// restored: its newest change may be of any age, but no clock can be before it.
    pub(crate) async fn resume_clock(&self) -> Result<(), OpenError> {
        if let Some(noted) = self.0.store.moment(MOMENT).await? {
            self.0.clock.resume(noted);
            return Ok(());
        }
        let mut newest = None;
        for (tailnet, seq) in self.0.store.tailnets().await? {
            let last = self.0.store.changes(tailnet, seq.saturating_sub(1), 1);
            newest = newest.max(last.await?.first().map(|change| change.at));
        }
        if let Some(newest) = newest.filter(|newest| self.now() < *newest) {
            self.0.clock.resume(newest);
        }
        Ok(())
    }

    /// Looks at the clock now and then, so that a step is noticed where nobody asks for the time,
    /// and notes the moment for the next start.
    pub(crate) fn watch_clock(&self) {
        let engine = self.clone();
        self.0.tasks.spawn(async move {
            let stop = engine.0.stop.clone();
            let mut seen = engine.0.clock.steps();
            let mut note_at = tokio::time::Instant::now();
            loop {
                if note_at <= tokio::time::Instant::now() {
                    note_at = tokio::time::Instant::now() + NOTE_EVERY;
                    // A database that does not answer must not keep us from the clock.
                    let _ = tokio::time::timeout(LOOK_EVERY, engine.note_clock()).await;
                }
                tokio::select! {
                    () = tokio::time::sleep(LOOK_EVERY) => {}
                    () = stop.cancelled() => break,
                }
                engine.now();
                let steps = engine.0.clock.steps();
                if steps != seen {
                    seen = steps;
                    engine.look_at_the_clock().await;
                }
                engine.end_rivalries().await;
            }
            let abandon = engine.0.abandon.clone();
            tokio::select! {
                () = engine.note_clock() => {}
                () = abandon.cancelled() => {}
            }
        });
    }

    async fn note_clock(&self) {
        let now = self.now();
        if is_impossible(now) {
            return; // nothing to go on from
        }
        if let Err(error) = self.0.store.put_moment(MOMENT, now).await {
            tracing::debug!(%error, "could not note what time it is");
        }
    }

    /// Lets every writer look at the clock; waits until each has what is due in its queue.
    async fn look_at_the_clock(&self) {
        for id in self.tailnets() {
            if let Some(handle) = self.handle(id) {
                let (reply, done) = oneshot::channel();
                if handle.jobs.send(Job::Tick(reply)).await.is_ok() {
                    let _ = done.await;
                }
            }
        }
    }

    /// What the clocks show.
    pub fn clock(&self) -> ClockStatus {
        self.0.clock.status()
    }

    /// What would expire if the wall clock were believed. Nothing where it shows an earlier time.
    pub fn falls_due(&self) -> FallsDue {
        let ClockStatus { time, wall, .. } = self.clock();
        let is_between = |moment: Timestamp| time < moment && moment <= wall;
        let mut due = FallsDue::default();
        for snapshot in self
            .tailnets()
            .into_iter()
            .filter_map(|id| self.snapshot(id))
        {
            let devices = snapshot.devices().filter(|entry| {
                let device = &entry.device;
                !device.expired && device.effective_expiry().is_some_and(is_between)
            });
            let credentials = snapshot
                .credentials()
                .filter(|credential| credential.is_valid(time) && is_between(credential.expires));
            due.devices += devices.count();
            due.credentials += credentials.count();
        }
        due
    }

    /// The operator's word that the wall clock is right. `seen`: what they saw it show.
    ///
    /// # Errors
    /// `Invalid` when the clock shows something else by now, or a moment that cannot be; a failure
    /// to store the audit events of the tailnets.
    pub async fn confirm_clock(&self, seen: Timestamp) -> Result<ClockStatus, Refusal> {
        let wall = self.clock().wall;
        if wall.duration_since(seen).abs() >= SEEN_WITHIN {
            return Err(Refusal::invalid(format!(
                "the clock shows {wall} now and not {seen}; look at it again"
            )));
        }
        if is_impossible(wall) {
            return Err(Refusal::invalid(format!(
                "the clock shows {wall}, which is before this program was made; set it first"
            )));
        }
        let before = self.now();
        for tailnet in self.tailnets() {
            let noted: Result<(), StoreFailure> = self
                .write_as(tailnet, ActorRef::Operator, move |draft| {
                    let name = draft.view().tailnet().name.clone();
                    draft.audit(
                        "CONFIRM",
                        Target::tailnet(tailnet, &name, "CLOCK"),
                        json!(before),
                        json!(wall),
                    );
                    Ok(())
                })
                .await;
            noted?;
        }
        self.0.clock.believe();
        self.note_clock().await;
        self.look_at_the_clock().await;
        Ok(self.clock())
    }
}

#[cfg(test)]
mod tests;
