//! A message of a map stream: a length and a list of buffers, most of them shared.

use bowline_wire::map_request::Encoding;
use bytes::{Bytes, BytesMut};

use crate::codec;

/// Parts below this many bytes are copied together: a buffer of its own costs more than that.
const SMALL: usize = 1024;

/// One message: its parts, in order, make the payload that the 4-byte length counts.
///
/// Shape on the wire: `u32` little-endian payload length, then the payload: with
/// [`Encoding::Plain`] one JSON object, with [`Encoding::Zstd`] zstd frames whose decoded
/// concatenation is one JSON object.
#[derive(Debug, Clone, Default)]
pub struct Message {
    parts: Vec<Bytes>,
    payload_length: usize,
}

impl Message {
    /// A message of one text, encoded.
    pub fn of_text(text: &str, encoding: Encoding) -> Self {
        let mut message = Self::default();
        message.push(codec::encode(text.as_bytes(), encoding));
        message
    }

    pub(crate) fn push(&mut self, part: Bytes) {
        self.payload_length += part.len();
        self.parts.push(part);
    }

    /// Bytes of the payload, without the length in front.
    pub fn payload_length(&self) -> usize {
        self.payload_length
    }

    /// The buffers to write, the length first.
    ///
    /// Returns `None` when the payload does not fit the 32-bit length, which no real tailnet
    /// reaches.
    pub fn into_buffers(self) -> Option<impl Iterator<Item = Bytes>> {
        let length = u32::try_from(self.payload_length).ok()?.to_le_bytes();
        let mut buffers = Vec::new();
        let mut small = BytesMut::with_capacity(SMALL);
        small.extend_from_slice(&length);
        for part in self.parts {
            if part.len() < SMALL {
                small.extend_from_slice(&part);
                continue;
            }
            if !small.is_empty() {
                buffers.push(small.split().freeze());
            }
            buffers.push(part);
        }
        if !small.is_empty() {
            buffers.push(small.freeze());
        }
        Some(buffers.into_iter())
    }

    /// The payload in one buffer; for tests and for answers that are not streams.
    pub fn payload(&self) -> Vec<u8> {
        self.parts.concat()
    }
}
