//! Encoding of fragments. A zstd fragment is a frame of its own, without content size: decoders
//! then only grow their buffer, however many frames a message has (`docs/protocol/control-protocol.md`, 2.5).

use std::cell::RefCell;
use std::sync::LazyLock;

use bowline_wire::map_request::Encoding;
use bytes::Bytes;
use zstd::bulk::Compressor;
use zstd::zstd_safe::CParameter;

/// Fast, and already six to one on map responses; higher levels cost more than they save.
const LEVEL: i32 = 1;

thread_local! {
    /// A reused context costs a quarter of a new one for a small delta.
    static COMPRESSOR: RefCell<Option<Compressor<'static>>> = const { RefCell::new(None) };
}

/// Below this many bytes compression saves nothing that would be worth its time.
const STORED_MAX: usize = 64;

/// Encodes a fragment of JSON.
pub(crate) fn encode(fragment: &[u8], encoding: Encoding) -> Bytes {
    match encoding {
        Encoding::Plain => Bytes::copy_from_slice(fragment),
        Encoding::Zstd if fragment.len() < STORED_MAX => stored_frame(fragment),
        Encoding::Zstd => COMPRESSOR
            .with_borrow_mut(|slot| {
                if slot.is_none() {
                    *slot = new_compressor().ok();
                }
                slot.as_mut()
                    .and_then(|compressor| compressor.compress(fragment).ok())
            })
            // Copied to its size: the compressor's buffer has room for the worst case, and many of
            // these are kept.
            .map_or_else(
                || stored_frame(fragment),
                |frame| Bytes::copy_from_slice(&frame),
            ),
    }
}

/// An encoded comma: what stands between two groups.
pub(crate) fn comma(encoding: Encoding) -> Bytes {
    static FRAME: LazyLock<Bytes> = LazyLock::new(|| stored_frame(b","));
    match encoding {
        Encoding::Plain => Bytes::from_static(b","),
        Encoding::Zstd => FRAME.clone(),
    }
}

fn new_compressor() -> std::io::Result<Compressor<'static>> {
    let mut compressor = Compressor::new(LEVEL)?;
    compressor.set_parameter(CParameter::ContentSizeFlag(false))?;
    compressor.set_parameter(CParameter::ChecksumFlag(false))?;
    Ok(compressor)
}

/// A zstd frame of raw blocks: what a compressor that failed is replaced by, so that encoding
/// itself cannot fail.
fn stored_frame(fragment: &[u8]) -> Bytes {
    const BLOCK_MAX: usize = 1 << 17;
    // Magic number; descriptor: no content size, no checksum, no dictionary; window of 128 KiB.
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x38];
    let mut blocks = fragment.chunks(BLOCK_MAX).peekable();
    if blocks.peek().is_none() {
        frame.extend_from_slice(&[1, 0, 0]);
    }
    while let Some(block) = blocks.next() {
        let last = u32::from(blocks.peek().is_none());
        let size = u32::try_from(block.len()).unwrap_or(0);
        frame.extend_from_slice(&((size << 3) | last).to_le_bytes()[..3]);
        frame.extend_from_slice(block);
    }
    frame.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn frames_declare_no_content_size_and_concatenate() {
        let text = format!("{{\"a\":\"{}\",", "x".repeat(500));
        let one = encode(text.as_bytes(), Encoding::Zstd);
        let two = encode(b"\"b\":1}", Encoding::Zstd);
        assert_eq!(two, stored_frame(b"\"b\":1}"), "too small to compress");
        assert!(one.len() < 100, "compressed");
        assert_eq!(
            one[4] & 0b1110_0100,
            0,
            "no content size, no single segment, no checksum"
        );
        let both = [one.as_ref(), two.as_ref()].concat();
        let decoded = zstd::stream::decode_all(&both[..]).unwrap();
        assert_eq!(decoded, format!("{text}\"b\":1}}").into_bytes());
    }

    proptest! {
        #[test]
        fn a_stored_frame_decodes_to_its_fragment(length in 0usize..300_000) {
            let fragment: Vec<u8> = (0..length).map(|i| u8::try_from(i % 251).unwrap()).collect();
            prop_assert_eq!(zstd::stream::decode_all(&stored_frame(&fragment)[..]).unwrap(), fragment);
        }
    }
}
