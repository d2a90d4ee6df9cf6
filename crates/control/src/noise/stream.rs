//! The byte stream that is carried in encrypted records.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::inbox::Inbox;
use super::key::Key;
use super::pool;
use super::record::{Direction, MAX_PLAINTEXT, MAX_RECORD};

/// A byte stream over `S`, encrypted in records.
///
/// - A large write becomes several full records and one write to `S`; up to five records may wait
///   for a slow `S`, never more.
/// - An idle stream holds no buffer: about 200 bytes beside `S` itself.
/// - A record that does not authenticate, has a wrong type or a wrong length ends the stream: what
///   came before it is delivered, then every read and write fails. Empty records are legal.
/// - The end of `S` between two records is the end of the stream, as the protocol has no closing
///   message. In the middle of a record it is `UnexpectedEof`.
/// - Dropping a read, write or flush that was not ready loses nothing.
///
/// Source: tailscale `control/controlbase/conn.go`.
#[derive(Debug)]
pub struct NoiseStream<S> {
    io: S,
    receiving: Direction,
    inbox: Inbox,
    /// An error met behind bytes that could still be delivered.
    deferred: Option<io::Error>,
    sending: Direction,
    outbox: Vec<u8>,
    sent: usize,
    is_read_broken: bool,
    is_write_broken: bool,
}

impl<S> NoiseStream<S> {
    /// A stream over `io` once the handshake's messages have been exchanged. `tx` is the key of
    /// the direction that this side sends.
    pub const fn new(io: S, tx: Key, rx: Key) -> Self {
        Self {
            io,
            receiving: Direction::new(rx),
            inbox: Inbox::new(),
            deferred: None,
            sending: Direction::new(tx),
            outbox: Vec::new(),
            sent: 0,
            is_read_broken: false,
            is_write_broken: false,
        }
    }

    /// The server's side: `responded.reply` goes out in front of the first record, in the same
    /// write to `io`.
    pub fn server(io: S, responded: super::Responded) -> Self {
        let mut stream = Self::new(io, responded.tx, responded.rx);
        stream.outbox = pool::take_write();
        stream.outbox.extend_from_slice(&responded.reply);
        stream
    }

    /// Puts bytes back in front of what will be read next, for a reader that looked ahead.
    pub fn unread(&mut self, bytes: &[u8]) {
        self.inbox.unread(bytes);
    }

    /// The transport below.
    pub const fn get_ref(&self) -> &S {
        &self.io
    }

    /// A bad record ends both directions: nothing more that the peer says can be trusted.
    fn fail_reading(&mut self, error: io::Error) -> io::Error {
        self.is_read_broken = true;
        self.inbox = Inbox::new();
        self.fail_writing(error)
    }

    /// A failed write leaves what was received, such as the peer's reason for closing, readable.
    fn fail_writing(&mut self, error: io::Error) -> io::Error {
        self.is_write_broken = true;
        // What still waits may be half a record: no use to anybody.
        self.outbox = Vec::new();
        self.sent = 0;
        error
    }

    /// Bytes of memory held beside the struct itself.
    #[cfg(test)]
    fn heap_size(&self) -> usize {
        self.inbox.heap_size() + self.outbox.capacity()
    }
}

impl<S: AsyncWrite + Unpin> NoiseStream<S> {
    /// Writes what waits in the outbox and gives the buffer back.
    fn poll_drain(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.sent < self.outbox.len() {
            let written =
                ready!(Pin::new(&mut self.io).poll_write(context, &self.outbox[self.sent..]))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.sent += written;
        }
        if self.outbox.capacity() > 0 {
            pool::put_write(std::mem::take(&mut self.outbox));
            self.sent = 0;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_send(
        &mut self,
        context: &mut Context<'_>,
        mut source: Source<'_>,
    ) -> Poll<io::Result<usize>> {
        if self.is_write_broken {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if source.is_empty() {
            return Poll::Ready(Ok(0));
        }
        // What waits may be the reply to the handshake or the tail of an earlier write: as long as
        // there is room, one write to the socket can carry it and the new bytes.
        if self.outbox.len() + MAX_RECORD > pool::WRITE_BUFFER
            && let Err(error) = ready!(self.poll_drain(context))
        {
            return Poll::Ready(Err(self.fail_writing(error)));
        }
        if self.outbox.capacity() == 0 {
            self.outbox = pool::take_write();
        }
        let accepted = match self.seal(&mut source) {
            Ok(accepted) => accepted,
            Err(error) => return Poll::Ready(Err(self.fail_writing(error))),
        };
        match self.poll_drain(context) {
            // Not a loss: the bytes are accepted and a flush, or the next write, goes on.
            Poll::Pending | Poll::Ready(Ok(())) => Poll::Ready(Ok(accepted)),
            Poll::Ready(Err(error)) => Poll::Ready(Err(self.fail_writing(error))),
        }
    }

    fn seal(&mut self, source: &mut Source<'_>) -> io::Result<usize> {
        let mut cipher = self.sending.cipher()?;
        let mut accepted = 0;
        while !source.is_empty() && self.outbox.len() + MAX_RECORD <= pool::WRITE_BUFFER {
            cipher.seal(&mut self.outbox, |out| {
                accepted += source.move_into(out, MAX_PLAINTEXT);
            })?;
        }
        Ok(accepted)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for NoiseStream<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if out.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        if let Some(error) = this.deferred.take() {
            return Poll::Ready(Err(this.fail_reading(error)));
        }
        if this.is_read_broken {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        let before = out.filled().len();
        loop {
            let outcome = this.inbox.deliver(&mut this.receiving, out);
            let delivered = out.filled().len() > before;
            match outcome {
                Err(error) if delivered => this.deferred = Some(error),
                Err(error) => return Poll::Ready(Err(this.fail_reading(error))),
                Ok(()) => this.inbox.release_if_empty(),
            }
            if delivered {
                return Poll::Ready(Ok(()));
            }
            if this.inbox.is_at_end() {
                return Poll::Ready(if this.inbox.has_partial_record() {
                    Err(this.fail_reading(io::ErrorKind::UnexpectedEof.into()))
                } else {
                    Ok(())
                });
            }
            if let Err(error) = ready!(this.inbox.poll_fill(&mut this.io, context)) {
                return Poll::Ready(Err(this.fail_reading(error)));
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for NoiseStream<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.get_mut()
            .poll_send(context, Source::new(&[IoSlice::new(bytes)]))
    }

    /// HTTP/2 writes a frame's header and body as two slices: together they fill one record less.
    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().poll_send(context, Source::new(slices))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.is_write_broken {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if let Err(error) = ready!(this.poll_drain(context)) {
            return Poll::Ready(Err(this.fail_writing(error)));
        }
        Pin::new(&mut this.io).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if let Err(error) = ready!(this.poll_drain(context)) {
            return Poll::Ready(Err(this.fail_writing(error)));
        }
        Pin::new(&mut this.io).poll_shutdown(context)
    }
}

/// A position in some slices.
struct Source<'a> {
    slices: &'a [IoSlice<'a>],
    offset: usize,
}

impl<'a> Source<'a> {
    fn new(slices: &'a [IoSlice<'a>]) -> Self {
        let mut source = Self { slices, offset: 0 };
        source.skip_finished();
        source
    }

    const fn is_empty(&self) -> bool {
        self.slices.is_empty()
    }

    /// Appends up to `limit` bytes to `out` and returns how many.
    fn move_into(&mut self, out: &mut Vec<u8>, limit: usize) -> usize {
        let mut room = limit;
        while room > 0
            && let Some(slice) = self.slices.first()
        {
            let rest = &slice[self.offset..];
            let count = rest.len().min(room);
            out.extend_from_slice(&rest[..count]);
            self.offset += count;
            room -= count;
            self.skip_finished();
        }
        limit - room
    }

    fn skip_finished(&mut self) {
        while self
            .slices
            .first()
            .is_some_and(|slice| slice.len() == self.offset)
        {
            self.slices = &self.slices[1..];
            self.offset = 0;
        }
    }
}

#[cfg(test)]
mod tests;
