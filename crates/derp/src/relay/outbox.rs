//! What waits to be written to one connection, bounded in number and in bytes.

use std::{
    collections::VecDeque,
    net::IpAddr,
    sync::{Mutex, MutexGuard, OnceLock, PoisonError, atomic::AtomicBool},
};

use bowline_model::{id::TailnetId, key::NodeKey};
use bytes::{Bytes, BytesMut};
use tokio::sync::Notify;

use crate::frame::{Body as _, PeerGone, Pong};

/// Bytes that are written at once: what a TLS record holds.
const BATCH: usize = 16 << 10;
/// Notices about peers that are gone. Beyond that the oldest is dropped: the client then learns it
/// when it asks for the peer the next time.
const GONE_MAX: usize = 1024;

/// Why the relay ends a connection from outside of its session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// Its key is no longer admitted.
    Revoked,
    /// Its key has too many connections and this one was silent for longest.
    Superseded,
}

/// Which of its two queues a packet waits in. Disco messages have their own, so that a flood of
/// data does not push out what finds the path around the relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lane {
    Disco,
    Data,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct QueueLimits {
    pub(super) packets: usize,
    pub(super) bytes: usize,
}

/// What became of a packet for a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pushed {
    /// It waits; so many older ones were dropped for it.
    Queued { dropped: u64 },
    /// The connection has ended.
    Ended,
}

/// One connection as others see it: they leave things for its writer.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) id: u64,
    pub(super) key: NodeKey,
    /// The tailnet that the key's device is in: the connection reaches nobody outside of it.
    pub(super) tailnet: TailnetId,
    /// Where it comes from.
    pub(super) source: IpAddr,
    /// Whether the key has other connections: then each frame from this one makes it the active.
    pub(super) has_twins: AtomicBool,
    /// Whether the client said that this relay is its home.
    pub(super) is_home: AtomicBool,
    waiting: Mutex<Waiting>,
    work: Notify,
    end: OnceLock<End>,
    ended: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    disco: Queue,
    data: Queue,
    gone: VecDeque<PeerGone>,
    pong: Option<Pong>,
    /// Nobody will write any more.
    is_closed: bool,
}

#[derive(Debug, Default)]
struct Queue {
    frames: VecDeque<Bytes>,
    bytes: usize,
}

/// What the writer takes at a time.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// Notices, which go first.
    pub(super) control: BytesMut,
    /// Relayed packets, framed.
    pub(super) packets: Vec<Bytes>,
    /// The answer to a ping, which goes last: it says that all before it went through.
    pub(super) pong: Option<Pong>,
}

impl Queue {
    fn push(&mut self, frame: Bytes, limits: QueueLimits) -> u64 {
        let mut dropped = 0;
        while !self.frames.is_empty()
            && (self.frames.len() >= limits.packets || self.bytes + frame.len() > limits.bytes)
        {
            self.pop();
            dropped += 1;
        }
        self.bytes += frame.len();
        self.frames.push_back(frame);
        dropped
    }

    fn pop(&mut self) -> Option<Bytes> {
        let frame = self.frames.pop_front()?;
        self.bytes -= frame.len();
        Some(frame)
    }
}

impl Link {
    pub(super) fn new(id: u64, key: NodeKey, tailnet: TailnetId, source: IpAddr) -> Self {
        Self {
            id,
            key,
            tailnet,
            source,
            has_twins: AtomicBool::new(false),
            is_home: AtomicBool::new(false),
            waiting: Mutex::default(),
            work: Notify::new(),
            end: OnceLock::new(),
            ended: Notify::new(),
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn push_packet(&self, lane: Lane, frame: Bytes, limits: QueueLimits) -> Pushed {
        let mut waiting = self.waiting();
        if waiting.is_closed {
            return Pushed::Ended;
        }
        let queue = match lane {
            Lane::Disco => &mut waiting.disco,
            Lane::Data => &mut waiting.data,
        };
        let dropped = queue.push(frame, limits);
        drop(waiting);
        self.work.notify_one();
        Pushed::Queued { dropped }
    }

    /// Leaves a notice; `false` when the connection has ended.
    pub(super) fn push_gone(&self, gone: PeerGone) -> bool {
        let mut waiting = self.waiting();
        if waiting.is_closed {
            return false;
        }
        if waiting.gone.len() >= GONE_MAX {
            waiting.gone.pop_front();
        }
        waiting.gone.push_back(gone);
        drop(waiting);
        self.work.notify_one();
        true
    }

    /// Leaves an answer to a ping; `false` when one waits already: the client pings too fast.
    pub(super) fn push_pong(&self, pong: Pong) -> bool {
        let mut waiting = self.waiting();
        if waiting.is_closed || waiting.pong.is_some() {
            return false;
        }
        waiting.pong = Some(pong);
        drop(waiting);
        self.work.notify_one();
        true
    }

    /// Moves what may be written at once into `batch`, which is empty; `false` when there is
    /// nothing. Both queues take turns.
    pub(super) fn take(&self, batch: &mut Batch) -> bool {
        let mut waiting = self.waiting();
        batch.pong = waiting.pong.take();
        while batch.control.len() < BATCH
            && let Some(gone) = waiting.gone.pop_front()
        {
            gone.encode(&mut batch.control);
        }
        if waiting.gone.is_empty() {
            waiting.gone = VecDeque::new();
        }
        let mut bytes = batch.control.len();
        while bytes < BATCH {
            let turn = [waiting.disco.pop(), waiting.data.pop()];
            if turn.iter().all(Option::is_none) {
                break;
            }
            for frame in turn.into_iter().flatten() {
                bytes += frame.len();
                batch.packets.push(frame);
            }
        }
        bytes > 0 || batch.pong.is_some()
    }

    /// Waits until there may be something to [`take`](Self::take).
    pub(super) async fn work(&self) {
        self.work.notified().await;
    }

    /// Takes nothing any more; says how many packets were still waiting.
    pub(super) fn close(&self) -> u64 {
        let closed = Waiting {
            is_closed: true,
            ..Waiting::default()
        };
        let left = std::mem::replace(&mut *self.waiting(), closed);
        (left.disco.frames.len() + left.data.frames.len()) as u64
    }

    /// Ends the connection; its session notices at once. The first reason counts.
    pub(super) fn end(&self, end: End) {
        if self.end.set(end).is_ok() {
            self.ended.notify_one();
        }
    }

    /// Waits until somebody ends the connection.
    pub(super) async fn ended(&self) -> End {
        loop {
            if let Some(end) = self.end.get() {
                return *end;
            }
            self.ended.notified().await;
        }
    }
}
