//! `PeerGone` (0x08): a peer cannot be reached here.

use bowline_model::key::NodeKey;
use bytes::{BufMut as _, BytesMut};

use super::{Body, FrameError, FrameType, take_key};
use crate::key::KEY_LEN;

/// Why a peer cannot be reached. Any byte is a reason; the known ones are constants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerGoneReason(pub u8);

impl PeerGoneReason {
    /// It was connected and left. Also what an absent byte means.
    pub const DISCONNECTED: Self = Self(0);
    /// This relay does not know it.
    pub const NOT_HERE: Self = Self(1);
}

/// A peer cannot be reached here.
///
/// Shape: 32 bytes of public key, one byte of reason. Old relays send no reason, later ones may
/// send more; up to a kibibyte is accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerGone {
    /// Who.
    pub peer: NodeKey,
    /// Why.
    pub reason: PeerGoneReason,
}

impl Body<'_> for PeerGone {
    const TYPE: FrameType = FrameType::PEER_GONE;
    const MIN: usize = KEY_LEN;
    const MAX: usize = 1 << 10;

    fn read(payload: &[u8]) -> Result<Self, FrameError> {
        let (peer, rest) = take_key(Self::TYPE, payload)?;
        Ok(Self {
            peer,
            reason: PeerGoneReason(rest.first().copied().unwrap_or_default()),
        })
    }

    fn payload_len(&self) -> usize {
        KEY_LEN + 1
    }

    fn write(&self, out: &mut BytesMut) {
        out.put_slice(self.peer.as_bytes());
        out.put_u8(self.reason.0);
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
            "08 00000021           ; type, length 33
             1111111111111111 1111111111111111 1111111111111111 1111111111111111 ; key
             01                                                                  ; not here",
        );
        let reason = PeerGoneReason::NOT_HERE;
        check_fixture(
            &fixture,
            PeerGone {
                peer: NodeKey::from_bytes([0x11; 32]).unwrap(),
                reason,
            },
        );
    }

    #[test]
    fn limits() {
        check_limits::<PeerGone>(32, 1024);
    }

    #[test]
    fn without_a_reason_it_disconnected() {
        assert_eq!(
            PeerGone::decode(&[9; 32]).unwrap().reason,
            PeerGoneReason::DISCONNECTED
        );
    }

    proptest! {
        #[test]
        fn round_trip(key: [u8; 32], reason: u8) {
            let frame = PeerGone { peer: NodeKey::from_bytes(key).unwrap(), reason: PeerGoneReason(reason) };
            check_round_trip(Frame::PeerGone(frame), 0x08);
        }
    }
}
