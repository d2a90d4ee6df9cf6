//! What all simulated nodes report to, without locks on the way of a message.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

/// Counters of a run. Times are nanoseconds since the board was made.
pub(crate) struct Board {
    epoch: Instant,
    size: usize,
    complete: AtomicUsize,
    complete_at: Vec<AtomicU64>,
    changes: Vec<Change>,
    /// Map messages received, keep-alives included.
    pub(crate) messages: AtomicU64,
    /// Their bytes on the wire before encryption.
    pub(crate) wire_bytes: AtomicU64,
    /// Their bytes decoded.
    pub(crate) decoded_bytes: AtomicU64,
    /// Connections or streams that failed or ended before they were given up.
    pub(crate) failures: AtomicU64,
    /// Those of them that were refused: a connection that was closed before its first message, or
    /// an answer that said no.
    pub(crate) refused: AtomicU64,
    /// Those of them for which nothing came in time.
    pub(crate) timed_out: AtomicU64,
    kinds: Mutex<BTreeMap<String, u64>>,
    progress: Notify,
}

#[derive(Default)]
struct Change {
    told: AtomicUsize,
    last_at: AtomicU64,
}

impl Board {
    pub(crate) fn new(size: usize, changes: usize) -> Self {
        Self {
            epoch: Instant::now(),
            size,
            complete: AtomicUsize::new(0),
            complete_at: (0..size).map(|_| AtomicU64::new(0)).collect(),
            changes: (0..changes).map(|_| Change::default()).collect(),
            messages: AtomicU64::new(0),
            wire_bytes: AtomicU64::new(0),
            decoded_bytes: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            timed_out: AtomicU64::new(0),
            kinds: Mutex::default(),
            progress: Notify::new(),
        }
    }

    pub(crate) const fn size(&self) -> usize {
        self.size
    }

    pub(crate) fn now(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Forgets who is complete, before the next phase.
    pub(crate) fn restart(&self) {
        self.complete.store(0, Relaxed);
        for at in &self.complete_at {
            at.store(0, Relaxed);
        }
    }

    /// A node has seen everybody.
    pub(crate) fn set_complete(&self, node: usize) {
        if self.complete_at[node].swap(self.now(), Relaxed) == 0
            && self.complete.fetch_add(1, Relaxed) + 1 == self.size
        {
            self.progress.notify_waiters();
        }
    }

    /// A node was told of a change, for the first time.
    pub(crate) fn set_told(&self, change: usize, wanted: usize) {
        if let Some(change) = self.changes.get(change) {
            change.last_at.fetch_max(self.now(), Relaxed);
            if change.told.fetch_add(1, Relaxed) + 1 == wanted {
                self.progress.notify_waiters();
            }
        }
    }

    pub(crate) fn fail(&self, failure: &anyhow::Error) {
        /// Kinds that are kept: enough to see what is wrong.
        const KINDS: usize = 8;
        self.failures.fetch_add(1, Relaxed);
        if let Ok(mut kinds) = self.kinds.lock() {
            let kind = format!("{failure:#}");
            if kinds.len() < KINDS || kinds.contains_key(&kind) {
                *kinds.entry(kind).or_default() += 1;
            }
        }
    }

    /// The failures so far, the most frequent first, one a line.
    pub(crate) fn failure_kinds(&self) -> String {
        let mut kinds: Vec<_> = match self.kinds.lock() {
            Ok(kinds) => kinds
                .iter()
                .map(|(kind, count)| (*count, kind.clone()))
                .collect(),
            Err(_) => Vec::new(),
        };
        kinds.sort_unstable_by(|a, b| b.cmp(a));
        kinds.iter().fold(String::new(), |mut text, (count, kind)| {
            // Writing to a string cannot fail.
            let _ = write!(text, "\n  {count} times: {kind}");
            text
        })
    }

    /// Waits until every node is complete. False when time is up.
    pub(crate) async fn all_complete(&self, patience: Duration) -> bool {
        self.wait(patience, || self.complete.load(Relaxed) == self.size)
            .await
    }

    /// Waits until `wanted` nodes were told of a change, and gives the time of the last one.
    pub(crate) async fn all_told(
        &self,
        change: usize,
        wanted: usize,
        patience: Duration,
    ) -> Option<u64> {
        let change = self.changes.get(change)?;
        let is_done = self
            .wait(patience, || change.told.load(Relaxed) >= wanted)
            .await;
        is_done.then(|| change.last_at.load(Relaxed))
    }

    async fn wait(&self, patience: Duration, is_done: impl Fn() -> bool) -> bool {
        let wait = async {
            loop {
                let progress = self.progress.notified();
                tokio::pin!(progress);
                // Listening begins before looking, or the last step could be missed.
                progress.as_mut().enable();
                if is_done() {
                    return;
                }
                progress.await;
            }
        };
        tokio::time::timeout(patience, wait).await.is_ok()
    }

    /// How many nodes are complete.
    pub(crate) fn complete(&self) -> usize {
        self.complete.load(Relaxed)
    }

    /// When each complete node became so, in ascending order.
    pub(crate) fn completion_times(&self) -> Vec<u64> {
        let mut times: Vec<_> = self
            .complete_at
            .iter()
            .map(|at| at.load(Relaxed))
            .filter(|at| *at > 0)
            .collect();
        times.sort_unstable();
        times
    }

    /// Waits until no message has come for a while, but not for longer than `patience`.
    pub(crate) async fn settle(&self, quiet: Duration, patience: Duration) {
        let end = Instant::now() + patience;
        let mut before = u64::MAX;
        while Instant::now() < end {
            let messages = self.messages.load(Relaxed);
            if messages == before {
                return;
            }
            before = messages;
            tokio::time::sleep(quiet).await;
        }
    }
}
