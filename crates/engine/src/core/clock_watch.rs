//! Watching the clock: a step is noticed where nobody asks for the time, and the moment is noted for
//! the next start.

use std::time::Duration;

use tokio::sync::oneshot;

use crate::core::engine::{Engine, OpenError};
use crate::core::job::Job;
use crate::core::timekeeper::{ClockStatus, is_impossible};

/// Name of the noted moment in the store.
const MOMENT: &str = "clock";
/// How often it is noted. What is lost in a crash is far less than a jump that counts.
const NOTE_EVERY: Duration = Duration::from_mins(10);
/// How often the clock is looked at where nobody asks for the time.
const LOOK_EVERY: Duration = Duration::from_secs(5);

impl Engine {
    /// Goes on from the moment that the server noted last. A database without one is new or was
    /// restored: its newest change may be of any age, but no clock can be before it.
    pub(crate) async fn resume_clock(&self) -> Result<(), OpenError> {
        if let Some(noted) = self.0.store.moment(MOMENT).await? {
            self.0.clock.resume(noted);
            return Ok(());
        }
        let mut newest = None;
        for (tailnet, seq) in self.0.store.tailnets().await? {
            let last = self.0.store.changes(tailnet, seq.saturating_sub(1), 1);
            newest = newest.max(last.await?.first().map(|change| change.at));
        }
        if let Some(newest) = newest.filter(|newest| self.now() < *newest) {
            self.0.clock.resume(newest);
        }
        Ok(())
    }

    /// Looks at the clock now and then, so that a step is noticed where nobody asks for the time,
    /// and notes the moment for the next start.
    pub(crate) fn watch_clock(&self) {
        let engine = self.clone();
        self.0.tasks.spawn(async move {
            let stop = engine.0.stop.clone();
            let mut seen = engine.0.clock.steps();
            let mut note_at = tokio::time::Instant::now();
            loop {
                if note_at <= tokio::time::Instant::now() {
                    note_at = tokio::time::Instant::now() + NOTE_EVERY;
                    // A database that does not answer must not keep us from the clock.
                    let _ = tokio::time::timeout(LOOK_EVERY, engine.note_clock()).await;
                }
                tokio::select! {
                    () = tokio::time::sleep(LOOK_EVERY) => {}
                    () = stop.cancelled() => break,
                }
                engine.now();
                let steps = engine.0.clock.steps();
                if steps != seen {
                    seen = steps;
                    engine.look_at_the_clock().await;
                }
            }
            let abandon = engine.0.abandon.clone();
            tokio::select! {
                () = engine.note_clock() => {}
                () = abandon.cancelled() => {}
            }
        });
    }

    pub(crate) async fn note_clock(&self) {
        let now = self.now();
        if is_impossible(now) {
            return; // nothing to go on from
        }
        if let Err(error) = self.0.store.put_moment(MOMENT, now).await {
            tracing::debug!(%error, "could not note what time it is");
        }
    }

    /// Lets every writer look at the clock; waits until each has what is due in its queue.
    pub(crate) async fn look_at_the_clock(&self) {
        self.0.server.tick().await;
        for id in self.tailnets() {
            if let Some(handle) = self.handle(id) {
                let (reply, done) = oneshot::channel();
                if handle.jobs.send(Job::Tick(reply)).await.is_ok() {
                    let _ = done.await;
                }
            }
        }
    }

    /// What the clocks show.
    pub fn clock(&self) -> ClockStatus {
        self.0.clock.status()
    }
}
