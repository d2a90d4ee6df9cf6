//! Memory follows what there is: after work, what it freed is given back to the system.

use std::time::Duration;

use bowline_store::Store;
use tokio_util::sync::CancellationToken;

/// How often it is looked whether there was work.
const LOOK_EVERY: Duration = Duration::from_secs(20);
/// Processor ticks, of 10 ms, in that time from which on it counts as work: 300 ms.
const WORK: u64 = 30;

/// Gives memory back after times of work, until the server stops.
pub(crate) async fn give_back(store: Store, stop: CancellationToken) {
    let mut before = ticks();
    let mut was_busy = true; // the start frees as well
    loop {
        tokio::select! {
            () = tokio::time::sleep(LOOK_EVERY) => {}
            () = stop.cancelled() => return,
        }
        let now = ticks();
        let is_busy = now.saturating_sub(before) >= WORK;
        before = now;
        // Once more after the last time: what a storm leaves behind is freed a little later.
        if is_busy || was_busy {
            // Where the database hangs, its pages stay.
            let _ = tokio::time::timeout(LOOK_EVERY, store.shed()).await;
            let _ = tokio::task::spawn_blocking(bowline_memory::release).await;
        }
        was_busy = is_busy;
    }
}

/// Processor time of this process so far; zero where the system does not tell.
fn ticks() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
    let fields = after_name.split(' ').skip(11).take(2);
    fields.filter_map(|field| field.parse::<u64>().ok()).sum()
}
