//! `SendPacket` (0x04): a packet for another client.

use bowline_model::key::NodeKey;
use bytes::{BufMut as _, BytesMut};

use super::{Body, FrameError, FrameType, MAX_PACKET, take_key};
use crate::key::KEY_LEN;

/// A packet that a client wants relayed.
///
/// Shape: 32 bytes of public key, then the packet of at most [`MAX_PACKET`] bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SendPacket<'a> {
    /// Whom it is for.
    pub destination: NodeKey,
    /// The packet, opaque to the relay. May be empty.
    pub packet: &'a [u8],
}

impl<'a> Body<'a> for SendPacket<'a> {
    const TYPE: FrameType = FrameType::SEND_PACKET;
    const MIN: usize = KEY_LEN;
    const MAX: usize = KEY_LEN + MAX_PACKET;

    fn read(payload: &'a [u8]) -> Result<Self, FrameError> {
        let (destination, packet) = take_key(Self::TYPE, payload)?;
        Ok(Self {
            destination,
            packet,
        })
    }

    fn payload_len(&self) -> usize {
        KEY_LEN + self.packet.len()
    }

    fn write(&self, out: &mut BytesMut) {
        out.put_slice(self.destination.as_bytes());
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
            "04 00000023           ; type, length 35
             1111111111111111 1111111111111111 1111111111111111 1111111111111111 ; key
             616263                                                              ; packet",
        );
        check_fixture(
            &fixture,
            SendPacket {
                destination: NodeKey::from_bytes([0x11; 32]).unwrap(),
                packet: b"abc",
            },
        );
    }

    #[test]
    fn limits() {
        check_limits::<SendPacket>(32, 32 + 65_536);
    }

    proptest! {
        #[test]
        fn round_trip(key: [u8; 32], packet in proptest::collection::vec(any::<u8>(), 0..2000)) {
            let frame = SendPacket { destination: NodeKey::from_bytes(key).unwrap(), packet: &packet };
            check_round_trip(Frame::SendPacket(frame), 0x04);
        }
    }
}
