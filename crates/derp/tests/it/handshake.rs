//! Who gets in.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bowline_admission::{Admission, Limits, Listener};
use bowline_derp::{
    NodeKey, RelayConfig, SecretKey, SessionError, TailnetId,
    client::{self, Error, Options},
    frame::{
        Body as _, ClientDetails, ClientInfo, Frame, FrameError, FrameType, KeepAlive, ServerKey,
    },
    sealed,
};
use bytes::BytesMut;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream},
    time::Instant,
};

use crate::harness::{Session, TestRelay, secret, soon};

#[tokio::test(start_paused = true)]
async fn who_is_not_admitted_is_closed_without_a_word() {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let relay = TestRelay::admitting(RelayConfig::default(), {
        let asked = Arc::clone(&asked);
        move |node, source| {
            asked.lock().unwrap().push((node, source));
            None
        }
    });
    let (stream, session) = relay.open_from(1024, "[::ffff:192.0.2.7]:4242");
    let refused = client::connect(stream, &secret(1), &Options::default()).await;
    assert!(matches!(refused, Err(Error::Closed)), "{refused:?}");
    assert!(matches!(
        soon(session).await.unwrap(),
        Err(SessionError::NotAdmitted)
    ));
    let source: IpAddr = "192.0.2.7".parse().unwrap();
    assert_eq!(*asked.lock().unwrap(), [(secret(1).public(), source)]);
    let stats = relay.server.stats();
    assert_eq!(
        (
            stats.refused_not_admitted,
            stats.accepted,
            stats.connections
        ),
        (1, 0, 0)
    );
}

/// The device is deleted after the first question and before the client is registered:
/// `disconnect` comes too early to find it.
#[tokio::test(start_paused = true)]
async fn who_is_removed_while_connecting_does_not_slip_in() {
    let questions = AtomicUsize::new(0);
    let relay = TestRelay::admitting(RelayConfig::default(), move |_, _| {
        (questions.fetch_add(1, Ordering::Relaxed) == 0).then_some(TailnetId::MIN)
    });
    let (stream, session) = relay.open(1024);
    let refused = client::connect(stream, &secret(1), &Options::default()).await;
    assert!(matches!(refused, Err(Error::Closed)), "{refused:?}");
    assert!(matches!(
        soon(session).await.unwrap(),
        Err(SessionError::NotAdmitted)
    ));
    assert!(!relay.server.is_connected(&secret(1).public()));
    assert_eq!(relay.server.stats().connections, 0);
}

/// Reads the greeting and answers with bytes of the test's making.
async fn answer(stream: &mut DuplexStream, make: impl FnOnce(NodeKey) -> Vec<u8>) {
    let mut greeting = [0; 45];
    soon(stream.read_exact(&mut greeting)).await.unwrap();
    let ServerKey { key } = ServerKey::decode(&greeting[5..]).unwrap();
    // The relay may close before it has read all.
    let _ = soon(stream.write_all(&make(key))).await;
}

fn client_info(relay: NodeKey, claimed: NodeKey, sealed_by: &SecretKey, text: &[u8]) -> Vec<u8> {
    let sealed = sealed::seal(sealed_by, &relay, text, &Options::default().entropy).unwrap();
    let mut out = BytesMut::new();
    ClientInfo {
        key: claimed,
        sealed: &sealed,
    }
    .encode(&mut out);
    out.to_vec()
}

async fn end(session: Session) -> SessionError {
    soon(session).await.unwrap().unwrap_err()
}

#[tokio::test(start_paused = true)]
async fn nobody_gets_in_with_the_key_of_another() {
    let relay = TestRelay::new();
    let (mut stream, session) = relay.open(1024);
    let victim = secret(1).public();
    answer(&mut stream, |relay| {
        client_info(relay, victim, &secret(2), b"{}")
    })
    .await;
    assert!(matches!(end(session).await, SessionError::NotOpened(_)));
    assert!(!relay.server.is_connected(&victim));
    assert_eq!(relay.server.stats().handshakes_failed, 1);
}

/// With the zero key as peer the shared secret is a constant, so anybody can make such a box.
#[tokio::test(start_paused = true)]
async fn the_zero_key_is_never_admitted() {
    let relay = TestRelay::new();
    let (mut stream, session) = relay.open(1024);
    let anybody = SecretKey::from_bytes([5; 32]);
    answer(&mut stream, |relay| {
        let mut frame = client_info(relay, anybody.public(), &anybody, b"{}");
        frame[5..37].fill(0);
        frame
    })
    .await;
    assert!(matches!(
        end(session).await,
        SessionError::Frame(FrameError::NoKey { .. })
    ));
}

#[tokio::test(start_paused = true)]
async fn details_that_are_not_json_are_refused_and_unknown_ones_are_not() {
    let relay = TestRelay::new();
    let node = secret(1);
    let (mut stream, session) = relay.open(1024);
    answer(&mut stream, |relay| {
        client_info(relay, node.public(), &node, b"{")
    })
    .await;
    assert!(matches!(end(session).await, SessionError::Details(_)));

    let (mut stream, session) = relay.open(1024);
    let text = br#"{"version":3,"later":[1]}"#;
    answer(&mut stream, |relay| {
        client_info(relay, node.public(), &node, text)
    })
    .await;
    relay.until(|stats| stats.connections == 1).await;
    drop(stream);
    assert!(soon(session).await.unwrap().is_ok());
}

/// What a client sends first, and whether it ends as it should.
type Case = (Vec<u8>, fn(&SessionError) -> bool);

#[tokio::test(start_paused = true)]
async fn the_first_frame_must_be_client_info_of_a_sensible_length() {
    let relay = TestRelay::new();
    let cases: [Case; 4] = [
        (encoded(Frame::KeepAlive(KeepAlive)), |error| {
            matches!(error, SessionError::Unexpected(FrameType::KEEP_ALIVE))
        }),
        (vec![2, 0, 0, 0, 71], |error| {
            matches!(
                error,
                SessionError::Frame(FrameError::Short {
                    need: 72,
                    got: 71,
                    ..
                })
            )
        }),
        (vec![2, 0, 4, 0, 1], |error| {
            matches!(
                error,
                SessionError::Frame(FrameError::Long { max: 16_384, .. })
            )
        }),
        (b"GET / HTTP/1.1\r\n\r\n".to_vec(), |error| {
            matches!(error, SessionError::Unexpected(FrameType(b'G')))
        }),
    ];
    for (bytes, is_right) in cases {
        let (mut stream, session) = relay.open(1024);
        answer(&mut stream, |_| bytes.clone()).await;
        let error = end(session).await;
        assert!(is_right(&error), "{bytes:?}: {error:?}");
    }
    let (mut stream, session) = relay.open(1024);
    answer(&mut stream, |_| vec![2, 0]).await;
    drop(stream);
    assert!(matches!(end(session).await, SessionError::CutOff));
    assert_eq!(relay.server.stats().handshakes_failed, 5);
}

fn encoded(frame: Frame<'_>) -> Vec<u8> {
    let mut out = BytesMut::new();
    frame.encode(&mut out);
    out.to_vec()
}

#[tokio::test(start_paused = true)]
async fn a_handshake_that_stalls_ends_after_ten_seconds() {
    let relay = TestRelay::new();
    for greeting_read in [false, true] {
        // Without room for the greeting the first step stalls, with it the second.
        let (mut stream, session) = relay.open(if greeting_read { 1024 } else { 16 });
        let start = Instant::now();
        if greeting_read {
            // A byte now and then does not help.
            answer(&mut stream, |_| vec![2]).await;
            tokio::time::advance(Duration::from_secs(6)).await;
            stream.write_all(&[0]).await.unwrap();
        }
        let ended = session.await.unwrap();
        assert!(
            matches!(ended, Err(SessionError::HandshakeTimeout)),
            "{ended:?}"
        );
        let elapsed = start.elapsed().as_millis();
        assert!((10_000..10_100).contains(&elapsed), "{elapsed}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_unfinished_handshake_makes_room_and_a_finished_one_takes_none() {
    let relay = TestRelay::new();
    let admission = Admission::new(Limits {
        half_open: 1,
        ..Limits::default()
    });
    let open = |peer: &str| {
        let peer: SocketAddr = peer.parse().unwrap();
        let ticket = admission
            .admit(Listener::Relay, peer.ip(), false, None)
            .unwrap();
        let (near, far) = tokio::io::duplex(1024);
        let relay = relay.clone();
        let session = tokio::spawn(async move {
            let (server, shutdown) = (relay.server, relay.shutdown);
            server.serve_in(ticket, far, peer, shutdown).await
        });
        (near, session)
    };
    let (mut first, first_session) = open("192.0.2.1:1");
    answer(&mut first, |_| vec![]).await;
    let (second, second_session) = open("192.0.2.2:1");
    assert!(matches!(end(first_session).await, SessionError::Crowded));
    let second = client::connect(second, &secret(2), &Options::default())
        .await
        .unwrap();
    let (_third, _third_session) = open("192.0.2.3:1");
    let (_fourth, _fourth_session) = open("192.0.2.4:1");
    assert!(!second_session.is_finished());
    drop(second);
    assert!(soon(second_session).await.unwrap().is_ok());
    relay.until(|stats| stats.refused_crowded == 2).await;
}

#[tokio::test(start_paused = true)]
async fn without_randomness_nobody_gets_in() {
    let dry = bowline_derp::Entropy::from_fn(|_| Err(bowline_derp::NoEntropy));
    let relay = TestRelay::with(RelayConfig {
        entropy: dry,
        ..RelayConfig::default()
    });
    let (stream, session) = relay.open(1024);
    let refused = client::connect(stream, &secret(1), &Options::default()).await;
    assert!(matches!(refused, Err(Error::Closed)), "{refused:?}");
    assert!(matches!(end(session).await, SessionError::NoEntropy(_)));
    assert_eq!(relay.server.stats().connections, 0);
}

#[tokio::test(start_paused = true)]
async fn a_client_refuses_a_relay_that_is_none() {
    let (stream, mut far) = tokio::io::duplex(1024);
    far.write_all(b"\x01\0\0\0\x28DERP----01234567890123456789012345678901")
        .await
        .unwrap();
    let refused = client::connect(stream, &secret(1), &Options::default()).await;
    assert!(
        matches!(refused, Err(Error::Frame(FrameError::Magic))),
        "{refused:?}"
    );

    let (stream, _far) = tokio::io::duplex(1024);
    let refused = client::connect(stream, &secret(1), &Options::default()).await;
    assert!(matches!(refused, Err(Error::Timeout)), "{refused:?}");
}

#[test]
fn an_ordinary_client_says_that_it_answers_pings() {
    assert!(ClientDetails::current().can_ack_pings);
}
