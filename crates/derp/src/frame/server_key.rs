//! `ServerKey` (0x01): the relay's greeting.

use bowline_model::key::NodeKey;
use bytes::{BufMut as _, BytesMut};

use super::{Body, FrameError, FrameType, take, take_key};
use crate::key::KEY_LEN;

/// The eight bytes `DERP🔑` that open the greeting.
pub const MAGIC: [u8; 8] = *b"DERP\xf0\x9f\x94\x91";

/// The relay's greeting, its first frame.
///
/// Shape: [`MAGIC`], 32 bytes of public key. Bytes after that are for later use and are ignored,
/// up to a kibibyte in all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServerKey {
    /// The relay's public key, to which the client seals its details.
    pub key: NodeKey,
}

impl Body<'_> for ServerKey {
    const TYPE: FrameType = FrameType::SERVER_KEY;
    const MIN: usize = MAGIC.len() + KEY_LEN;
    const MAX: usize = 1 << 10;

    fn read(payload: &[u8]) -> Result<Self, FrameError> {
        let (magic, rest) = take::<8>(Self::TYPE, payload)?;
        if magic != MAGIC {
            return Err(FrameError::Magic);
        }
        let (key, _later_use) = take_key(Self::TYPE, rest)?;
        Ok(Self { key })
    }

    fn payload_len(&self) -> usize {
        Self::MIN
    }

    fn write(&self, out: &mut BytesMut) {
        out.put_slice(&MAGIC);
        out.put_slice(self.key.as_bytes());
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
            "01 00000028           ; type, length 40
             44455250 f09f9491     ; DERP and the key sign
             0102030405060708 090a0b0c0d0e0f10 1112131415161718 191a1b1c1d1e1f20",
        );
        let key =
            NodeKey::from_bytes(std::array::from_fn(|i| u8::try_from(i + 1).unwrap())).unwrap();
        check_fixture(&fixture, ServerKey { key });
    }

    #[test]
    fn limits() {
        check_limits::<ServerKey>(40, 1024);
    }

    #[test]
    fn what_follows_the_key_is_ignored_and_other_magic_is_refused() {
        let mut payload = [&MAGIC[..], &[7; 32], b"later"].concat();
        assert_eq!(
            ServerKey::decode(&payload).unwrap().key,
            NodeKey::from_bytes([7; 32]).unwrap()
        );
        payload[7] ^= 1;
        assert_eq!(ServerKey::decode(&payload), Err(FrameError::Magic));
    }

    proptest! {
        #[test]
        fn round_trip(key: [u8; 32]) {
            check_round_trip(Frame::ServerKey(ServerKey { key: NodeKey::from_bytes(key).unwrap() }), 0x01);
        }
    }
}
