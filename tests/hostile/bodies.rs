//! Request bodies that have no end, of parties who have shown nothing or little.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bowline_testkit::client::{Answer, Client, Connection, Identity, Server};
use bytes::Bytes;
use http::StatusCode;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::JoinSet;

use crate::harness::Site;
use crate::home::patiently;

/// Streams of one connection, as many as an HTTP/2 client may open.
const STREAMS: usize = 100;
/// What each of them sends: what a body could be at most before.
const EACH: usize = 4 << 20;
/// As much as the server may grow. The attack sends ten times as much.
const GROWTH: u64 = 100 << 20;

/// Requests that are open until this is dropped.
struct Flood {
    _open: JoinSet<anyhow::Result<Answer>>,
    /// How those were answered that were.
    statuses: Vec<StatusCode>,
}

/// Opens as many streams as it can on each connection, and sees for a while how they are answered.
async fn flood(connections: &[Arc<Connection>], path: &'static str, each: usize) -> Flood {
    let mut requests = JoinSet::new();
    for connection in connections {
        for _ in 0..STREAMS {
            let pieces = vec![Bytes::from(vec![b' '; 32 << 10]); each / (32 << 10)];
            let request = connection.clone();
            requests.spawn(async move { request.request_without_end(path, pieces).await });
        }
    }
    let mut statuses = Vec::new();
    let deadline = Instant::now() + Duration::from_secs(3);
    while let Some(left) = deadline.checked_duration_since(Instant::now()) {
        match tokio::time::timeout(left, requests.join_next()).await {
            Ok(Some(answer)) => {
                if let Ok(answer) = answer.unwrap() {
                    statuses.push(answer.status);
                }
            }
            Ok(None) | Err(_) => break,
        }
    }
    Flood {
        _open: requests,
        statuses,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_of_strangers_are_small_few_and_end() {
    let site = Site::start(&[]).await;
    let bystander = site.bystander().await;
    let server = site.as_attacker().await;
    let before = site.memory();
    let mut connections = Vec::new();
    for number in 0..4 {
        let client = Client::new(server.clone(), Identity::numbered(number), "attacker");
        connections.push(Arc::new(client.connect().await.unwrap()));
    }
    let flooded = flood(&connections, "/machine/register", EACH).await;
    let statuses = &flooded.statuses;
    let grown = site.memory().saturating_sub(before);
    assert!(grown < GROWTH, "grew by {} MiB", grown >> 20);
    // Each was refused: for its size, or because of those that came before.
    let of = |status: StatusCode| statuses.iter().filter(|other| **other == status).count();
    let (large, many) = (
        of(StatusCode::PAYLOAD_TOO_LARGE),
        of(StatusCode::TOO_MANY_REQUESTS),
    );
    assert!(large > 0 && many > 0, "{large} too large, {many} too many");
    assert_eq!(large + many, statuses.len());
    // Those that stay within the size hold little, and not for long.
    let mut quiet = Vec::new();
    for number in 10..20 {
        let client = Client::new(server.clone(), Identity::numbered(number), "attacker");
        quiet.push(Arc::new(client.connect().await.unwrap()));
    }
    let _quiet = flood(&quiet, "/machine/map", 32 << 10).await;
    let in_flight = site.metric("bowline_bodies_in_flight_bytes").await;
    assert!(in_flight <= 10 * (128 << 10), "{in_flight} bytes in flight");
    let gone = async {
        while site.metric("bowline_bodies_in_flight_bytes").await > 0 {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    patiently(gone).await;
    bystander.rounds(2).await;
    bystander.assert_served().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_of_a_device_have_a_share_of_the_budget() {
    let site = Site::start(&[]).await;
    let bystander = site.bystander().await;
    let server = site.as_attacker().await;
    let client = Client::new(server, Identity::random().unwrap(), "attacker");
    client.join(&site.attacked.auth_key).await.unwrap();
    let before = site.memory();
    let mut connections = Vec::new();
    for _ in 0..8 {
        connections.push(Arc::new(client.connect().await.unwrap()));
    }
    let _flooded = flood(&connections, "/machine/map", 1 << 20).await;
    let grown = site.memory().saturating_sub(before);
    assert!(grown < GROWTH, "grew by {} MiB", grown >> 20);
    let in_flight = site.metric("bowline_bodies_in_flight_bytes").await;
    assert!(in_flight <= 32 << 20, "{in_flight} bytes in flight");
    bystander.rounds(2).await;
    bystander.assert_served().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_does_not_arrive_ends_its_connection() {
    let site = Site::start(&[]).await;
    let bystander = site.bystander().await;
    let server: Server = site.as_attacker().await;
    let mut sockets = Vec::new();
    for _ in 0..50 {
        let mut socket = server.dial().await.unwrap();
        let head = "POST /verify HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{";
        socket.write_all(head.as_bytes()).await.unwrap();
        sockets.push(socket);
    }
    for mut socket in sockets {
        let mut answer = String::new();
        // To its end: it is closed.
        patiently(socket.read_to_string(&mut answer)).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 408 "), "{answer:?}");
    }
    bystander.assert_served().await;
}
