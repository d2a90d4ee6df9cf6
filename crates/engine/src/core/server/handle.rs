//! The server's state as everybody else sees it, and the way to its writer.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use bowline_model::kind::Kind;
use tokio::sync::{mpsc, oneshot, watch};

use super::state::ServerState;
use super::work::ServerJob;

/// One record: its kind and its id.
type Place = (Kind, u64);

/// The server's own records.
pub(crate) struct ServerHandle {
    state: ArcSwap<ServerState>,
    pub(super) jobs: mpsc::Sender<ServerJob>,
    /// Whether the writer has died and was not started again yet.
    pub(crate) writer_lost: AtomicBool,
    /// Those who wait for what becomes of a record.
    followers: Mutex<HashMap<Place, watch::Sender<()>>>,
    /// Records that somebody is about to decide.
    claimed: Mutex<HashSet<Place>>,
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

impl ServerHandle {
    pub(crate) fn new(state: ServerState, jobs: mpsc::Sender<ServerJob>) -> Self {
        Self {
            state: ArcSwap::new(Arc::new(state)),
            jobs,
            writer_lost: AtomicBool::new(false),
            followers: Mutex::default(),
            claimed: Mutex::default(),
        }
    }

    /// The newest state.
    pub(crate) fn state(&self) -> Arc<ServerState> {
        self.state.load_full()
    }

    /// Replaces the state, and wakes whoever waits for what becomes of these records.
    pub(super) fn publish(&self, state: ServerState, touched: impl IntoIterator<Item = Place>) {
        let state = Arc::new(state);
        self.state.store(state.clone());
        let mut followers = lock(&self.followers);
        for place in touched {
            if !state.has(place.0, place.1) {
                // Those who wait see that nobody will tell them any more.
                followers.remove(&place);
            } else if let Some(follower) = followers.get(&place) {
                follower.send_replace(());
            }
        }
    }

    /// Something to wait on that changes with a record, and ends when the record is gone. `alone`:
    /// who waited in this place before is sent away. `None`: there is no such record.
    pub(crate) fn follow(
        &self,
        kind: Kind,
        number: u64,
        alone: bool,
    ) -> Option<watch::Receiver<()>> {
        let mut followers = lock(&self.followers);
        // Read under the lock: a record that goes after this takes its followers along.
        if !self.state.load().has(kind, number) {
            return None;
        }
        let follower = followers.entry((kind, number)).or_default();
        if alone {
            *follower = watch::Sender::default();
        }
        Some(follower.subscribe())
    }

    /// Wakes whoever waits for what becomes of a record, though nothing was written.
    pub(crate) fn wake(&self, kind: Kind, number: u64) {
        if let Some(follower) = lock(&self.followers).get(&(kind, number)) {
            follower.send_replace(());
        }
    }

    /// Lets the writer look at the clock: what has expired goes.
    pub(crate) async fn tick(&self) {
        let (reply, done) = oneshot::channel();
        if self.jobs.send(ServerJob::Tick(reply)).await.is_ok() {
            let _ = done.await;
        }
    }

    /// Takes a record to decide about it, for as long as the claim is kept. `None`: somebody decides
    /// already.
    pub(crate) fn claim(self: &Arc<Self>, kind: Kind, number: u64) -> Option<Claim> {
        let place = (kind, number);
        let is_first = lock(&self.claimed).insert(place);
        is_first.then(|| Claim {
            handle: self.clone(),
            place,
        })
    }
}

/// The right to decide about a record.
pub(crate) struct Claim {
    handle: Arc<ServerHandle>,
    place: Place,
}

impl Drop for Claim {
    fn drop(&mut self) {
        lock(&self.handle.claimed).remove(&self.place);
    }
}
