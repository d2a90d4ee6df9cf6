//! What the unit tests of several frames share.

use bytes::BytesMut;
use data_encoding::HEXLOWER_PERMISSIVE;

use crate::frame::{Body, Frame, HEADER_LEN, Header};

/// Bytes of a hex text; blanks and everything after `;` on a line are commentary.
pub(crate) fn unhex(text: &str) -> Vec<u8> {
    let digits: String = text
        .lines()
        .flat_map(|line| line.split(';').next().unwrap_or_default().chars())
        .filter(|c| !c.is_whitespace())
        .collect();
    HEXLOWER_PERMISSIVE.decode(digits.as_bytes()).unwrap()
}

/// Checks that a fixture, header included, decodes to `frame` and that `frame` encodes to it.
pub(crate) fn check_fixture<'a, B>(fixture: &'a [u8], frame: B)
where
    B: Body<'a> + PartialEq + std::fmt::Debug,
{
    let mut encoded = BytesMut::new();
    frame.encode(&mut encoded);
    assert_eq!(encoded, fixture, "encoding");
    let payload = check_header(fixture, B::TYPE.0);
    assert_eq!(B::decode(payload).unwrap(), frame, "decoding");
}

/// Checks the round trip of any value: encoded, then decoded by its kind and by the sum of kinds.
pub(crate) fn check_round_trip(frame: Frame<'_>, kind: u8) {
    let mut encoded = BytesMut::new();
    frame.encode(&mut encoded);
    let payload = check_header(&encoded, kind);
    assert_eq!(
        Frame::decode(crate::frame::FrameType(kind), payload).unwrap(),
        frame
    );
}

fn check_header(frame: &[u8], kind: u8) -> &[u8] {
    let (header, payload) = frame.split_first_chunk::<HEADER_LEN>().unwrap();
    let header = Header::parse(*header);
    assert_eq!(header.kind.0, kind);
    assert_eq!(usize::try_from(header.len).unwrap(), payload.len());
    payload
}

/// Checks that a kind refuses what is one byte too short or one too long.
pub(crate) fn check_limits<B: Body<'static>>(min: usize, max: usize) {
    let bytes = vec![0; max + 1];
    if let Some(short) = min.checked_sub(1) {
        assert!(B::check_len(short).is_err());
        assert!(Frame::decode(B::TYPE, &bytes[..short]).is_err());
    }
    assert!(B::check_len(min).is_ok());
    assert!(B::check_len(max).is_ok());
    assert!(B::check_len(max + 1).is_err());
    assert!(Frame::decode(B::TYPE, &bytes).is_err());
}
