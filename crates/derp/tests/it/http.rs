//! The way in, over loopback TCP and byte for byte.

use std::{net::SocketAddr, time::Duration};

use bowline_derp::{
    SessionError,
    client::{self, Client, Error, Event, Options},
};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream},
    net::{TcpListener, TcpStream},
    time::Instant,
};

use crate::harness::{PEER, Session, TestRelay, secret, soon};

/// Accepts on loopback until the relay is shut down.
async fn listen(relay: &TestRelay) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let relay = relay.clone();
    tokio::spawn(async move {
        loop {
            let (stream, peer) = tokio::select! {
                () = relay.shutdown.cancelled() => break,
                accepted = listener.accept() => accepted.unwrap(),
            };
            let relay = relay.clone();
            tokio::spawn(async move {
                let _ = relay
                    .server
                    .serve_connection(stream, peer, relay.shutdown)
                    .await;
            });
        }
    });
    address
}

async fn dial(address: SocketAddr, seed: u8) -> Client<TokioIo<Upgraded>> {
    let stream = soon(TcpStream::connect(address)).await.unwrap();
    let stream = soon(client::upgrade(stream, "derp.example.com"))
        .await
        .unwrap();
    soon(client::connect(stream, &secret(seed), &Options::default()))
        .await
        .unwrap()
}

#[tokio::test]
async fn nodes_exchange_packets_over_tcp() {
    let relay = TestRelay::new();
    let address = listen(&relay).await;
    let (mut alice, mut bob) = (dial(address, 1).await, dial(address, 2).await);
    assert_eq!(alice.relay_key(), relay.server.public_key());
    let (alice_key, bob_key) = (secret(1).public(), secret(2).public());
    // Fewer than the queue holds, so that none is dropped however the tasks run.
    for round in 0..20_u8 {
        alice.send(&bob_key, &vec![round; 1400]).await.unwrap();
        let event = soon(bob.recv()).await.unwrap();
        let packet = vec![round; 1400].into();
        assert_eq!(
            event,
            Event::Packet {
                source: alice_key,
                packet
            }
        );
        bob.send(&alice_key, &[round]).await.unwrap();
        let packet = vec![round].into();
        assert_eq!(
            soon(alice.recv()).await.unwrap(),
            Event::Packet {
                source: bob_key,
                packet
            }
        );
    }
    relay.shutdown.cancel();
    assert!(matches!(soon(alice.recv()).await, Err(Error::Closed)));
    assert!(matches!(soon(bob.recv()).await, Err(Error::Closed)));
}

/// One connection through memory that speaks HTTP first.
fn open(relay: &TestRelay) -> (DuplexStream, Session) {
    let (near, far) = tokio::io::duplex(64 << 10);
    let relay = relay.clone();
    let session = tokio::spawn(async move {
        relay
            .server
            .serve_connection(far, PEER.parse().unwrap(), relay.shutdown)
            .await
    });
    (near, session)
}

/// Sends a request, ends the sending side, and gives all that comes back.
async fn ask(relay: &TestRelay, request: &str) -> String {
    let (mut stream, session) = open(relay);
    stream
        .write_all(request.replace('\n', "\r\n").as_bytes())
        .await
        .unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = Vec::new();
    soon(stream.read_to_end(&mut answer)).await.unwrap();
    let _ = soon(session).await.unwrap();
    String::from_utf8(answer).unwrap()
}

fn head(answer: &str) -> &str {
    answer.split("\r\n\r\n").next().unwrap()
}

fn header<'a>(answer: &'a str, name: &str) -> Option<&'a str> {
    let lines = head(answer).split("\r\n").skip(1);
    let mut fields = lines.filter_map(|line| line.split_once(": "));
    fields
        .find(|(field, _)| field.eq_ignore_ascii_case(name))
        .map(|(_, value)| value)
}

#[track_caller]
fn assert_status(answer: &str, status: u16) {
    assert!(
        answer.starts_with(&format!("HTTP/1.1 {status} ")),
        "{answer}"
    );
}

#[tokio::test(start_paused = true)]
async fn the_upgrade_is_answered_as_clients_expect_it() {
    let relay = TestRelay::new();
    let requests = [
        // The Go client.
        "GET /derp HTTP/1.1\nHost: x\nConnection: Upgrade\nUpgrade: DERP\n\n",
        // The Rust client.
        "POST /derp HTTP/1.1\nHost: x\nconnection: upgrade\nupgrade: DERP\ncontent-length: 0\n\n",
        "GET /derp HTTP/1.1\nHost: x\nConnection: keep-alive, Upgrade\nUpgrade: derp\n\n",
    ];
    for request in requests {
        let (mut stream, session) = open(&relay);
        stream
            .write_all(request.replace('\n', "\r\n").as_bytes())
            .await
            .unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            answer.push(soon(stream.read_u8()).await.unwrap());
        }
        let answer = String::from_utf8(answer).unwrap();
        assert_status(&answer, 101);
        assert_eq!(header(&answer, "Upgrade"), Some("DERP"));
        assert_eq!(header(&answer, "Connection"), Some("Upgrade"));
        assert_eq!(header(&answer, "Derp-Version"), Some("2"));
        let key = relay.server.public_key().to_string();
        assert_eq!(
            header(&answer, "Derp-Public-Key"),
            key.strip_prefix("nodekey:")
        );
        let node = soon(client::connect(stream, &secret(1), &Options::default()))
            .await
            .unwrap();
        drop(node);
        assert!(soon(session).await.unwrap().is_ok());
    }
}

/// A client may know the relay's key and send its details with the request.
#[tokio::test(start_paused = true)]
async fn bytes_that_come_with_the_request_are_not_lost() {
    let relay = TestRelay::new();
    let (mut stream, session) = open(&relay);
    let request = "GET /derp HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: DERP\r\n\r\n";
    stream
        .write_all(&[request.as_bytes(), &[0x06, 0, 0, 0, 0]].concat())
        .await
        .unwrap();
    let ended = soon(session).await.unwrap();
    assert!(
        matches!(ended, Err(SessionError::Unexpected(_))),
        "{ended:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn without_an_upgrade_there_is_no_derp() {
    let relay = TestRelay::new();
    let cases = [
        ("GET /derp HTTP/1.1\nHost: x\n\n", 426),
        ("GET /derp HTTP/1.1\nHost: x\nUpgrade: DERP\n\n", 426),
        (
            "GET /derp HTTP/1.1\nHost: x\nConnection: Upgrade\nUpgrade: h2c\n\n",
            426,
        ),
        (
            "PUT /derp HTTP/1.1\nHost: x\nConnection: Upgrade\nUpgrade: DERP\nContent-Length: 0\n\n",
            405,
        ),
        ("GET /derp/other HTTP/1.1\nHost: x\n\n", 404),
        ("nonsense\n\n", 400),
    ];
    for (request, status) in cases {
        assert_status(&ask(&relay, request).await, status);
    }
    assert_eq!(relay.server.stats().accepted, 0);
}

#[tokio::test(start_paused = true)]
async fn probes_are_answered() {
    let relay = TestRelay::new();
    for path in ["/derp/probe", "/derp/latency-check"] {
        for method in ["GET", "HEAD"] {
            let answer = ask(&relay, &format!("{method} {path} HTTP/1.1\nHost: x\n\n")).await;
            assert_status(&answer, 200);
            assert_eq!(header(&answer, "Access-Control-Allow-Origin"), Some("*"));
        }
        let answer = ask(&relay, &format!("DELETE {path} HTTP/1.1\nHost: x\n\n")).await;
        assert_status(&answer, 405);
    }
    let answer = ask(&relay, "GET /bootstrap-dns?q=x HTTP/1.1\nHost: x\n\n").await;
    assert_status(&answer, 200);
    assert_eq!(header(&answer, "Content-Type"), Some("application/json"));
    assert!(answer.ends_with("\r\n\r\n{}\n"), "{answer}");
    assert_status(&ask(&relay, "GET / HTTP/1.1\nHost: x\n\n").await, 200);
}

#[tokio::test(start_paused = true)]
async fn a_challenge_is_answered_only_if_it_is_harmless() {
    let relay = TestRelay::new();
    let longest = "a".repeat(64);
    let cases = [
        (
            "ts_derp.example.com",
            Some("response ts_derp.example.com".to_owned()),
        ),
        (&longest, Some(format!("response {longest}"))),
        (&"a".repeat(65), None),
        ("a b", None),
        ("<script>", None),
        ("", None),
    ];
    for (challenge, wanted) in cases {
        let request =
            format!("GET /generate_204 HTTP/1.1\nHost: x\nX-Tailscale-Challenge: {challenge}\n\n");
        let answer = ask(&relay, &request).await;
        assert_status(&answer, 204);
        assert_eq!(
            header(&answer, "X-Tailscale-Response"),
            wanted.as_deref(),
            "{challenge}"
        );
        assert!(answer.ends_with("\r\n\r\n"), "no body: {answer}");
    }
}

#[tokio::test(start_paused = true)]
async fn several_requests_may_use_one_connection_but_not_for_ever() {
    let relay = TestRelay::new();
    let (mut stream, session) = open(&relay);
    let start = Instant::now();
    for _ in 0..3 {
        stream
            .write_all(b"GET /derp/probe HTTP/1.1\r\nHost: x\r\n\r\n")
            .await
            .unwrap();
        let mut answer = [0; 512];
        let len = soon(stream.read(&mut answer)).await.unwrap();
        assert!(answer[..len].starts_with(b"HTTP/1.1 200 "));
        tokio::time::advance(Duration::from_secs(9)).await;
    }
    let ended = session.await.unwrap();
    assert!(!matches!(ended, Err(SessionError::Io(_))), "{ended:?}");
    assert!(
        start.elapsed() <= Duration::from_secs(38),
        "{:?}",
        start.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn a_request_that_never_ends_is_given_up() {
    let relay = TestRelay::new();
    let (mut stream, session) = open(&relay);
    let start = Instant::now();
    stream
        .write_all(b"GET /derp HTTP/1.1\r\nX: ")
        .await
        .unwrap();
    tokio::task::yield_now().await;
    let ended = session.await.unwrap();
    assert!(
        matches!(ended, Err(SessionError::HandshakeTimeout)),
        "{ended:?}"
    );
    assert!(
        start.elapsed() < Duration::from_secs(11),
        "{:?}",
        start.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn a_head_that_is_too_long_is_refused() {
    let relay = TestRelay::new();
    let request = format!("GET /derp HTTP/1.1\nX: {}\n\n", "x".repeat(40_000));
    assert_status(&ask(&relay, &request).await, 431);
}

#[tokio::test(start_paused = true)]
async fn a_client_reports_a_server_that_does_not_switch() {
    let (near, mut far) = tokio::io::duplex(1024);
    tokio::spawn(async move {
        let mut request = [0; 1024];
        let _ = far.read(&mut request).await;
        let _ = far
            .write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
            .await;
    });
    let refused = soon(client::upgrade(near, "x")).await;
    assert!(matches!(refused, Err(Error::NotUpgraded(status)) if status == 404));
}
