//! `ClientInfo` (0x02): who the client is, and the proof of it.

use bowline_model::key::NodeKey;
use bytes::{BufMut as _, BytesMut};
use serde::{Deserialize, Serialize};

use super::{Body, FrameError, FrameType, PROTOCOL_VERSION, take_key};
use crate::{key::KEY_LEN, sealed};

/// Longest `ClientInfo` payload in bytes.
pub const MAX_CLIENT_INFO: usize = 256 << 10;

/// The client's answer to the greeting.
///
/// Shape: 32 bytes of public key, then a box (24 bytes of nonce, box) from that key to the relay's
/// with [`ClientDetails`] as JSON. That the box opens proves that the client holds the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientInfo<'a> {
    /// The client's node key.
    pub key: NodeKey,
    /// Nonce and box, as [`sealed::open`] takes it.
    pub sealed: &'a [u8],
}

impl<'a> Body<'a> for ClientInfo<'a> {
    const TYPE: FrameType = FrameType::CLIENT_INFO;
    const MIN: usize = KEY_LEN + sealed::OVERHEAD;
    const MAX: usize = MAX_CLIENT_INFO;

    fn read(payload: &'a [u8]) -> Result<Self, FrameError> {
        let (key, sealed) = take_key(Self::TYPE, payload)?;
        Ok(Self { key, sealed })
    }

    fn payload_len(&self) -> usize {
        KEY_LEN + self.sealed.len()
    }

    fn write(&self, out: &mut BytesMut) {
        out.put_slice(self.key.as_bytes());
        out.put_slice(self.sealed);
    }
}

/// What a client says of itself. All fields may be absent; others (`meshKey`) are ignored.
///
/// Source: ts-go `derp/derp_client.go`, `ClientInfo`; ts-rs sends `can_ack_pings` and `is_prober`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientDetails {
    /// The protocol version, 2 at present. Absent: 0.
    #[serde(default)]
    pub version: u32,
    /// Whether it answers pings. Absent: it does not.
    #[serde(default, rename = "CanAckPings", alias = "can_ack_pings")]
    pub can_ack_pings: bool,
    /// Whether it measures the relay instead of using it. Absent: it does not.
    #[serde(
        default,
        rename = "IsProber",
        alias = "is_prober",
        skip_serializing_if = "is_false"
    )]
    pub is_prober: bool,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the signature that serde asks for"
)]
fn is_false(value: &bool) -> bool {
    !value
}

impl ClientDetails {
    /// What an ordinary client of this version says.
    pub fn current() -> Self {
        Self {
            version: PROTOCOL_VERSION,
            can_ack_pings: true,
            is_prober: false,
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
            "02 0000004a           ; type, length 74
             1111111111111111 1111111111111111 1111111111111111 1111111111111111 ; key
             2222222222222222 2222222222222222 2222222222222222                  ; nonce
             3333333333333333 3333333333333333                                   ; authenticator
             7b7d                                                                ; text",
        );
        let sealed = [&[0x22; 24][..], &[0x33; 16], b"{}"].concat();
        check_fixture(
            &fixture,
            ClientInfo {
                key: NodeKey::from_bytes([0x11; 32]).unwrap(),
                sealed: &sealed,
            },
        );
    }

    #[test]
    fn limits() {
        check_limits::<ClientInfo>(72, 256 << 10);
    }

    #[test]
    fn details_of_both_official_clients_are_understood() {
        let go: ClientDetails = serde_json::from_str(
            r#"{"meshKey":"00","version":2,"CanAckPings":true,"IsProber":true,"AppName":"x"}"#,
        )
        .unwrap();
        assert_eq!(
            go,
            ClientDetails {
                is_prober: true,
                ..ClientDetails::current()
            }
        );
        let rust: ClientDetails = serde_json::from_str(
            r#"{"can_ack_pings":true,"is_prober":false,"mesh_key":"","version":2}"#,
        )
        .unwrap();
        assert_eq!(rust, ClientDetails::current());
        assert_eq!(
            serde_json::from_str::<ClientDetails>("{}").unwrap(),
            ClientDetails::default()
        );
    }

    proptest! {
        #[test]
        fn round_trip(key: [u8; 32], sealed in proptest::collection::vec(any::<u8>(), 40..400)) {
            let frame = ClientInfo { key: NodeKey::from_bytes(key).unwrap(), sealed: &sealed };
            check_round_trip(Frame::ClientInfo(frame), 0x02);
        }
    }
}
