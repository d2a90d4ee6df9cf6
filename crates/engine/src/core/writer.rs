//! The one writer of a tailnet.
//!
//! Its task never waits for the database: a commit runs beside it, one at a time, and changes that
//! come meanwhile wait for the next. Soft state is applied and published at once.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bowline_model::device::Device;
use bowline_model::id::DeviceId;
use bowline_netmap::publication::Publication;
use bowline_netmap::snapshot::Snapshot;
use jiff::Timestamp;
use tokio::sync::{OwnedMutexGuard, mpsc, oneshot};
use tokio::time::Instant;

use crate::core::draft::Changes;
use crate::core::due;
use crate::core::engine::{Handle, Inner, Notice};
use crate::core::failure::StoreFailure;
use crate::core::job::{Job, OnItsWay, SoftChange};
use commit::{InFlight, decided};
use flush::{Flush, SOFT_DELAY, ended};
use waiting::Waiting;

mod attempt;
mod catch_up;
mod commit;
mod flush;
mod rebase;
mod supervise;
mod waiting;

#[cfg(test)]
pub(crate) use attempt::tests::panic_on_purpose;
pub(crate) use commit::{BACK_OFF, DRAWS, MISSES, Outcome, commit_or_read};
pub(crate) use supervise::supervise;

/// The most jobs that one transaction takes.
pub(crate) const BATCH: usize = 1024;
/// The most changes that wait for the database; more are refused. A change waits for
/// [`crate::Settings::commit_timeout`] at most, so this is reached by a flood alone.
pub(crate) const WAITING: usize = 16_384;
/// Reported facts are durable within this.
const REPORT_DELAY: Duration = Duration::from_millis(500);
/// Longest wait before the clock is looked at again.
const LONGEST_SLEEP: Duration = Duration::from_hours(1);

/// Where a writer's jobs come from. A writer that is started again goes on with the same queue.
pub(crate) type Jobs = OwnedMutexGuard<mpsc::Receiver<Job>>;

/// The writer's state.
pub(crate) struct Writer {
    engine: Arc<Inner>,
    handle: Arc<Handle>,
    jobs: Jobs,
    /// What is published. Only the writer replaces it.
    current: Arc<Publication>,
    due: due::Queue,
    /// Changes that wait for the next commit.
    waiting: VecDeque<Waiting>,
    in_flight: Option<InFlight>,
    /// How often another process was first, one time after the other.
    misses: u32,
    tick: Option<Tick>,
    /// Devices whose reported facts are not stored and not on their way to the store.
    reported: BTreeSet<DeviceId>,
    report_at: Option<Instant>,
    soft: BTreeSet<DeviceId>,
    soft_at: Option<Instant>,
    heartbeat_at: Instant,
    flush: Option<Flush>,
    /// Before this, what is due or reported is not tried again.
    retry_at: Option<Instant>,
    /// Steps of the clock that `due` knows of.
    steps: u64,
}

/// A look at the clock that somebody waits for.
#[derive(Default)]
struct Tick {
    replies: Vec<oneshot::Sender<()>>,
    began: bool,
    /// The time, and the next due moment then, when it was looked at last.
    looked_at: Option<jiff::Timestamp>,
    time: jiff::Timestamp,
}

impl Writer {
    pub(crate) fn new(
        engine: Arc<Inner>,
        handle: Arc<Handle>,
        jobs: Jobs,
        current: Arc<Publication>,
    ) -> Self {
        let steps = engine.clock.steps();
        let due = due::Queue::of(
            engine.subjects.due,
            current.snapshot(),
            spans(&engine, engine.clock.now()),
        );
        Self {
            engine,
            handle,
            jobs,
            current,
            due,
            waiting: VecDeque::new(),
            in_flight: None,
            misses: 0,
            tick: None,
            reported: BTreeSet::new(),
            report_at: None,
            soft: BTreeSet::new(),
            soft_at: None,
            heartbeat_at: Instant::now(),
            flush: None,
            retry_at: None,
            steps,
        }
    }

    /// Works until the engine stops, then finishes what was begun and flushes.
    pub(crate) async fn run(mut self) {
        let stop = self.engine.stop.clone();
        while !stop.is_cancelled() {
            let mut jobs = Vec::new();
            let wake_at = self.wake_at();
            tokio::select! {
                received = self.jobs.recv_many(&mut jobs, BATCH) => if received == 0 { break },
                () = tokio::time::sleep_until(wake_at) => {}
                written = ended(&mut self.flush) => self.flushed(written),
                outcome = decided(&mut self.in_flight) => self.ended(outcome),
                () = stop.cancelled() => break,
            }
            self.step(jobs);
            self.flush_soft();
        }
        let abandon = self.engine.abandon.clone();
        tokio::select! {
            () = self.finish() => {}
            () = abandon.cancelled() => {
                tracing::warn!(tailnet.id = %self.handle.id, "stopping although the database has not answered");
                self.abandon();
            }
        }
    }

    /// Callers that are already in the queue get their answer, and soft state is written.
    async fn finish(&mut self) {
        self.jobs.close();
        let mut jobs = Vec::new();
        while self.jobs.recv_many(&mut jobs, BATCH).await > 0 {
            self.step(std::mem::take(&mut jobs));
        }
        self.report_at = self.report_at.map(|_| Instant::now());
        self.step(Vec::new());
        while self.in_flight.is_some() {
            let outcome = decided(&mut self.in_flight).await;
            self.ended(outcome);
            self.step(Vec::new());
        }
        self.ticked();
        self.finish_flush().await;
        while !self.soft.is_empty() {
            let before = self.soft.len();
            self.soft_at = Some(Instant::now());
            self.flush_soft();
            self.finish_flush().await;
            if self.soft.len() >= before {
                break; // it cannot be written
            }
        }
    }

    fn wake_at(&self) -> Instant {
        let now = Instant::now();
        let time = self.engine.clock.now();
        let due = self.due.next(time).filter(|_| self.in_flight.is_none());
        let due = due.map(|moment| {
            let wait = Duration::try_from(moment.duration_since(time)).unwrap_or_default();
            // A little late rather than a little early, and not again and again while the
            // database has no room for the change.
            (now + wait.min(LONGEST_SLEEP) + Duration::from_millis(1))
                .max(self.retry_at.unwrap_or(now))
        });
        let reports = self.report_at.filter(|_| self.in_flight.is_none());
        let heartbeat = self.has_online().then_some(self.heartbeat_at);
        [due, reports, self.soft_at, heartbeat, self.next_overdue()]
            .into_iter()
            .flatten()
            .min()
            .unwrap_or(now + LONGEST_SLEEP)
    }

    fn has_online(&self) -> bool {
        self.handle.sessions.open_count() > 0
    }

    /// Takes jobs in, publishes soft state, and begins a commit if none is under way.
    fn step(&mut self, jobs: Vec<Job>) {
        self.follow_clock();
        let mut soft = Vec::new();
        for job in jobs {
            match job {
                Job::Durable(work) if self.waiting.len() >= WAITING => {
                    self.engine.health.withdrawn(1);
                    work.finish(Err(StoreFailure::Stalled));
                }
                Job::Durable(work) => self.waiting.push_back(Waiting {
                    work,
                    since: Instant::now(),
                    redrawn: 0,
                }),
                Job::Soft(change, on_its_way) => soft.push((change, on_its_way)),
                Job::CatchUp(found, reply) => {
                    let _ = reply.send(self.follow(&found));
                }
                Job::Tick(reply) => {
                    let tick = self.tick.get_or_insert_default();
                    tick.began = false;
                    tick.replies.push(reply);
                }
            }
        }
        // Soft state first: it must not depend on whether the database has room, or answers.
        let (mut soft, on_their_way): (Vec<SoftChange>, Vec<OnItsWay>) = soft.into_iter().unzip();
        self.apply_soft(&mut soft);
        drop(on_their_way); // published
        self.advance();
        self.answer_overdue();
    }

    fn apply_soft(&mut self, soft: &mut [SoftChange]) {
        if soft.is_empty() {
            return;
        }
        let published = self.soften(self.current.snapshot(), soft);
        self.soften_ahead(soft);
        let Some((snapshot, changes)) = published else {
            return;
        };
        if !changes.reported.is_empty() {
            self.reported.extend(&changes.reported);
            self.report_at
                .get_or_insert_with(|| Instant::now() + REPORT_DELAY);
        }
        self.publish(snapshot, &changes);
    }

    fn is_due(&self) -> bool {
        let now = self.engine.clock.now();
        self.due.next(now).is_some_and(|moment| moment <= now)
    }

    /// After a step of the clock nobody knows how long a device was silent: that counts anew.
    fn follow_clock(&mut self) {
        let now = self.engine.clock.now();
        let steps = self.engine.clock.steps();
        if steps != self.steps {
            self.steps = steps;
            self.due = due::Queue::of(
                self.engine.subjects.due,
                self.current.snapshot(),
                spans(&self.engine, now),
            );
        }
    }

    /// Publishes a state: this is where it gets its revision. When nothing in it differs, nobody is
    /// woken: refused changes and repeated reports cost no stream anything.
    fn publish(&mut self, mut snapshot: Snapshot, changes: &Changes) {
        let plan = self.due.plan(&snapshot, changes);
        self.due.follow(plan);
        if changes.is_idle() {
            if snapshot.seq != self.current.snapshot().seq {
                // Reported facts, seen before, are stored now.
                self.current = Arc::new(self.current.at_seq(snapshot.seq));
                self.handle.newest.store(self.current.clone());
            }
            return;
        }
        let before = self.current.snapshot().clone();
        snapshot.revision = before.revision + 1;
        let publication = Arc::new(Publication::new(snapshot));
        let snapshot = publication.snapshot();
        self.engine.directory.follow(&before, snapshot, changes);
        if !changes.soft.is_empty() {
            self.soft.extend(&changes.soft);
            self.soft_at
                .get_or_insert_with(|| Instant::now() + SOFT_DELAY);
        }
        for device in changes.touched::<Device>() {
            if snapshot.device(device).is_none() {
                self.soft.remove(&device);
                self.reported.remove(&device);
            }
        }
        let ended = changes.ended_node_keys(&before, snapshot);
        self.current = publication.clone();
        self.handle.publish(publication);
        for key in ended {
            // Nobody listens in tests without a relay.
            let _ = self.engine.notices.send(Notice::NodeKeyRevoked(key));
        }
    }
}

impl Changes {
    /// Nothing in the snapshot differs: at most, something that seemed due was looked at.
    fn is_idle(&self) -> bool {
        self.rows.keys().all(|id| id.kind.is_cold())
            && self.soft.is_empty()
            && self.reported.is_empty()
            && !self.everything
    }

    fn merge(&mut self, other: Self) {
        self.rows.extend(other.rows);
        self.events.extend(other.events);
        self.jobs.extend(other.jobs);
        self.texts.extend(other.texts);
        self.secrets.extend(other.secrets);
        self.soft.extend(other.soft);
        self.reported.extend(other.reported);
        self.touched.extend(other.touched);
    }
}

#[cfg(test)]
pub(crate) mod tests;

/// How long before or after a moment something falls due, for a process that listens since then.
fn spans(engine: &Inner, since: Timestamp) -> due::Spans {
    due::Spans {
        silence: engine.settings.ephemeral_timeout,
        since,
        reminder: engine.settings.expiry_reminder,
    }
}
