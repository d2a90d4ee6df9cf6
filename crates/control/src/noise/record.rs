//! Sealing and opening single records in place.

use std::io;

use aws_lc_rs::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};

use super::key::Key;

/// Largest record on the wire, in bytes, header and tag included.
pub const MAX_RECORD: usize = 4096;
/// Largest plaintext of one record, in bytes.
pub const MAX_PLAINTEXT: usize = MAX_RECORD - HEADER_LEN - TAG_LEN;

pub(super) const HEADER_LEN: usize = 3;
const TAG_LEN: usize = 16;
const TYPE_RECORD: u8 = 4;

/// One direction's key and its counter.
///
/// Only the 32 bytes of the key are kept between calls: the cipher's own context is over 500
/// bytes, there are two for each connection, and setting one up costs less than sealing 100 bytes.
#[derive(Debug)]
pub(super) struct Direction {
    key: Key,
    counter: u64,
}

impl Direction {
    pub(super) const fn new(key: Key) -> Self {
        Self { key, counter: 0 }
    }

    /// A cipher for some records in a row.
    pub(super) fn cipher(&mut self) -> io::Result<Cipher<'_>> {
        let key = UnboundKey::new(&CHACHA20_POLY1305, self.key.expose())
            .map_err(|_| io::Error::other("noise: cipher cannot be set up"))?;
        Ok(Cipher {
            key: LessSafeKey::new(key),
            counter: &mut self.counter,
        })
    }

    #[cfg(test)]
    pub(super) const fn set_counter(&mut self, counter: u64) {
        self.counter = counter;
    }
}

/// A direction's cipher, ready for use. Each record moves the counter on by one.
pub(super) struct Cipher<'a> {
    key: LessSafeKey,
    counter: &'a mut u64,
}

impl Cipher<'_> {
    /// Appends one record to `out`. `fill` appends its plaintext, at most [`MAX_PLAINTEXT`] bytes,
    /// and must leave what was there before.
    pub(super) fn seal(
        &mut self,
        out: &mut Vec<u8>,
        fill: impl FnOnce(&mut Vec<u8>),
    ) -> io::Result<()> {
        let nonce = self.next_nonce()?;
        let start = out.len();
        let body = start + HEADER_LEN;
        out.extend_from_slice(&[TYPE_RECORD, 0, 0]);
        fill(out);
        let length = out.len() - body + TAG_LEN;
        debug_assert!(length <= MAX_RECORD - HEADER_LEN, "record over the limit");
        let [high, low] = u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes();
        out[start + 1] = high;
        out[start + 2] = low;
        let tag = self
            .key
            .seal_in_place_separate_tag(nonce, Aad::empty(), &mut out[body..])
            .map_err(|_| io::Error::other("noise: sealing a record failed"))?;
        out.extend_from_slice(tag.as_ref());
        Ok(())
    }

    /// Opens one record's ciphertext in place and returns the length of the plaintext, which
    /// starts where the ciphertext started.
    pub(super) fn open(&mut self, ciphertext: &mut [u8]) -> io::Result<usize> {
        let nonce = self.next_nonce()?;
        self.key
            .open_in_place(nonce, Aad::empty(), ciphertext)
            .map(|plaintext| plaintext.len())
            .map_err(|_| invalid("noise: record does not authenticate"))
    }

    /// 4 zero bytes, then the counter **big-endian** (Noise itself would be little-endian).
    fn next_nonce(&mut self) -> io::Result<Nonce> {
        let counter = *self.counter;
        if counter == u64::MAX {
            return Err(invalid("noise: record counter is used up"));
        }
        *self.counter += 1;
        let mut nonce = [0; 12];
        nonce[4..].copy_from_slice(&counter.to_be_bytes());
        Ok(Nonce::assume_unique_for_key(nonce))
    }
}

/// Length of the ciphertext that a record's header declares.
pub(super) fn parse_header(header: [u8; HEADER_LEN]) -> io::Result<usize> {
    let [kind, high, low] = header;
    if kind != TYPE_RECORD {
        return Err(invalid("noise: not a record"));
    }
    let length = usize::from(u16::from_be_bytes([high, low]));
    if length < TAG_LEN {
        return Err(invalid("noise: record is shorter than its tag"));
    }
    if length > MAX_RECORD - HEADER_LEN {
        return Err(invalid("noise: record is longer than 4096 bytes"));
    }
    Ok(length)
}

fn invalid(message: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message)
}

#[cfg(test)]
mod tests;
