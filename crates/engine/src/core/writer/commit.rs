//! A commit under way, and what comes of it.
//!
//! The writer does not wait for the database: the commit runs in a task of its own, and meanwhile
//! changes of soft state are applied to the published state, and also to the one that the commit
//! will publish. Nothing of the commit is published before it is durable.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bowline_model::device::Device;
use bowline_model::id::DeviceId;
use bowline_model::kind::ObjectId;
use bowline_model::record::BodyError;
use bowline_netmap::publication::Publication;
use bowline_netmap::snapshot::Snapshot;
use bowline_store::{
    Batch, CatchUp, Column, CommitError, Condition, Kind, Owner, SecretRow, Trouble,
};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::attempt::Attempt;
use super::waiting::Waiting;
use super::{Writer, rebase};
use crate::core::draft::{self, Author, Changes, Draft, Rows};
use crate::core::engine::Inner;
use crate::core::failure::StoreFailure;

/// How often another process may be first. One that follows the change log would take the
/// tailnet's lock after the second time; until there is one, nobody else should write at all.
pub(crate) const MISSES: u32 = 3;
/// How often a change draws new ids and addresses, when the database refuses one of them.
pub(crate) const DRAWS: u8 = 3;
/// How long the writer waits after a failure before it tries by itself what is due or reported.
pub(crate) const BACK_OFF: Duration = Duration::from_secs(1);

/// A commit under way.
pub(super) struct InFlight {
    task: JoinHandle<Outcome>,
    /// The caller that waits for it. `None`: it was answered before the database answered.
    works: Vec<Option<Waiting>>,
    accepted: Vec<bool>,
    /// Whose change each row is of, by its place in the batch.
    authors: Vec<Author>,
    /// The state that it makes, with the present soft state.
    ahead: Snapshot,
    changes: Changes,
    /// The state that it was made from.
    base: Arc<Publication>,
    /// Devices whose reported facts are in it.
    reported: BTreeSet<DeviceId>,
    /// Devices whose soft state or reported facts changed since.
    softened: BTreeSet<DeviceId>,
}

/// What the database said.
pub(crate) enum Outcome {
    /// It is durable.
    Stored(u64),
    /// It is not.
    Refused(CommitError),
    /// Another process was first, and this is what it left.
    Moved(Box<Result<CatchUp, bowline_store::Error>>),
}

/// Waits for the outcome of the commit under way; for ever when there is none. A task that died
/// leaves the outcome unknown, so that it must be looked up.
pub(super) async fn decided(in_flight: &mut Option<InFlight>) -> Outcome {
    match in_flight {
        Some(in_flight) => match (&mut in_flight.task).await {
            Ok(outcome) => outcome,
            Err(_) => Outcome::Refused(CommitError::Unknown),
        },
        None => std::future::pending().await,
    }
}

/// Commits. An unknown outcome is looked up until it is known.
async fn commit(engine: &Inner, batch: Batch) -> Result<u64, CommitError> {
    let (owner, commit_id) = (batch.owner, batch.commit_id);
    let write = engine.health.begin();
    let result = match engine.store.commit(batch).await {
        Err(CommitError::Unknown) => look_up(engine, owner, commit_id).await,
        other => other,
    };
    match &result {
        Ok(_) => write.committed(),
        Err(error) => engine.health.failed(error),
    }
    result
}

/// Commits, and reads what is there where another process was first.
pub(crate) async fn commit_or_read(engine: Arc<Inner>, batch: Batch) -> Outcome {
    let (owner, base) = (batch.owner, batch.base);
    match commit(&engine, batch).await {
        Ok(seq) => Outcome::Stored(seq),
        Err(CommitError::Conflict { current }) => {
            tracing::warn!(current, %owner, "another process was first; catching up");
            Outcome::Moved(Box::new(engine.store.catch_up(owner, base).await))
        }
        Err(error) => Outcome::Refused(error),
    }
}

/// What became of a commit whose answer was lost. It asks until the database says.
async fn look_up(engine: &Inner, owner: Owner, commit_id: [u8; 16]) -> Result<u64, CommitError> {
    engine.health.lost(&CommitError::Unknown);
    let mut wait = Duration::from_millis(50);
    loop {
        match engine.store.commit_outcome(owner, commit_id).await {
            Ok(Some(seq)) => return Ok(seq),
            Ok(None) => {
                let cause = "the connection was lost during the commit, and it was not written";
                let trouble = Trouble::new(Condition::Unreachable, cause);
                return Err(CommitError::Unavailable(trouble));
            }
            Err(error) => {
                tracing::debug!(error = %error, %owner, "cannot learn yet whether a commit was written");
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(Duration::from_secs(2));
            }
        }
    }
}

impl Writer {
    /// Begins with what waits, is due or was reported, until a commit is under way or nothing is
    /// left to do.
    pub(super) fn advance(&mut self) {
        while self.in_flight.is_none() {
            let can_retry = self.retry_at.is_none_or(|at| at <= Instant::now());
            let is_first = self.tick.as_ref().is_some_and(|tick| !tick.began);
            let is_due = self.is_due() && (is_first || can_retry);
            let reports_due = self.report_at.is_some_and(|at| at <= Instant::now());
            if let Some(tick) = &mut self.tick {
                // What was done may be due again at once: a credential expired so long ago that it
                // is not to be kept either. A round that leaves the first as it was has done what
                // can be done now: a silent device whose stream is just opening is looked at again
                // later.
                if !tick.began {
                    tick.time = self.engine.clock.now();
                }
                let next = self.due.next(tick.time);
                let has_more = is_due && self.retry_at.is_none() && next != tick.looked_at;
                if tick.began && self.waiting.is_empty() && !has_more {
                    self.ticked();
                    continue;
                }
                tick.began = true;
                tick.looked_at = next;
                if self.waiting.is_empty() && !is_due && !reports_due {
                    self.ticked();
                    continue;
                }
            } else if self.waiting.is_empty() && !is_due && !reports_due {
                return;
            }
            let count = self.waiting.len().min(super::BATCH);
            let works: Vec<Waiting> = self.waiting.drain(..count).collect();
            self.start(works, is_due);
            if self.tick.is_none() && self.waiting.is_empty() {
                // What is due still, although it was just looked at, is looked at again later.
                return;
            }
        }
    }

    pub(super) fn ticked(&mut self) {
        for reply in self.tick.take().into_iter().flat_map(|tick| tick.replies) {
            let _ = reply.send(());
        }
    }

    /// Runs changes, and sends what they made to the database.
    fn start(&mut self, works: Vec<Waiting>, is_due: bool) {
        let mut works: Vec<Option<Waiting>> = works.into_iter().map(Some).collect();
        let engine = self.engine.clone();
        let Attempt { draft, accepted } = self.attempt(&engine, &mut works, is_due);
        let batch = match self.batch(&draft) {
            Ok(batch) => batch,
            Err(error) => {
                tracing::error!(error = %error, tailnet.id = %self.handle.id, "an object cannot be encoded");
                self.back_off();
                let failure = StoreFailure::Defect("an object cannot be encoded");
                return answer(works, &accepted, &Err(failure));
            }
        };
        let (snapshot, changes) = (draft.snapshot, draft.changes);
        let Some((batch, authors)) = batch else {
            self.publish(snapshot, &changes);
            return answer(works, &accepted, &Ok(()));
        };
        let mut reported = std::mem::take(&mut self.reported);
        reported.extend(&changes.reported);
        self.report_at = None;
        self.in_flight = Some(InFlight {
            task: tokio::spawn(commit_or_read(engine.clone(), batch)),
            works,
            accepted,
            authors,
            ahead: snapshot,
            changes,
            base: self.current.clone(),
            reported,
            softened: BTreeSet::new(),
        });
    }

    /// The transaction of a draft and of what was reported; `None` when there is nothing to store.
    fn batch(&self, draft: &Draft<'_>) -> Result<Option<(Batch, Vec<Author>)>, BodyError> {
        let Rows {
            mut puts,
            mut authors,
            deletes,
        } = draft.rows()?;
        for device in self.reported.union(&draft.changes.reported) {
            let id = ObjectId::of::<Device>(*device);
            if draft.changes.rows.contains_key(&id) {
                continue;
            }
            if let Some(row) = draft::encode(&draft.snapshot, id)? {
                puts.push(row);
                authors.push(Author::Nobody);
            }
        }
        let audit = draft.audit_rows()?;
        let changes = &draft.changes;
        let is_empty = puts.is_empty()
            && deletes.is_empty()
            && audit.is_empty()
            && changes.jobs.is_empty()
            && changes.texts.is_empty()
            && changes.secrets.is_empty();
        if is_empty {
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
        batch.jobs.clone_from(&changes.jobs);
        batch.texts.clone_from(&changes.texts);
        for (later, text) in (0..).zip(&mut batch.texts) {
            // Closures of one draft share a moment, and the last text is the newest.
            text.at += jiff::SignedDuration::from_micros(later);
        }
        let secrets = changes.secrets.iter();
        batch.secrets = secrets
            .map(|(name, sealed)| SecretRow {
                name: name.clone(),
                sealed: sealed.clone(),
            })
            .collect();
        Ok(Some((batch, authors)))
    }

    /// The database has answered.
    pub(super) fn ended(&mut self, outcome: Outcome) {
        let Some(in_flight) = self.in_flight.take() else {
            return;
        };
        match outcome {
            Outcome::Stored(seq) => self.stored(in_flight, seq),
            Outcome::Refused(CommitError::Rejected { put, column }) => {
                self.rejected(in_flight, put, column);
            }
            Outcome::Refused(error) => {
                let failure = StoreFailure::from(error);
                self.give_up(in_flight, &failure);
            }
            Outcome::Moved(found) => self.moved(in_flight, *found),
        }
    }

    fn stored(&mut self, in_flight: InFlight, seq: u64) {
        let InFlight {
            works,
            accepted,
            mut ahead,
            mut changes,
            base,
            softened,
            ..
        } = in_flight;
        self.misses = 0;
        self.retry_at = None;
        if !changes.jobs.is_empty() {
            self.engine.jobs.wake();
        }
        if self.report_at.is_none() && !self.reported.is_empty() {
            self.report_at = Some(Instant::now() + super::REPORT_DELAY);
        }
        let (current, base) = (self.current.snapshot(), base.snapshot());
        if current.revision != base.revision {
            // Others were told of soft state meanwhile, and what they are told next must follow from
            // that. What the policy says of two states can be compared only where one was made from
            // the other, or under two policies.
            let is_comparable = current.has_policy_state_of(base)
                || changes.rows.keys().any(|id| id.kind == Kind::Policy);
            if is_comparable {
                for entry in softened.iter().filter_map(|id| current.device(*id)) {
                    ahead.share(entry);
                }
            } else {
                ahead = rebase::onto(current, &ahead, &changes, &softened);
            }
            changes
                .touched
                .extend(softened.into_iter().map(ObjectId::of::<Device>));
        }
        ahead.seq = seq;
        self.publish(ahead, &changes);
        answer(works, &accepted, &Ok(()));
    }

    /// That row costs its closure alone: the others run again without it.
    fn rejected(&mut self, mut in_flight: InFlight, put: usize, column: Option<Column>) {
        let Some(Author::Caller(culprit)) = in_flight.authors.get(put).copied() else {
            let column = column.map(|column| format!("{column:?}"));
            tracing::error!(column, tailnet.id = %self.handle.id, "the database refused a row that no caller wrote");
            let failure = StoreFailure::Defect("the database refused a row");
            return self.give_up(in_flight, &failure);
        };
        // Ids and addresses are drawn at random, and another may draw the same.
        let is_drawn = column.is_none_or(Column::is_drawn);
        if let Some(mut waiting) = in_flight.works[culprit].take() {
            waiting.redrawn += 1;
            if is_drawn && waiting.redrawn < DRAWS {
                in_flight.works[culprit] = Some(waiting);
            } else {
                let failure = match column {
                    Some(column) => StoreFailure::Taken(column),
                    None => StoreFailure::Defect("an id of the change belongs to another tailnet"),
                };
                waiting.work.finish(Err(failure));
            }
        }
        self.again(in_flight);
    }

    fn moved(&mut self, in_flight: InFlight, found: Result<CatchUp, bowline_store::Error>) {
        self.misses += 1;
        if self.misses > MISSES {
            self.misses = 0;
            let failure = StoreFailure::Defect("another process writes to this tailnet");
            return self.give_up(in_flight, &failure);
        }
        let caught_up = found
            .map_err(crate::core::engine::OpenError::from)
            .and_then(|found| self.catch_up(&found));
        match caught_up {
            Ok(()) => self.again(in_flight),
            Err(error) => {
                let cause = crate::core::health::causes(&error);
                tracing::error!(error = cause, tailnet.id = %self.handle.id, "could not catch up");
                let failure = StoreFailure::Defect("could not catch up with the database");
                self.give_up(in_flight, &failure);
            }
        }
    }

    /// Nothing was written, and the same closures run again before others.
    fn again(&mut self, in_flight: InFlight) {
        self.reported.extend(in_flight.reported);
        if !self.reported.is_empty() {
            self.report_at.get_or_insert_with(Instant::now);
        }
        for waiting in in_flight.works.into_iter().flatten().rev() {
            self.waiting.push_front(waiting);
        }
    }

    /// Nothing was written, and what is due or reported waits a moment.
    fn give_up(&mut self, in_flight: InFlight, failure: &StoreFailure) {
        self.reported.extend(in_flight.reported);
        self.back_off();
        answer(in_flight.works, &in_flight.accepted, &Err(failure.clone()));
    }

    fn back_off(&mut self) {
        let retry_at = Instant::now() + BACK_OFF;
        self.retry_at = Some(retry_at);
        self.report_at = (!self.reported.is_empty()).then_some(retry_at);
    }

    /// Answers callers who have waited for as long as they may. A change that was not sent to the
    /// database is withdrawn; what becomes of the others will show.
    pub(super) fn answer_overdue(&mut self) {
        let Some(oldest) = Instant::now().checked_sub(self.engine.settings.commit_timeout) else {
            return;
        };
        let mut withdrawn = 0;
        if let Some(in_flight) = &mut self.in_flight {
            for work in &mut in_flight.works {
                if let Some(waiting) = work.take_if(|waiting| waiting.since <= oldest) {
                    withdrawn += 1;
                    waiting.work.finish(Err(StoreFailure::Undecided));
                }
            }
        }
        while let Some(waiting) = self.waiting.pop_front_if(|waiting| waiting.since <= oldest) {
            withdrawn += 1;
            waiting.work.finish(Err(StoreFailure::Stalled));
        }
        self.engine.health.withdrawn(withdrawn);
    }

    /// When the next caller has waited for as long as they may.
    pub(super) fn next_overdue(&self) -> Option<Instant> {
        let under_way = self
            .in_flight
            .iter()
            .flat_map(|one| one.works.iter().flatten());
        under_way
            .chain(self.waiting.front())
            .map(|waiting| waiting.since + self.engine.settings.commit_timeout)
            .min()
    }

    /// Applies changes of soft state to the state that the commit under way will publish.
    pub(super) fn soften_ahead(&mut self, changes: &mut [crate::core::job::SoftChange]) {
        let Some(mut in_flight) = self.in_flight.take() else {
            return;
        };
        if let Some((ahead, changes)) = self.soften(&in_flight.ahead, changes) {
            in_flight.ahead = ahead;
            in_flight.softened.extend(changes.touched::<Device>());
        }
        self.in_flight = Some(in_flight);
    }

    /// Gives up what is under way: the server stops, and the database does not answer.
    pub(super) fn abandon(&mut self) {
        if let Some(in_flight) = self.in_flight.take() {
            in_flight.task.abort();
            answer(
                in_flight.works,
                &in_flight.accepted,
                &Err(StoreFailure::Undecided),
            );
        }
        for waiting in self.waiting.drain(..) {
            waiting.work.finish(Err(StoreFailure::Stopping));
        }
    }
}

/// Answers everybody: refusals as they are, the accepted with the outcome of the commit.
fn answer(
    works: impl IntoIterator<Item = Option<Waiting>>,
    accepted: &[bool],
    outcome: &Result<(), StoreFailure>,
) {
    for (waiting, accepted) in works.into_iter().zip(accepted) {
        if let Some(waiting) = waiting {
            let outcome = if *accepted { outcome.clone() } else { Ok(()) };
            waiting.work.finish(outcome);
        }
    }
}
