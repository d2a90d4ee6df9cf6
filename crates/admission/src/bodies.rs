//! Request bodies: how large, how long, and how many at once.

use std::error::Error;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use http_body::Body;
use http_body_util::{BodyExt as _, LengthLimitError};
use ipnet::IpNet;
use tokio_util::sync::CancellationToken;

use crate::alarm::{Alarms, Condition};
use crate::crowd::Crowd;
use crate::source::{networks, share};

/// What request bodies may take.
#[derive(Debug, Clone)]
pub struct BodyLimits {
    /// How long the peer has to send one. Default 20 s.
    pub timeout: Duration,
    /// The bytes of all that are in flight: being received, or received and still used. Default
    /// 64 MiB.
    pub total: usize,
    /// The most of them from one IPv4 address or IPv6 /64; a /56 has twice as many, a /48 four
    /// times. Default 32 MiB.
    pub per_source: usize,
}

impl Default for BodyLimits {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(20),
            total: 64 << 20,
            per_source: 32 << 20,
        }
    }
}

/// Why a body was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum BodyRefused {
    /// It is larger than this peer's may be.
    #[error("request body is too large")]
    TooLarge,
    /// It did not arrive in time.
    #[error("request body did not arrive in time")]
    Late,
    /// There are too many at once, and it was the one to go.
    #[error("there are too many request bodies at once; try again")]
    Crowded,
    /// The connection has too much in flight already.
    #[error("this connection has too many request bodies at once")]
    Connection,
    /// The peer broke off.
    #[error("request body did not arrive")]
    Broken,
}

impl BodyRefused {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::TooLarge,
        Self::Late,
        Self::Crowded,
        Self::Connection,
        Self::Broken,
    ];

    /// Its name in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::TooLarge => "too_large",
            Self::Late => "late",
            Self::Crowded => "crowded",
            Self::Connection => "connection",
            Self::Broken => "broken",
        }
    }
}

/// The budget of all bodies in flight. Cheap to clone; all clones are one.
#[derive(Debug, Clone)]
pub struct Bodies(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    limits: BodyLimits,
    inside: Mutex<Inside>,
    refused: [AtomicU64; BodyRefused::ALL.len()],
    alarms: Alarms,
}

#[derive(Debug, Default)]
struct Inside {
    counter: u64,
    /// Bytes that are held, of bodies that still arrive.
    arriving: Crowd<IpNet>,
    /// And of those that are there.
    arrived: Crowd<IpNet>,
    ends: std::collections::HashMap<u64, CancellationToken>,
}

/// What the bodies of one connection may take together. Cheap to clone; all clones are one.
#[derive(Debug, Clone)]
pub struct Share(Arc<(AtomicUsize, AtomicUsize)>);

impl Share {
    /// So many bytes.
    pub fn new(bytes: usize) -> Self {
        Self(Arc::new((AtomicUsize::new(0), AtomicUsize::new(bytes))))
    }

    /// Changes how many bytes they may be: a machine has become known.
    pub fn set(&self, bytes: usize) {
        self.0.1.store(bytes, Ordering::Relaxed);
    }

    fn take(&self, bytes: usize) -> bool {
        let before = self.0.0.fetch_add(bytes, Ordering::Relaxed);
        let fits = before.saturating_add(bytes) <= self.0.1.load(Ordering::Relaxed);
        if !fits {
            self.give(bytes);
        }
        fits
    }

    fn give(&self, bytes: usize) {
        self.0.0.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// A body's part of the budget, given back when it is dropped.
#[derive(Debug)]
struct Reserved {
    bodies: Bodies,
    share: Option<Share>,
    number: u64,
    source: IpAddr,
    bytes: usize,
}

/// A body that was received, with its part of the budget.
struct Received {
    bytes: Vec<u8>,
    _reserved: Reserved,
}

impl AsRef<[u8]> for Received {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Bodies {
    pub(crate) fn new(limits: BodyLimits, alarms: Alarms) -> Self {
        Self(Arc::new(Inner {
            limits,
            inside: Mutex::default(),
            refused: Default::default(),
            alarms,
        }))
    }

    /// Receives a body of at most `limit` bytes. Its part of the budget is given back when the
    /// last copy of what is returned is dropped. `share`: that of its connection.
    ///
    /// # Errors
    /// Why it was not taken. Nothing of it is held any more.
    pub async fn receive<B>(
        &self,
        source: IpAddr,
        body: B,
        limit: usize,
        share: Option<&Share>,
    ) -> Result<Bytes, BodyRefused>
    where
        B: Body<Data = Bytes>,
        B::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        let received = self.received(source, body, limit, share).await;
        received.inspect_err(|reason| {
            self.0.refused[*reason as usize].fetch_add(1, Ordering::Relaxed);
        })
    }

    async fn received<B>(
        &self,
        source: IpAddr,
        body: B,
        limit: usize,
        share: Option<&Share>,
    ) -> Result<Bytes, BodyRefused>
    where
        B: Body<Data = Bytes>,
        B::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        // What says itself that it is too large is not begun.
        if body.size_hint().lower() > u64::try_from(limit).unwrap_or(u64::MAX) {
            return Err(BodyRefused::TooLarge);
        }
        let (mut reserved, end) = self.begin(source, share.cloned());
        let mut bytes: Vec<u8> = Vec::new();
        let receive = async {
            let mut body = std::pin::pin!(body);
            while let Some(frame) = body.frame().await {
                let frame = frame.map_err(|error| because(error.into().as_ref()))?;
                let Ok(mut data) = frame.into_data() else {
                    continue;
                };
                let length = bytes.len() + data.remaining();
                if length > limit {
                    return Err(BodyRefused::TooLarge);
                }
                // By what it takes in memory, which is up to twice of what it holds.
                if length > bytes.capacity() {
                    let capacity = length.max(bytes.capacity() * 2).min(limit).max(512);
                    reserved.grow(capacity)?;
                    bytes.reserve_exact(capacity - bytes.len());
                }
                while data.has_remaining() {
                    let chunk = data.chunk();
                    bytes.extend_from_slice(chunk);
                    data.advance(chunk.len());
                }
            }
            Ok(())
        };
        tokio::select! {
            biased;
            () = end.cancelled() => return Err(BodyRefused::Crowded),
            outcome = tokio::time::timeout(self.0.limits.timeout, receive) => match outcome {
                Ok(received) => received?,
                Err(_) => return Err(BodyRefused::Late),
            },
        }
        if bytes.is_empty() {
            return Ok(Bytes::new());
        }
        reserved.arrived();
        Ok(Bytes::from_owner(Received {
            bytes,
            _reserved: reserved,
        }))
    }

    /// Bytes of all bodies in flight.
    pub fn in_flight(&self) -> usize {
        let inside = self.inside();
        inside.arriving.total() + inside.arrived.total()
    }

    /// Bodies that were not taken, by reason.
    pub fn refused(&self) -> [(&'static str, u64); BodyRefused::ALL.len()] {
        BodyRefused::ALL.map(|reason| {
            let count = self.0.refused[reason as usize].load(Ordering::Relaxed);
            (reason.name(), count)
        })
    }

    fn begin(&self, source: IpAddr, share: Option<Share>) -> (Reserved, CancellationToken) {
        let end = CancellationToken::new();
        let mut inside = self.inside();
        inside.counter += 1;
        let number = inside.counter;
        inside.arriving.insert(number, networks(source), 0);
        inside.ends.insert(number, end.clone());
        drop(inside);
        let reserved = Reserved {
            bodies: self.clone(),
            share,
            number,
            source,
            bytes: 0,
        };
        (reserved, end)
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.0.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reserved {
    /// Takes more, so that it is `bytes` in all. Others may have to go for that, or this one.
    fn grow(&mut self, bytes: usize) -> Result<(), BodyRefused> {
        let more = bytes - self.bytes;
        if self.share.as_ref().is_some_and(|share| !share.take(more)) {
            return Err(BodyRefused::Connection);
        }
        // Given back with the rest, whatever becomes of the budget.
        self.bytes = bytes;
        let Inner { limits, alarms, .. } = &*self.bodies.0;
        let mut inside = self.bodies.inside();
        loop {
            let Inside {
                arriving, arrived, ..
            } = &*inside;
            // What has arrived is in use and cannot be ended; it counts all the same.
            let full = networks(self.source).find(|network| {
                let held = arriving.weight(network) + arrived.weight(network);
                held.saturating_add(more) > share(network, limits.per_source)
            });
            let all = arriving.total() + arrived.total();
            let victim = if let Some(network) = full {
                arriving.first_to_go(Some(&network))
            } else if all.saturating_add(more) > limits.total {
                arriving.first_to_go(None)
            } else {
                inside.arriving.resize(self.number, bytes);
                return Ok(());
            };
            alarms.raise(Condition::Bodies, Some(self.source));
            match victim {
                Some(victim) if victim != self.number => {
                    inside.arriving.remove(victim);
                    if let Some(end) = inside.ends.remove(&victim) {
                        end.cancel();
                    }
                }
                // It is itself the one to go, or nobody is left who could.
                _ => return Err(BodyRefused::Crowded),
            }
        }
    }

    /// It is there whole: nobody ends it any more.
    fn arrived(&self) {
        let mut inside = self.bodies.inside();
        inside.ends.remove(&self.number);
        inside.arriving.remove(self.number);
        let path = networks(self.source);
        inside.arrived.insert(self.number, path, self.bytes);
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        if let Some(share) = &self.share {
            share.give(self.bytes);
        }
        let mut inside = self.bodies.inside();
        inside.ends.remove(&self.number);
        if !inside.arriving.remove(self.number) {
            inside.arrived.remove(self.number);
        }
    }
}

/// A body may have been given a limit of its own.
fn because(error: &(dyn Error + 'static)) -> BodyRefused {
    let mut next = Some(error);
    while let Some(error) = next {
        if error.is::<LengthLimitError>() {
            return BodyRefused::TooLarge;
        }
        next = error.source();
    }
    BodyRefused::Broken
}

#[cfg(test)]
mod tests;
