//! `ServerInfo` (0x03): the relay's details, which end the handshake.

use bytes::{BufMut as _, BytesMut};
use serde::{Deserialize, Serialize};

use super::{Body, FrameError, FrameType, MAX_PAYLOAD, PROTOCOL_VERSION};
use crate::sealed;

/// The end of the handshake.
///
/// Shape: a box (24 bytes of nonce, box) from the relay's key to the client's with
/// [`ServerDetails`] as JSON. It must be the next frame after the greeting: ts-rs insists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServerInfo<'a> {
    /// Nonce and box, as [`sealed::open`] takes it.
    pub sealed: &'a [u8],
}

impl<'a> Body<'a> for ServerInfo<'a> {
    const TYPE: FrameType = FrameType::SERVER_INFO;
    const MIN: usize = sealed::OVERHEAD;
    const MAX: usize = MAX_PAYLOAD;

    fn read(payload: &'a [u8]) -> Result<Self, FrameError> {
        Ok(Self { sealed: payload })
    }

    fn payload_len(&self) -> usize {
        self.sealed.len()
    }

    fn write(&self, out: &mut BytesMut) {
        out.put_slice(self.sealed);
    }
}

/// What the relay says of itself.
///
/// Source: ts-go `derp/derp.go`, `ServerInfo`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerDetails {
    /// The protocol version, 2 at present.
    #[serde(default)]
    pub version: u32,
    /// How many bytes a second the client may send. Absent: no limit.
    #[serde(
        default,
        rename = "TokenBucketBytesPerSecond",
        skip_serializing_if = "Option::is_none"
    )]
    pub bytes_per_second: Option<u64>,
    /// How many bytes it may send at once. Absent: no limit.
    #[serde(
        default,
        rename = "TokenBucketBytesBurst",
        skip_serializing_if = "Option::is_none"
    )]
    pub burst_bytes: Option<u64>,
}

impl ServerDetails {
    /// What a relay of this version without a rate limit says.
    pub fn current() -> Self {
        Self {
            version: PROTOCOL_VERSION,
            ..Self::default()
        }
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
            "03 0000002a           ; type, length 42
             2222222222222222 2222222222222222 2222222222222222 ; nonce
             3333333333333333 3333333333333333                  ; authenticator
             7b7d                                               ; text",
        );
        let sealed = [&[0x22; 24][..], &[0x33; 16], b"{}"].concat();
        check_fixture(&fixture, ServerInfo { sealed: &sealed });
    }

    #[test]
    fn limits() {
        check_limits::<ServerInfo>(40, 1 << 20);
    }

    #[test]
    fn details_are_written_as_the_go_client_reads_them() {
        let plain = serde_json::to_string(&ServerDetails::current()).unwrap();
        assert_eq!(plain, r#"{"version":2}"#);
        let limited = ServerDetails {
            bytes_per_second: Some(1000),
            burst_bytes: Some(2000),
            ..ServerDetails::current()
        };
        let text = serde_json::to_string(&limited).unwrap();
        assert_eq!(
            text,
            r#"{"version":2,"TokenBucketBytesPerSecond":1000,"TokenBucketBytesBurst":2000}"#
        );
        assert_eq!(
            serde_json::from_str::<ServerDetails>(&text).unwrap(),
            limited
        );
    }

    proptest! {
        #[test]
        fn round_trip(sealed in proptest::collection::vec(any::<u8>(), 40..400)) {
            check_round_trip(Frame::ServerInfo(ServerInfo { sealed: &sealed }), 0x03);
        }
    }
}
