//! Map streams and presence.
//!
//! A device is online while it has a stream. A new stream replaces the older one. When a stream
//! ends, the device stays online for a grace period, so that a reconnect changes nothing for
//! anybody.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bowline_model::device::Live;
use bowline_model::id::{DeviceId, TailnetId};
use bowline_netmap::snapshot::Snapshot;
use jiff::Timestamp;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::engine::{Engine, Handle};

/// Who has a map stream.
#[derive(Debug, Default)]
pub(crate) struct Sessions(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    counter: u64,
    /// How many of the sessions are open.
    open: usize,
    sessions: HashMap<DeviceId, Session>,
}

#[derive(Debug)]
struct Session {
    counter: u64,
    /// When the stream ended; `None` while it is open.
    ended: Option<Timestamp>,
    replaced: CancellationToken,
}

impl Sessions {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open(&self, device: DeviceId) -> (u64, CancellationToken) {
        let mut state = self.state();
        state.counter += 1;
        let counter = state.counter;
        let replaced = CancellationToken::new();
        let session = Session {
            counter,
            ended: None,
            replaced: replaced.clone(),
        };
        match state.sessions.insert(device, session) {
            Some(older) => {
                state.open += usize::from(older.ended.is_some());
                older.replaced.cancel();
            }
            None => state.open += 1,
        }
        (counter, replaced)
    }

    /// Whether this was the device's newest stream.
    fn close(&self, device: DeviceId, counter: u64, now: Timestamp) -> bool {
        let mut state = self.state();
        match state.sessions.get_mut(&device) {
            Some(session) if session.counter == counter && session.ended.is_none() => {
                session.ended = Some(now);
                state.open -= 1;
                true
            }
            _ => false,
        }
    }

    /// Some device with an open stream.
    pub(crate) fn any_open(&self) -> Option<DeviceId> {
        let state = self.state();
        let mut open = state
            .sessions
            .iter()
            .filter(|(_, session)| session.ended.is_none());
        open.next().map(|(device, _)| *device)
    }

    /// Whether a device has an open stream, or had one a moment ago.
    fn is_expected(&self, device: DeviceId) -> bool {
        self.state().sessions.contains_key(&device)
    }

    /// Whether a device has an open stream.
    pub(crate) fn is_open(&self, device: DeviceId) -> bool {
        self.state()
            .sessions
            .get(&device)
            .is_some_and(|session| session.ended.is_none())
    }

    /// Forgets a device whose newest stream is still the one that ended; when it ended.
    fn forget(&self, device: DeviceId, counter: u64) -> Option<Timestamp> {
        let mut state = self.state();
        let ended = state
            .sessions
            .get(&device)
            .filter(|session| session.counter == counter)?
            .ended?;
        state.sessions.remove(&device);
        Some(ended)
    }

    /// How many streams are open.
    pub(crate) fn open_count(&self) -> usize {
        self.state().open
    }
}

/// An open map stream: the device is online until this is dropped (and a grace period after).
pub struct Stream {
    engine: Engine,
    handle: Arc<Handle>,
    device: DeviceId,
    /// Its session; none when it only watches.
    counter: Option<u64>,
    replaced: CancellationToken,
    publications: watch::Receiver<Arc<Snapshot>>,
}

impl Stream {
    /// The state to begin with.
    pub fn first(&mut self) -> Arc<Snapshot> {
        let published = self.publications.borrow_and_update().clone();
        // The one that others are at, so that deltas are shared, unless it lacks this device or
        // has another node key for it.
        let newest = self.handle.snapshot.load_full();
        let key = |snapshot: &Snapshot| {
            snapshot
                .device(self.device)
                .map(|entry| entry.device.node_key)
        };
        if key(&published).is_some() && key(&published) == key(&newest) {
            published
        } else {
            newest
        }
    }

    /// Waits for a publication after `seen`. `None`: the stream is to end, because another has
    /// replaced it or the server stops.
    pub async fn next(&mut self, seen: &Snapshot) -> Option<Arc<Snapshot>> {
        let stop = self.engine.0.streams.clone();
        loop {
            tokio::select! {
                biased;
                () = self.replaced.cancelled() => return None,
                () = stop.cancelled() => return None,
                changed = self.publications.changed() => {
                    changed.ok()?;
                    let snapshot = self.publications.borrow_and_update().clone();
                    if snapshot.publication > seen.publication {
                        return Some(snapshot);
                    }
                }
            }
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let Some(counter) = self.counter else { return };
        let now = self.engine.now();
        if self.handle.sessions.close(self.device, counter, now)
            && !self.engine.0.streams.is_cancelled()
        {
            let grace = self.engine.0.settings.offline_grace;
            self.engine
                .go_offline_after(&self.handle, self.device, counter, grace);
        }
    }
}

impl Engine {
    /// Opens a stream that changes nothing: the device does not count as connected by it, and its
    /// own stream goes on.
    pub fn watch(&self, tailnet: TailnetId, device: DeviceId) -> Option<Stream> {
        let handle = self.handle(tailnet)?;
        Some(Stream {
            engine: self.clone(),
            device,
            counter: None,
            replaced: CancellationToken::new(),
            publications: handle.publications.subscribe(),
            handle,
        })
    }

    /// Opens the map stream of a device. An older stream of it ends.
    pub async fn open_stream(&self, tailnet: TailnetId, device: DeviceId) -> Option<Stream> {
        let handle = self.handle(tailnet)?;
        let (counter, replaced) = handle.sessions.open(device);
        let publications = handle.publications.subscribe();
        let stream = Stream {
            engine: self.clone(),
            handle: handle.clone(),
            device,
            counter: Some(counter),
            replaced,
            publications,
        };
        // An older stream's end may be on its way to the snapshot: the draft knows better then.
        let is_settled = handle.is_settled();
        let entry = handle.snapshot.load().device(device).cloned();
        let is_known = entry.is_some_and(|entry| entry.live.online && entry.device.seen);
        if !is_settled || !is_known {
            Self::soften(&handle, move |draft| {
                let Some(entry) = draft.view().device(device).cloned() else {
                    return;
                };
                if !entry.device.seen {
                    draft.report_device(bowline_model::device::Device {
                        seen: true,
                        replaced_key: None,
                        ..(*entry.device).clone()
                    });
                }
                if !entry.live.online {
                    draft.set_live(
                        device,
                        Live {
                            online: true,
                            ..(*entry.live).clone()
                        },
                    );
                }
            })
            .await;
        }
        Some(stream)
    }

    /// After a start: devices that were online are expected back within a grace period.
    pub(crate) fn expect_back(&self, handle: &Arc<Handle>) {
        let online: Vec<DeviceId> = handle
            .snapshot
            .load()
            .devices()
            .filter(|entry| entry.live.online)
            .map(|entry| entry.device.id)
            .collect();
        if online.is_empty() {
            return;
        }
        let now = self.now();
        let (handle, stop) = (handle.clone(), self.0.stop.clone());
        let grace = self.0.settings.restart_grace;
        self.0.tasks.spawn(async move {
            tokio::select! {
                () = tokio::time::sleep(grace) => {}
                () = stop.cancelled() => return,
            }
            let weak = Arc::downgrade(&handle);
            Self::soften(&handle, move |draft| {
                let Some(handle) = weak.upgrade() else { return };
                for device in online {
                    // Open, or closed and then handled by its own grace period.
                    if !handle.sessions.is_expected(device) {
                        mark_offline(draft, device, now);
                    }
                }
            })
            .await;
        });
    }

    fn go_offline_after(
        &self,
        handle: &Arc<Handle>,
        device: DeviceId,
        counter: u64,
        grace: Duration,
    ) {
        let (handle, stop) = (handle.clone(), self.0.stop.clone());
        self.0.tasks.spawn(async move {
            tokio::select! {
                () = tokio::time::sleep(grace) => {}
                () = stop.cancelled() => return,
            }
            let weak = Arc::downgrade(&handle);
            Self::soften(&handle, move |draft| {
                let Some(handle) = weak.upgrade() else { return };
                if let Some(ended) = handle.sessions.forget(device, counter) {
                    mark_offline(draft, device, ended);
                }
            })
            .await;
        });
    }

    /// How many map streams are open, over all tailnets.
    pub fn stream_count(&self) -> usize {
        self.0
            .tailnets
            .pin()
            .values()
            .map(|handle| handle.sessions.open_count())
            .sum()
    }
}

fn mark_offline(draft: &mut crate::draft::Draft<'_>, device: DeviceId, last_seen: Timestamp) {
    let Some(entry) = draft.view().device(device).cloned() else {
        return;
    };
    if entry.live.online {
        draft.set_live(
            device,
            Live {
                online: false,
                last_seen: Some(last_seen),
                ..(*entry.live).clone()
            },
        );
    }
}
