//! Clients in browsers.

use bowline_derp::{
    SessionError,
    client::{self, Event, Options},
};
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Message, protocol::Role},
};

use crate::harness::{PEER, Session, TestRelay, secret, soon};

/// Opens a connection, does the WebSocket handshake by hand, and gives the messages.
async fn open(relay: &TestRelay) -> (WebSocketStream<DuplexStream>, Session) {
    let (mut near, far) = tokio::io::duplex(256 << 10);
    let relay = relay.clone();
    let session = tokio::spawn(async move {
        relay
            .server
            .serve_connection(far, PEER.parse().unwrap(), relay.shutdown)
            .await
    });
    let request = "GET /derp HTTP/1.1\r\nHost: x\r\nOrigin: https://anywhere.example\r\n\
                   Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
                   Sec-WebSocket-Protocol: derp\r\n\r\n";
    near.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(soon(near.read_u8()).await.unwrap());
    }
    let answer = String::from_utf8(answer).unwrap().to_lowercase();
    assert!(answer.starts_with("http/1.1 101 "), "{answer}");
    assert!(
        answer.contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo="),
        "{answer}"
    );
    assert!(answer.contains("sec-websocket-protocol: derp"), "{answer}");
    (
        WebSocketStream::from_raw_socket(near, Role::Client, None).await,
        session,
    )
}

/// Carries the client's bytes as messages, each cut in two, so that messages are not frames.
fn carry(socket: WebSocketStream<DuplexStream>) -> DuplexStream {
    let (near, far) = tokio::io::duplex(64 << 10);
    let (mut sink, mut messages) = socket.split();
    let (mut reader, mut writer) = tokio::io::split(far);
    tokio::spawn(async move {
        let mut bytes = vec![0; 16 << 10];
        while let Ok(len @ 1..) = reader.read(&mut bytes).await {
            let (first, second) = bytes[..len].split_at(len / 2);
            for half in [first, second] {
                sink.send(Message::binary(half.to_vec())).await.unwrap();
            }
        }
        let _ = sink.close().await;
    });
    tokio::spawn(async move {
        while let Some(Ok(message)) = messages.next().await {
            if let Message::Binary(bytes) = message {
                writer.write_all(&bytes).await.unwrap();
            }
        }
        let _ = writer.shutdown().await;
    });
    near
}

#[tokio::test(start_paused = true)]
async fn a_browser_and_a_node_exchange_packets() {
    let relay = TestRelay::new();
    let (socket, session) = open(&relay).await;
    let mut browser = soon(client::connect(
        carry(socket),
        &secret(1),
        &Options::default(),
    ))
    .await
    .unwrap();
    let browser_key = secret(1).public();
    let mut node = relay.join(2).await;
    let packet = vec![0xab; 40_000];
    browser.send(&node.key, &packet).await.unwrap();
    node.expect_packet(&browser_key, &packet).await;
    node.send(&browser_key, &packet).await;
    let wanted = Event::Packet {
        source: node.key,
        packet: packet.into(),
    };
    assert_eq!(soon(browser.recv()).await.unwrap(), wanted);
    drop(browser);
    assert!(soon(session).await.unwrap().is_ok());
}

#[tokio::test(start_paused = true)]
async fn text_messages_and_too_long_ones_end_the_session() {
    let relay = TestRelay::new();
    for message in [Message::text("hello"), Message::binary(vec![0; 200_000])] {
        let (mut socket, session) = open(&relay).await;
        socket.send(message).await.unwrap();
        let ended = soon(session).await.unwrap();
        assert!(matches!(ended, Err(SessionError::Io(_))), "{ended:?}");
    }
}
