//! Serving a tailnet: its writer, and the publication of its newest state to the map streams.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use arc_swap::ArcSwap;
use bowline_netmap::publication::Publication;
use bowline_netmap::snapshot::Snapshot;
use tokio::sync::{Notify, mpsc, watch};

use crate::core::engine::{Engine, Handle, Inner};
use crate::core::load::tell_fault;
use crate::core::memory::Memory;
use crate::core::sessions::Sessions;
use crate::core::writer::supervise;

/// Time to serve one stream with a publication, generously.
const PER_STREAM: Duration = Duration::from_micros(150);
/// From this many changes per publication on, publications are slowed down. A single change goes out
/// at once.
const STORM: u64 = 2;
/// The longest time between two publications while changes wait.
const LONGEST_INTERVAL: Duration = Duration::from_millis(500);
/// Jobs that may wait for one writer. A caller beyond them waits.
const QUEUE: usize = 4096;

impl Engine {
    /// Starts the writer of a tailnet that was loaded or just made.
    pub(crate) fn add(&self, snapshot: Snapshot) {
        let largest_id = snapshot
            .devices()
            .map(|entry| entry.device.id.get())
            .chain(snapshot.users().map(|user| user.id.get()))
            .chain(snapshot.credentials().map(|credential| credential.id.get()))
            .chain([snapshot.id().get()])
            .max();
        self.0.ids.skip(largest_id.unwrap_or(0));
        self.0.directory.add_all(&snapshot);
        let (jobs, receiver) = mpsc::channel(QUEUE);
        let first = Arc::new(Publication::new(snapshot));
        tell_fault(first.snapshot());
        let handle = Arc::new(Handle {
            id: first.snapshot().id(),
            newest: ArcSwap::new(first.clone()),
            published: Notify::new(),
            told: watch::Sender::new(first.clone()),
            jobs,
            sessions: Sessions::default(),
            pending: Arc::default(),
            writer_lost: AtomicBool::new(false),
            memory: Memory::default(),
        });
        self.0.tailnets.pin().insert(handle.id, handle.clone());
        let writer = supervise(self.0.clone(), handle.clone(), receiver, first);
        self.0.tasks.spawn(writer);
        self.0
            .tasks
            .spawn(tell_streams(self.0.clone(), handle.clone()));
        for begin in self.0.subjects.begins {
            begin(self, &handle);
        }
    }
}

/// Hands the newest state to the map streams. A change after a quiet moment goes out at once; while
/// many follow each other, the time between two publications doubles from
/// `Settings::publication_interval` up to a time in which all streams can be served, so that a
/// storm is told in few messages, and streams that keep up are at the same publication and share
/// their deltas.
async fn tell_streams(engine: Arc<Inner>, handle: Arc<Handle>) {
    let shortest = engine.settings.publication_interval;
    let mut interval = shortest;
    let mut told = handle.told.borrow().snapshot().revision;
    loop {
        tokio::select! {
            () = handle.published.notified() => {}
            () = engine.stop.cancelled() => return,
        }
        let newest = handle.newest.load_full();
        let streams = u32::try_from(handle.told.receiver_count()).unwrap_or(u32::MAX);
        let longest = (PER_STREAM * streams).min(LONGEST_INTERVAL).max(shortest);
        let revision = newest.snapshot().revision;
        let waiting = revision.saturating_sub(told);
        interval = if waiting >= STORM {
            (interval * 2).min(longest)
        } else {
            shortest
        };
        told = revision;
        handle.told.send_replace(newest);
        tokio::time::sleep(interval).await;
    }
}
