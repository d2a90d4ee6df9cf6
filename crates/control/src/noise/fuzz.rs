//! What the fuzz targets `noise_handshake` and `noise_stream` run, also over the saved corpus in
//! `fuzz/corpus/`. Not for use by anything else.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, ReadBuf};

use super::record::{Direction, MAX_PLAINTEXT};
use super::{Key, NoiseStream, respond};

/// Answers arbitrary bytes as an initiation.
///
/// # Panics
/// If what is accepted could not have come from a client.
pub fn handshake(input: &[u8]) {
    if let Ok(responded) = respond(&[0x51; 32], input) {
        assert_eq!(responded.protocol_version.to_be_bytes(), input[..2]);
        assert_ne!(responded.machine_key, [0; 32]);
    }
}

/// Reads a stream that the input describes: good records, arbitrary bytes between them, and where
/// the transport splits them. Each step is two bytes, a kind and a number.
///
/// # Panics
/// If anything but the good records before the first arbitrary byte is delivered.
pub fn stream(input: &[u8]) {
    let mut sending = Direction::new(Key::from_bytes([1; 32]));
    let mut expected = Vec::new();
    let mut wire = Vec::new();
    let mut pieces = Vec::new();
    let mut is_intact = true;
    for step in input.chunks_exact(2).take(64) {
        let (kind, number) = (step[0], step[1]);
        match kind % 4 {
            0 => {
                let payload = vec![number; (usize::from(number) * 17).min(MAX_PLAINTEXT)];
                let sealed = sending
                    .cipher()
                    .and_then(|mut cipher| cipher.seal(&mut wire, |out| out.extend(&payload)));
                assert!(sealed.is_ok(), "a record within the limit must seal");
                if is_intact {
                    expected.extend(payload);
                }
            }
            1 => {
                wire.push(number);
                is_intact = false;
            }
            2 => {
                wire.extend([4, number >> 4, number]);
                is_intact = false;
            }
            _ => pieces.push(std::mem::take(&mut wire)),
        }
    }
    pieces.push(wire);
    pieces.retain(|piece| !piece.is_empty());
    pieces.reverse();

    let (delivered, is_clean) = read(NoiseStream::new(
        Pieces(pieces),
        Key::from_bytes([2; 32]),
        Key::from_bytes([1; 32]),
    ));
    assert_eq!(delivered, expected);
    assert_eq!(is_clean, is_intact);
}

fn read(mut stream: NoiseStream<Pieces>) -> (Vec<u8>, bool) {
    let mut context = Context::from_waker(Waker::noop());
    let mut delivered = Vec::new();
    let mut space = [0; 1000];
    loop {
        let mut out = ReadBuf::new(&mut space);
        match Pin::new(&mut stream).poll_read(&mut context, &mut out) {
            Poll::Ready(Ok(())) if out.filled().is_empty() => return (delivered, true),
            Poll::Ready(Ok(())) => delivered.extend_from_slice(out.filled()),
            Poll::Ready(Err(_)) | Poll::Pending => return (delivered, false),
        }
    }
}

/// A transport that yields these pieces, the last one first, then its end.
struct Pieces(Vec<Vec<u8>>);

impl AsyncRead for Pieces {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if let Some(mut piece) = this.0.pop() {
            let rest = piece.split_off(piece.len().min(out.remaining()));
            out.put_slice(&piece);
            if !rest.is_empty() {
                this.0.push(rest);
            }
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// Runs a target over its saved corpus.
    fn replay(target: &str, run: fn(&[u8])) {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../fuzz/corpus")
            .join(target);
        let mut inputs = 0;
        for entry in std::fs::read_dir(corpus).unwrap() {
            run(&std::fs::read(entry.unwrap().path()).unwrap());
            inputs += 1;
        }
        assert!(inputs > 0, "the corpus of {target} is empty");
    }

    #[test]
    fn handshake_corpus_holds() {
        replay("noise_handshake", handshake);
    }

    #[test]
    fn stream_corpus_holds() {
        replay("noise_stream", stream);
    }

    proptest::proptest! {
        #[test]
        fn any_described_stream_delivers_its_good_records_only(
            input in proptest::collection::vec(0..=u8::MAX, 0..128),
        ) {
            stream(&input);
        }
    }
}
