//! The messages of a map stream.

use std::io::Read as _;

use anyhow::{Context as _, ensure};
use bytes::{Buf as _, Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;

/// Largest message that is taken, in bytes on the wire and decoded. Real clients take more.
const MESSAGE_LIMIT: usize = 64 << 20;

/// What a client asks for in `Compress`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Plain JSON, as the official Rust client.
    None,
    /// One or more zstd frames for each message, as Go clients.
    Zstd,
}

impl Compression {
    /// The value of `Compress`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Zstd => "zstd",
        }
    }
}

/// The messages of a map stream, as they are on the wire but for their lengths.
#[derive(Debug)]
pub struct MapFrames {
    body: Incoming,
    received: BytesMut,
    compression: Compression,
}

impl MapFrames {
    pub(super) fn new(body: Incoming, compression: Compression) -> Self {
        Self {
            body,
            received: BytesMut::new(),
            compression,
        }
    }

    /// How the messages are compressed.
    pub const fn compression(&self) -> Compression {
        self.compression
    }

    /// The next message, still compressed. `None` when the server ended the stream cleanly.
    /// Dropping the future loses nothing.
    ///
    /// # Errors
    /// A length of zero, a stream that ends inside a message, a connection that breaks.
    pub async fn next(&mut self) -> anyhow::Result<Option<Bytes>> {
        loop {
            if let Some(message) = split_message(&mut self.received)? {
                return Ok(Some(message));
            }
            let Some(frame) = self.body.frame().await else {
                ensure!(
                    self.received.is_empty(),
                    "the stream ended inside a message"
                );
                return Ok(None);
            };
            if let Ok(data) = frame.context("the map stream broke")?.into_data() {
                self.received.extend_from_slice(&data);
            }
        }
    }

    /// The next message, decoded. `None` when the server ended the stream cleanly.
    ///
    /// # Errors
    /// Those of [`MapFrames::next`] and of [`decode`].
    pub async fn next_decoded(&mut self) -> anyhow::Result<Option<Vec<u8>>> {
        self.next()
            .await?
            .map(|message| decode(self.compression, &message))
            .transpose()
    }
}

/// Takes one message with its u32 little-endian length off the front, if all of it is there.
fn split_message(received: &mut BytesMut) -> anyhow::Result<Option<Bytes>> {
    let Some((length, rest)) = received.split_first_chunk() else {
        return Ok(None);
    };
    let length = usize::try_from(u32::from_le_bytes(*length))?;
    ensure!(length > 0, "a message of length 0 is fatal to every client");
    ensure!(length <= MESSAGE_LIMIT, "a message of {length} bytes");
    if rest.len() < length {
        received.reserve(length - rest.len());
        return Ok(None);
    }
    received.advance(4);
    Ok(Some(received.split_to(length).freeze()))
}

/// Decodes one message as Go clients do: all of its zstd frames, one after the other, make one
/// JSON value; anything else behind them is an error.
///
/// # Errors
/// When a frame is broken, or the result is too long.
pub fn decode(compression: Compression, message: &[u8]) -> anyhow::Result<Vec<u8>> {
    match compression {
        Compression::None => Ok(message.to_vec()),
        Compression::Zstd => {
            let mut decoded = Vec::new();
            let limit = u64::try_from(MESSAGE_LIMIT)? + 1;
            zstd::stream::read::Decoder::new(message)
                .and_then(|decoder| decoder.take(limit).read_to_end(&mut decoded))
                .context("a message is not a sequence of zstd frames")?;
            ensure!(
                decoded.len() <= MESSAGE_LIMIT,
                "a message decodes to too many bytes"
            );
            Ok(decoded)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn framed(message: &[u8]) -> Vec<u8> {
        let length = u32::try_from(message.len()).unwrap();
        [&length.to_le_bytes(), message].concat()
    }

    fn compressed(text: &str) -> Vec<u8> {
        zstd::encode_all(text.as_bytes(), 1).unwrap()
    }

    #[test]
    fn messages_are_split_wherever_the_bytes_are() {
        let wire = [framed(b"one"), framed(b"two2"), framed(b"3")].concat();
        for step in 1..wire.len() {
            let mut received = BytesMut::new();
            let mut messages = Vec::new();
            for piece in wire.chunks(step) {
                received.extend_from_slice(piece);
                while let Some(message) = split_message(&mut received).unwrap() {
                    messages.push(message);
                }
            }
            assert_eq!(messages, ["one", "two2", "3"]);
            assert!(received.is_empty());
        }
    }

    #[test]
    fn a_message_of_length_zero_is_fatal() {
        split_message(&mut BytesMut::from(framed(b"").as_slice())).unwrap_err();
    }

    #[test]
    fn frames_in_a_row_are_one_message() {
        let message = [
            compressed(r#"{"Peers":["#),
            compressed("]"),
            compressed("}"),
        ]
        .concat();
        let decoded = decode(Compression::Zstd, &message).unwrap();
        assert_eq!(decoded, br#"{"Peers":[]}"#);
    }

    #[test]
    fn garbage_behind_the_last_frame_is_fatal() {
        for length in 1..8 {
            let message = [compressed("{}"), vec![1; length]].concat();
            assert!(
                decode(Compression::Zstd, &message).is_err(),
                "{length} bytes"
            );
        }
    }

    #[test]
    fn a_cut_frame_is_fatal() {
        let message = compressed(r#"{"Domain":"corp.example"}"#);
        for length in 1..message.len() {
            assert!(
                decode(Compression::Zstd, &message[..length]).is_err(),
                "{length} bytes"
            );
        }
    }

    #[test]
    fn plain_messages_are_taken_as_they_are() {
        assert_eq!(decode(Compression::None, b"{}").unwrap(), b"{}");
    }
}
