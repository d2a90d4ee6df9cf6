//! The way of packets.

use std::time::Duration;

use bowline_derp::{
    NodeKey, RateLimit, RelayConfig, SessionError,
    client::{Error, Event},
    frame::MAX_PACKET,
};
use tokio::time::Instant;

use crate::harness::{TestRelay, disco, soon};

#[tokio::test(start_paused = true)]
async fn two_nodes_exchange_packets() {
    let relay = TestRelay::new();
    let (mut alice, mut bob) = (relay.join(1).await, relay.join(2).await);
    alice.send(&bob.key, "hello").await;
    bob.expect_packet(&alice.key, "hello").await;
    bob.send(&alice.key, "").await;
    alice.expect_packet(&bob.key, "").await;
    alice.send(&alice.key.clone(), "to myself").await;
    alice.expect_packet(&alice.key.clone(), "to myself").await;
    let stats = relay.server.stats();
    assert_eq!(
        (
            stats.connections,
            stats.packets_received,
            stats.bytes_received
        ),
        (2, 3, 14)
    );
    assert!(alice.leave().await.is_ok());
    assert!(bob.leave().await.is_ok());
    assert_eq!(relay.server.stats().connections, 0);
}

#[tokio::test(start_paused = true)]
async fn the_longest_packet_passes_and_order_is_kept() {
    let relay = TestRelay::new();
    let (mut alice, mut bob) = (relay.join(1).await, relay.join(2).await);
    let longest = vec![0xab; MAX_PACKET];
    let (bob_key, alice_key) = (bob.key, alice.key);
    let (sent, ()) = tokio::join!(
        async {
            for number in 0..3_u8 {
                alice.send(&bob_key, &longest).await;
                alice.send(&bob_key, [number]).await;
            }
            alice.client.send(&bob_key, &vec![0; MAX_PACKET + 1]).await
        },
        async {
            for number in 0..3_u8 {
                bob.expect_packet(&alice_key, &longest).await;
                bob.expect_packet(&alice_key, [number]).await;
            }
        }
    );
    assert!(matches!(sent, Err(Error::PacketTooLong(65_537))));
}

/// Bob does not read, so that packets for him pile up; Carol gets hers all the same. When Bob reads
/// again he finds the newest.
#[tokio::test(start_paused = true)]
async fn a_slow_reader_loses_the_oldest_packets_and_blocks_nobody() {
    let relay = TestRelay::new();
    let (mut alice, mut carol) = (relay.join(1).await, relay.join(3).await);
    let mut bob = relay.join_through(2, 256).await;
    for number in 0..100_u8 {
        alice.send(&bob.key, vec![number; 200]).await;
    }
    alice.send(&carol.key, "carol").await;
    carol.expect_packet(&alice.key, "carol").await;

    let got: Vec<_> = bob.sync().await.into_iter().map(number_of).collect();
    assert!(got.is_sorted(), "{got:?}");
    assert!((32..50).contains(&got.len()), "{got:?}");
    assert_eq!(
        got[got.len() - 32..],
        (68..100).collect::<Vec<u8>>(),
        "the newest are kept"
    );
    let lost = relay.server.stats().dropped.queue_full;
    assert_eq!(usize::try_from(lost).unwrap() + got.len(), 100);
}

fn number_of(event: Event) -> u8 {
    let Event::Packet { packet, .. } = event else {
        panic!("{event:?}")
    };
    packet[0]
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_data_does_not_push_out_disco_messages() {
    let relay = TestRelay::new();
    let mut alice = relay.join(1).await;
    let mut bob = relay.join_through(2, 256).await;
    alice.send(&bob.key, vec![0; 1000]).await;
    alice.send(&bob.key, disco(1)).await;
    for _ in 0..200 {
        alice.send(&bob.key, vec![0; 1000]).await;
    }
    alice.sync().await;
    let got = bob.sync().await;
    let wanted = Event::Packet {
        source: alice.key,
        packet: disco(1).into(),
    };
    assert!(got.contains(&wanted), "the disco message is lost");
}

#[tokio::test(start_paused = true)]
async fn a_queue_is_bounded_in_bytes_too() {
    let relay = TestRelay::with(RelayConfig {
        queue_bytes: 10_000,
        ..RelayConfig::default()
    });
    let mut alice = relay.join(1).await;
    let mut bob = relay.join_through(2, 256).await;
    // The first is being written, and four of the others fit.
    for number in 0..20_u8 {
        alice.send(&bob.key, vec![number; 2000]).await;
        alice.sync().await;
    }
    let got: Vec<_> = bob.sync().await.into_iter().map(number_of).collect();
    assert_eq!(got, [0, 16, 17, 18, 19]);
}

#[tokio::test(start_paused = true)]
async fn who_takes_nothing_for_two_seconds_is_given_up() {
    let relay = TestRelay::new();
    let mut alice = relay.join(1).await;
    let bob = relay.join_through(2, 256).await;
    let start = Instant::now();
    alice.send(&bob.key, vec![0; 1000]).await;
    let ended = soon(bob.session).await.unwrap();
    assert!(
        matches!(ended, Err(SessionError::WriteTimeout)),
        "{ended:?}"
    );
    // Two seconds for the write and two for the farewell that nobody takes either.
    assert!(
        start.elapsed() <= Duration::from_millis(4100),
        "{:?}",
        start.elapsed()
    );
    let stats = relay.server.stats();
    assert_eq!(
        (
            stats.write_timeouts,
            stats.connections,
            stats.dropped.disconnected
        ),
        (1, 1, 1)
    );
    alice.sync().await;
}

#[tokio::test(start_paused = true)]
async fn a_packet_for_nobody_is_dropped_and_counted() {
    let relay = TestRelay::new();
    let mut alice = relay.join(1).await;
    alice
        .send(&NodeKey::from_bytes([9; 32]).unwrap(), "anybody?")
        .await;
    assert_eq!(alice.sync().await, []);
    assert_eq!(relay.server.stats().dropped.unknown_destination, 1);
}

#[tokio::test(start_paused = true)]
async fn a_rate_limit_is_announced_and_slows_down_who_exceeds_it() {
    let limit = RateLimit {
        bytes_per_second: 1000,
        burst_bytes: 2000,
    };
    let relay = TestRelay::with(RelayConfig {
        rate_limit: Some(limit),
        ..RelayConfig::default()
    });
    let (mut alice, mut bob) = (relay.join(1).await, relay.join(2).await);
    let details = alice.client.relay_details();
    assert_eq!(
        (details.bytes_per_second, details.burst_bytes),
        (Some(1000), Some(2000))
    );
    let start = Instant::now();
    for _ in 0..4 {
        alice.send(&bob.key, vec![0; 1000 - 32]).await;
    }
    for _ in 0..2 {
        bob.recv().await;
    }
    assert_eq!(start.elapsed(), Duration::ZERO, "the burst is free");
    bob.recv().await;
    bob.recv().await;
    let waited = start.elapsed();
    assert!((1990..2010).contains(&waited.as_millis()), "{waited:?}");
    assert_eq!(relay.server.stats().rate_limited, 2);
    // Others are not slowed down by it.
    bob.send(&alice.key, "hi").await;
    alice.expect_packet(&bob.key, "hi").await;
}
