//! Clients in browsers: the control protocol inside WebSocket messages.

use std::sync::atomic::Ordering;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bowline_control::noise::handshake::REPLY_LEN;
use bowline_control::noise::{Initiator, NoiseStream, early};
use bowline_testkit::client::Compression;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::net::TcpStream;

use crate::server::Server;

#[tokio::test]
async fn a_browser_joins_and_follows_its_map() {
    let server = Server::start().await;
    let browser = server.browser(1);
    browser.join(&server.key().await).await.unwrap();
    let mut stream = browser.stream(Compression::None).await.unwrap();
    let (_other, device) = server.joined(2).await;
    stream.until(|map| map.peers().count() == 1).await.unwrap();
    server
        .engine
        .delete_device(&server.admin, device)
        .await
        .unwrap();
    stream.until(|map| map.peers().count() == 0).await.unwrap();
}

/// A frame of a client: `kind` with the bit for the last of a message, payload, a mask of zeros.
fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![kind];
    match payload.len() {
        length @ 0..126 => bytes.push(0x80 | u8::try_from(length).unwrap()),
        length @ 126..0x1_0000 => {
            bytes.push(0xfe);
            bytes.extend(u16::try_from(length).unwrap().to_be_bytes());
        }
        length => {
            bytes.push(0xff);
            bytes.extend((length as u64).to_be_bytes());
        }
    }
    bytes.extend([0; 4]);
    bytes.extend(payload);
    bytes
}

const LAST: u8 = 0x80;
const CONTINUED: u8 = 0;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// A connection that is past the WebSocket's handshake, and what is needed to go on.
async fn open(server: &Server) -> (TcpStream, Initiator) {
    let key = Server::control_key();
    let initiator = Initiator::new(&[7; 32], &key, 142).unwrap();
    let query = BASE64_STANDARD
        .encode(initiator.initiation())
        .replace('+', "%2B")
        .replace('/', "%2F");
    let request = format!(
        "GET /ts2021?X-Tailscale-Handshake={query} HTTP/1.1\r\nHost: x\r\n\
         Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
         Sec-WebSocket-Protocol: tailscale-control-protocol\r\n\
         Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n"
    );
    let mut stream = TcpStream::connect(server.authority()).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(stream.read_u8().await.unwrap());
    }
    let answer = String::from_utf8(answer).unwrap().to_lowercase();
    assert!(answer.starts_with("http/1.1 101 "), "{answer}");
    assert!(!answer.contains("extensions"), "no compression: {answer}");
    (stream, initiator)
}

/// One frame of the server: its kind with the bit for the last, and its payload.
async fn read_frame(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> Option<(u8, Vec<u8>)> {
    let kind = stream.read_u8().await.ok()?;
    let length = match stream.read_u8().await.ok()? {
        126 => usize::from(stream.read_u16().await.ok()?),
        length => usize::from(length),
    };
    let mut payload = vec![0; length];
    stream.read_exact(&mut payload).await.ok()?;
    Some((kind, payload))
}

/// Carries bytes to the server in frames of one byte, each message of two frames with a ping
/// between them, and gives what comes back as one stream.
fn in_pieces(stream: TcpStream) -> DuplexStream {
    let (near, far) = tokio::io::duplex(64 << 10);
    let (mut from_server, mut to_server) = stream.into_split();
    let (mut from_client, mut to_client) = tokio::io::split(far);
    tokio::spawn(async move {
        while let Some((kind, payload)) = read_frame(&mut from_server).await {
            if kind == LAST | BINARY && to_client.write_all(&payload).await.is_err() {
                return;
            }
        }
    });
    tokio::spawn(async move {
        let mut bytes = vec![0; 4096];
        while let Ok(length @ 1..) = from_client.read(&mut bytes).await {
            let mut frames = Vec::new();
            for pair in bytes[..length].chunks(2) {
                frames.extend(frame(BINARY, &pair[..1]));
                frames.extend(frame(LAST | PING, b"?"));
                frames.extend(frame(LAST | CONTINUED, &pair[1..]));
            }
            if to_server.write_all(&frames).await.is_err() {
                return;
            }
        }
    });
    near
}

#[tokio::test]
async fn where_frames_and_messages_end_means_nothing() {
    let server = Server::start().await;
    let (stream, initiator) = open(&server).await;
    let mut stream = in_pieces(stream);
    let mut reply = [0; REPLY_LEN];
    stream.read_exact(&mut reply).await.unwrap();
    let (tx, rx) = initiator.finish(&reply).unwrap();
    let mut noise = NoiseStream::new(stream, tx, rx);
    early::read(&mut noise).await.unwrap();
    let (mut requests, connection) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
        .handshake::<_, http_body_util::Empty<bytes::Bytes>>(TokioIo::new(noise))
        .await
        .unwrap();
    tokio::spawn(connection);
    let request = http::Request::get("https://x/machine/whoami")
        .body(http_body_util::Empty::new())
        .unwrap();
    let answer = requests.send_request(request).await.unwrap();
    assert_eq!(answer.status(), 200);
}

#[tokio::test]
async fn what_is_not_the_protocol_s_ends_the_connection_and_nothing_else() {
    let server = Server::start().await;
    let long = vec![0; (128 << 10) + 1];
    let endless = [
        frame(BINARY, &vec![0; 100 << 10]),
        frame(CONTINUED, &vec![0; 100 << 10]),
    ]
    .concat();
    // A whole one: kind 4, 97 bytes.
    let record = [&[4, 0, 97][..], &[7; 97]].concat();
    let beyond_all = [&[LAST | BINARY, 0xff, 0x7f][..], &[0xff; 7], &[0; 4]].concat();
    let cases = [
        ("a text message", frame(LAST | TEXT, b"hello")),
        (
            "a record that is not encrypted",
            frame(LAST | BINARY, &record),
        ),
        ("a message that is too long", frame(LAST | BINARY, &long)),
        ("pieces that are too long together", endless),
        (
            "a frame of a kind that does not exist",
            frame(LAST | 3, b"x"),
        ),
        ("a continuation of nothing", frame(LAST | CONTINUED, b"x")),
        ("a long ping", frame(LAST | PING, &[0; 126])),
        ("a frame without a mask", vec![LAST | BINARY, 1, 0]),
        ("a length beyond all", beyond_all),
        ("a farewell", frame(LAST | CLOSE, &1000_u16.to_be_bytes())),
    ];
    for (what, bytes) in cases {
        let (mut stream, _initiator) = open(&server).await;
        // The server may end it before all is written.
        let _ = stream.write_all(&bytes).await;
        let ended = async { while read_frame(&mut stream).await.is_some() {} };
        tokio::time::timeout(Duration::from_secs(5), ended)
            .await
            .unwrap_or_else(|_| panic!("{what} is borne"));
    }
    let counter = &server.control.counters().open_connections;
    let closed = async {
        while counter.load(Ordering::Relaxed) > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), closed)
        .await
        .unwrap();
    // A ping is answered, and others are served.
    let (mut stream, _initiator) = open(&server).await;
    stream
        .write_all(&frame(LAST | PING, b"are you there"))
        .await
        .unwrap();
    loop {
        let (kind, payload) = read_frame(&mut stream).await.unwrap();
        if kind == LAST | PONG {
            assert_eq!(payload, b"are you there");
            break;
        }
    }
    server.browser(1).join(&server.key().await).await.unwrap();
}
