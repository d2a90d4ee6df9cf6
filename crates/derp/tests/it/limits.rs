//! What clients may send, and what ends their session.

use bowline_derp::{
    SessionError,
    client::Event,
    frame::{ClosePeer, ForwardPacket, Frame, FrameError, FrameType, MAX_PAYLOAD, WatchConns},
    fuzzing,
};
use proptest::prelude::*;

use crate::harness::{Node, TestRelay, secret, soon};

async fn end_after(node: Node, bytes: &[u8]) -> SessionError {
    let Node {
        mut client,
        session,
        ..
    } = node;
    client.writer().put_raw(bytes);
    let _ = soon(client.writer().flush()).await;
    soon(session).await.unwrap().unwrap_err()
}

/// The header alone is enough: nothing is read, and no memory is taken, for what is too long.
#[tokio::test(start_paused = true)]
async fn a_frame_of_the_wrong_length_ends_the_session() {
    let relay = TestRelay::new();
    let too_long = u32::try_from(MAX_PAYLOAD + 1).unwrap();
    let cases = [
        (FrameType::SEND_PACKET, 31),
        (FrameType::SEND_PACKET, 32 + (64 << 10) + 1),
        (FrameType::SEND_PACKET, u32::MAX),
        (FrameType::PING, 7),
        (FrameType::PING, 1001),
        (FrameType::NOTE_PREFERRED, 0),
        (FrameType::NOTE_PREFERRED, 2),
        (FrameType::RECV_PACKET, too_long),
        (FrameType(0xee), too_long),
        (FrameType(0xee), u32::MAX),
    ];
    for (case, (kind, len)) in cases.into_iter().enumerate() {
        let header = [&[kind.0][..], &len.to_be_bytes()].concat();
        let error = end_after(relay.join(1).await, &header).await;
        assert!(
            matches!(
                error,
                SessionError::Frame(FrameError::Short { .. } | FrameError::Long { .. })
            ),
            "{kind:?} {len}: {error:?}"
        );
        assert_eq!(relay.server.stats().protocol_errors, case as u64 + 1);
    }
}

#[tokio::test(start_paused = true)]
async fn frames_of_mesh_peers_are_refused() {
    let relay = TestRelay::new();
    let bob = relay.join(2).await;
    let key = secret(1).public();
    let frames = [
        Frame::WatchConns(WatchConns),
        Frame::ClosePeer(ClosePeer { peer: bob.key }),
        Frame::ForwardPacket(ForwardPacket {
            source: key,
            destination: bob.key,
            packet: b"x",
        }),
    ];
    for frame in frames {
        let mut bytes = bytes::BytesMut::new();
        frame.encode(&mut bytes);
        let error = end_after(relay.join(1).await, &bytes).await;
        assert!(
            matches!(error, SessionError::NotPermitted(_)),
            "{frame:?}: {error:?}"
        );
    }
    let mut bob = bob;
    assert_eq!(bob.sync().await, []);
}

#[tokio::test(start_paused = true)]
async fn unknown_frames_are_skipped_however_long() {
    let relay = TestRelay::new();
    let mut alice = relay.join(1).await;
    let long = vec![0xff; MAX_PAYLOAD];
    for payload in [&b""[..], b"short", &long] {
        alice
            .client
            .writer()
            .put(&Frame::Unknown(FrameType(0xee), payload));
        // What the relay sends to clients is no more than an unknown frame from one.
        alice
            .client
            .writer()
            .put(&Frame::Unknown(FrameType::RECV_PACKET, b"!"));
        assert_eq!(alice.sync().await, []);
    }
    assert_eq!(relay.server.stats().unknown_frames, 6);
}

#[tokio::test(start_paused = true)]
async fn pings_are_answered_with_their_first_eight_bytes() {
    let relay = TestRelay::new();
    let mut alice = relay.join(1).await;
    alice.client.writer().ping(*b"12345678").await.unwrap();
    assert_eq!(alice.recv().await, Event::Pong(*b"12345678"));
    let longer = [&b"abcdefgh"[..], &[0; 992]].concat();
    alice
        .client
        .writer()
        .put(&Frame::Unknown(FrameType::PING, &longer));
    alice.client.writer().flush().await.unwrap();
    assert_eq!(alice.recv().await, Event::Pong(*b"abcdefgh"));
    // Pongs and keep-alives of clients are fine, and mean nothing.
    alice.client.writer().pong(*b"whatever").await.unwrap();
    assert_eq!(alice.sync().await, []);
}

/// A client that pings without reading gets the answers that it can take, and no pile of them.
#[tokio::test(start_paused = true)]
async fn a_flood_of_pings_is_not_answered_one_by_one() {
    let relay = TestRelay::new();
    let mut alice = relay.join(1).await;
    for _ in 0..1000 {
        alice
            .client
            .writer()
            .put(&Frame::Unknown(FrameType::PING, b"12345678"));
    }
    alice.client.writer().flush().await.unwrap();
    let key = alice.key;
    alice.send(&key, "the end").await;
    while alice.recv().await == Event::Pong(*b"12345678") {}
    let answered = relay.server.stats().pongs;
    assert!((1..500).contains(&answered), "{answered} answers");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_in_the_middle_of_a_frame_is_noticed() {
    let relay = TestRelay::new();
    let mut alice = relay.join(1).await;
    alice.client.writer().put_raw(&[0x04, 0, 0, 0, 40, 1, 2, 3]);
    alice.client.writer().flush().await.unwrap();
    alice.client.writer().close().await.unwrap();
    let ended = soon(alice.session).await.unwrap();
    assert!(matches!(ended, Err(SessionError::CutOff)), "{ended:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn garbage_ends_a_session_and_never_panics(
        bytes in proptest::collection::vec(any::<u8>(), 0..3000),
    ) {
        fuzzing::session(&bytes);
    }

    /// Bytes that are frames at least in their length, so that more of them is looked at.
    #[test]
    fn garbage_in_frames_never_panics(
        frames in proptest::collection::vec(
            (0..0x17_u8, proptest::collection::vec(any::<u8>(), 0..100)),
            0..20,
        ),
    ) {
        let mut bytes = bytes::BytesMut::new();
        for (kind, payload) in &frames {
            Frame::Unknown(FrameType(*kind), payload).encode(&mut bytes);
        }
        fuzzing::session(&bytes);
        fuzzing::frames(&bytes);
    }
}
