//! The server's one writer.
//!
//! It keeps the promises of a tailnet's writer, with less to do: there is no soft state, and nothing
//! to tell map streams. Its task never waits for the database, and a commit runs beside it.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use bowline_model::kind::Kind;
use bowline_store::{CatchUp, Column, CommitError};
use tokio::sync::{OwnedMutexGuard, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::draft::{Birth, ServerDraft, Transaction};
use super::handle::ServerHandle;
use super::load::follow;
use super::state::{AllPlaces, ServerState};
use super::work::{ServerJob, ServerWork};
use crate::core::engine::{Engine, Inner, OpenError};
use crate::core::failure::StoreFailure;
use crate::core::writer::{BACK_OFF, BATCH, DRAWS, MISSES, Outcome, WAITING, commit_or_read};

/// The shortest time between the starts of two commits: a flood of requests from outside costs at
/// most so many, and each of them takes everything that waits.
pub(crate) const PACE: Duration = Duration::from_millis(20);
/// What has expired is not found any more. Its rows go at most this often, all at once.
const SWEEP_EVERY: Duration = Duration::from_secs(10);
/// Longest wait before the clock is looked at again.
const LONGEST_SLEEP: Duration = Duration::from_hours(1);

/// A change that has not been answered.
struct Waiting {
    work: Box<dyn ServerWork>,
    /// When it came.
    since: Instant,
    /// How often the database refused an id of it that was drawn at random.
    redrawn: u8,
}

/// A commit under way.
struct InFlight {
    task: JoinHandle<Outcome>,
    /// Who waits for it. `None`: was answered before the database answered.
    works: Vec<Option<Waiting>>,
    accepted: Vec<bool>,
    /// The closure that each row came from.
    jobs: Vec<usize>,
    /// The state that it makes.
    state: ServerState,
    touched: Vec<(Kind, u64)>,
    births: Vec<Birth>,
}

/// What closures made of the state.
struct Attempt<'a> {
    draft: ServerDraft<'a>,
    /// Whether each closure was accepted, by its place.
    accepted: Vec<bool>,
}

/// The writer's state.
pub(crate) struct ServerWriter {
    engine: Arc<Inner>,
    jobs: OwnedMutexGuard<mpsc::Receiver<ServerJob>>,
    /// What is published.
    current: ServerState,
    /// The places of the newest state: the one that a commit under way makes, if there is one.
    places: AllPlaces,
    /// Changes that wait for the next commit.
    waiting: VecDeque<Waiting>,
    in_flight: Option<InFlight>,
    /// How often another process was first, one time after the other.
    misses: u32,
    ticks: Vec<oneshot::Sender<()>>,
    /// No commit starts before this.
    next_start: Instant,
    /// What has expired is not looked at before this.
    next_sweep: Instant,
}

/// Waits for the outcome of the commit under way; for ever when there is none. A task that died
/// leaves the outcome unknown, so that it must be looked up.
async fn decided(in_flight: &mut Option<InFlight>) -> Outcome {
    match in_flight {
        Some(in_flight) => match (&mut in_flight.task).await {
            Ok(outcome) => outcome,
            Err(_) => Outcome::Refused(CommitError::Unknown),
        },
        None => std::future::pending().await,
    }
}

impl ServerWriter {
    pub(crate) fn new(
        engine: Arc<Inner>,
        jobs: OwnedMutexGuard<mpsc::Receiver<ServerJob>>,
        state: &ServerState,
    ) -> Self {
        let now = Instant::now();
        Self {
            engine,
            jobs,
            current: state.clone(),
            places: AllPlaces::of(state),
            waiting: VecDeque::new(),
            in_flight: None,
            misses: 0,
            ticks: Vec::new(),
            next_start: now,
            next_sweep: now,
        }
    }

    fn handle(&self) -> &Arc<ServerHandle> {
        &self.engine.server
    }

    /// Works until the engine stops, then finishes what was begun.
    pub(crate) async fn run(mut self) {
        let stop = self.engine.stop.clone();
        while !stop.is_cancelled() {
            let mut jobs = Vec::new();
            let wake_at = self.wake_at();
            tokio::select! {
                received = self.jobs.recv_many(&mut jobs, BATCH) => if received == 0 { break },
                () = tokio::time::sleep_until(wake_at) => {}
                outcome = decided(&mut self.in_flight) => self.ended(outcome),
                () = stop.cancelled() => break,
            }
            self.step(jobs);
        }
        let abandon = self.engine.abandon.clone();
        tokio::select! {
            () = self.finish() => {}
            () = abandon.cancelled() => {
                tracing::warn!("stopping although the database has not answered a change of the server");
                self.abandon();
            }
        }
    }

    /// Callers that are already in the queue get their answer.
    async fn finish(&mut self) {
        self.jobs.close();
        let mut jobs = Vec::new();
        while self.jobs.recv_many(&mut jobs, BATCH).await > 0 {
            self.step(std::mem::take(&mut jobs));
        }
        loop {
            self.next_start = Instant::now();
            self.step(Vec::new());
            if self.in_flight.is_none() {
                return;
            }
            let outcome = decided(&mut self.in_flight).await;
            self.ended(outcome);
        }
    }

    fn wake_at(&self) -> Instant {
        let now = Instant::now();
        let is_free = self.in_flight.is_none();
        let start = (is_free && !self.waiting.is_empty()).then_some(self.next_start);
        let expiry = self.current.next_expiry().filter(|_| is_free);
        let sweep = expiry.map(|at| {
            let wait = at.duration_since(self.engine.clock.now());
            let wait = Duration::try_from(wait).unwrap_or_default();
            (now + wait.min(LONGEST_SLEEP) + Duration::from_millis(1))
                .max(self.next_sweep)
                .max(self.next_start)
        });
        [start, sweep, self.next_overdue()]
            .into_iter()
            .flatten()
            .min()
            .unwrap_or(now + LONGEST_SLEEP)
    }

    /// Takes jobs in, and begins a commit if none is under way.
    fn step(&mut self, jobs: Vec<ServerJob>) {
        for job in jobs {
            match job {
                ServerJob::Durable(work) if self.waiting.len() >= WAITING => {
                    self.engine.health.withdrawn(1);
                    work.finish(Err(StoreFailure::Stalled));
                }
                ServerJob::Durable(work) => self.waiting.push_back(Waiting {
                    work,
                    since: Instant::now(),
                    redrawn: 0,
                }),
                ServerJob::CatchUp(found, reply) => {
                    let _ = reply.send(self.follow(&found));
                }
                ServerJob::Tick(reply) => {
                    self.ticks.push(reply);
                    self.next_start = Instant::now();
                    self.next_sweep = Instant::now();
                }
            }
        }
        self.advance();
        self.answer_overdue();
    }

    fn is_sweep_due(&self) -> bool {
        let now = self.engine.clock.now();
        let has_expired = self.current.next_expiry().is_some_and(|at| at <= now);
        has_expired && self.next_sweep <= Instant::now()
    }

    /// Begins with what waits or has expired, until a commit is under way or nothing is left to do.
    fn advance(&mut self) {
        while self.in_flight.is_none() {
            let sweeps = self.is_sweep_due();
            if self.waiting.is_empty() && !sweeps {
                for reply in self.ticks.drain(..) {
                    let _ = reply.send(());
                }
                return;
            }
            if self.next_start > Instant::now() {
                return;
            }
            if sweeps {
                self.next_sweep = Instant::now() + SWEEP_EVERY;
            }
            let count = self.waiting.len().min(BATCH);
            let works = self.waiting.drain(..count).collect();
            self.start(works, sweeps);
        }
    }

    /// Runs changes, and sends what they made to the database.
    fn start(&mut self, mut works: Vec<Waiting>, sweeps: bool) {
        let engine = self.engine.clone();
        let Attempt { draft, accepted } = self.attempt(&engine, &mut works, sweeps);
        let transaction = draft.transaction(&self.current);
        let ServerDraft {
            state,
            places,
            changes,
            ..
        } = draft;
        self.places = places;
        let works = works.into_iter().map(Some);
        match transaction {
            Ok(Some(Transaction { batch, jobs })) => {
                self.next_start = Instant::now() + PACE;
                self.in_flight = Some(InFlight {
                    task: tokio::spawn(commit_or_read(engine, batch)),
                    works: works.collect(),
                    accepted,
                    jobs,
                    state,
                    touched: changes.touched.into_keys().collect(),
                    births: changes.births,
                });
            }
            // Nothing that is stored differs, so the state is the one that is published.
            Ok(None) => answer(works, &accepted, &Ok(())),
            Err(error) => {
                tracing::error!(error = %error, "a record of the server cannot be encoded");
                self.places = AllPlaces::of(&self.current);
                let failure = StoreFailure::Defect("an object cannot be encoded");
                answer(works, &accepted, &Err(failure));
            }
        }
    }

    /// Runs the closures on one draft. One that panics is taken out of `works` and answered, and
    /// leaves no trace; neither does one that refuses.
    fn attempt<'a>(
        &mut self,
        engine: &'a Inner,
        works: &mut Vec<Waiting>,
        sweeps: bool,
    ) -> Attempt<'a> {
        if let Some(attempt) = self.run_all(engine, works, sweeps, false) {
            return attempt;
        }
        // One of them left something behind: again, with a copy to go back to before each.
        loop {
            if let Some(attempt) = self.run_all(engine, works, sweeps, true) {
                return attempt;
            }
        }
    }

    /// `careful`: the draft is copied before each closure. Without, `None` where that was needed.
    fn run_all<'a>(
        &mut self,
        engine: &'a Inner,
        works: &mut Vec<Waiting>,
        sweeps: bool,
        careful: bool,
    ) -> Option<Attempt<'a>> {
        let places = AllPlaces::of(&ServerState::new(self.current.codes().clone()));
        let places = std::mem::replace(&mut self.places, places);
        let mut draft = ServerDraft::new(
            self.current.clone(),
            places,
            engine.clock.now(),
            &engine.ids,
            &*engine.random,
        );
        draft.changes.job = usize::MAX;
        if sweeps {
            draft.sweep();
        }
        let mut accepted = Vec::with_capacity(works.len());
        for index in 0..works.len() {
            let saved = careful.then(|| draft.save());
            let before = draft.changes.touches;
            draft.changes.job = index;
            let run = || works[index].work.run(&mut draft);
            let outcome = catch_unwind(AssertUnwindSafe(run));
            let is_clean = outcome.is_ok() && draft.changes.touches == before;
            let ok = outcome.as_ref().is_ok_and(|ok| *ok);
            if !ok && !is_clean {
                let Some(saved) = saved else {
                    self.places = AllPlaces::of(&self.current);
                    return None;
                };
                draft.undo(saved);
            }
            if outcome.is_err() {
                tracing::error!("a change of the server panicked");
                let waiting = works.remove(index);
                let failure = StoreFailure::Defect("it panicked");
                waiting.work.finish(Err(failure));
                // Rows name closures by their place: all run again without this one.
                self.places = AllPlaces::of(&self.current);
                return None;
            }
            accepted.push(ok);
        }
        Some(Attempt { draft, accepted })
    }

    /// The database has answered.
    fn ended(&mut self, outcome: Outcome) {
        let Some(in_flight) = self.in_flight.take() else {
            return;
        };
        match outcome {
            Outcome::Stored(seq) => self.stored(in_flight, seq),
            Outcome::Refused(CommitError::Rejected { put, column }) => {
                self.rejected(in_flight, put, column);
            }
            Outcome::Refused(error) => self.give_up(in_flight, &error.into()),
            Outcome::Moved(found) => self.moved(in_flight, *found),
        }
    }

    fn stored(&mut self, in_flight: InFlight, seq: u64) {
        let InFlight {
            works,
            accepted,
            mut state,
            touched,
            births,
            ..
        } = in_flight;
        self.misses = 0;
        #[cfg(test)]
        tests::panic_on_purpose(&state, &touched);
        for mut birth in births {
            birth.snapshot.seq = 1;
            Engine(self.engine.clone()).add(birth.snapshot);
        }
        state.seq = seq;
        self.current = state.clone();
        self.handle().publish(state, touched);
        answer(works, &accepted, &Ok(()));
    }

    /// That row costs its closure alone: the others run again without it.
    fn rejected(&mut self, mut in_flight: InFlight, put: usize, column: Option<Column>) {
        let is_work = |job: &usize| *job < in_flight.works.len();
        let Some(culprit) = in_flight.jobs.get(put).copied().filter(is_work) else {
            tracing::error!("the database refused a row of the server that no caller wrote");
            let failure = StoreFailure::Defect("the database refused a row");
            return self.give_up(in_flight, &failure);
        };
        if let Some(mut waiting) = in_flight.works[culprit].take() {
            waiting.redrawn += 1;
            let is_drawn = column.is_none_or(Column::is_drawn);
            if is_drawn && waiting.redrawn < DRAWS {
                in_flight.works[culprit] = Some(waiting);
            } else {
                let failure = match column {
                    Some(column) => StoreFailure::Taken(column),
                    None => StoreFailure::Defect("an id of the change is taken"),
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
            let failure = StoreFailure::Defect("another process writes for the server");
            return self.give_up(in_flight, &failure);
        }
        let caught_up = found
            .map_err(OpenError::from)
            .and_then(|found| self.catch_up(&found));
        match caught_up {
            Ok(()) => self.again(in_flight),
            Err(error) => {
                let cause = crate::core::health::causes(&error);
                tracing::error!(
                    error = cause,
                    "could not catch up with the server's records"
                );
                let failure = StoreFailure::Defect("could not catch up with the database");
                self.give_up(in_flight, &failure);
            }
        }
    }

    /// Nothing was written, and the same closures run again before others.
    fn again(&mut self, in_flight: InFlight) {
        self.places = AllPlaces::of(&self.current);
        for waiting in in_flight.works.into_iter().flatten().rev() {
            self.waiting.push_front(waiting);
        }
    }

    /// Nothing was written, and what has expired waits a moment.
    fn give_up(&mut self, in_flight: InFlight, failure: &StoreFailure) {
        self.places = AllPlaces::of(&self.current);
        self.next_sweep = Instant::now() + BACK_OFF;
        answer(in_flight.works, &in_flight.accepted, &Err(failure.clone()));
    }

    /// Takes in what was read because another process had the database. Not while a commit is under
    /// way: it was made from the state of before, and its end comes first.
    fn follow(&mut self, found: &CatchUp) -> bool {
        if self.in_flight.is_some() {
            return false;
        }
        match self.catch_up(found) {
            Ok(()) => true,
            Err(error) => {
                let cause = crate::core::health::causes(&error);
                tracing::error!(
                    error = cause,
                    "could not follow what another process wrote for the server"
                );
                false
            }
        }
    }

    /// Brings the state to a newer one of the database.
    fn catch_up(&mut self, found: &CatchUp) -> Result<(), OpenError> {
        if found.seq <= self.current.seq {
            return Ok(());
        }
        let (state, touched) = follow(&self.current, found)?;
        for (_, number) in &touched {
            self.engine.ids.skip(*number);
        }
        self.places = AllPlaces::of(&state);
        self.current = state.clone();
        self.handle().publish(state, touched);
        Ok(())
    }

    /// Answers callers who have waited for as long as they may. A change that was not sent to the
    /// database is withdrawn; what becomes of the others will show.
    fn answer_overdue(&mut self) {
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
    fn next_overdue(&self) -> Option<Instant> {
        let in_flight = self.in_flight.iter();
        let under_way = in_flight.flat_map(|one| one.works.iter().flatten());
        under_way
            .chain(self.waiting.front())
            .map(|waiting| waiting.since + self.engine.settings.commit_timeout)
            .min()
    }

    /// Gives up what is under way: the server stops, and the database does not answer.
    fn abandon(&mut self) {
        if let Some(in_flight) = self.in_flight.take() {
            in_flight.task.abort();
            let failure = Err(StoreFailure::Undecided);
            answer(in_flight.works, &in_flight.accepted, &failure);
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

#[cfg(test)]
mod tests;
