//! A writer that dies is noticed and started again.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bowline_netmap::publication::Publication;
use tokio::sync::{Mutex, mpsc};

use super::Writer;
use crate::core::draft::Changes;
use crate::core::engine::{Handle, Inner, Notice};
use crate::core::job::Job;
use crate::core::load;

/// The first wait before a writer is started again, and the longest.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_mins(1);

/// Runs the writer of a tailnet until the engine stops. One that dies by a defect is started again
/// from what is stored: what it had acknowledged is there, and what it had not is not known, so its
/// callers are told that.
pub(crate) async fn supervise(
    engine: Arc<Inner>,
    handle: Arc<Handle>,
    jobs: mpsc::Receiver<Job>,
    first: Arc<Publication>,
) {
    let jobs = Arc::new(Mutex::new(jobs));
    let mut wait = FIRST_WAIT;
    let mut state = first;
    loop {
        let queue = jobs.clone().lock_owned().await;
        let writer = Writer::new(engine.clone(), handle.clone(), queue, state);
        let ended = tokio::spawn(writer.run()).await;
        let Err(died) = ended else { return };
        handle.writer_lost.store(true, Ordering::Release);
        tracing::error!(
            tailnet.id = %handle.id,
            error = %died,
            "the writer of a tailnet has died; its changes are refused until it has started again"
        );
        state = loop {
            if refuse_for(&engine, &jobs, wait).await {
                return;
            }
            wait = (wait * 2).min(LONGEST_WAIT);
            let reloaded = tokio::select! {
                reloaded = reload(&engine, &handle) => reloaded,
                () = engine.stop.cancelled() => return,
            };
            match reloaded {
                Ok(state) => break state,
                Err(cause) => {
                    tracing::error!(tailnet.id = %handle.id, cause, "the writer of a tailnet could not be started again");
                }
            }
        };
        handle.writer_lost.store(false, Ordering::Release);
        tracing::warn!(tailnet.id = %handle.id, "the writer of a tailnet has started again");
    }
}

/// Refuses changes for a while; whether the engine stops.
async fn refuse_for(engine: &Inner, jobs: &Mutex<mpsc::Receiver<Job>>, wait: Duration) -> bool {
    let until = tokio::time::Instant::now() + wait;
    let mut jobs = jobs.lock().await;
    loop {
        let job = tokio::select! {
            () = engine.stop.cancelled() => return true,
            () = tokio::time::sleep_until(until) => return false,
            job = jobs.recv() => job,
        };
        match job {
            Some(Job::Durable(work)) => work.finish(Err(crate::StoreFailure::WriterLost)),
            // Soft state is reported again, a clock is looked at again, and the state is read again.
            Some(Job::Soft(..) | Job::Tick(_) | Job::CatchUp(..)) => {}
            None => return true,
        }
    }
}

/// The state as it is stored, with the soft state that was published.
async fn reload(engine: &Arc<Inner>, handle: &Handle) -> Result<Arc<Publication>, String> {
    let loaded = engine.store.load(handle.id).await;
    let loaded = loaded.map_err(|error| crate::core::health::causes(&error))?;
    let published = handle.snapshot();
    let build = || -> Result<Publication, String> {
        let mut state = load::build(handle.id, &loaded, engine.derp_map.clone())
            .map_err(|error| crate::core::health::causes(&error))?;
        for entry in published.devices() {
            state.set_live(entry.device.id, (*entry.live).clone());
        }
        state.revision = published.revision + 1;
        let publication = Publication::new(state);
        let state = publication.snapshot();
        let changes = Changes::all_of(&published, state);
        engine.directory.follow(&published, state, &changes);
        let is_good = |key| {
            state
                .device_by_node_key(key)
                .is_some_and(|entry| entry.sees_peers())
        };
        for key in published.devices().map(|entry| &entry.device.node_key) {
            if !is_good(key) {
                // Nobody listens in tests without a relay.
                let _ = engine.notices.send(Notice::NodeKeyRevoked(*key));
            }
        }
        Ok(publication)
    };
    let state = catch_unwind(AssertUnwindSafe(build))
        .unwrap_or_else(|_| Err("what is stored cannot be put into force: it panics".to_owned()))?;
    let state = Arc::new(state);
    handle.publish(state.clone());
    Ok(state)
}
