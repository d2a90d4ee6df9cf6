//! Whether memory may be answered from: another process may have written to the database.
//!
//! A server has its database for itself, but not for certain at every moment: cut off from
//! PostgreSQL, it must count on another having taken over. Then its API answers nothing from
//! memory, since a token may have been revoked by now. Map streams go on, as a client that is told
//! nothing keeps the same map. Once the database is this server's again and another had it between,
//! everything waits until what the other wrote is read.

use std::time::Duration;

use bowline_store::{Condition, Trouble};
use tokio::sync::oneshot;

use crate::core::engine::Engine;
use crate::core::failure::StoreFailure;
use crate::core::job::Job;

/// How long an answer waits for the reading of what another process wrote.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two tries of reading it.
const RETRY: Duration = Duration::from_millis(500);

/// What memory is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freshness {
    /// It is the newest state.
    Current,
    /// Another process had the database; what it wrote is being read.
    Reading,
    /// Another process may have the database by now.
    Unknown,
}

impl Engine {
    /// What memory is good for at this moment.
    pub fn freshness(&self) -> Freshness {
        if *self.0.read_epoch.borrow() != *self.0.epochs.borrow() {
            Freshness::Reading
        } else if self.0.store.is_held() {
            Freshness::Current
        } else {
            Freshness::Unknown
        }
    }

    /// Returns when memory is the newest state, for answers that must not be out of date.
    ///
    /// # Errors
    /// `Unavailable` when another process may have the database, or what it wrote is not read in
    /// time.
    pub async fn ensure_current(&self) -> Result<(), StoreFailure> {
        self.settle_epoch().await;
        match self.freshness() {
            Freshness::Current => Ok(()),
            Freshness::Reading => Err(StoreFailure::Unavailable(Trouble::of(Condition::Stalled))),
            Freshness::Unknown => Err(StoreFailure::Unavailable(
                self.0
                    .store
                    .trouble()
                    .unwrap_or(Trouble::of(Condition::NotHeld)),
            )),
        }
    }

    /// Waits while what another process wrote is being read, not for ever. For what goes on
    /// without the database, but not with a state that is known to be old.
    pub(crate) async fn settle_epoch(&self) {
        if self.freshness() != Freshness::Reading {
            return;
        }
        let mut read = self.0.read_epoch.subscribe();
        let settled = async {
            while self.freshness() == Freshness::Reading {
                if read.changed().await.is_err() {
                    return;
                }
            }
        };
        let _ = tokio::time::timeout(PATIENCE, settled).await;
    }

    /// Reads again whenever another process may have written, until the engine stops.
    pub(crate) async fn follow_epochs(self) {
        let mut epochs = self.0.epochs.clone();
        let stop = self.0.stop.clone();
        loop {
            let epoch = *epochs.borrow_and_update();
            if *self.0.read_epoch.borrow() == epoch {
                tokio::select! {
                    changed = epochs.changed() => if changed.is_err() { return },
                    () = stop.cancelled() => return,
                }
                continue;
            }
            if self.read_again().await {
                tracing::info!(
                    epoch,
                    "another process had the database; what it wrote has been read"
                );
                self.0.read_epoch.send_replace(epoch);
                continue;
            }
            tokio::select! {
                () = tokio::time::sleep(RETRY) => {}
                () = stop.cancelled() => return,
            }
        }
    }

    /// Reads what differs in every tailnet and of the server. Whether that was possible.
    async fn read_again(&self) -> bool {
        let found = match self.0.store.tailnets().await {
            Ok(found) => found,
            Err(error) => {
                tracing::debug!(%error, "cannot read again yet");
                return false;
            }
        };
        for (id, _) in found {
            let Some(handle) = self.handle(id) else {
                // One that is out of order stays so.
                if self.0.out_of_order.pin().contains_key(&id) {
                    continue;
                }
                // One that is on its way may have been read before: it is looked at when it is there.
                if self.is_held_back(id) {
                    return false;
                }
                if let Err(error) = self.start(id).await {
                    let cause = crate::core::health::causes(&error);
                    tracing::error!(error = cause, tailnet.id = %id, "cannot read a new tailnet");
                    return false;
                }
                continue;
            };
            let since = handle.snapshot().seq;
            let found = match self.0.store.catch_up(id, since).await {
                Ok(found) => Box::new(found),
                Err(error) => {
                    tracing::debug!(%error, tailnet.id = %id, "cannot read again yet");
                    return false;
                }
            };
            let (reply, done) = oneshot::channel();
            if handle.jobs.send(Job::CatchUp(found, reply)).await.is_err() {
                return false;
            }
            if done.await != Ok(true) {
                return false;
            }
        }
        // Last: who waited for a login finds its device in a tailnet.
        self.follow_server().await
    }
}
