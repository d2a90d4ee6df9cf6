//! `KeepAlive` (0x06): the connection is not silent.

use bytes::BytesMut;

use super::{Body, FrameError, FrameType};

/// Sent to each client about once a minute; a client gives up a connection that was silent for two.
///
/// Shape: empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeepAlive;

impl Body<'_> for KeepAlive {
    const TYPE: FrameType = FrameType::KEEP_ALIVE;
    const MIN: usize = 0;
    const MAX: usize = 0;

    fn read(_payload: &[u8]) -> Result<Self, FrameError> {
        Ok(Self)
    }

    fn payload_len(&self) -> usize {
        0
    }

    fn write(&self, _out: &mut BytesMut) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        frame::Frame,
        testing::{check_fixture, check_limits, check_round_trip, unhex},
    };

    #[test]
    fn fixture() {
        check_fixture(&unhex("06 00000000 ; type, length 0"), KeepAlive);
    }

    #[test]
    fn limits() {
        check_limits::<KeepAlive>(0, 0);
    }

    #[test]
    fn round_trip() {
        check_round_trip(Frame::KeepAlive(KeepAlive), 0x06);
    }
}
