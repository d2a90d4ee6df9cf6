//! The way to the runner of background jobs, and what became of those since the start.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bowline_model::id::TailnetId;
use bowline_store::Claim;
use jiff::Timestamp;
use tokio::sync::{Notify, mpsc, oneshot};

use crate::core::failure::StoreFailure;

/// Why a job was not done. It is tried again later.
#[derive(Debug, thiserror::Error)]
pub(crate) enum JobFailed {
    /// The database cannot be used.
    #[error(transparent)]
    Store(#[from] bowline_store::Error),
    /// A change that it makes could not be stored.
    #[error(transparent)]
    Change(#[from] StoreFailure),
    /// A webhook endpoint did not take what it was told.
    #[error("webhook endpoint {endpoint} of tailnet {tailnet} was not told: {error}")]
    Undelivered {
        /// Its tailnet.
        tailnet: TailnetId,
        /// Stable id of the endpoint.
        endpoint: String,
        /// Why.
        error: String,
        /// When it is tried again.
        retry_at: Timestamp,
    },
    /// Its time has not come. It does not count as tried.
    #[error("it is not to be done before {0}")]
    NotYet(Timestamp),
    /// It panicked.
    #[error("it panicked")]
    Panicked,
}

/// What became of the jobs of one topic since the start, for metrics.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct JobReport {
    /// How often one was done.
    pub done: u64,
    /// How often one failed.
    pub failed: u64,
    /// How many failed when they were tried last, and wait to be tried again.
    pub failing: u64,
}

/// The way to the runner.
pub(crate) struct Jobs {
    /// A change made a job.
    pub(crate) wake: Notify,
    pub(crate) looks: mpsc::UnboundedSender<oneshot::Sender<()>>,
    /// Taken by the runner when it starts.
    pub(crate) requests: Mutex<Option<mpsc::UnboundedReceiver<oneshot::Sender<()>>>>,
    log: Mutex<Log>,
}

#[derive(Default)]
pub(crate) struct Log {
    pub(crate) reports: BTreeMap<&'static str, JobReport>,
    /// Jobs that failed when they were tried last.
    pub(crate) failing: HashMap<u64, &'static str>,
}

impl Default for Jobs {
    fn default() -> Self {
        let (looks, requests) = mpsc::unbounded_channel();
        Self {
            wake: Notify::new(),
            looks,
            requests: Mutex::new(Some(requests)),
            log: Mutex::default(),
        }
    }
}

impl Jobs {
    /// A change that makes a job is stored.
    pub(crate) fn wake(&self) {
        self.wake.notify_one();
    }

    pub(crate) fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn done(&self, claim: &Claim, topic: &'static str) {
        let mut log = self.log();
        log.reports.entry(topic).or_default().done += 1;
        if log.failing.remove(&claim.job.id).is_some() {
            drop(log);
            tracing::info!(
                job.topic = topic,
                job.id = claim.job.id,
                attempts = claim.attempts,
                "a background job that had failed is done"
            );
        }
    }

    pub(crate) fn failed(&self, claim: &Claim, topic: &'static str, error: &JobFailed) {
        let mut log = self.log();
        log.reports.entry(topic).or_default().failed += 1;
        let is_new = log.failing.insert(claim.job.id, topic).is_none();
        drop(log);
        let error = crate::core::health::causes(error);
        if is_new {
            tracing::warn!(
                error,
                job.topic = topic,
                job.id = claim.job.id,
                "a background job failed; it is tried again until it is done"
            );
        } else {
            tracing::debug!(
                error,
                job.topic = topic,
                job.id = claim.job.id,
                "it failed again"
            );
        }
    }
}
