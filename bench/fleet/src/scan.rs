//! Looks through map messages for a few short texts without parsing them.
//!
//! The simulator shares its two cores with the server. In a storm each of N nodes is told about N
//! others, so parsing what they are told would measure the parser.

use std::io;

use bowline_testkit::client::Compression;
use memchr::memmem::Finder;
use zstd::stream::raw::{Decoder, InBuffer, Operation as _, OutBuffer};

/// A text that is followed by a fixed number of characters which matter.
pub(crate) struct Marker {
    finder: Finder<'static>,
    width: usize,
}

impl Marker {
    /// `text` followed by `width` characters.
    pub(crate) fn new(text: &str, width: usize) -> Self {
        Self {
            finder: Finder::new(text).into_owned(),
            width,
        }
    }

    fn len(&self) -> usize {
        self.finder.needle().len() + self.width
    }
}

/// Decodes messages piece by piece into one small buffer. One for each thread is enough.
pub(crate) struct Scanner {
    decoder: Decoder<'static>,
    buffer: Vec<u8>,
}

/// Size of the piece that is looked at: small enough to stay in the cache.
const PIECE: usize = 128 << 10;

impl Scanner {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self {
            decoder: Decoder::new()?,
            buffer: Vec::new(),
        })
    }

    /// Calls `found` with the number of the marker and what follows it, for each place where one
    /// stands; perhaps twice for the same place. Returns the decoded length.
    pub(crate) fn scan(
        &mut self,
        compression: Compression,
        message: &[u8],
        markers: &[Marker],
        mut found: impl FnMut(usize, &[u8]),
    ) -> io::Result<usize> {
        if compression == Compression::None {
            search(message, markers, &mut found);
            return Ok(message.len());
        }
        self.decoder.reinit()?;
        let overlap = markers.iter().map(Marker::len).max().unwrap_or_default();
        self.buffer.resize(PIECE + overlap, 0);
        let mut input = InBuffer::around(message);
        let mut kept = 0;
        let mut total = 0;
        loop {
            let mut output = OutBuffer::around_pos(&mut self.buffer[..], kept);
            let hint = self.decoder.run(&mut input, &mut output)?;
            let end = output.pos();
            let fresh = end - kept;
            total += fresh;
            if hint == 0 {
                // The end of a frame; another may follow.
                self.decoder.reinit()?;
            }
            if input.pos == message.len() && (hint == 0 || fresh == 0) {
                search(&self.buffer[..end], markers, &mut found);
                let is_whole = hint == 0;
                return if is_whole {
                    Ok(total)
                } else {
                    Err(io::ErrorKind::UnexpectedEof.into())
                };
            }
            if end > PIECE {
                search(&self.buffer[..end], markers, &mut found);
                kept = overlap.min(end);
                self.buffer.copy_within(end - kept..end, 0);
            } else {
                kept = end;
            }
        }
    }
}

fn search(text: &[u8], markers: &[Marker], found: &mut impl FnMut(usize, &[u8])) {
    for (number, marker) in markers.iter().enumerate() {
        for start in marker.finder.find_iter(text) {
            let start = start + marker.finder.needle().len();
            if let Some(value) = text.get(start..start + marker.width) {
                found(number, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(compression: Compression, message: &[u8]) -> Vec<String> {
        let markers = [Marker::new("key:", 3), Marker::new("name-", 2)];
        let mut all = Vec::new();
        let mut scanner = Scanner::new().unwrap();
        scanner
            .scan(compression, message, &markers, |number, value| {
                all.push(format!("{number}{}", String::from_utf8_lossy(value)));
            })
            .unwrap();
        all.sort();
        all.dedup();
        all
    }

    #[test]
    fn markers_are_found_in_plain_text() {
        let all = found(Compression::None, b"key:abc name-12 key:de");
        assert_eq!(all, ["0abc", "112"]);
    }

    #[test]
    fn markers_are_found_across_frames_and_pieces() {
        for padding in (PIECE - 20..PIECE + 20).chain([0, 3 * PIECE]) {
            let text = format!(
                "{}key:abc{}name-12",
                "x".repeat(padding),
                "y".repeat(300_000)
            );
            let (start, end) = text.as_bytes().split_at(padding + 3);
            let mut message = zstd::encode_all(start, 1).unwrap();
            message.extend(zstd::encode_all(end, 1).unwrap());
            assert_eq!(
                found(Compression::Zstd, &message),
                ["0abc", "112"],
                "padding {padding}"
            );
        }
    }

    #[test]
    fn the_decoded_length_is_counted() {
        let message = zstd::encode_all(vec![b'x'; 1_000_000].as_slice(), 1).unwrap();
        let length = Scanner::new()
            .unwrap()
            .scan(
                Compression::Zstd,
                &message,
                &[Marker::new("abc", 64)],
                |_, _| (),
            )
            .unwrap();
        assert_eq!(length, 1_000_000);
    }

    #[test]
    fn a_cut_message_is_an_error() {
        let message = zstd::encode_all(b"some text".as_slice(), 1).unwrap();
        let mut scanner = Scanner::new().unwrap();
        for length in 1..message.len() {
            let outcome = scanner.scan(Compression::Zstd, &message[..length], &[], |_, _| ());
            assert!(outcome.is_err(), "{length} bytes");
        }
    }
}
