//! `PeerPresent` (0x09): a client connected, for mesh peers.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use bowline_model::key::NodeKey;
use bytes::{BufMut as _, BytesMut};

use super::{Body, FrameError, FrameType, take, take_key};
use crate::key::KEY_LEN;

/// What kind of client a present peer is: a set of bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerPresentFlags(pub u8);

impl PeerPresentFlags {
    /// The relay that sent the frame knows no flags.
    pub const NONE: Self = Self(0);
    /// An ordinary client.
    pub const REGULAR: Self = Self(1);
    /// Another relay of the region.
    pub const MESH_PEER: Self = Self(2);
    /// One that measures.
    pub const PROBER: Self = Self(4);
    /// A client whose preferred relay of the region is another.
    pub const NOT_IDEAL: Self = Self(8);
}

/// A client connected to the relay that sends this.
///
/// Shape: 32 bytes of public key, 16 bytes of address (IPv4 as `::ffff:a.b.c.d`), big-endian `u16`
/// of port, one byte of flags. Old relays send less, later ones may send more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerPresent {
    /// Who.
    pub peer: NodeKey,
    /// From where. Absent when the relay did not say; then there are no flags either.
    pub address: Option<SocketAddr>,
    /// What it is.
    pub flags: PeerPresentFlags,
}

impl PeerPresent {
    const ADDRESS_LEN: usize = 18;
}

impl Body<'_> for PeerPresent {
    const TYPE: FrameType = FrameType::PEER_PRESENT;
    const MIN: usize = KEY_LEN;
    const MAX: usize = 1 << 10;

    fn read(payload: &[u8]) -> Result<Self, FrameError> {
        let (peer, rest) = take_key(Self::TYPE, payload)?;
        if rest.len() < Self::ADDRESS_LEN {
            return Ok(Self {
                peer,
                address: None,
                flags: PeerPresentFlags::NONE,
            });
        }
        let (ip, rest) = take::<16>(Self::TYPE, rest)?;
        let (port, rest) = take::<2>(Self::TYPE, rest)?;
        let ip = IpAddr::V6(Ipv6Addr::from(ip)).to_canonical();
        Ok(Self {
            peer,
            address: Some(SocketAddr::new(ip, u16::from_be_bytes(port))),
            flags: PeerPresentFlags(rest.first().copied().unwrap_or_default()),
        })
    }

    fn payload_len(&self) -> usize {
        KEY_LEN
            + if self.address.is_some() {
                Self::ADDRESS_LEN + 1
            } else {
                0
            }
    }

    fn write(&self, out: &mut BytesMut) {
        out.put_slice(self.peer.as_bytes());
        let Some(address) = self.address else { return };
        let ip = match address.ip() {
            IpAddr::V4(ip) => ip.to_ipv6_mapped(),
            IpAddr::V6(ip) => ip,
        };
        out.put_slice(&ip.octets());
        out.put_u16(address.port());
        out.put_u8(self.flags.0);
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
            "09 00000033           ; type, length 51
             1111111111111111 1111111111111111 1111111111111111 1111111111111111 ; key
             00000000000000000000ffffc0000201 1092                               ; 192.0.2.1:4242
             09                                                                  ; regular, not ideal",
        );
        let frame = PeerPresent {
            peer: NodeKey::from_bytes([0x11; 32]).unwrap(),
            address: Some("192.0.2.1:4242".parse().unwrap()),
            flags: PeerPresentFlags(9),
        };
        check_fixture(&fixture, frame);
    }

    #[test]
    fn limits() {
        check_limits::<PeerPresent>(32, 1024);
    }

    #[test]
    fn address_and_flags_may_be_missing() {
        let bare = PeerPresent::decode(&[9; 32]).unwrap();
        assert_eq!((bare.address, bare.flags), (None, PeerPresentFlags::NONE));
        let cut = PeerPresent::decode(&[9; 49]).unwrap();
        assert_eq!((cut.address, cut.flags), (None, PeerPresentFlags::NONE));
        let no_flags = PeerPresent::decode(&[9; 50]).unwrap();
        assert!(no_flags.address.is_some());
        assert_eq!(no_flags.flags, PeerPresentFlags::NONE);
    }

    proptest! {
        #[test]
        fn round_trip(key: [u8; 32], ip: IpAddr, port: u16, flags: u8, with_address: bool) {
            let address = with_address.then_some(SocketAddr::new(ip.to_canonical(), port));
            let flags = if with_address { PeerPresentFlags(flags) } else { PeerPresentFlags::NONE };
            let frame = PeerPresent { peer: NodeKey::from_bytes(key).unwrap(), address, flags };
            check_round_trip(Frame::PeerPresent(frame), 0x09);
        }
    }
}
