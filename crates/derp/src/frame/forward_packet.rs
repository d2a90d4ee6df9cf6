//! `ForwardPacket` (0x0a): a packet from another relay of the region.

use bowline_model::key::NodeKey;
use bytes::{BufMut as _, BytesMut};

use super::{Body, FrameError, FrameType, MAX_PACKET, take_key};
use crate::key::KEY_LEN;

/// A packet that a client of a mesh peer sent to a client of this relay.
///
/// Shape: 32 bytes of the sender's key, 32 of the receiver's, the packet of at most [`MAX_PACKET`]
/// bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ForwardPacket<'a> {
    /// Who sent it.
    pub source: NodeKey,
    /// Whom it is for.
    pub destination: NodeKey,
    /// The packet, opaque to the relay. May be empty.
    pub packet: &'a [u8],
}

impl<'a> Body<'a> for ForwardPacket<'a> {
    const TYPE: FrameType = FrameType::FORWARD_PACKET;
    const MIN: usize = 2 * KEY_LEN;
    const MAX: usize = 2 * KEY_LEN + MAX_PACKET;

    fn read(payload: &'a [u8]) -> Result<Self, FrameError> {
        let (source, rest) = take_key(Self::TYPE, payload)?;
        let (destination, packet) = take_key(Self::TYPE, rest)?;
        Ok(Self {
            source,
            destination,
            packet,
        })
    }

    fn payload_len(&self) -> usize {
        2 * KEY_LEN + self.packet.len()
    }

    fn write(&self, out: &mut BytesMut) {
        out.put_slice(self.source.as_bytes());
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
            "0a 00000043           ; type, length 67
             1111111111111111 1111111111111111 1111111111111111 1111111111111111 ; from
             2222222222222222 2222222222222222 2222222222222222 2222222222222222 ; to
             616263                                                              ; packet",
        );
        let frame = ForwardPacket {
            source: NodeKey::from_bytes([0x11; 32]).unwrap(),
            destination: NodeKey::from_bytes([0x22; 32]).unwrap(),
            packet: b"abc",
        };
        check_fixture(&fixture, frame);
    }

    #[test]
    fn limits() {
        check_limits::<ForwardPacket>(64, 64 + 65_536);
    }

    proptest! {
        #[test]
        fn round_trip(
            from: [u8; 32],
            to: [u8; 32],
            packet in proptest::collection::vec(any::<u8>(), 0..2000),
        ) {
            let frame =
                ForwardPacket { source: NodeKey::from_bytes(from).unwrap(), destination: NodeKey::from_bytes(to).unwrap(), packet: &packet };
            check_round_trip(Frame::ForwardPacket(frame), 0x0a);
        }
    }
}
