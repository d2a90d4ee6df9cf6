//! The STUN responder over loopback.

use std::net::SocketAddr;

use bowline_derp::{
    StunServer,
    stun::{BindingResponse, encode_request, encode_response},
};
use tokio::{net::UdpSocket, task::JoinHandle};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::harness::soon;

struct Responder {
    server: StunServer,
    address: SocketAddr,
    task: JoinHandle<std::io::Result<()>>,
    shutdown: DropGuard,
}

async fn start(address: &str) -> Responder {
    let server = StunServer::new();
    let socket = StunServer::bind(address.parse().unwrap()).await.unwrap();
    let address = socket.local_addr().unwrap();
    let shutdown = CancellationToken::new();
    let task = tokio::spawn({
        let (server, shutdown) = (server.clone(), shutdown.clone());
        async move { server.serve(socket, shutdown).await }
    });
    Responder {
        server,
        address,
        task,
        shutdown: shutdown.drop_guard(),
    }
}

async fn ask(responder: SocketAddr, request: &[u8]) -> (SocketAddr, BindingResponse) {
    let any = if responder.is_ipv4() {
        "127.0.0.1:0"
    } else {
        "[::1]:0"
    };
    let client = UdpSocket::bind(any).await.unwrap();
    client.send_to(request, responder).await.unwrap();
    let mut datagram = [0; 1500];
    let (len, from) = soon(client.recv_from(&mut datagram)).await.unwrap();
    assert_eq!(from, responder);
    (
        client.local_addr().unwrap(),
        BindingResponse::parse(&datagram[..len]).unwrap(),
    )
}

#[tokio::test]
async fn a_client_learns_its_address_over_both_families() {
    for family in ["127.0.0.1:0", "[::1]:0"] {
        let responder = start(family).await;
        for transaction in [[1; 12], [2; 12]] {
            let (local, response) = ask(responder.address, &encode_request(&transaction)).await;
            assert_eq!(
                response,
                BindingResponse {
                    transaction,
                    address: local
                }
            );
        }
        let stats = responder.server.stats();
        assert_eq!(stats.answered_ipv4 + stats.answered_ipv6, 2);
        assert_eq!(stats.answered_others, 0);
        drop(responder.shutdown);
        assert!(soon(responder.task).await.unwrap().is_ok());
    }
}

/// One answer comes, to the request that was sent last: none of the others got any.
#[tokio::test]
async fn what_is_not_a_request_is_not_answered() {
    let responder = start("127.0.0.1:0").await;
    let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let request = encode_request(&[1; 12]);
    let response = encode_response(&[1; 12], "192.0.2.1:1".parse().unwrap());
    let mut wrong_fingerprint = request.clone();
    wrong_fingerprint[39] ^= 1;
    let refused: [&[u8]; 6] = [
        b"",
        b"hello",
        &request[..39],
        &response,
        &wrong_fingerprint,
        &[0; 1500],
    ];
    for datagram in refused {
        client.send_to(datagram, responder.address).await.unwrap();
    }
    client
        .send_to(&encode_request(&[9; 12]), responder.address)
        .await
        .unwrap();
    let mut datagram = [0; 1500];
    let len = soon(client.recv(&mut datagram)).await.unwrap();
    assert_eq!(
        BindingResponse::parse(&datagram[..len])
            .unwrap()
            .transaction,
        [9; 12]
    );
    let stats = responder.server.stats();
    assert_eq!(
        (stats.not_stun, stats.not_requests, stats.answered_ipv4),
        (4, 2, 1)
    );
}

#[test]
fn an_answer_is_never_longer_than_twice_the_request() {
    let server = StunServer::new();
    let bare = [
        &encode_request(&[1; 12])[..2],
        &[0, 0],
        &encode_request(&[1; 12])[4..20],
    ]
    .concat();
    let ipv4 = server.answer(&bare, "192.0.2.1:7".parse().unwrap());
    assert_eq!(ipv4.map(|answer| answer.len()), Some(32));
    assert_eq!(
        server.answer(&bare, "[2001:db8::1]:7".parse().unwrap()),
        None
    );
    let stats = server.stats();
    assert_eq!(
        (stats.too_small, stats.answered_ipv4, stats.answered_others),
        (1, 1, 1)
    );
}
