//! `Restarting` (0x15): the relay is about to restart.

use std::time::Duration;

use bytes::{BufMut as _, BytesMut};

use super::{Body, FrameError, FrameType, take};

/// The relay is about to restart.
///
/// Shape: two big-endian `u32` of milliseconds. Later relays may send more, up to a kibibyte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Restarting {
    /// How long to wait before connecting again; whole milliseconds up to 49 days on the wire.
    pub reconnect_in: Duration,
    /// How long to keep trying this relay; same range.
    pub try_for: Duration,
}

fn millis(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}

impl Body<'_> for Restarting {
    const TYPE: FrameType = FrameType::RESTARTING;
    const MIN: usize = 8;
    const MAX: usize = 1 << 10;

    fn read(payload: &[u8]) -> Result<Self, FrameError> {
        let (reconnect_in, rest) = take::<4>(Self::TYPE, payload)?;
        let (try_for, _later_use) = take::<4>(Self::TYPE, rest)?;
        let duration = |bytes| Duration::from_millis(u32::from_be_bytes(bytes).into());
        Ok(Self {
            reconnect_in: duration(reconnect_in),
            try_for: duration(try_for),
        })
    }

    fn payload_len(&self) -> usize {
        Self::MIN
    }

    fn write(&self, out: &mut BytesMut) {
        out.put_u32(millis(self.reconnect_in));
        out.put_u32(millis(self.try_for));
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
            "15 00000008 ; type, length 8
             000001f4    ; reconnect in 500 ms
             00002710    ; try for 10 s",
        );
        let frame = Restarting {
            reconnect_in: Duration::from_millis(500),
            try_for: Duration::from_secs(10),
        };
        check_fixture(&fixture, frame);
    }

    #[test]
    fn limits() {
        check_limits::<Restarting>(8, 1024);
    }

    proptest! {
        #[test]
        fn round_trip(reconnect_in: u32, try_for: u32) {
            let frame = Restarting {
                reconnect_in: Duration::from_millis(reconnect_in.into()),
                try_for: Duration::from_millis(try_for.into()),
            };
            check_round_trip(Frame::Restarting(frame), 0x15);
        }
    }
}
