//! Background work.
//!
//! A job is a row: a change makes it in its own transaction ([`Draft::emit`]), or it is done again
//! and again. Whoever claims it does it, until the claim runs out: a job whose process died is
//! taken over. So each is done at least once, possibly twice and at the same time by two processes,
//! and must be safe to do again. What kinds there are, the subjects say.
//!
//! [`Draft::emit`]: crate::core::draft::Draft::emit

use std::collections::{BTreeMap, HashMap};
use std::panic::AssertUnwindSafe;
use std::sync::PoisonError;
use std::time::Duration;

use bowline_store::{Again, Claim, JobRow};
use futures_util::FutureExt;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use crate::core::engine::{Engine, Work};
use crate::core::job_log::{JobFailed, JobReport};

/// How long after the start of the engine it begins: others are served first.
const BEGIN_AFTER: Duration = Duration::from_secs(5);
/// The longest time until it looks for jobs again: another process may have made one, and the clock
/// may have stepped.
const LONGEST_SLEEP: Duration = Duration::from_mins(1);
/// Wait after the first failure of a job; it doubles with each further one.
const BACK_OFF: Duration = Duration::from_secs(10);
/// The longest such wait.
const LONGEST_BACK_OFF: Duration = Duration::from_hours(1);
/// The wait after the database did not answer.
const RETRY: Duration = Duration::from_secs(1);

impl Engine {
    /// What became of background jobs since the start, by topic.
    pub fn jobs_report(&self) -> BTreeMap<&'static str, JobReport> {
        let log = self.0.jobs.log();
        let mut reports: BTreeMap<&'static str, JobReport> = self
            .0
            .subjects
            .jobs
            .iter()
            .map(|work| {
                (
                    work.topic,
                    log.reports.get(work.topic).copied().unwrap_or_default(),
                )
            })
            .collect();
        for topic in log.failing.values() {
            reports.entry(topic).or_default().failing += 1;
        }
        reports
    }

    /// Does every job that is due, and returns when none is left. For tests that move the clock.
    pub async fn run_jobs(&self) {
        let (reply, done) = oneshot::channel();
        if self.0.jobs.looks.send(reply).is_ok() {
            let _ = done.await;
        }
    }
}

/// Claims and does jobs until the engine stops.
pub(crate) async fn run(engine: Engine) {
    let requests = engine.0.jobs.requests.lock();
    let requests = requests.unwrap_or_else(PoisonError::into_inner).take();
    let Some(requests) = requests else { return };
    let mut runner = Runner {
        engine,
        running: JoinSet::new(),
        taken: HashMap::new(),
        requests,
        asked: Vec::new(),
        has_begun: false,
    };
    runner.run().await;
}

struct Runner {
    engine: Engine,
    running: JoinSet<Ended>,
    /// How many of them there are, by topic.
    taken: HashMap<&'static str, usize>,
    requests: mpsc::UnboundedReceiver<oneshot::Sender<()>>,
    /// Who waits until nothing is left to do.
    asked: Vec<oneshot::Sender<()>>,
    /// Whether what is done again and again was put among the rows.
    has_begun: bool,
}

/// What became of a claimed job.
struct Ended {
    work: &'static Work,
    claim: Claim,
    how: How,
}

enum How {
    Done,
    Failed(JobFailed),
    /// The claim ran out, and another has the job.
    Lost,
    /// Its time has not come.
    NotYet(Timestamp),
    /// The engine stops.
    Stopped,
}

impl Runner {
    async fn run(&mut self) {
        let stop = self.engine.0.stop.clone();
        let mut sleep = BEGIN_AFTER;
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                () = self.engine.0.jobs.wake.notified() => {}
                () = tokio::time::sleep(sleep) => {}
                Some(ended) = self.running.join_next() => self.ended(ended).await,
                Some(reply) = self.requests.recv() => self.asked.push(reply),
            }
            sleep = match self.claim().await {
                Ok(Some(next)) => until(next, self.engine.now()),
                Ok(None) => LONGEST_SLEEP,
                Err(error) => {
                    // The health of the database is told elsewhere.
                    tracing::debug!(%error, "cannot look for background jobs");
                    RETRY
                }
            };
            if self.running.is_empty() && !sleep.is_zero() {
                for reply in self.asked.drain(..) {
                    let _ = reply.send(());
                }
            }
        }
        while let Some(ended) = self.running.join_next().await {
            self.ended(ended).await;
        }
    }

    /// Claims what is due, as far as there are places. When the next job is due.
    async fn claim(&mut self) -> Result<Option<Timestamp>, bowline_store::Error> {
        let store = self.engine.0.store.clone();
        let mut waiting = store.jobs_waiting().await?;
        if !self.has_begun {
            for work in self.engine.0.subjects.jobs {
                let is_there = waiting.iter().any(|one| one.topic == work.topic);
                if work.every.is_some() && !is_there {
                    store.add_job(self.periodic(work)).await?;
                }
            }
            self.has_begun = true;
            waiting = store.jobs_waiting().await?;
        }
        let now = self.engine.now();
        let mut next = None;
        for work in self.engine.0.subjects.jobs {
            let of_topic = waiting.iter().find(|one| one.topic == work.topic);
            let Some(due) = of_topic.and_then(|one| one.next) else {
                continue;
            };
            // A moment that lies farther away was written by a clock that was ahead: it has come.
            let is_wrong = due > later(now, farthest(work));
            if due > now && !is_wrong {
                next = Some(next.map_or(due, |next: Timestamp| next.min(due)));
                continue;
            }
            let taken = self.taken.entry(work.topic).or_default();
            let free = work.places.saturating_sub(*taken);
            if free == 0 {
                continue; // the end of one wakes
            }
            let until = later(now, work.lease);
            let claims = store.claim_jobs(work.topic, due.max(now), until, free);
            let claims = claims.await?;
            // There may be more, or others behind these in their lanes: looked at when one has ended.
            for claim in claims {
                *taken += 1;
                let engine = self.engine.clone();
                self.running.spawn(perform(engine, work, claim));
            }
        }
        Ok(next)
    }

    /// The row of work that is done again and again.
    fn periodic(&self, work: &Work) -> JobRow {
        let now = self.engine.now();
        let mut noise = [0; 2];
        self.engine.0.random.fill(&mut noise);
        JobRow {
            id: self.engine.0.ids.next(now, u16::from_le_bytes(noise)),
            topic: work.topic.to_owned(),
            lane: Some(work.topic.to_owned()),
            name: Some(work.topic.to_owned()),
            at: now,
            due_at: now,
            body: "{}".into(),
        }
    }

    /// Writes down what became of a job.
    async fn ended(&mut self, ended: Result<Ended, tokio::task::JoinError>) {
        // A task that cannot be waited for: the runtime is going down.
        let Ok(Ended {
            work,
            mut claim,
            how,
        }) = ended
        else {
            return;
        };
        if let Some(taken) = self.taken.get_mut(work.topic) {
            *taken = taken.saturating_sub(1);
        }
        let jobs = &self.engine.0.jobs;
        let now = self.engine.now();
        if work.every.is_some() {
            // A row that was taken over does not have them any more.
            claim.job.name = Some(work.topic.to_owned());
        }
        let again = match how {
            How::Lost => {
                tracing::debug!(job.topic = work.topic, "another process has the job by now");
                return;
            }
            How::Done => {
                jobs.done(&claim, work.topic);
                work.every.map(|every| Again {
                    due_at: later(now, every),
                    attempts: 0,
                })
            }
            How::Failed(error) => {
                jobs.failed(&claim, work.topic, &error);
                let due_at = match error {
                    JobFailed::Undelivered { retry_at, .. } => retry_at,
                    _ => later(now, back_off(claim.attempts)),
                };
                Some(Again {
                    due_at,
                    attempts: claim.attempts,
                })
            }
            How::NotYet(due_at) => Some(Again {
                due_at,
                attempts: claim.attempts.saturating_sub(1),
            }),
            How::Stopped => Some(Again {
                due_at: claim.job.due_at,
                attempts: claim.attempts.saturating_sub(1),
            }),
        };
        let ended = tokio::select! {
            ended = self.engine.0.store.end_job(claim, again) => ended,
            () = self.engine.0.abandon.cancelled() => return,
        };
        if let Err(error) = ended {
            // It is done again when its claim has run out.
            tracing::debug!(%error, job.topic = work.topic, "cannot note what became of a job");
        }
    }
}

/// Does a job, and keeps its claim for as long as that takes.
async fn perform(engine: Engine, work: &'static Work, mut claim: Claim) -> Ended {
    let (own, job) = (engine.clone(), claim.clone());
    // The call too is inside, so that a panic anywhere costs this job alone.
    let running = AssertUnwindSafe(async move { (work.run)(own, job).await }).catch_unwind();
    let mut running = std::pin::pin!(running);
    let mut renew = tokio::time::interval(work.lease / 3);
    renew.tick().await; // the first is at once
    let how = loop {
        tokio::select! {
            biased;
            outcome = &mut running => break match outcome {
                Ok(Ok(())) => How::Done,
                Ok(Err(JobFailed::NotYet(due_at))) => How::NotYet(due_at),
                Ok(Err(error)) => How::Failed(error),
                Err(_) => How::Failed(JobFailed::Panicked),
            },
            () = engine.0.stop.cancelled() => break How::Stopped,
            _ = renew.tick() => {
                let until = later(engine.now(), work.lease);
                // While the database does not answer, the claim may run out: then it is done twice.
                if let Ok(false) = engine.0.store.renew_job(&mut claim, until).await {
                    break How::Lost;
                }
            }
        }
    };
    Ended { work, claim, how }
}

/// How far away the moment at which a job is due, or its claim runs out, can be.
fn farthest(work: &Work) -> Duration {
    let every = work.every.unwrap_or_default();
    every.max(LONGEST_BACK_OFF).max(work.lease)
}

/// How long to wait after so many attempts.
pub(crate) fn back_off(attempts: u32) -> Duration {
    let doublings = attempts.saturating_sub(1).min(16);
    (BACK_OFF * 2_u32.pow(doublings)).min(LONGEST_BACK_OFF)
}

/// So long after a moment.
pub(crate) fn later(moment: Timestamp, by: Duration) -> Timestamp {
    SignedDuration::try_from(by)
        .ok()
        .and_then(|by| moment.checked_add(by).ok())
        .unwrap_or(Timestamp::MAX)
}

fn until(moment: Timestamp, now: Timestamp) -> Duration {
    let left = moment.duration_since(now);
    Duration::try_from(left)
        .unwrap_or_default()
        .min(LONGEST_SLEEP)
}

#[cfg(test)]
mod tests;
