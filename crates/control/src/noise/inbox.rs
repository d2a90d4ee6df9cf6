//! What was received and not yet delivered.

use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, ReadBuf};

use super::pool;
use super::record::{Direction, HEADER_LEN, parse_header};

/// Received bytes: plaintext that the reader has not taken, then ciphertext not yet opened.
///
/// The buffer comes from the pool when bytes arrive and goes back when all are delivered. A peer
/// that stops in the middle of a record costs the bytes that it sent, not a buffer.
#[derive(Debug)]
pub(super) struct Inbox {
    buffer: Vec<u8>,
    plaintext: Range<usize>,
    ciphertext: Range<usize>,
    is_at_end: bool,
}

impl Inbox {
    pub(super) const fn new() -> Self {
        Self {
            buffer: Vec::new(),
            plaintext: 0..0,
            ciphertext: 0..0,
            is_at_end: false,
        }
    }

    /// The socket has ended.
    pub(super) const fn is_at_end(&self) -> bool {
        self.is_at_end
    }

    /// There is a piece of a record whose rest has not come.
    pub(super) fn has_partial_record(&self) -> bool {
        !self.ciphertext.is_empty()
    }

    /// Moves plaintext into `out`, opening records as long as whole ones are there and `out` has
    /// room. What was moved before an error is valid.
    pub(super) fn deliver(
        &mut self,
        direction: &mut Direction,
        out: &mut ReadBuf<'_>,
    ) -> io::Result<()> {
        self.copy_plaintext(out);
        if out.remaining() == 0 || self.ciphertext.len() < HEADER_LEN {
            return Ok(());
        }
        let mut cipher = direction.cipher()?;
        while out.remaining() > 0
            && let Some(body) = self.whole_record()?
        {
            self.ciphertext.start = body.end;
            let length = cipher.open(&mut self.buffer[body.clone()])?;
            self.plaintext = body.start..body.start + length;
            self.copy_plaintext(out);
        }
        Ok(())
    }

    /// Reads from the socket once. Ready also at its end, see [`Inbox::is_at_end`].
    pub(super) fn poll_fill<S: AsyncRead + Unpin>(
        &mut self,
        io: &mut S,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        debug_assert!(
            self.plaintext.is_empty(),
            "plaintext must be delivered first"
        );
        self.make_room();
        let mut space = ReadBuf::new(&mut self.buffer[self.ciphertext.end..]);
        let outcome = Pin::new(io).poll_read(context, &mut space);
        let received = space.filled().len();
        self.ciphertext.end += received;
        if outcome.is_pending() {
            self.shrink();
        }
        ready!(outcome)?;
        self.is_at_end = received == 0;
        Poll::Ready(Ok(()))
    }

    /// Gives the buffer back if nothing is in it.
    pub(super) fn release_if_empty(&mut self) {
        if self.plaintext.is_empty() && self.ciphertext.is_empty() {
            pool::put_read(std::mem::take(&mut self.buffer));
            self.plaintext = 0..0;
            self.ciphertext = 0..0;
        }
    }

    /// Puts plaintext back in front of everything.
    pub(super) fn unread(&mut self, bytes: &[u8]) {
        let plaintext = &self.buffer[self.plaintext.clone()];
        let ciphertext = &self.buffer[self.ciphertext.clone()];
        let end = bytes.len() + plaintext.len();
        let buffer = [bytes, plaintext, ciphertext].concat();
        self.plaintext = 0..end;
        self.ciphertext = end..buffer.len();
        self.buffer = buffer;
    }

    /// Bytes of memory held beside the struct itself.
    #[cfg(test)]
    pub(super) const fn heap_size(&self) -> usize {
        self.buffer.capacity()
    }

    fn copy_plaintext(&mut self, out: &mut ReadBuf<'_>) {
        let count = self.plaintext.len().min(out.remaining());
        out.put_slice(&self.buffer[self.plaintext.start..self.plaintext.start + count]);
        self.plaintext.start += count;
    }

    /// Where the next record's ciphertext is, if all of it is there.
    fn whole_record(&self) -> io::Result<Option<Range<usize>>> {
        let Some((header, rest)) =
            self.buffer[self.ciphertext.clone()].split_first_chunk::<HEADER_LEN>()
        else {
            return Ok(None);
        };
        let length = parse_header(*header)?;
        let start = self.ciphertext.start + HEADER_LEN;
        Ok((rest.len() >= length).then_some(start..start + length))
    }

    /// Makes sure that the rest of any record fits behind the ciphertext.
    fn make_room(&mut self) {
        if self.buffer.len() < pool::READ_BUFFER {
            let mut buffer = pool::take_read();
            let ciphertext = &self.buffer[self.ciphertext.clone()];
            buffer[..ciphertext.len()].copy_from_slice(ciphertext);
            self.buffer = buffer;
        } else {
            self.buffer.copy_within(self.ciphertext.clone(), 0);
        }
        self.plaintext = 0..0;
        self.ciphertext = 0..self.ciphertext.len();
    }

    /// Leaves only as much memory as the partial record takes.
    fn shrink(&mut self) {
        if self.ciphertext.is_empty() {
            self.release_if_empty();
        } else {
            let partial = self.buffer[self.ciphertext.clone()].to_vec();
            self.ciphertext = 0..partial.len();
            pool::put_read(std::mem::replace(&mut self.buffer, partial));
        }
    }
}
