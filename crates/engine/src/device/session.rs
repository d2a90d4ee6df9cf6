//! Map streams and presence.
//!
//! A device is online while it has a stream. A new stream replaces the older one. When a stream
//! ends, the device stays online for a grace period, so that a reconnect changes nothing for
//! anybody.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bowline_model::device::Live;
use bowline_model::id::{DeviceId, TailnetId};
use bowline_model::key::{MachineKey, NodeKey};
use bowline_netmap::publication::Publication;
use jiff::Timestamp;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::core::engine::Task;
use crate::core::engine::{Engine, Handle};
use crate::core::sessions::Link;

/// How often it is looked at whether a rivalry is over.
const RIVALS_EVERY: Duration = Duration::from_secs(5);
/// How often a machine that waits for its turn looks whether the other has gone.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// An open map stream: the device is online until this is dropped (and a grace period after).
pub struct Stream {
    engine: Engine,
    handle: Arc<Handle>,
    device: DeviceId,
    /// Its session; none when it only watches.
    counter: Option<u64>,
    replaced: CancellationToken,
    /// The node key that the device had when it was opened; `None`: there was no such device.
    node_key: Option<NodeKey>,
    told: watch::Receiver<Arc<Publication>>,
}

impl Stream {
    /// The state to begin with: the one that other streams are at, so that what follows is made once
    /// for all of them. Where the device came in, or got its node key, too lately to be in it, the
    /// newest, in which it is.
    pub fn first(&mut self) -> Arc<Publication> {
        let told = self.told.borrow_and_update().clone();
        let is_in_it = self
            .node_key
            .is_some_and(|key| told.snapshot().device_by_node_key(&key).is_some());
        if is_in_it {
            told
        } else {
            self.handle.newest.load_full()
        }
    }

    /// Waits for a publication after `seen`. `None`: the stream is to end, because another has
    /// replaced it or the server stops.
    pub async fn next(&mut self, seen: &Publication) -> Option<Arc<Publication>> {
        let stop = self.engine.0.streams.clone();
        loop {
            tokio::select! {
                biased;
                () = self.replaced.cancelled() => return None,
                () = stop.cancelled() => return None,
                changed = self.told.changed() => {
                    changed.ok()?;
                    let told = self.told.borrow_and_update().clone();
                    // One that began at the newest state was ahead of the others.
                    if told.snapshot().revision > seen.snapshot().revision {
                        return Some(told);
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

fn node_key(handle: &Handle, device: DeviceId) -> Option<NodeKey> {
    let newest = handle.snapshot();
    newest.device(device).map(|entry| entry.device.node_key)
}

/// After a start: devices that were online are expected back within a grace period.
pub(crate) fn expect_back(engine: &Engine, handle: &Arc<Handle>) {
    let online: Vec<DeviceId> = handle
        .snapshot()
        .devices()
        .filter(|entry| entry.live.online)
        .map(|entry| entry.device.id)
        .collect();
    if online.is_empty() {
        return;
    }
    let now = engine.now();
    let (handle, stop) = (handle.clone(), engine.0.stop.clone());
    let grace = engine.0.settings.restart_grace;
    engine.0.tasks.spawn(async move {
        tokio::select! {
            () = tokio::time::sleep(grace) => {}
            () = stop.cancelled() => return,
        }
        let weak = Arc::downgrade(&handle);
        Engine::soften(&handle, None, move |draft| {
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

/// Notices where two machines have stopped using one node key.
pub(crate) fn watch_rivalries(engine: Engine) -> Task {
    Box::pin(async move {
        let stop = engine.0.stop.clone();
        loop {
            tokio::select! {
                () = tokio::time::sleep(RIVALS_EVERY) => {}
                () = stop.cancelled() => return,
            }
            engine.end_rivalries().await;
        }
    })
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
            node_key: node_key(&handle, device),
            told: handle.told.subscribe(),
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
        let stream = Stream {
            engine: self.clone(),
            handle: handle.clone(),
            device,
            counter: Some(counter),
            replaced,
            node_key: node_key(&handle, device),
            told: handle.told.subscribe(),
        };
        // An older stream's end may be on its way to the snapshot: the draft knows better then.
        let has_no_pending_reports = handle.pending.has_no_pending_reports(device);
        let entry = handle.snapshot().device(device).cloned();
        let is_known = entry.is_some_and(|entry| entry.live.online && entry.device.seen);
        if !has_no_pending_reports || !is_known {
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
        let entry = handle.snapshot().device(device).cloned();
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
    async fn end_rivalries(&self) {
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
            let snapshot = handle.snapshot();
            snapshot
                .devices_by_machine_key(machine)
                .any(|entry| is_mobile(&entry.device.facts.os))
        })
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
