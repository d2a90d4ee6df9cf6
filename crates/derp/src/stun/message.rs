//! STUN messages: a header of 20 bytes, then attributes padded to four bytes each.
//!
//! Source: RFC 5389, sections 6 and 15; ts-go `net/stun/stun.go`.

use std::net::{IpAddr, SocketAddr};

use bytes::BufMut as _;

/// What the official clients call themselves in a request.
pub const SOFTWARE: &[u8] = b"tailnode";

const HEADER_LEN: usize = 20;
const MAGIC_COOKIE: [u8; 4] = 0x2112_a442_u32.to_be_bytes();
const BINDING_REQUEST: u16 = 0x0001;
const BINDING_SUCCESS: u16 = 0x0101;
const XOR_MAPPED_ADDRESS: u16 = 0x0020;
const SOFTWARE_ATTRIBUTE: u16 = 0x8022;
const FINGERPRINT: u16 = 0x8028;
const FINGERPRINT_XOR: u32 = 0x5354_554e;
const FINGERPRINT_LEN: usize = 8;

/// The 12 bytes that an answer has in common with its request.
pub type TransactionId = [u8; 12];

/// A datagram that is not the message it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// Not STUN: too short, without the magic cookie, or with a length that does not match.
    #[error("not a STUN message")]
    NotStun,
    /// STUN, but of another kind.
    #[error("a STUN message of another kind")]
    OtherKind,
    /// An attribute does not fit.
    #[error("the attributes are cut off")]
    Attributes,
    /// The checksum is wrong, or not the last attribute.
    #[error("the fingerprint is wrong")]
    Fingerprint,
    /// A response without an address.
    #[error("the response has no address")]
    NoAddress,
}

/// A binding request: "what is my address?".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BindingRequest {
    /// To be repeated in the answer.
    pub transaction: TransactionId,
    /// Whether it is what the official clients send: their name, and a fingerprint at the end.
    pub is_from_tailscale: bool,
}

impl BindingRequest {
    /// Reads a datagram.
    ///
    /// A fingerprint is checked when there is one. Attributes that are not known are ignored.
    ///
    /// # Errors
    /// When it is anything else than one whole binding request.
    pub fn parse(datagram: &[u8]) -> Result<Self, MessageError> {
        let (transaction, attributes) = parse_header(datagram, BINDING_REQUEST)?;
        let mut is_named = false;
        let mut has_fingerprint = false;
        for attribute in Attributes(attributes) {
            let (kind, value) = attribute?;
            if has_fingerprint {
                // It would not cover what comes after it.
                return Err(MessageError::Fingerprint);
            }
            match kind {
                SOFTWARE_ATTRIBUTE => is_named |= value == SOFTWARE,
                FINGERPRINT => {
                    let covered = &datagram[..datagram.len() - FINGERPRINT_LEN];
                    if value != fingerprint(covered).to_be_bytes() {
                        return Err(MessageError::Fingerprint);
                    }
                    has_fingerprint = true;
                }
                _ => {}
            }
        }
        Ok(Self {
            transaction,
            is_from_tailscale: is_named && has_fingerprint,
        })
    }
}

/// A binding response: "your address is …".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BindingResponse {
    /// That of the request.
    pub transaction: TransactionId,
    /// Where the request came from.
    pub address: SocketAddr,
}

impl BindingResponse {
    /// Reads a datagram; for clients, in tests and simulations.
    ///
    /// # Errors
    /// When it is anything else than a success response with an XOR-MAPPED-ADDRESS.
    pub fn parse(datagram: &[u8]) -> Result<Self, MessageError> {
        let (transaction, attributes) = parse_header(datagram, BINDING_SUCCESS)?;
        for attribute in Attributes(attributes) {
            if let (XOR_MAPPED_ADDRESS, value) = attribute? {
                let address = parse_address(value, &transaction).ok_or(MessageError::Attributes)?;
                return Ok(Self {
                    transaction,
                    address,
                });
            }
        }
        Err(MessageError::NoAddress)
    }
}

/// The request that the official clients send, fingerprint included.
pub fn encode_request(transaction: &TransactionId) -> Vec<u8> {
    let attributes = 4 + SOFTWARE.len() + FINGERPRINT_LEN;
    let mut out = header(BINDING_REQUEST, attributes, transaction);
    put_attribute(&mut out, SOFTWARE_ATTRIBUTE, SOFTWARE);
    let checksum = fingerprint(&out);
    put_attribute(&mut out, FINGERPRINT, &checksum.to_be_bytes());
    out
}

/// The answer to a request that came from `source`: 32 bytes for IPv4, 44 for IPv6.
///
/// An IPv4 address in its IPv6 form is answered as IPv4.
pub fn encode_response(transaction: &TransactionId, source: SocketAddr) -> Vec<u8> {
    let mask = mask(transaction);
    let (family, mut ip) = match source.ip().to_canonical() {
        IpAddr::V4(ip) => (1, ip.octets().to_vec()),
        IpAddr::V6(ip) => (2, ip.octets().to_vec()),
    };
    ip.iter_mut()
        .zip(mask)
        .for_each(|(byte, mask)| *byte ^= mask);
    let mut value = vec![0, family];
    value.put_u16(source.port() ^ u16::from_be_bytes([mask[0], mask[1]]));
    value.put_slice(&ip);
    let mut out = header(BINDING_SUCCESS, 4 + value.len(), transaction);
    put_attribute(&mut out, XOR_MAPPED_ADDRESS, &value);
    out
}

fn header(kind: u16, attributes: usize, transaction: &TransactionId) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEADER_LEN + attributes);
    out.put_u16(kind);
    // Never more than a few dozen bytes.
    out.put_u16(u16::try_from(attributes).unwrap_or(u16::MAX));
    out.put_slice(&MAGIC_COOKIE);
    out.put_slice(transaction);
    out
}

/// Appends an attribute whose length is a multiple of four.
fn put_attribute(out: &mut Vec<u8>, kind: u16, value: &[u8]) {
    out.put_u16(kind);
    out.put_u16(u16::try_from(value.len()).unwrap_or(u16::MAX));
    out.put_slice(value);
}

fn parse_header(datagram: &[u8], kind: u16) -> Result<(TransactionId, &[u8]), MessageError> {
    let (header, attributes) = datagram
        .split_first_chunk::<HEADER_LEN>()
        .ok_or(MessageError::NotStun)?;
    let [k0, k1, l0, l1, c0, c1, c2, c3, transaction @ ..] = *header;
    let len = usize::from(u16::from_be_bytes([l0, l1]));
    if [c0, c1, c2, c3] != MAGIC_COOKIE || k0 & 0xc0 != 0 || len != attributes.len() {
        return Err(MessageError::NotStun);
    }
    if u16::from_be_bytes([k0, k1]) != kind {
        return Err(MessageError::OtherKind);
    }
    Ok((transaction, attributes))
}

/// What an address is XORed with, so that no box on the way rewrites what looks like one.
fn mask(transaction: &TransactionId) -> [u8; 16] {
    let mut mask = [0; 16];
    mask[..4].copy_from_slice(&MAGIC_COOKIE);
    mask[4..].copy_from_slice(transaction);
    mask
}

fn parse_address(value: &[u8], transaction: &TransactionId) -> Option<SocketAddr> {
    let (&[_, family, p0, p1], ip) = value.split_first_chunk::<4>()?;
    let mask = mask(transaction);
    let port = u16::from_be_bytes([p0 ^ mask[0], p1 ^ mask[1]]);
    let ip: Vec<u8> = ip
        .iter()
        .zip(mask)
        .map(|(byte, mask)| byte ^ mask)
        .collect();
    let ip = match family {
        1 => IpAddr::from(*ip.first_chunk::<4>()?),
        2 => IpAddr::from(*ip.first_chunk::<16>()?),
        _ => return None,
    };
    Some(SocketAddr::new(ip.to_canonical(), port))
}

/// The checksum of RFC 5389, section 15.5, over everything in front of its attribute.
fn fingerprint(covered: &[u8]) -> u32 {
    crc32(covered) ^ FINGERPRINT_XOR
}

/// CRC-32 as in Ethernet and zip, bit by bit: messages have a few dozen bytes.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg())
        })
    })
}

/// Attributes of a message, in order.
struct Attributes<'a>(&'a [u8]);

impl<'a> Iterator for Attributes<'a> {
    type Item = Result<(u16, &'a [u8]), MessageError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let attribute = split_attribute(self.0);
        self.0 = attribute.map_or(&[], |(_, _, rest)| rest);
        Some(
            attribute
                .map(|(kind, value, _)| (kind, value))
                .ok_or(MessageError::Attributes),
        )
    }
}

fn split_attribute(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let (&[k0, k1, l0, l1], rest) = bytes.split_first_chunk::<4>()?;
    let len = usize::from(u16::from_be_bytes([l0, l1]));
    let (padded, rest) = rest.split_at_checked(len.next_multiple_of(4))?;
    Some((u16::from_be_bytes([k0, k1]), &padded[..len], rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::unhex;

    const TRANSACTION: TransactionId = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12];

    #[test]
    fn crc32_is_the_usual_one() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }

    #[test]
    fn the_request_is_that_of_the_official_clients() {
        let request = encode_request(&TRANSACTION);
        let fixture = unhex(
            "0001 0014 2112a442          ; binding request, 20 bytes of attributes, cookie
             0102030405060708090a0b0c    ; transaction
             8022 0008 7461696c6e6f6465  ; SOFTWARE, tailnode
             8028 0004                   ; FINGERPRINT",
        );
        assert_eq!(request[..36], fixture);
        let parsed = BindingRequest::parse(&request).unwrap();
        assert_eq!(
            parsed,
            BindingRequest {
                transaction: TRANSACTION,
                is_from_tailscale: true
            }
        );
    }

    /// RFC 5769, section 2.1, shortened to what is read of it would lose the fingerprint, so whole.
    #[test]
    fn the_sample_request_of_the_rfc_is_understood() {
        let sample = unhex(
            "00010058 2112a442 b7e7a701bc34d686fa87dfae
             80220010 5354554e207465737420636c69656e74
             00240004 6e0001ff
             80290008 932ff9b151263b36
             00060009 6576746a3a68367659202020
             00080014 9aeaa70cbfd8cb56781ef2b5b2d3f249c1b571a2
             80280004 e57a3bcf",
        );
        let parsed = BindingRequest::parse(&sample).unwrap();
        assert_eq!(parsed.transaction[..], sample[8..20]);
        assert!(!parsed.is_from_tailscale);
    }

    /// RFC 5769, sections 2.2 and 2.3: the attribute alone, in the RFC's own transaction.
    #[test]
    fn the_mapped_addresses_of_the_rfc_are_made_and_read() {
        let transaction: TransactionId = unhex("b7e7a701bc34d686fa87dfae").try_into().unwrap();
        let cases = [
            (
                "192.0.2.1:32853",
                "0101000c 2112a442",
                "00200008 0001a147e112a643",
            ),
            (
                "[2001:db8:1234:5678:11:2233:4455:6677]:32853",
                "01010018 2112a442",
                "00200014 0002a1470113a9faa5d3f179bc25f4b5bed2b9d9",
            ),
        ];
        for (address, head, attribute) in cases {
            let address: SocketAddr = address.parse().unwrap();
            let response = encode_response(&transaction, address);
            assert_eq!(
                response,
                [unhex(head), transaction.to_vec(), unhex(attribute)].concat()
            );
            let parsed = BindingResponse::parse(&response).unwrap();
            assert_eq!(
                parsed,
                BindingResponse {
                    transaction,
                    address
                }
            );
        }
    }

    #[test]
    fn a_mapped_ipv4_address_is_answered_as_ipv4() {
        let mapped = encode_response(&TRANSACTION, "[::ffff:192.0.2.1]:7".parse().unwrap());
        assert_eq!(
            mapped,
            encode_response(&TRANSACTION, "192.0.2.1:7".parse().unwrap())
        );
    }

    #[test]
    fn what_is_not_a_whole_request_is_refused() {
        let request = encode_request(&TRANSACTION);
        let altered = |at: usize, xor: u8| {
            let mut altered = request.clone();
            altered[at] ^= xor;
            BindingRequest::parse(&altered)
        };
        for len in 0..request.len() {
            assert!(
                BindingRequest::parse(&request[..len]).is_err(),
                "cut to {len}"
            );
        }
        assert_eq!(altered(4, 1), Err(MessageError::NotStun), "cookie");
        assert_eq!(altered(0, 0x80), Err(MessageError::NotStun), "top bits");
        assert_eq!(
            altered(1, 2),
            Err(MessageError::OtherKind),
            "another method"
        );
        assert_eq!(altered(30, 1), Err(MessageError::Fingerprint), "software");
        assert_eq!(
            altered(39, 1),
            Err(MessageError::Fingerprint),
            "fingerprint"
        );
        let response = encode_response(&TRANSACTION, "192.0.2.1:7".parse().unwrap());
        assert_eq!(
            BindingRequest::parse(&response),
            Err(MessageError::OtherKind)
        );
        assert_eq!(
            BindingResponse::parse(&request),
            Err(MessageError::OtherKind)
        );
    }

    #[test]
    fn nothing_may_follow_the_fingerprint() {
        let mut request = encode_request(&TRANSACTION);
        put_attribute(&mut request, 0x8000, b"late");
        request[3] += 8;
        assert_eq!(
            BindingRequest::parse(&request),
            Err(MessageError::Fingerprint)
        );
    }

    #[test]
    fn a_bare_request_is_understood() {
        let bare = header(BINDING_REQUEST, 0, &TRANSACTION);
        let parsed = BindingRequest::parse(&bare).unwrap();
        assert_eq!(
            parsed,
            BindingRequest {
                transaction: TRANSACTION,
                is_from_tailscale: false
            }
        );
    }

    proptest! {
        #[test]
        fn round_trip(transaction: [u8; 12], ip: IpAddr, port: u16) {
            let request = BindingRequest::parse(&encode_request(&transaction)).unwrap();
            prop_assert_eq!(request.transaction, transaction);
            let address = SocketAddr::new(ip.to_canonical(), port);
            let response = BindingResponse::parse(&encode_response(&transaction, address));
            prop_assert_eq!(response, Ok(BindingResponse { transaction, address }));
        }

        #[test]
        fn anything_else_is_refused_without_a_panic(
            bytes in proptest::collection::vec(any::<u8>(), 0..200),
        ) {
            let mut datagram = header(BINDING_REQUEST, bytes.len(), &TRANSACTION);
            datagram.extend_from_slice(&bytes);
            let _ = BindingRequest::parse(&datagram);
            datagram[0] = 1;
            datagram[1] = 1;
            let _ = BindingResponse::parse(&datagram);
            let _ = BindingRequest::parse(&bytes);
        }
    }
}
