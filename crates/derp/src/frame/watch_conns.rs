//! `WatchConns` (0x10): subscribe to who comes and goes.

use bytes::BytesMut;

use super::{Body, FrameError, FrameType};

/// A mesh peer subscribes to [`PeerPresent`](super::PeerPresent) and [`PeerGone`](super::PeerGone).
///
/// Shape: empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WatchConns;

impl Body<'_> for WatchConns {
    const TYPE: FrameType = FrameType::WATCH_CONNS;
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
        check_fixture(&unhex("10 00000000 ; type, length 0"), WatchConns);
    }

    #[test]
    fn limits() {
        check_limits::<WatchConns>(0, 0);
    }

    #[test]
    fn round_trip() {
        check_round_trip(Frame::WatchConns(WatchConns), 0x10);
    }
}
