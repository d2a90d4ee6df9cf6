//! What the fuzz targets in `fuzz/` do with their input; the saved corpora run through the same
//! functions as ordinary tests. Not part of the crate's interface.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use bytes::BytesMut;
use tokio::io::{AsyncWriteExt as _, DuplexStream};
use tokio_util::sync::CancellationToken;

use crate::{
    Admission, NodeKey, RelayConfig, RelayServer, SecretKey, SessionError, TailnetId, client,
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

/// Gives the input to a relay as what a client sends, first instead of its handshake and then after
/// it. Both sessions must end with the input, and the relay must forget the client.
///
/// # Panics
/// When one does not.
pub fn session(input: &[u8]) {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
    else {
        return;
    };
    let relay = RelayServer::new(
        SecretKey::from_bytes([7; 32]),
        Arc::new(Everyone),
        RelayConfig::default(),
    );
    runtime.block_on(async {
        for after_handshake in [false, true] {
            let (near, far) = tokio::io::duplex(1 << 10);
            let peer = SocketAddr::from(([192, 0, 2, 1], 4242));
            let session = relay.serve(far, peer, CancellationToken::new());
            let (ended, ()) = tokio::join!(session, send(near, input, after_handshake));
            assert!(
                !matches!(ended, Err(SessionError::HandshakeTimeout)),
                "took too long"
            );
        }
    });
    assert_eq!(relay.stats().connections, 0, "a session did not end");
}

struct Everyone;

impl Admission for Everyone {
    fn admit(&self, _node: NodeKey, _source: IpAddr) -> Option<TailnetId> {
        Some(TailnetId::MIN)
    }
}

/// Sends the input and reads until the relay closes; errors are the relay's good right.
async fn send(stream: DuplexStream, input: &[u8], after_handshake: bool) {
    let stream = if after_handshake {
        let key = SecretKey::from_bytes([1; 32]);
        let Ok(client) = client::connect(stream, &key, &client::Options::default()).await else {
            return;
        };
        client.into_inner()
    } else {
        stream
    };
    let (mut reader, mut writer) = tokio::io::split(stream);
    let writing = async {
        let _ = writer.write_all(input).await;
        let _ = writer.shutdown().await;
    };
    let mut sink = tokio::io::sink();
    let _ = tokio::join!(writing, tokio::io::copy(&mut reader, &mut sink));
}

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
