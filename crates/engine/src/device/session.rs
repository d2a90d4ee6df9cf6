//! Map streams and presence.
//!
//! A device is online while it has a stream. A new stream replaces the older one. When a stream
//! ends, the device stays online for a grace period, so that a reconnect changes nothing for
//! anybody.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bowline_model::device::Live;
use bowline_model::id::{DeviceId, TailnetId};
use bowline_model::key::MachineKey;
use bowline_netmap::snapshot::Snapshot;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::core::engine::{Engine, Handle};

use rivalry::Rivalry;

mod rivalry;

pub use rivalry::Link;

/// How often a machine that waits for its turn looks whether the other has gone.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Who has a map stream.
#[derive(Debug, Default)]
pub(crate) struct Sessions(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    counter: u64,
    /// How many of the sessions are open.
    open: usize,
    sessions: HashMap<DeviceId, Session>,
    /// Devices whose open stream was replaced by one of another connection lately.
    rivalries: HashMap<DeviceId, Rivalry>,
    /// Signs of life of devices without a stream, on their way to the snapshot.
    heard: HashMap<DeviceId, Timestamp>,
}

#[derive(Debug)]
struct Session {
    /// The connection that it is on.
    link: Arc<Link>,
    counter: u64,
    /// When the stream ended; `None` while it is open.
    ended: Option<Timestamp>,
    replaced: CancellationToken,
}

impl Sessions {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens a session, in the place of an older one. Whether that shows for the first time that
    /// two machines use the device's key.
    fn open(&self, device: DeviceId, link: &Arc<Link>) -> (u64, CancellationToken, bool) {
        let mut guard = self.state();
        let state = &mut *guard;
        state.counter += 1;
        let counter = state.counter;
        let replaced = CancellationToken::new();
        let session = Session {
            link: link.clone(),
            counter,
            ended: None,
            replaced: replaced.clone(),
        };
        let mut is_news = false;
        match state.sessions.insert(device, session) {
            Some(older) => {
                state.open += usize::from(older.ended.is_some());
                older.replaced.cancel();
                if older.ended.is_none() && !Arc::ptr_eq(&older.link, link) {
                    let now = Instant::now();
                    let rivalry = state.rivalries.entry(device);
                    let rivalry = rivalry.or_insert_with(|| Rivalry::new(now));
                    is_news = rivalry.replace(older.link, link, now);
                }
            }
            None => state.open += 1,
        }
        (counter, replaced, is_news)
    }

    /// Until when a machine waits for its turn, where another one has the device's stream.
    fn waits_until(&self, device: DeviceId, link: &Arc<Link>) -> Option<Instant> {
        let state = self.state();
        let until = state.rivalries.get(&device)?.waits_until()?;
        let session = state.sessions.get(&device)?;
        let is_taken = session.ended.is_none() && !Arc::ptr_eq(&session.link, link);
        (is_taken && Instant::now() < until).then_some(until)
    }

    /// Forgets rivalries that are over; the devices of those that were noticed.
    fn end_rivalries(&self) -> Vec<DeviceId> {
        let now = Instant::now();
        let mut ended = Vec::new();
        self.state().rivalries.retain(|device, rivalry| {
            let is_over = rivalry.is_over(now);
            if is_over && rivalry.is_noticed() {
                ended.push(*device);
            }
            !is_over
        });
        ended
    }

    /// How many devices are used by two machines.
    fn rivals(&self) -> usize {
        let state = self.state();
        let rivalries = state.rivalries.values();
        rivalries.filter(|rivalry| rivalry.is_noticed()).count()
    }

    fn hear(&self, device: DeviceId, now: Timestamp) {
        self.state().heard.insert(device, now);
    }

    /// A sign of life is in the snapshot.
    fn is_noted(&self, device: DeviceId, at: Timestamp) {
        let heard = &mut self.state().heard;
        if heard.get(&device) == Some(&at) {
            heard.remove(&device);
        }
    }

    /// Whether a device gave a sign of life within a time, which may not be in the snapshot yet.
    pub(crate) fn heard_since(&self, device: DeviceId, now: Timestamp, within: Duration) -> bool {
        let heard = self.state().heard.get(&device).copied();
        heard.is_some_and(|at| {
            SignedDuration::try_from(within).is_ok_and(|within| now.duration_since(at) < within)
        })
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

    /// Opens the map stream of a device on a connection of its own. An older stream of it ends.
    pub async fn open_stream(&self, tailnet: TailnetId, device: DeviceId) -> Option<Stream> {
        self.open_stream_on(tailnet, device, &Arc::default()).await
    }

    /// Opens the map stream of a device. An older stream of it ends. Where two machines take the
    /// stream from each other, the newcomer waits until the other has had its turn.
    pub async fn open_stream_on(
        &self,
        tailnet: TailnetId,
        device: DeviceId,
        link: &Arc<Link>,
    ) -> Option<Stream> {
        self.settle_epoch().await;
        let handle = self.handle(tailnet)?;
        while let Some(until) = handle.sessions.waits_until(device, link) {
            tokio::select! {
                () = tokio::time::sleep_until(until.min(Instant::now() + LOOK_EVERY)) => {}
                () = self.0.streams.cancelled() => return None,
            }
        }
        let (counter, replaced, is_news) = handle.sessions.open(device, link);
        if is_news {
            self.0.rivalries.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(
                tailnet.id = %tailnet,
                device.id = %device,
                "two machines use the same node key: their state was copied, and they take the map stream from each other"
            );
            Self::set_rivals(&handle, device, true).await;
        }
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
        let is_settled = handle.pending.is_settled(device);
        let entry = handle.snapshot.load().device(device).cloned();
        let is_known = entry.is_some_and(|entry| entry.live.online && entry.device.seen);
        if !is_settled || !is_known {
            Self::soften(&handle, Some(device), move |draft| {
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

    /// A device without a stream gave a sign of life. It counts for ephemeral devices, which are
    /// deleted after a silence.
    pub async fn hear(&self, tailnet: TailnetId, device: DeviceId) {
        let Some(handle) = self.handle(tailnet) else {
            return;
        };
        let entry = handle.snapshot.load().device(device).cloned();
        let is_silent = entry.is_some_and(|entry| entry.device.ephemeral);
        if !is_silent || handle.sessions.is_open(device) {
            return;
        }
        let now = self.now();
        // A client that asks again and again is not a change each time.
        let timeout = self.0.settings.ephemeral_timeout;
        if handle.sessions.heard_since(device, now, timeout / 8) {
            return;
        }
        handle.sessions.hear(device, now);
        let weak = Arc::downgrade(&handle);
        Self::soften(&handle, Some(device), move |draft| {
            heard(draft, device, now);
            if let Some(handle) = weak.upgrade() {
                handle.sessions.is_noted(device, now);
            }
        })
        .await;
    }

    async fn set_rivals(handle: &Arc<Handle>, device: DeviceId, multiple_connections: bool) {
        Self::soften(handle, Some(device), move |draft| {
            let Some(entry) = draft.view().device(device).cloned() else {
                return;
            };
            let live = Live {
                multiple_connections,
                ..(*entry.live).clone()
            };
            draft.set_live(device, live);
        })
        .await;
    }

    /// Says so where two machines have stopped using one node key.
    pub(crate) async fn end_rivalries(&self) {
        for tailnet in self.tailnets() {
            let Some(handle) = self.handle(tailnet) else {
                continue;
            };
            for device in handle.sessions.end_rivalries() {
                tracing::info!(tailnet.id = %tailnet, device.id = %device, "one machine alone uses the node key again");
                Self::set_rivals(&handle, device, false).await;
            }
        }
    }

    /// Devices that were found to be used by two machines since the start, and those that are now.
    pub fn rivalries(&self) -> (u64, usize) {
        let tailnets = self.0.tailnets.pin();
        let now = tailnets.values().map(|handle| handle.sessions.rivals());
        (self.0.rivalries.load(Ordering::Relaxed), now.sum())
    }

    /// Whether a machine key belongs to a phone or a tablet, as far as any of its devices says.
    pub fn is_mobile(&self, machine: MachineKey) -> bool {
        let is_mobile = |os: &str| matches!(os, "iOS" | "android" | "tvOS");
        if !self.has_device(machine) {
            return false; // without looking through all tailnets
        }
        self.0.tailnets.pin().values().any(|handle| {
            let snapshot = handle.snapshot.load();
            snapshot
                .devices_by_machine_key(machine)
                .any(|entry| is_mobile(&entry.device.facts.os))
        })
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
            Self::soften(&handle, None, move |draft| {
                let Some(handle) = weak.upgrade() else { return };
                for device in &online {
                    // Open, or closed and then handled by its own grace period.
                    if !handle.sessions.is_expected(*device) {
                        mark_offline(draft, *device, now);
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
            let mut forgotten = None;
            Self::soften(&handle, Some(device), move |draft| {
                let Some(handle) = weak.upgrade() else { return };
                // Forgotten once, however often this runs.
                let forget = || handle.sessions.forget(device, counter);
                if let Some(ended) = *forgotten.get_or_insert_with(forget) {
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

/// Notes a sign of life of a device that has no stream.
pub(crate) fn heard(draft: &mut crate::core::draft::Draft<'_>, device: DeviceId, at: Timestamp) {
    let entry = draft.view().device(device).cloned();
    if let Some(entry) = entry.filter(|entry| entry.device.ephemeral) {
        let live = Live {
            heard: Some(at),
            ..(*entry.live).clone()
        };
        draft.set_live(device, live);
    }
}

fn mark_offline(draft: &mut crate::core::draft::Draft<'_>, device: DeviceId, last_seen: Timestamp) {
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
