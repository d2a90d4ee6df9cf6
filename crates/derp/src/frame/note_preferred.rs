//! `NotePreferred` (0x07): whether this relay is the client's home.

use bytes::{BufMut as _, BytesMut};

use super::{Body, FrameError, FrameType, take};

/// A client tells whether its peers will look for it at this relay. Only counted.
///
/// Shape: one byte, 0 when it is not its home; anything else, in practice 1, when it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotePreferred {
    /// Whether this relay is its home.
    pub is_home: bool,
}

impl Body<'_> for NotePreferred {
    const TYPE: FrameType = FrameType::NOTE_PREFERRED;
    const MIN: usize = 1;
    const MAX: usize = 1;

    fn read(payload: &[u8]) -> Result<Self, FrameError> {
        let ([byte], _) = take::<1>(Self::TYPE, payload)?;
        Ok(Self { is_home: byte != 0 })
    }

    fn payload_len(&self) -> usize {
        1
    }

    fn write(&self, out: &mut BytesMut) {
        out.put_u8(u8::from(self.is_home));
    }
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
        check_fixture(
            &unhex("07 00000001 01 ; home"),
            NotePreferred { is_home: true },
        );
        check_fixture(
            &unhex("07 00000001 00 ; elsewhere"),
            NotePreferred { is_home: false },
        );
    }

    #[test]
    fn limits() {
        check_limits::<NotePreferred>(1, 1);
    }

    #[test]
    fn any_byte_but_zero_means_home() {
        assert_eq!(
            NotePreferred::decode(&[0xff]),
            Ok(NotePreferred { is_home: true })
        );
    }

    #[test]
    fn round_trip() {
        for is_home in [false, true] {
            check_round_trip(Frame::NotePreferred(NotePreferred { is_home }), 0x07);
        }
    }
}
