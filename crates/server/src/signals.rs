//! Signals, and the end of the process.
//!
//! They have a thread and a small runtime of their own, so that they are obeyed whatever hangs
//! elsewhere: a runtime whose threads are all busy runs no timer and sees no signal.
//!
//! | what | becomes |
//! | --- | --- |
//! | SIGTERM, SIGINT | `stop`: the server drains and ends with status 0 |
//! | the same once more | the process ends at once, with 128 and the signal's number |
//! | not ended in time | the process ends with status 1 |
//! | SIGHUP | `reload`; it never ends the server |

use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// How long the end may take beyond `limits.drain_seconds`: for the database to take the last
/// facts, and for clients to be told.
const GRACE: Duration = Duration::from_secs(10);
/// Status when the server had to be given up.
const GIVEN_UP: i32 = 1;

/// What signals ask for.
#[derive(Debug, Clone)]
pub struct Signals {
    /// The server shall end.
    pub stop: CancellationToken,
    /// Changes with each SIGHUP: what can be read again shall be.
    pub reload: watch::Receiver<u64>,
}

/// Begins to watch for signals. From the end of this call on none of them kills the process by
/// itself.
///
/// # Errors
/// When the process gets no thread or no handler.
pub fn watch_signals(drain: Duration) -> Result<Signals> {
    let stop = CancellationToken::new();
    let (reload, reloads) = watch::channel(0);
    let (ready, is_ready) = mpsc::channel();
    let stopping = stop.clone();
    std::thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            match runtime {
                Ok(runtime) => runtime.block_on(async {
                    match Handlers::new() {
                        Ok(handlers) => {
                            let _ = ready.send(Ok(()));
                            handlers.obey(stopping, reload, drain + GRACE).await;
                        }
                        Err(error) => {
                            let _ = ready.send(Err(error));
                        }
                    }
                }),
                Err(error) => {
                    let _ = ready.send(Err(error));
                }
            }
        })
        .context("cannot start the thread for signals")?;
    is_ready
        .recv()
        .context("the thread for signals ended")?
        .context("cannot watch for signals")?;
    Ok(Signals {
        stop,
        reload: reloads,
    })
}

struct Handlers {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Handlers {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    /// Until the process ends.
    async fn obey(mut self, stop: CancellationToken, reload: watch::Sender<u64>, limit: Duration) {
        // The server may also have stopped by itself; its end is bounded all the same.
        loop {
            tokio::select! {
                _ = self.terminate.recv() => break,
                _ = self.interrupt.recv() => break,
                _ = self.hang_up.recv() => {
                    tracing::info!("reloading");
                    reload.send_modify(|count| *count += 1);
                }
                () = stop.cancelled() => break,
            }
        }
        stop.cancel();
        let late = tokio::time::sleep(limit);
        tokio::pin!(late);
        loop {
            tokio::select! {
                _ = self.terminate.recv() => end(SignalKind::terminate()),
                _ = self.interrupt.recv() => end(SignalKind::interrupt()),
                _ = self.hang_up.recv() => {}
                () = &mut late => {
                    tracing::error!(
                        seconds = limit.as_secs(),
                        "gave up what still hangs; changes that were not acknowledged may be lost"
                    );
                    exit(GIVEN_UP);
                }
            }
        }
    }
}

fn end(second: SignalKind) -> ! {
    tracing::warn!("a second signal: ending at once");
    exit(128 + second.as_raw_value())
}

fn exit(status: i32) -> ! {
    std::process::exit(status)
}
