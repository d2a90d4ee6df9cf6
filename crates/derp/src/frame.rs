//! DERP frames: one type byte, a big-endian `u32` length, the payload.
//!
//! Each kind has its file here. Decoding borrows from the payload and never allocates; what a kind
//! does not allow (too short, too long) is refused before anything is read from it. Kinds that are
//! not known are skipped by whoever reads, as the official clients and servers do.
//!
//! Source: ts-go `derp/derp.go`.

mod client_info;
mod close_peer;
mod forward_packet;
mod health;
mod keep_alive;
mod note_preferred;
mod peer_gone;
mod peer_present;
mod ping;
mod pong;
mod recv_packet;
mod restarting;
mod send_packet;
mod server_info;
mod server_key;
mod watch_conns;

use bowline_model::key::NodeKey;
use bytes::{BufMut, BytesMut};

pub use client_info::{ClientDetails, ClientInfo, MAX_CLIENT_INFO};
pub use close_peer::ClosePeer;
pub use forward_packet::ForwardPacket;
pub use health::Health;
pub use keep_alive::KeepAlive;
pub use note_preferred::NotePreferred;
pub use peer_gone::{PeerGone, PeerGoneReason};
pub use peer_present::{PeerPresent, PeerPresentFlags};
pub use ping::{MAX_PING, Ping};
pub use pong::Pong;
pub use recv_packet::RecvPacket;
pub use restarting::Restarting;
pub use send_packet::SendPacket;
pub use server_info::{ServerDetails, ServerInfo};
pub use server_key::{MAGIC, ServerKey};
pub use watch_conns::WatchConns;

use crate::key::KEY_LEN;

/// Length of a frame's header in bytes: the type and the length of the payload.
pub const HEADER_LEN: usize = 5;
/// Longest relayed packet in bytes. Longer ones end the connection.
pub const MAX_PACKET: usize = 64 << 10;
/// Longest payload of any frame in bytes; also of kinds that are skipped.
pub const MAX_PAYLOAD: usize = 1 << 20;
/// The version that this relay and its client speak: received packets carry their source.
pub const PROTOCOL_VERSION: u32 = 2;

/// The kind of a frame. Any byte is a kind; the known ones are constants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FrameType(pub u8);

impl FrameType {
    /// Relay to client, first: magic and public key.
    pub const SERVER_KEY: Self = Self(0x01);
    /// Client to relay, its answer: public key and a box with its details.
    pub const CLIENT_INFO: Self = Self(0x02);
    /// Relay to client, ends the handshake: a box with the relay's details.
    pub const SERVER_INFO: Self = Self(0x03);
    /// Client to relay: a packet and whom it is for.
    pub const SEND_PACKET: Self = Self(0x04);
    /// Relay to client: a packet and who sent it.
    pub const RECV_PACKET: Self = Self(0x05);
    /// Relay to client: nothing, so that the connection is not silent.
    pub const KEEP_ALIVE: Self = Self(0x06);
    /// Client to relay: whether this relay is its home.
    pub const NOTE_PREFERRED: Self = Self(0x07);
    /// Relay to client: a peer cannot be reached here.
    pub const PEER_GONE: Self = Self(0x08);
    /// Relay to mesh peer: a client connected.
    pub const PEER_PRESENT: Self = Self(0x09);
    /// Mesh peer to relay: a packet, who sent it and whom it is for.
    pub const FORWARD_PACKET: Self = Self(0x0a);
    /// Mesh peer to relay: subscribe to who comes and goes.
    pub const WATCH_CONNS: Self = Self(0x10);
    /// Mesh peer to relay: close a client's connections.
    pub const CLOSE_PEER: Self = Self(0x11);
    /// Either way: please answer with these bytes.
    pub const PING: Self = Self(0x12);
    /// Either way: the bytes of a ping.
    pub const PONG: Self = Self(0x13);
    /// Relay to client: what is wrong with the connection, empty when nothing.
    pub const HEALTH: Self = Self(0x14);
    /// Relay to client: about to restart.
    pub const RESTARTING: Self = Self(0x15);
}

/// A frame that its kind does not allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The payload has fewer bytes than the kind needs.
    #[error("frame {kind:?} has {got} bytes, at least {need} are needed")]
    Short {
        /// The kind.
        kind: FrameType,
        /// Fewest bytes that it may have.
        need: usize,
        /// How many it has.
        got: usize,
    },
    /// The payload has more bytes than the kind allows.
    #[error("frame {kind:?} has {got} bytes, at most {max} are allowed")]
    Long {
        /// The kind.
        kind: FrameType,
        /// Most bytes that it may have.
        max: usize,
        /// How many it has.
        got: usize,
    },
    /// There is no key where there must be one: 32 zero bytes.
    #[error("frame {kind:?} has the zero key, which means none")]
    NoKey {
        /// The kind.
        kind: FrameType,
    },
    /// The first frame of a connection does not start as DERP does.
    #[error("the other side does not speak DERP")]
    Magic,
}

/// The five bytes in front of each payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// What follows.
    pub kind: FrameType,
    /// Length of the payload in bytes, the header not counted.
    pub len: u32,
}

impl Header {
    /// Reads a header. Every five bytes are one; limits are a matter of the kind.
    pub const fn parse(bytes: [u8; HEADER_LEN]) -> Self {
        let [kind, a, b, c, d] = bytes;
        Self {
            kind: FrameType(kind),
            len: u32::from_be_bytes([a, b, c, d]),
        }
    }

    /// The five bytes.
    pub const fn to_bytes(self) -> [u8; HEADER_LEN] {
        let [a, b, c, d] = self.len.to_be_bytes();
        [self.kind.0, a, b, c, d]
    }
}

/// What every kind of frame can do.
pub trait Body<'a>: Sized {
    /// The kind's type byte.
    const TYPE: FrameType;
    /// Fewest bytes of a payload.
    const MIN: usize;
    /// Most bytes of a payload.
    const MAX: usize;

    /// Reads a payload whose length is between [`Self::MIN`] and [`Self::MAX`].
    ///
    /// # Errors
    /// When the bytes themselves are wrong.
    fn read(payload: &'a [u8]) -> Result<Self, FrameError>;

    /// Length of the payload in bytes.
    fn payload_len(&self) -> usize;

    /// Appends the payload.
    fn write(&self, out: &mut BytesMut);

    /// Checks the length of a payload against the kind's limits.
    ///
    /// # Errors
    /// When it is too short or too long.
    fn check_len(got: usize) -> Result<(), FrameError> {
        if got < Self::MIN {
            return Err(FrameError::Short {
                kind: Self::TYPE,
                need: Self::MIN,
                got,
            });
        }
        if got > Self::MAX {
            return Err(FrameError::Long {
                kind: Self::TYPE,
                max: Self::MAX,
                got,
            });
        }
        Ok(())
    }

    /// Reads a payload.
    ///
    /// # Errors
    /// When its length or its bytes are not those of this kind.
    fn decode(payload: &'a [u8]) -> Result<Self, FrameError> {
        Self::check_len(payload.len())?;
        Self::read(payload)
    }

    /// Appends the frame: header and payload.
    fn encode(&self, out: &mut BytesMut) {
        let len = self.payload_len();
        out.reserve(HEADER_LEN + len);
        // Payloads are at most a mebibyte; what is longer is refused by the reader at the far end.
        let header = Header {
            kind: Self::TYPE,
            len: u32::try_from(len).unwrap_or(u32::MAX),
        };
        out.put_slice(&header.to_bytes());
        self.write(out);
    }
}

/// Splits a key off the front of a payload that is long enough by [`Body::MIN`].
fn take_key(kind: FrameType, payload: &[u8]) -> Result<(NodeKey, &[u8]), FrameError> {
    let (key, rest) = take::<{ KEY_LEN }>(kind, payload)?;
    let key = NodeKey::from_bytes(key).ok_or(FrameError::NoKey { kind })?;
    Ok((key, rest))
}

/// Splits `N` bytes off the front of a payload.
fn take<const N: usize>(kind: FrameType, payload: &[u8]) -> Result<([u8; N], &[u8]), FrameError> {
    payload
        .split_first_chunk::<N>()
        .map(|(head, rest)| (*head, rest))
        .ok_or(FrameError::Short {
            kind,
            need: N,
            got: payload.len(),
        })
}

macro_rules! frames {
    ($($kind:ident $(<$life:lifetime>)?),* $(,)?) => {
        /// A decoded frame of any kind.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Frame<'a> {
            $(
                #[doc = concat!("See [`", stringify!($kind), "`](crate::frame::", stringify!($kind), ").")]
                $kind($kind $(<$life>)?),
            )*
            /// A kind that is not known; to be skipped.
            Unknown(FrameType, &'a [u8]),
        }

        impl<'a> Frame<'a> {
            /// Reads the payload of a frame of the given kind.
            ///
            /// # Errors
            /// When its length or its bytes are not those of the kind. Unknown kinds are refused
            /// only above [`MAX_PAYLOAD`].
            pub fn decode(kind: FrameType, payload: &'a [u8]) -> Result<Self, FrameError> {
                $(
                    if kind == <$kind as Body>::TYPE {
                        return $kind::decode(payload).map(Self::$kind);
                    }
                )*
                if payload.len() > MAX_PAYLOAD {
                    return Err(FrameError::Long { kind, max: MAX_PAYLOAD, got: payload.len() });
                }
                Ok(Self::Unknown(kind, payload))
            }

            /// Appends the frame: header and payload.
            pub fn encode(&self, out: &mut BytesMut) {
                match self {
                    $(Self::$kind(frame) => frame.encode(out),)*
                    Self::Unknown(kind, payload) => {
                        let len = u32::try_from(payload.len()).unwrap_or(u32::MAX);
                        out.put_slice(&Header { kind: *kind, len }.to_bytes());
                        out.put_slice(payload);
                    }
                }
            }
        }
    };
}

frames! {
    ServerKey, ClientInfo<'a>, ServerInfo<'a>, SendPacket<'a>, RecvPacket<'a>, KeepAlive,
    NotePreferred, PeerGone, PeerPresent, ForwardPacket<'a>, WatchConns, ClosePeer, Ping, Pong,
    Health<'a>, Restarting,
}
