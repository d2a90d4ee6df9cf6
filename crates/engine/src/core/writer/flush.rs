//! Presence, on its way to the store in portions.

use std::collections::BTreeSet;
use std::time::Duration;

use bowline_model::id::DeviceId;
use bowline_model::record;
use bowline_store::Presence;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::Writer;

/// Soft state is flushed this often.
pub(super) const SOFT_DELAY: Duration = Duration::from_secs(2);
/// The most devices of one flush.
const FLUSH: usize = 1000;
/// Says that the server is alive, for the expiry of presence.
const HEARTBEAT_EVERY: Duration = Duration::from_secs(30);

/// Presence on its way to the store, and whose it is.
pub(super) struct Flush {
    task: JoinHandle<bool>,
    devices: BTreeSet<DeviceId>,
}

/// Waits until a flush has ended, and says whether it was written; for ever when there is none.
pub(super) async fn ended(flush: &mut Option<Flush>) -> bool {
    match flush {
        Some(flush) => (&mut flush.task).await.unwrap_or(false),
        None => std::future::pending().await,
    }
}

impl Writer {
    /// Writes soft state that changed, beside the writer's own work; one flush at a time.
    pub(super) fn flush_soft(&mut self) {
        let now = Instant::now();
        let heartbeat = self.heartbeat_at <= now && self.has_online();
        let due = self.soft_at.is_some_and(|at| at <= now) && !self.soft.is_empty();
        if self.flush.is_some() {
            // Its end wakes the writer.
            self.soft_at = self.soft_at.map(|at| at.max(now + SOFT_DELAY));
            self.heartbeat_at = self.heartbeat_at.max(now + SOFT_DELAY);
            return;
        }
        if !heartbeat && !due {
            if self.soft.is_empty() {
                self.soft_at = None;
            }
            return;
        }
        let at = self.engine.clock.now();
        // So many at a time that nobody's change waits long behind them.
        let rest = self
            .soft
            .iter()
            .nth(FLUSH)
            .copied()
            .map_or_else(BTreeSet::new, |first| self.soft.split_off(&first));
        let mut devices = std::mem::replace(&mut self.soft, rest);
        self.soft_at = (!self.soft.is_empty()).then_some(now);
        self.heartbeat_at = now + HEARTBEAT_EVERY;
        if devices.is_empty() {
            // Any row that is written now says that the server is alive.
            devices.extend(self.handle.sessions.any_open());
        }
        let mut rows = Vec::with_capacity(devices.len());
        for device in &devices {
            let Some(entry) = self.current.snapshot().device(*device) else {
                continue;
            };
            if let Ok(body) = record::encode(&*entry.live) {
                rows.push(Presence {
                    device: device.get(),
                    online: entry.live.online,
                    at,
                    body,
                });
            }
        }
        let (engine, tailnet) = (self.engine.clone(), self.handle.id);
        let task = tokio::spawn(async move {
            let write = engine.health.begin();
            match engine.store.put_presence(tailnet, rows).await {
                Ok(()) => {
                    write.answered(true);
                    true
                }
                Err(error) => {
                    engine.health.lost(&error.into());
                    false
                }
            }
        });
        self.flush = Some(Flush { task, devices });
    }

    /// Waits for the flush under way.
    pub(super) async fn finish_flush(&mut self) {
        if self.flush.is_some() {
            let written = ended(&mut self.flush).await;
            self.flushed(written);
        }
    }

    /// A flush has ended. What could not be written is tried again.
    pub(super) fn flushed(&mut self, written: bool) {
        if let Some(flush) = self.flush.take()
            && !written
        {
            self.soft.extend(flush.devices);
            self.soft_at = Some(Instant::now() + SOFT_DELAY);
        }
    }
}
