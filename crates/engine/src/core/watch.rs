//! Watching the database: whether it answers, whether it takes writes again, how large it is.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::core::engine::Inner;

/// How often it is looked at how long writes have been under way.
const LOOK: Duration = Duration::from_secs(1);
/// How often the database is asked while nothing else is written.
const ASK: Duration = Duration::from_secs(15);
/// How often its size is asked for.
const MEASURE: Duration = Duration::from_mins(1);

/// Watches until the engine stops.
pub(crate) async fn watch(engine: Arc<Inner>) {
    let mut look = tokio::time::interval(LOOK);
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut asked: Option<JoinHandle<()>> = None;
    let mut measured: Option<(Instant, JoinHandle<()>)> = None;
    loop {
        tokio::select! {
            _ = look.tick() => {}
            () = engine.stop.cancelled() => return,
        }
        let idle = engine.health.look();
        let is_failing = engine.health.is_failing();
        let is_free = asked.as_ref().is_none_or(JoinHandle::is_finished);
        if is_free && (is_failing || idle >= ASK) {
            asked = Some(tokio::spawn(ask(engine.clone(), is_failing)));
        }
        let is_old = measured
            .as_ref()
            .is_none_or(|(at, task)| at.elapsed() >= MEASURE && task.is_finished());
        if is_old && !is_failing {
            measured = Some((Instant::now(), tokio::spawn(measure(engine.clone()))));
        }
    }
}

/// Asks the database. While changes fail, by a change that leaves nothing behind: a balancer may
/// send no others until this server is ready again.
async fn ask(engine: Arc<Inner>, with_a_write: bool) {
    let write = engine.health.begin();
    match engine.store.probe(with_a_write).await {
        Ok(()) => write.answered(with_a_write),
        Err(error) => engine.health.lost(&error.into()),
    }
}

async fn measure(engine: Arc<Inner>) {
    match engine.store.size().await {
        Ok(bytes) => engine.health.set_bytes(bytes),
        Err(error) => tracing::debug!(%error, "cannot learn the size of the database"),
    }
}
