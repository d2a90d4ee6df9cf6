//! Cuts a byte stream into frames, with little memory while nothing comes.

use std::{future::Future as _, io, pin::pin, task::Poll};

use bowline_model::key::NodeKey;
use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _};

use crate::{
    frame::{FrameType, HEADER_LEN, Header},
    key::KEY_LEN,
};

/// Buffer of an idle connection in bytes: enough for a full WireGuard packet and its header.
const CHUNK_MIN: usize = 2 << 10;
/// Buffer of a busy one: a TLS record yields no more than this at a time.
const CHUNK_MAX: usize = 16 << 10;

/// What the reader does with a frame, decided by its header alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Hand it out whole.
    Take,
    /// Read over it, however long it is.
    Skip,
}

/// A whole frame, header included, in memory of its own or shared with frames read with it.
#[derive(Debug)]
pub(crate) struct RawFrame {
    pub(crate) kind: FrameType,
    bytes: BytesMut,
}

impl RawFrame {
    pub(crate) fn payload(&self) -> &[u8] {
        &self.bytes[HEADER_LEN..]
    }

    /// Makes the frame that the receiver gets from the one that the sender sent: both kinds have
    /// the same shape, so that only the type and the key change and the packet stays where it is.
    pub(crate) fn readdress(mut self, kind: FrameType, key: &NodeKey) -> bytes::Bytes {
        self.bytes[0] = kind.0;
        self.bytes[HEADER_LEN..HEADER_LEN + KEY_LEN].copy_from_slice(key.as_bytes());
        self.bytes.freeze()
    }

    pub(crate) fn into_payload(mut self) -> bytes::Bytes {
        self.bytes.advance(HEADER_LEN);
        self.bytes.freeze()
    }
}

#[derive(Debug)]
pub(crate) struct FrameBuffer {
    buffer: BytesMut,
    /// How much to ask for at a time: doubled while reads fill it, halved while they do not.
    chunk: usize,
    /// Bytes of a skipped frame that are still to come.
    skip: usize,
}

impl FrameBuffer {
    pub(crate) fn new() -> Self {
        Self {
            buffer: BytesMut::new(),
            chunk: CHUNK_MIN,
            skip: 0,
        }
    }

    /// The next frame that is complete, if any. `judge` sees each header once per call at most.
    pub(crate) fn next<E>(
        &mut self,
        judge: impl Fn(FrameType, usize) -> Result<Verdict, E>,
    ) -> Result<Option<RawFrame>, E> {
        loop {
            if self.skip > 0 {
                let skipped = self.skip.min(self.buffer.len());
                self.buffer.advance(skipped);
                self.skip -= skipped;
            }
            let Some(header) = self.buffer.first_chunk::<HEADER_LEN>() else {
                return Ok(None);
            };
            let Header { kind, len } = Header::parse(*header);
            // A length that does not fit is longer than any limit.
            let len = usize::try_from(len).unwrap_or(usize::MAX);
            match judge(kind, len)? {
                Verdict::Skip => {
                    self.buffer.advance(HEADER_LEN);
                    self.skip = len;
                }
                Verdict::Take if self.buffer.len() - HEADER_LEN < len => return Ok(None),
                Verdict::Take => {
                    let bytes = self.buffer.split_to(HEADER_LEN + len);
                    return Ok(Some(RawFrame { kind, bytes }));
                }
            }
        }
    }

    /// Waits for more bytes; `Ok(false)` at the end of the stream. Safe to cancel: what was read
    /// stays in the buffer.
    pub(crate) async fn fill<R>(&mut self, reader: &mut R) -> io::Result<bool>
    where
        R: AsyncRead + Unpin,
    {
        std::future::poll_fn(|cx| {
            self.make_room(self.chunk);
            let room = self.buffer.capacity() - self.buffer.len();
            match pin!(reader.read_buf(&mut self.buffer)).poll(cx) {
                Poll::Ready(read) => Poll::Ready(read.map(|read| {
                    if read >= room {
                        self.chunk = (self.chunk * 2).min(CHUNK_MAX);
                    }
                    read > 0
                })),
                Poll::Pending => {
                    self.chunk = (self.chunk / 2).max(CHUNK_MIN);
                    if self.buffer.is_empty() && self.buffer.capacity() > self.chunk {
                        self.buffer = BytesMut::with_capacity(self.chunk);
                    }
                    Poll::Pending
                }
            }
        })
        .await
    }

    /// Whether the buffer is at the start of a frame.
    pub(crate) fn is_between_frames(&self) -> bool {
        self.buffer.is_empty() && self.skip == 0
    }

    /// Room for at least half of `chunk` more bytes. A new buffer is made by hand since `BytesMut`
    /// would size it by the largest that the connection ever had.
    fn make_room(&mut self, chunk: usize) {
        let used = self.buffer.len();
        let room = self.buffer.capacity() - used;
        if room >= chunk / 2 {
            return;
        }
        // A long frame grows with the bytes that came, not with the length that it announces.
        let mut larger = BytesMut::with_capacity(used + chunk.max(used));
        larger.extend_from_slice(&self.buffer);
        self.buffer = larger;
    }

    #[cfg(test)]
    pub(crate) fn capacity(&self) -> usize {
        self.buffer.capacity()
    }
}
