//! Connections of parties who have shown nothing, as many as one address can open.

use std::time::Duration;

use bowline_testkit::client::{Client, Connection, Identity, Server};
use http::Method;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::harness::{Site, many_files};
use crate::home::patiently;

/// More than a process may have files by default.
const MANY: usize = 1_100;
/// That default.
const FILES: u64 = 1_024;
/// Half of what connections may have of it.
const HALF_OPEN: usize = 448;

/// How many of some sockets the server has not closed.
fn open(sockets: &[TcpStream]) -> usize {
    let is_open = |socket: &&TcpStream| {
        let mut byte = [0];
        matches!(socket.try_read(&mut byte), Err(error) if error.kind() == std::io::ErrorKind::WouldBlock)
    };
    sockets.iter().filter(is_open).count()
}

async fn until(mut is_so: impl FnMut() -> bool) {
    let wait = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    patiently(wait).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silent_connections_of_one_address_hold_up_nobody() {
    many_files();
    let site = Site::start_within(FILES, &[]).await;
    let bystander = site.bystander().await;
    let server = site.as_attacker().await;
    // 400 in a second, for some seconds: silent, or in the middle of a head.
    let mut sockets = Vec::new();
    for number in 0..MANY {
        let mut socket = server.dial().await.unwrap();
        if number % 2 == 0 {
            socket
                .write_all(b"GET /health HTTP/1.1\r\nX: ")
                .await
                .unwrap();
        }
        sockets.push(socket);
        if number % 20 == 0 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    until(|| open(&sockets) <= HALF_OPEN).await;
    bystander.rounds(3).await;
    // And in time the server is rid of all.
    until(|| open(&sockets) == 0).await;
    bystander.assert_served().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silent_handshakes_of_one_address_hold_up_nobody() {
    many_files();
    let site = Site::start_within(FILES, &[]).await;
    let bystander = site.bystander().await;
    let server = site.as_attacker().await;
    let connections = handshakes(&server, MANY).await;
    bystander.rounds(3).await;
    let established = "bowline_connections{listener=\"main\",state=\"established\"}";
    assert!(
        site.metric(established).await < 50,
        "a handshake shows nothing"
    );
    let half_open = "bowline_connections{listener=\"main\",state=\"half_open\"}";
    assert!(site.metric(half_open).await <= HALF_OPEN as u64);
    drop(connections);
    bystander.assert_served().await;
}

/// Encrypted connections of as many machine keys, of which nothing more is heard. One that was
/// ended meanwhile is one, too.
async fn handshakes(server: &Server, number: usize) -> Vec<Connection> {
    let mut connections = Vec::new();
    for number in 0..number as u64 {
        let client = Client::new(server.clone(), Identity::numbered(number), "attacker");
        if let Ok(connection) = client.connect().await {
            connections.push(connection);
        }
    }
    connections
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_asked_something_once_are_not_kept() {
    many_files();
    let site = Site::start_within(FILES, &[]).await;
    let bystander = site.bystander().await;
    let server = site.as_attacker().await;
    let mut sockets = Vec::new();
    let mut encrypted = Vec::new();
    for number in 0..MANY / 2 {
        let mut socket = server.dial().await.unwrap();
        let head = "GET /health HTTP/1.1\r\nHost: x\r\n\r\n";
        socket.write_all(head.as_bytes()).await.unwrap();
        let mut answer = [0; 1024];
        let _ = patiently(socket.read(&mut answer)).await;
        sockets.push(socket);
        let client = Client::new(
            server.clone(),
            Identity::numbered(number as u64),
            "attacker",
        );
        if let Ok(connection) = client.connect().await {
            let _ = connection.request(Method::GET, "/machine/whoami", "").await;
            encrypted.push(connection);
        }
    }
    bystander.rounds(3).await;
    assert!(open(&sockets) <= HALF_OPEN, "{} are open", open(&sockets));
    until(|| open(&sockets) == 0).await;
    bystander.assert_served().await;
}
