//! Clients that are not there any more, that do not read, and that are two.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bowline_control::{Config, Liveness};
use bowline_model::id::DeviceId;
use bowline_testkit::client::{CAPABILITY_VERSION, Client, Compression, Connection};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::server::{Server, config};

/// What becomes of a client's bytes.
const PASSES: u8 = 0;
/// The process stands still: it reads nothing, and its system takes what its buffers hold.
const STANDS: u8 = 1;
/// A proxy took the place of a device without power: it takes everything.
const SWALLOWS: u8 = 2;

/// A client's connection whose other end can vanish without a word.
struct Vanishing {
    io: TcpStream,
    state: Arc<AtomicU8>,
}

impl AsyncRead for Vanishing {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        loop {
            let before = out.filled().len();
            match self.state.load(Ordering::SeqCst) {
                // Nothing wakes it again.
                STANDS => return Poll::Pending,
                state => {
                    let read = Pin::new(&mut self.io).poll_read(context, out);
                    if state == PASSES || !matches!(read, Poll::Ready(Ok(()))) {
                        return read;
                    }
                    out.set_filled(before);
                }
            }
        }
    }
}

impl AsyncWrite for Vanishing {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        if self.state.load(Ordering::SeqCst) == PASSES {
            return Pin::new(&mut self.io).poll_write(context, bytes);
        }
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}

fn impatient() -> Config {
    Config {
        liveness: Liveness {
            interval: Duration::from_millis(400),
            mobile_interval: Duration::from_secs(50),
            timeout: Duration::from_millis(400),
            stuck: Duration::from_millis(800),
        },
        ..config()
    }
}

async fn connect(server: &Server, client: &Client, state: &Arc<AtomicU8>) -> Connection {
    let io = server.address.dial().await.unwrap();
    let state = state.clone();
    let stream = Vanishing { io, state };
    Connection::open_over(
        stream,
        &server.address,
        client.identity(),
        CAPABILITY_VERSION,
    )
    .await
    .unwrap()
}

fn is_online(server: &Server, device: DeviceId) -> bool {
    let (_, entry) = server.engine.device(&server.admin, device).unwrap();
    entry.live.online
}

async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(15);
    while !is_so() {
        assert!(Instant::now() < deadline, "in vain waited until {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_device_whose_process_does_not_answer_goes_offline_and_others_stay() {
    let server = Server::with(impatient()).await;
    let counters = server.control.counters();
    for (number, way) in [(1, STANDS), (2, SWALLOWS)] {
        let (client, device) = server.joined(number).await;
        let (idle, idle_device) = server.joined(number + 10).await;
        let _idle = idle.stream(Compression::Zstd).await.unwrap();
        let state = Arc::default();
        let connection = connect(&server, &client, &state).await;
        let mut frames = connection
            .map(&client.map_request(Compression::Zstd))
            .await
            .unwrap();
        frames.next().await.unwrap().unwrap();
        until("it is online", || is_online(&server, device)).await;
        // Quiet, it stays: its process answers.
        let pause = Instant::now() + Duration::from_secs(2);
        until("some pings were answered", || Instant::now() > pause).await;
        assert!(is_online(&server, device));
        let before = counters.silent_connections.load(Ordering::Relaxed);
        state.store(way, Ordering::SeqCst);
        until("it is offline", || !is_online(&server, device)).await;
        assert!(counters.silent_connections.load(Ordering::Relaxed) > before);
        assert!(is_online(&server, idle_device));
    }
}

#[tokio::test]
async fn a_phone_is_asked_less_often() {
    let server = Server::with(impatient()).await;
    let phone = server.client(1).with_hostinfo("OS", "iOS".into());
    phone.join(&server.key().await).await.unwrap();
    let state = Arc::default();
    let connection = connect(&server, &phone, &state).await;
    let mut frames = connection
        .map(&phone.map_request(Compression::Zstd))
        .await
        .unwrap();
    frames.next().await.unwrap().unwrap();
    state.store(STANDS, Ordering::SeqCst);
    let pause = Instant::now() + Duration::from_secs(2);
    until("a ping would be late", || Instant::now() > pause).await;
    assert_eq!(server.engine.stream_count(), 1);
}

#[tokio::test]
async fn a_client_that_never_reads_its_map_is_disconnected() {
    let server = Server::with(impatient()).await;
    let (client, device) = server.joined(1).await;
    let io = server.address.dial().await.unwrap();
    let connection = Connection::open_with_window(
        io,
        &server.address,
        client.identity(),
        CAPABILITY_VERSION,
        64, // less than a map
    )
    .await
    .unwrap();
    let unread = connection
        .map(&client.map_request(Compression::Zstd))
        .await
        .unwrap();
    until("it is online", || is_online(&server, device)).await;
    // It answers pings all the while.
    let counters = server.control.counters();
    until("it was given up", || {
        counters.stuck_connections.load(Ordering::Relaxed) == 1
    })
    .await;
    until("it is offline", || !is_online(&server, device)).await;
    assert_eq!(counters.silent_connections.load(Ordering::Relaxed), 0);
    drop(unread);
}

/// A machine that opens its stream again on the same connection whenever it ends.
async fn insist(server: &Server, client: &Client, opened: &AtomicU8, told: &AtomicU8) {
    let connection = connect(server, client, &Arc::default()).await;
    loop {
        let mut frames = connection
            .map(&client.map_request(Compression::Zstd))
            .await
            .unwrap();
        opened.fetch_add(1, Ordering::SeqCst);
        while let Some(message) = frames.next_decoded().await.unwrap() {
            let message = String::from_utf8(message).unwrap();
            if message.contains("Another machine uses this device's key") {
                told.fetch_add(1, Ordering::SeqCst);
            }
        }
    }
}

#[tokio::test]
async fn two_machines_with_one_state_file_are_told_apart_from_one_and_slowed_down() {
    let server = Server::start().await;
    let (client, device) = server.joined(1).await;
    let is_noticed = || {
        let (_, entry) = server.engine.device(&server.admin, device).unwrap();
        entry.live.multiple_connections
    };
    // One machine that reconnects because its connections die, which the server does not know.
    let mut dead = Vec::new();
    for _ in 0..8 {
        let state = Arc::default();
        let connection = connect(&server, &client, &state).await;
        let frames = connection
            .map(&client.map_request(Compression::Zstd))
            .await
            .unwrap();
        state.store(STANDS, Ordering::SeqCst);
        dead.push((connection, frames));
    }
    assert!(!is_noticed());
    drop(dead);
    let (opened, told) = (AtomicU8::new(0), AtomicU8::new(0));
    let observe = async {
        until("it is noticed", is_noticed).await;
        let pause = Instant::now() + Duration::from_secs(6);
        until("they have fought for a while", || Instant::now() > pause).await;
    };
    tokio::select! {
        () = insist(&server, &client, &opened, &told) => {}
        () = insist(&server, &client, &opened, &told) => {}
        () = observe => {}
    }
    let opened = opened.load(Ordering::SeqCst);
    assert!((4..12).contains(&opened), "{opened} streams");
    assert_eq!(server.engine.rivalries(), (1, 1));
    assert!(told.load(Ordering::SeqCst) >= 2, "both machines say so");
}
