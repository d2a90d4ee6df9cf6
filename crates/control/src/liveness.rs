//! Whether the process at the other end of a connection is still there, and reads.
//!
//! TCP alone does not say so: a proxy goes on acknowledging for a device that lost its power, and so
//! does the system of a process that stands still. So HTTP/2 pings go out on quiet connections, which
//! the client's process itself has to answer: Go's HTTP/2 and the h2 of the official Rust client do
//! it without asking the program. A connection on which nothing comes in any more is ended, and the
//! device goes offline after its grace period. The same goes for a client that never opens its
//! window for a map stream: it would keep an old state of the tailnet in memory.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use std::{fmt, io};

use bowline_engine::{Engine, Link};
use bowline_model::key::MachineKey;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

/// How clients are asked whether they are still there.
#[derive(Debug, Clone, Copy)]
pub struct Liveness {
    /// After so long without a word a client is asked.
    pub interval: Duration,
    /// The same for phones, which the question wakes up.
    pub mobile_interval: Duration,
    /// How long it has for its answer.
    pub timeout: Duration,
    /// How long a message of a map stream may wait for the client to read it.
    pub stuck: Duration,
}

impl Default for Liveness {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(25),
            mobile_interval: Duration::from_secs(50),
            timeout: Duration::from_secs(15),
            stuck: Duration::from_mins(1),
        }
    }
}

impl Liveness {
    /// How often this machine is asked: up to a tenth less than it may be, so that connections which
    /// were opened together are not asked together.
    pub(crate) fn interval_of(&self, machine: MachineKey, engine: &Engine) -> Duration {
        let longest = if engine.is_mobile(machine) {
            self.mobile_interval
        } else {
            self.interval
        };
        let spread = u32::from(machine.as_bytes()[31]);
        longest.saturating_sub(longest / 10 * spread / 255)
    }
}

/// Why a connection was given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// Nothing came in, not even the answer to a ping.
    Silent,
    /// A map stream was not read.
    Stuck,
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Silent => "the client does not answer",
            Self::Stuck => "the client does not read its map stream",
        })
    }
}

/// What is known of the life at the other end of one connection.
#[derive(Debug, Default)]
pub(crate) struct Pulse {
    /// The connection, as the engine tells streams apart by it.
    pub(crate) link: Arc<Link>,
    /// Map streams with a buffer that the connection has not sent yet, and since when.
    waiting: Mutex<Vec<(u64, Instant)>>,
}

impl Pulse {
    fn waiting(&self) -> MutexGuard<'_, Vec<(u64, Instant)>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A stream gave a buffer to the connection.
    pub(crate) fn gave(&self, stream: u64) {
        self.waiting().push((stream, Instant::now()));
    }

    /// The connection has room for more of a stream, or the stream is over.
    pub(crate) fn is_ready(&self, stream: u64) {
        let mut waiting = self.waiting();
        waiting.retain(|(other, _)| *other != stream);
        if waiting.is_empty() {
            // An idle connection holds no memory for it.
            *waiting = Vec::new();
        }
    }

    /// Waits until the other end is to be given up.
    pub(crate) async fn ended(&self, silence: Duration, stuck: Duration) -> Ended {
        loop {
            let oldest = self.waiting().iter().map(|(_, since)| *since).min();
            let now = Instant::now();
            let silent_at = self.link.heard() + silence;
            // Without one that waits, none can be over its time before then.
            let stuck_at = oldest.unwrap_or(now) + stuck;
            if silent_at <= now {
                return Ended::Silent;
            }
            if oldest.is_some() && stuck_at <= now {
                return Ended::Stuck;
            }
            tokio::time::sleep_until(silent_at.min(stuck_at)).await;
        }
    }
}

/// A byte stream that notes when something comes in.
#[derive(Debug)]
pub(crate) struct Heard<S> {
    io: S,
    link: Arc<Link>,
}

impl<S> Heard<S> {
    pub(crate) const fn new(io: S, link: Arc<Link>) -> Self {
        Self { io, link }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Heard<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = out.filled().len();
        let read = Pin::new(&mut self.io).poll_read(context, out);
        if out.filled().len() > before {
            self.link.hear();
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Heard<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SILENCE: Duration = Duration::from_secs(40);
    const STUCK: Duration = Duration::from_mins(1);

    #[tokio::test(start_paused = true)]
    async fn a_silent_client_is_given_up_after_its_last_word() {
        let pulse = Pulse::default();
        let start = Instant::now();
        let speaking = async {
            for _ in 0..20 {
                tokio::time::sleep(Duration::from_secs(30)).await;
                pulse.link.hear();
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            ended = pulse.ended(SILENCE, STUCK) => assert_eq!(ended, Ended::Silent),
            () = speaking => {}
        }
        assert_eq!(start.elapsed(), Duration::from_mins(10) + SILENCE);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_that_is_not_read_is_given_up_and_one_that_is_read_slowly_is_not() {
        let pulse = Pulse::default();
        let start = Instant::now();
        let client = async {
            for _ in 0..20 {
                // It reads, one buffer in 50 seconds.
                pulse.gave(1);
                for _ in 0..5 {
                    tokio::time::sleep(Duration::from_secs(10)).await;
                    pulse.link.hear();
                }
                pulse.is_ready(1);
            }
            pulse.gave(2);
            loop {
                // It acknowledges and answers pings.
                tokio::time::sleep(Duration::from_secs(10)).await;
                pulse.link.hear();
            }
        };
        tokio::select! {
            ended = pulse.ended(SILENCE, STUCK) => assert_eq!(ended, Ended::Stuck),
            () = client => {}
        }
        let after = start.elapsed().saturating_sub(Duration::from_secs(20 * 50));
        assert!(after >= STUCK && after <= STUCK * 2, "{after:?}");
    }
}
