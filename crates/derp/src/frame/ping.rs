//! `Ping` (0x12): please answer.

use bytes::{BufMut as _, BytesMut};

use super::{Body, FrameError, FrameType, take};

/// Longest ping or pong payload in bytes. Only eight mean something; the rest is for later use.
pub const MAX_PING: usize = 1000;

/// A question that the other side answers with [`Pong`](super::Pong).
///
/// Shape: eight bytes. More, up to [`MAX_PING`], are ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ping {
    /// Whatever the asking side chose.
    pub data: [u8; 8],
}

impl Body<'_> for Ping {
    const TYPE: FrameType = FrameType::PING;
    const MIN: usize = 8;
    const MAX: usize = MAX_PING;

    fn read(payload: &[u8]) -> Result<Self, FrameError> {
        let (data, _later_use) = take::<8>(Self::TYPE, payload)?;
        Ok(Self { data })
    }

    fn payload_len(&self) -> usize {
        Self::MIN
    }

    fn write(&self, out: &mut BytesMut) {
        out.put_slice(&self.data);
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
            "12 00000008 ; type, length 8
             0102030405060708",
        );
        check_fixture(
            &fixture,
            Ping {
                data: [1, 2, 3, 4, 5, 6, 7, 8],
            },
        );
    }

    #[test]
    fn limits() {
        check_limits::<Ping>(8, 1000);
    }

    #[test]
    fn bytes_after_the_eighth_are_for_later_use() {
        assert_eq!(
            Ping::decode(b"12345678later"),
            Ok(Ping { data: *b"12345678" })
        );
    }

    proptest! {
        #[test]
        fn round_trip(data: [u8; 8]) {
            check_round_trip(Frame::Ping(Ping { data }), 0x12);
        }
    }
}
