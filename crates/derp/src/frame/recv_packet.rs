//! `RecvPacket` (0x05): a packet from another client.

use bowline_model::key::NodeKey;
use bytes::{BufMut as _, BytesMut};

use super::{Body, FrameError, FrameType, MAX_PACKET, take_key};
use crate::key::KEY_LEN;

/// A relayed packet, as its receiver gets it since protocol version 2.
///
/// Shape: 32 bytes of public key, then the packet of at most [`MAX_PACKET`] bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecvPacket<'a> {
    /// Who sent it.
    pub source: NodeKey,
    /// The packet, opaque to the relay. May be empty.
    pub packet: &'a [u8],
}

impl<'a> Body<'a> for RecvPacket<'a> {
    const TYPE: FrameType = FrameType::RECV_PACKET;
    const MIN: usize = KEY_LEN;
    const MAX: usize = KEY_LEN + MAX_PACKET;

    fn read(payload: &'a [u8]) -> Result<Self, FrameError> {
        let (source, packet) = take_key(Self::TYPE, payload)?;
        Ok(Self { source, packet })
    }

    fn payload_len(&self) -> usize {
        KEY_LEN + self.packet.len()
    }

    fn write(&self, out: &mut BytesMut) {
        out.put_slice(self.source.as_bytes());
        out.put_slice(self.packet);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        frame::Frame,
        testing::{check_fixture, check_limits, check_round_trip, unhex},
    };

    #[test]
    fn fixture() {
        let fixture = unhex(
            "05 00000023           ; type, length 35
             1111111111111111 1111111111111111 1111111111111111 1111111111111111 ; key
             616263                                                              ; packet",
        );
        check_fixture(
            &fixture,
            RecvPacket {
                source: NodeKey::from_bytes([0x11; 32]).unwrap(),
                packet: b"abc",
            },
        );
    }

    #[test]
    fn limits() {
        check_limits::<RecvPacket>(32, 32 + 65_536);
    }

    proptest! {
        #[test]
        fn round_trip(key: [u8; 32], packet in proptest::collection::vec(any::<u8>(), 0..2000)) {
            let frame = RecvPacket { source: NodeKey::from_bytes(key).unwrap(), packet: &packet };
            check_round_trip(Frame::RecvPacket(frame), 0x05);
        }
    }
}
