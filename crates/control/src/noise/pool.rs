//! One spare buffer of each kind for each thread.
//!
//! A connection owns a buffer only while something is pending in it, which for an idle connection
//! is never. Nearly every read and write is over within one poll, so one spare buffer for each
//! thread saves almost all allocations.

use std::cell::Cell;

/// Size of a read buffer in bytes: four of the largest records.
pub(super) const READ_BUFFER: usize = 4 * super::MAX_RECORD;
/// Capacity of a write buffer in bytes: five of the largest records, so that an HTTP/2 frame of
/// the usual 16 KiB and its header are one write to the socket.
pub(super) const WRITE_BUFFER: usize = 5 * super::MAX_RECORD;

thread_local! {
    static READ: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
    static WRITE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// A buffer of length [`READ_BUFFER`]. Its content is arbitrary.
pub(super) fn take_read() -> Vec<u8> {
    let buffer = READ.try_with(Cell::take).unwrap_or_default();
    if buffer.is_empty() {
        vec![0; READ_BUFFER]
    } else {
        buffer
    }
}

/// Gives a read buffer back. One of another size is freed.
pub(super) fn put_read(buffer: Vec<u8>) {
    if buffer.len() == READ_BUFFER {
        let _ = READ.try_with(|spare| spare.set(buffer));
    }
}

/// An empty buffer with room for [`WRITE_BUFFER`] bytes.
pub(super) fn take_write() -> Vec<u8> {
    let buffer = WRITE.try_with(Cell::take).unwrap_or_default();
    if buffer.capacity() == 0 {
        Vec::with_capacity(WRITE_BUFFER)
    } else {
        buffer
    }
}

/// Gives a write buffer back. One that had to grow is freed.
pub(super) fn put_write(mut buffer: Vec<u8>) {
    if buffer.capacity() == WRITE_BUFFER {
        buffer.clear();
        let _ = WRITE.try_with(|spare| spare.set(buffer));
    }
}
