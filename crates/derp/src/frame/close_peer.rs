//! `ClosePeer` (0x11): close a client's connections.

use bowline_model::key::NodeKey;
use bytes::{BufMut as _, BytesMut};

use super::{Body, FrameError, FrameType, take_key};
use crate::key::KEY_LEN;

/// A mesh peer asks to close a client's connections.
///
/// Shape: 32 bytes of public key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClosePeer {
    /// Whose.
    pub peer: NodeKey,
}

impl Body<'_> for ClosePeer {
    const TYPE: FrameType = FrameType::CLOSE_PEER;
    const MIN: usize = KEY_LEN;
    const MAX: usize = KEY_LEN;

    fn read(payload: &[u8]) -> Result<Self, FrameError> {
        let (peer, _) = take_key(Self::TYPE, payload)?;
        Ok(Self { peer })
    }

    fn payload_len(&self) -> usize {
        KEY_LEN
    }

    fn write(&self, out: &mut BytesMut) {
        out.put_slice(self.peer.as_bytes());
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
            "11 00000020           ; type, length 32
             1111111111111111 1111111111111111 1111111111111111 1111111111111111 ; key",
        );
        check_fixture(
            &fixture,
            ClosePeer {
                peer: NodeKey::from_bytes([0x11; 32]).unwrap(),
            },
        );
    }

    #[test]
    fn limits() {
        check_limits::<ClosePeer>(32, 32);
    }

    proptest! {
        #[test]
        fn round_trip(key: [u8; 32]) {
            check_round_trip(Frame::ClosePeer(ClosePeer { peer: NodeKey::from_bytes(key).unwrap() }), 0x11);
        }
    }
}
