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
                    // It may stay idle for hours now.
                    if self.buffer.is_empty() && self.buffer.capacity() > CHUNK_MIN {
                        self.buffer = BytesMut::with_capacity(CHUNK_MIN);
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
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio::io::{AsyncWriteExt as _, duplex};

    use super::*;
    use crate::frame::{Frame, Health, MAX_PAYLOAD};

    #[expect(clippy::unnecessary_wraps, reason = "the shape of a judge")]
    fn take_all(_: FrameType, _: usize) -> Result<Verdict, ()> {
        Ok(Verdict::Take)
    }

    fn frame(len: usize) -> Vec<u8> {
        let mut frame = BytesMut::new();
        Frame::Health(Health {
            problem: &vec![7; len],
        })
        .encode(&mut frame);
        frame.to_vec()
    }

    #[tokio::test]
    async fn the_buffer_grows_with_traffic_and_is_small_again_when_it_stops() {
        let (mut near, mut far) = duplex(1 << 20);
        let mut frames = FrameBuffer::new();
        near.write_all(&frame(1000).repeat(500)).await.unwrap();
        let mut largest = 0;
        for _ in 0..500 {
            while frames.next(take_all).unwrap().is_none() {
                assert!(frames.fill(&mut far).await.unwrap());
                largest = largest.max(frames.buffer.capacity());
            }
        }
        assert!((CHUNK_MAX..=2 * CHUNK_MAX).contains(&largest), "{largest}");
        let waiting = frames.fill(&mut far);
        assert!(futures_util::FutureExt::now_or_never(waiting).is_none());
        assert_eq!(frames.buffer.capacity(), CHUNK_MIN);
    }

    #[tokio::test]
    async fn an_announced_length_takes_no_memory() {
        let (mut near, mut far) = duplex(1 << 10);
        let mut frames = FrameBuffer::new();
        near.write_all(&frame(MAX_PAYLOAD)[..100]).await.unwrap();
        assert!(frames.fill(&mut far).await.unwrap());
        assert!(frames.next(take_all).unwrap().is_none());
        assert!(futures_util::FutureExt::now_or_never(frames.fill(&mut far)).is_none());
        assert!(
            frames.buffer.capacity() <= 2 * CHUNK_MIN,
            "{}",
            frames.buffer.capacity()
        );
    }

    #[tokio::test]
    async fn a_long_frame_comes_whole() {
        let (mut near, mut far) = duplex(1 << 10);
        let long = frame(MAX_PAYLOAD);
        let sent = long.clone();
        tokio::spawn(async move { near.write_all(&sent).await });
        let mut frames = FrameBuffer::new();
        let got = loop {
            match frames.next(take_all).unwrap() {
                Some(frame) => break frame,
                None => assert!(frames.fill(&mut far).await.unwrap()),
            }
        };
        assert_eq!(got.payload(), &long[HEADER_LEN..]);
        assert!(frames.is_between_frames());
    }

    proptest! {
        /// However the stream is cut: the frames that are taken come out, those skipped do not.
        #[test]
        fn cuts_do_not_matter(
            lens in proptest::collection::vec((0..5000_usize, any::<bool>()), 0..20),
            cuts in proptest::collection::vec(1..3000_usize, 1..10),
        ) {
            let mut stream = Vec::new();
            for (len, skip) in &lens {
                let mut frame = frame(*len);
                if *skip {
                    frame[0] = 0xff;
                }
                stream.extend_from_slice(&frame);
            }
            let judge = |kind, _| {
                let skip = kind == FrameType(0xff);
                Ok::<_, ()>(if skip { Verdict::Skip } else { Verdict::Take })
            };
            let mut frames = FrameBuffer::new();
            let mut got = Vec::new();
            let mut cuts = cuts.iter().cycle();
            let mut rest = stream.as_slice();
            while !rest.is_empty() {
                let (piece, after) = rest.split_at(rest.len().min(*cuts.next().unwrap()));
                rest = after;
                let mut piece = piece;
                while !piece.is_empty() {
                    let filled = futures_util::FutureExt::now_or_never(frames.fill(&mut piece));
                    prop_assert!(filled.unwrap().unwrap());
                    while let Some(frame) = frames.next(judge).unwrap() {
                        got.push(frame.payload().len());
                    }
                }
            }
            let wanted: Vec<_> = lens.iter().filter(|(_, skip)| !skip).map(|(len, _)| *len).collect();
            prop_assert_eq!(got, wanted);
            prop_assert!(frames.is_between_frames());
        }
    }
}
