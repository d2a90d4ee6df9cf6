//! Framing of messages.

use bowline_netmap::full;
use bowline_netmap::message::Message;
use bowline_wire::map_request::Encoding;

use crate::records::{at, publication, viewer};

#[test]
fn the_length_counts_the_payload_and_small_parts_travel_together() {
    for encoding in [Encoding::Plain, Encoding::Zstd] {
        let message = full::full(viewer(1, encoding), &publication(300), at(5)).unwrap();
        let payload = message.payload();
        let buffers: Vec<_> = message.into_buffers().unwrap().collect();
        let wire = buffers.concat();
        assert_eq!(
            wire[..4],
            u32::try_from(payload.len()).unwrap().to_le_bytes()
        );
        assert_eq!(wire[4..], payload);
        assert!(buffers.iter().all(|buffer| !buffer.is_empty()));
        let small = |buffer: &bytes::Bytes| buffer.len() < 1024;
        assert!(
            !buffers
                .windows(2)
                .any(|pair| small(&pair[0]) && small(&pair[1])),
            "{encoding:?}"
        );
        assert!(
            buffers.len() <= 2 * 5 + 3,
            "as many as there are chunks, about: {}",
            buffers.len()
        );
    }
}

#[test]
fn a_small_message_is_one_buffer() {
    for (encoding, length) in [(Encoding::Plain, 19), (Encoding::Zstd, 28)] {
        let message = Message::of_text(r#"{"KeepAlive": true}"#, encoding);
        assert_eq!(message.payload_length(), length);
        assert_eq!(message.into_buffers().unwrap().count(), 1);
    }
}
