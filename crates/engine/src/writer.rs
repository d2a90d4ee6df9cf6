//! The one writer of a tailnet.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bowline_model::audit::ActorRef;
use bowline_model::id::DeviceId;
use bowline_model::record;
use bowline_netmap::snapshot::Snapshot;
use bowline_store::{Batch, CommitError, Kind};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::draft::{self, Changes, Draft};
use crate::due;
use crate::engine::{Event, Handle, Inner};
use crate::failure::StoreFailure;
use crate::load;
use flush::{Flush, SOFT_DELAY, ended};

mod flush;

/// The most jobs that one transaction takes.
const BATCH: usize = 1024;
/// Reported facts are durable within this.
const REPORT_DELAY: Duration = Duration::from_millis(500);
/// How often another process may be first. One that follows the change log would take the
/// tailnet's lock after the second time; until there is one, nobody else should write at all.
const MISSES: u32 = 3;
/// Longest wait before the clock is looked at again.
const LONGEST_SLEEP: Duration = Duration::from_hours(1);

/// A change of soft state or reported facts.
pub(crate) type SoftChange = Box<dyn FnOnce(&mut Draft<'_>) + Send>;

/// Something for a writer to do.
pub(crate) enum Job {
    /// A change that is durable before its caller is answered.
    Durable(Box<dyn Work>),
    /// A change of soft state or reported facts.
    Soft(SoftChange),
    /// Look at the clock, and say when that is done.
    Tick(oneshot::Sender<()>),
}

/// A durable change with its types erased.
pub(crate) trait Work: Send {
    /// Runs the closure; whether it was accepted.
    fn run(&mut self, draft: &mut Draft<'_>) -> bool;
    /// Answers the caller.
    fn finish(self: Box<Self>, outcome: Result<(), StoreFailure>);
}

/// A durable change.
pub(crate) struct Typed<T, E, F> {
    pub(crate) closure: F,
    pub(crate) actor: ActorRef,
    pub(crate) result: Option<Result<T, E>>,
    pub(crate) reply: oneshot::Sender<Result<T, E>>,
}

impl<T, E, F> Work for Typed<T, E, F>
where
    T: Send,
    E: From<StoreFailure> + Send,
    F: FnMut(&mut Draft<'_>) -> Result<T, E> + Send,
{
    fn run(&mut self, draft: &mut Draft<'_>) -> bool {
        draft.act_as(self.actor.clone());
        let result = (self.closure)(draft);
        let accepted = result.is_ok();
        self.result = Some(result);
        accepted
    }

    fn finish(self: Box<Self>, outcome: Result<(), StoreFailure>) {
        let answer = match (outcome, self.result) {
            (Ok(()), Some(result)) => result,
            (Ok(()), None) => {
                Err(StoreFailure::Defect("a change was acknowledged without having run").into())
            }
            // A refusal stands whatever became of the others' commit.
            (Err(_), Some(Err(refusal))) => Err(refusal),
            (Err(failure), _) => Err(failure.into()),
        };
        // The caller may have gone away; what it asked for stays done.
        let _ = self.reply.send(answer);
    }
}

/// The writer's state.
pub(crate) struct Writer {
    engine: Arc<Inner>,
    handle: Arc<Handle>,
    jobs: mpsc::Receiver<Job>,
    current: Snapshot,
    due: due::Queue,
    reported: BTreeSet<DeviceId>,
    report_at: Option<Instant>,
    soft: BTreeSet<DeviceId>,
    soft_at: Option<Instant>,
    heartbeat_at: Instant,
    flush: Option<Flush>,
    retry_at: Option<Instant>,
    /// Steps of the clock that `due` knows of.
    steps: u64,
}

impl Writer {
    pub(crate) fn new(
        engine: Arc<Inner>,
        handle: Arc<Handle>,
        jobs: mpsc::Receiver<Job>,
        snapshot: &Snapshot,
    ) -> Self {
        let steps = engine.clock.steps();
        let due = due::Queue::of(
            snapshot,
            engine.settings.ephemeral_timeout,
            engine.clock.now(),
        );
        Self {
            engine,
            handle,
            jobs,
            current: snapshot.clone(),
            due,
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

    /// Works until the engine stops, then flushes.
    pub(crate) async fn run(mut self) {
        let stop = self.engine.stop.clone();
        loop {
            let mut jobs = Vec::new();
            let wake_at = self.wake_at();
            tokio::select! {
                received = self.jobs.recv_many(&mut jobs, BATCH) => if received == 0 { break },
                () = tokio::time::sleep_until(wake_at) => {}
                written = ended(&mut self.flush) => self.flushed(written),
                () = stop.cancelled() => break,
            }
            self.step(jobs).await;
            self.flush_soft();
        }
        // Callers that are already in the queue get their answer.
        self.jobs.close();
        let mut jobs = Vec::new();
        while self.jobs.recv_many(&mut jobs, BATCH).await > 0 {
            self.step(std::mem::take(&mut jobs)).await;
        }
        self.report_at = self.report_at.map(|_| Instant::now());
        self.step(Vec::new()).await;
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
        let due = self.due.next(time).map(|moment| {
            let wait = Duration::try_from(moment.duration_since(time)).unwrap_or_default();
            // A little late rather than a little early, and not again and again while the
            // database has no room for the change.
            (now + wait.min(LONGEST_SLEEP) + Duration::from_millis(1))
                .max(self.retry_at.unwrap_or(now))
        });
        let heartbeat = self.has_online().then_some(self.heartbeat_at);
        [due, self.report_at, self.soft_at, heartbeat]
            .into_iter()
            .flatten()
            .min()
            .unwrap_or(now + LONGEST_SLEEP)
    }

    fn has_online(&self) -> bool {
        self.handle.sessions.open_count() > 0
    }

    /// Runs jobs and whatever is due, commits, publishes, answers.
    async fn step(&mut self, jobs: Vec<Job>) {
        self.follow_clock();
        let mut durable = Vec::new();
        let mut ticks = Vec::new();
        let mut soft = Vec::new();
        for job in jobs {
            match job {
                Job::Durable(work) => durable.push(work),
                Job::Soft(change) => soft.push(change),
                Job::Tick(reply) => ticks.push(reply),
            }
        }
        self.apply_soft(soft);
        self.commit(durable, !ticks.is_empty()).await;
        if !ticks.is_empty() {
            // What was done may be due again at once: a credential expired so long ago that it is
            // not to be kept either.
            let mut first = None;
            // A round that leaves the first as it was has done what can be done now: a silent
            // device whose stream is just opening is looked at again later.
            let now = self.engine.clock.now();
            while self.is_due() && self.retry_at.is_none() && self.due.next(now) != first {
                first = self.due.next(now);
                self.commit(Vec::new(), true).await;
            }
        }
        for reply in ticks {
            let _ = reply.send(());
        }
    }

    /// Soft state first: it must not depend on whether the database has room.
    fn apply_soft(&mut self, changes: Vec<SoftChange>) {
        if changes.is_empty() {
            return;
        }
        let engine = self.engine.clone();
        let mut draft = Draft::new(
            self.current.clone(),
            engine.clock.now(),
            &engine.ids,
            &*engine.random,
        );
        let taken = changes.len();
        let mut total = Changes::default();
        for change in changes {
            let saved = draft.snapshot.clone();
            if catch_unwind(AssertUnwindSafe(|| change(&mut draft))).is_err() {
                tracing::error!(tailnet.id = %self.handle.id, "a change of soft state panicked");
                draft.snapshot = saved;
                draft.changes = Changes::default();
            }
            total.merge(std::mem::take(&mut draft.changes));
        }
        let (snapshot, changes) = (draft.snapshot, total);
        if !changes.reported.is_empty() {
            self.reported.extend(&changes.reported);
            self.report_at
                .get_or_insert_with(|| Instant::now() + REPORT_DELAY);
        }
        self.publish(snapshot, &changes);
        self.handle.soft_pending.fetch_sub(taken, Ordering::Release);
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
            let timeout = self.engine.settings.ephemeral_timeout;
            self.due = due::Queue::of(&self.current, timeout, now);
        }
    }

    async fn commit(&mut self, mut works: Vec<Box<dyn Work>>, forced: bool) {
        let is_due =
            self.is_due() && (forced || self.retry_at.is_none_or(|at| at <= Instant::now()));
        let reports_due = self.report_at.is_some_and(|at| at <= Instant::now());
        if works.is_empty() && !is_due && !reports_due {
            return;
        }
        let mut misses = 0;
        loop {
            let (draft, accepted) = self.draft(&mut works, is_due);
            let Draft {
                snapshot, changes, ..
            } = &draft;
            let batch = match self.batch(&draft) {
                Ok(batch) => batch,
                Err(error) => {
                    tracing::error!(error = %error, tailnet.id = %self.handle.id, "an object cannot be encoded");
                    drop(draft);
                    self.back_off();
                    return answer(
                        works,
                        &accepted,
                        Err(StoreFailure::Defect("an object cannot be encoded")),
                    );
                }
            };
            let Some((batch, jobs)) = batch else {
                let (snapshot, changes) = (snapshot.clone(), changes.clone());
                drop(draft);
                self.publish(snapshot, &changes);
                return answer(works, &accepted, Ok(()));
            };
            let (mut snapshot, changes) = (snapshot.clone(), changes.clone());
            drop(draft);
            match self.store(batch).await {
                Ok(seq) => {
                    snapshot.seq = seq;
                    self.reported.clear();
                    self.report_at = None;
                    self.retry_at = None;
                    self.publish(snapshot, &changes);
                    return answer(works, &accepted, Ok(()));
                }
                Err(CommitError::Rejected { put, column }) => {
                    // That row costs its closure alone: the others run again without it.
                    let culprit = jobs.get(put).copied().filter(|job| *job < works.len());
                    let Some(culprit) = culprit else {
                        tracing::error!(?column, tailnet.id = %self.handle.id, "the database refused a row that no caller wrote");
                        self.back_off();
                        return answer(
                            works,
                            &accepted,
                            Err(StoreFailure::Defect("the database refused a row")),
                        );
                    };
                    tracing::warn!(?column, tailnet.id = %self.handle.id, "the database refused a row");
                    let failure = match column {
                        Some(column) => StoreFailure::Taken(column),
                        None => {
                            StoreFailure::Defect("an id of the change belongs to another tailnet")
                        }
                    };
                    works.remove(culprit).finish(Err(failure));
                }
                Err(CommitError::Conflict { current }) => {
                    misses += 1;
                    if misses > MISSES {
                        let failure =
                            StoreFailure::Defect("another process writes to this tailnet");
                        self.back_off();
                        return answer(works, &accepted, Err(failure));
                    }
                    tracing::warn!(current, tailnet.id = %self.handle.id, "another process was first; catching up");
                    if let Err(error) = self.catch_up().await {
                        tracing::error!(error = %error, tailnet.id = %self.handle.id, "could not catch up");
                        self.back_off();
                        return answer(
                            works,
                            &accepted,
                            Err(StoreFailure::Defect("could not catch up with the database")),
                        );
                    }
                }
                Err(error) => {
                    self.back_off();
                    let failure = StoreFailure::from(error);
                    tracing::error!(error = %failure, tailnet.id = %self.handle.id, "a change could not be stored");
                    return answer(works, &accepted, Err(failure));
                }
            }
        }
    }

    /// Nothing was written: what is due or reported waits a moment.
    fn back_off(&mut self) {
        self.retry_at = Some(Instant::now() + Duration::from_secs(1));
        if self.report_at.is_some() {
            self.report_at = self.retry_at;
        }
    }

    /// Runs the closures on one draft. One that refuses or panics leaves no trace.
    fn draft(&self, works: &mut Vec<Box<dyn Work>>, is_due: bool) -> (Draft<'_>, Vec<bool>) {
        let engine = &self.engine;
        let mut draft = Draft::new(
            self.current.clone(),
            engine.clock.now(),
            &engine.ids,
            &*engine.random,
        );
        let mut total = Changes::default();
        // Noticed just now, a step is for the next round.
        if is_due && engine.clock.steps() == self.steps {
            draft.changes.job = usize::MAX;
            let saved = draft.snapshot.clone();
            let run = || self.due.run(&mut draft, &self.handle.sessions);
            if catch_unwind(AssertUnwindSafe(run)).is_err() {
                // A writer that dies takes its tailnet with it.
                tracing::error!(tailnet.id = %self.handle.id, "what is due panicked");
                draft.snapshot = saved;
                draft.changes = Changes::default();
            }
            total.merge(std::mem::take(&mut draft.changes));
        }
        let mut accepted = Vec::with_capacity(works.len());
        let mut panicked = Vec::new();
        for (index, work) in works.iter_mut().enumerate() {
            let saved = draft.snapshot.clone();
            draft.changes = Changes {
                job: index,
                ..Changes::default()
            };
            let outcome = catch_unwind(AssertUnwindSafe(|| work.run(&mut draft)));
            let mut ok = matches!(outcome, Ok(true));
            if outcome.is_err() {
                panicked.push(index);
            }
            if ok && cfg!(debug_assertions) && draft.changes.recorded && !draft.changes.audited {
                tracing::error!("a change touched a record without an audit event");
                panicked.push(index);
                ok = false;
            }
            if ok {
                total.merge(std::mem::take(&mut draft.changes));
            } else {
                draft.snapshot = saved;
            }
            accepted.push(ok);
        }
        for index in panicked.into_iter().rev() {
            tracing::error!(tailnet.id = %self.handle.id, "a change panicked");
            works.remove(index).finish(Err(StoreFailure::Defect(
                "it panicked, or changed a record without an audit event",
            )));
            accepted.remove(index);
            // Rows name closures by their place.
            for (_, _, job) in total.rows.values_mut() {
                if *job != usize::MAX && *job > index {
                    *job -= 1;
                }
            }
        }
        draft.changes = total;
        (draft, accepted)
    }

    /// The transaction of a draft and of what was reported; `None` when there is nothing to store.
    fn batch(&self, draft: &Draft<'_>) -> Result<Option<(Batch, Vec<usize>)>, record::BodyError> {
        let (mut puts, mut jobs, deletes) = draft.rows()?;
        for device in self.reported.union(&draft.changes.reported) {
            let id = device.get();
            if draft.changes.rows.contains_key(&(Kind::Device as u8, id)) {
                continue;
            }
            if let Some(row) = draft::encode(&draft.snapshot, Kind::Device, id)? {
                puts.push(row);
                jobs.push(usize::MAX);
            }
        }
        let audit = draft.audit_rows()?;
        if puts.is_empty() && deletes.is_empty() && audit.is_empty() {
            return Ok(None);
        }
        let mut batch = Batch::new(
            self.handle.id,
            draft.snapshot.seq,
            draft.random(),
            draft.now(),
        );
        batch.puts = puts;
        batch.deletes = deletes;
        batch.audit = audit;
        Ok(Some((batch, jobs)))
    }

    /// Commits. An unknown outcome is looked up until it is known.
    async fn store(&self, batch: Batch) -> Result<u64, CommitError> {
        let commit_id = batch.commit_id;
        let result = self.engine.store.commit(batch).await;
        if !matches!(result, Err(CommitError::Unknown)) {
            return result;
        }
        let mut wait = Duration::from_millis(50);
        loop {
            match self
                .engine
                .store
                .commit_outcome(self.handle.id, commit_id)
                .await
            {
                Ok(Some(seq)) => return Ok(seq),
                Ok(None) => return Err(CommitError::Unknown),
                Err(error) => {
                    tracing::error!(error = %error, tailnet.id = %self.handle.id, "cannot learn whether a commit was written");
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(Duration::from_secs(5));
                }
            }
        }
    }

    /// Another process wrote: builds the snapshot again from the rows, with our soft state.
    async fn catch_up(&mut self) -> Result<(), crate::engine::OpenError> {
        let loaded = self.engine.store.load(self.handle.id).await?;
        let mut snapshot = load::build(self.handle.id, &loaded, self.engine.derp_map.clone())?;
        let mut changes = Changes::default();
        for entry in self.current.devices() {
            changes.touched_devices.insert(entry.device.id);
            snapshot.set_live(entry.device.id, (*entry.live).clone());
        }
        changes
            .touched_devices
            .extend(snapshot.devices().map(|entry| entry.device.id));
        changes
            .touched_credentials
            .extend(self.current.credentials().map(|c| c.id));
        changes
            .touched_credentials
            .extend(snapshot.credentials().map(|c| c.id));
        self.reported.clear();
        changes.everything = true;
        self.publish(snapshot, &changes);
        Ok(())
    }

    /// Replaces the snapshot and lets everybody know. When nothing in it differs, nobody is woken:
    /// refused changes and repeated reports cost no stream anything.
    fn publish(&mut self, mut snapshot: Snapshot, changes: &Changes) {
        if changes.is_idle() {
            self.due.follow(&snapshot, changes);
            if snapshot.seq != self.current.seq {
                // Reported facts, seen before, are stored now.
                self.handle.snapshot.store(Arc::new(snapshot.clone()));
                self.current = snapshot;
            }
            return;
        }
        snapshot.publication = self.current.publication + 1;
        snapshot.settle();
        self.engine
            .directory
            .follow(&self.current, &snapshot, changes);
        self.due.follow(&snapshot, changes);
        if !changes.soft.is_empty() {
            self.soft.extend(&changes.soft);
            self.soft_at
                .get_or_insert_with(|| Instant::now() + SOFT_DELAY);
        }
        for device in &changes.touched_devices {
            if snapshot.device(*device).is_none() {
                self.soft.remove(device);
                self.reported.remove(device);
            }
        }
        self.handle.snapshot.store(Arc::new(snapshot.clone()));
        self.current = snapshot;
        self.handle.published.notify_one();
        for key in &changes.revoked {
            // Nobody listens in tests without a relay.
            let _ = self.engine.events.send(Event::NodeKeyRevoked(*key));
        }
    }
}

impl Changes {
    /// Nothing in the snapshot differs: at most, something that seemed due was looked at.
    fn is_idle(&self) -> bool {
        self.rows.is_empty() && self.soft.is_empty() && self.reported.is_empty() && !self.everything
    }

    fn merge(&mut self, other: Self) {
        self.rows.extend(other.rows);
        self.audit.extend(other.audit);
        self.revoked.extend(other.revoked);
        self.soft.extend(other.soft);
        self.reported.extend(other.reported);
        self.touched_devices.extend(other.touched_devices);
        self.touched_credentials.extend(other.touched_credentials);
    }
}

/// Answers everybody: refusals as they are, the accepted with the outcome of the commit.
fn answer(works: Vec<Box<dyn Work>>, accepted: &[bool], outcome: Result<(), StoreFailure>) {
    for (work, accepted) in works.into_iter().zip(accepted) {
        work.finish(if *accepted { outcome.clone() } else { Ok(()) });
    }
}

#[cfg(test)]
mod tests;
