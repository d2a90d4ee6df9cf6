//! `Health` (0x14): what is wrong with the connection.

use bytes::{BufMut as _, BytesMut};

use super::{Body, FrameError, FrameType};

/// The relay tells a client that its connection is not well.
///
/// Shape: the whole payload is text, at most 64 KiB. Empty: the earlier trouble is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Health<'a> {
    /// The text, UTF-8 when it comes from a well-meaning relay.
    pub problem: &'a [u8],
}

impl<'a> Body<'a> for Health<'a> {
    const TYPE: FrameType = FrameType::HEALTH;
    const MIN: usize = 0;
    const MAX: usize = 64 << 10;

    fn read(payload: &'a [u8]) -> Result<Self, FrameError> {
        Ok(Self { problem: payload })
    }

    fn payload_len(&self) -> usize {
        self.problem.len()
    }

    fn write(&self, out: &mut BytesMut) {
        out.put_slice(self.problem);
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
        check_fixture(&unhex("14 00000003 647570"), Health { problem: b"dup" });
        check_fixture(&unhex("14 00000000 ; well again"), Health { problem: b"" });
    }

    #[test]
    fn limits() {
        check_limits::<Health>(0, 65_536);
    }

    proptest! {
        #[test]
        fn round_trip(problem in proptest::collection::vec(any::<u8>(), 0..200)) {
            check_round_trip(Frame::Health(Health { problem: &problem }), 0x14);
        }
    }
}
