//! Who is here, who left, and who is told.

use std::time::Duration;

use bowline_derp::{
    Entropy, NodeKey, RelayConfig, SessionError,
    client::{Error, Event},
    frame::PeerGoneReason,
};
use tokio::time::Instant;

use crate::harness::{TestRelay, disco, soon};

fn gone(peer: NodeKey, reason: PeerGoneReason) -> Event {
    Event::PeerGone { peer, reason }
}

#[tokio::test(start_paused = true)]
async fn who_got_packets_from_a_peer_is_told_when_it_leaves() {
    let relay = TestRelay::new();
    let (mut alice, mut bob, mut carol) = (
        relay.join(1).await,
        relay.join(2).await,
        relay.join(3).await,
    );
    let alice_key = alice.key;
    alice.send(&bob.key, "hi").await;
    bob.expect_packet(&alice_key, "hi").await;
    // Carol wrote to Alice, but has nothing from her.
    carol.send(&alice_key, "hi").await;
    alice.recv().await;
    assert!(alice.leave().await.is_ok());
    assert_eq!(
        bob.recv().await,
        gone(alice_key, PeerGoneReason::DISCONNECTED)
    );
    assert_eq!(carol.sync().await, []);
    assert_eq!(bob.sync().await, []);
    assert_eq!(relay.server.stats().peer_gone_disconnected, 1);
}

#[tokio::test(start_paused = true)]
async fn a_key_is_gone_only_with_its_last_connection() {
    let relay = TestRelay::new();
    let mut bob = relay.join(2).await;
    let mut first = relay.join(1).await;
    let (key, second) = (first.key, relay.join(1).await);
    first.send(&bob.key, "from the first").await;
    bob.expect_packet(&key, "from the first").await;
    assert!(first.leave().await.is_ok());
    assert_eq!(bob.sync().await, []);
    assert!(second.leave().await.is_ok());
    assert_eq!(bob.recv().await, gone(key, PeerGoneReason::DISCONNECTED));
}

#[tokio::test(start_paused = true)]
async fn who_came_back_since_is_not_told_of_a_peer_it_never_heard_of() {
    let relay = TestRelay::new();
    let (mut alice, mut bob) = (relay.join(1).await, relay.join(2).await);
    alice.send(&bob.key, "hi").await;
    bob.expect_packet(&alice.key, "hi").await;
    assert!(bob.leave().await.is_ok());
    let mut bob = relay.join(2).await;
    assert!(alice.leave().await.is_ok());
    assert_eq!(bob.sync().await, []);
}

/// Disco messages ask for a peer, so that they get an answer, three at once and then one a second;
/// data gets none.
#[tokio::test(start_paused = true)]
async fn who_asks_for_a_peer_that_is_not_here_is_told_but_not_too_often() {
    let relay = TestRelay::new();
    let mut alice = relay.join(1).await;
    let nobody = NodeKey::from_bytes([9; 32]).unwrap();
    alice.send(&nobody, "data").await;
    assert_eq!(alice.sync().await, []);
    for (wait, told) in [(0, 3), (1, 1), (0, 0), (60, 3)] {
        tokio::time::advance(Duration::from_secs(wait)).await;
        for mark in 0..10 {
            alice.send(&nobody, disco(mark)).await;
        }
        let mut events = alice.sync().await;
        events.retain(|event| *event != Event::KeepAlive);
        let wanted = vec![gone(nobody, PeerGoneReason::NOT_HERE); told];
        assert_eq!(events, wanted, "after {wait} s");
    }
    let stats = relay.server.stats();
    assert_eq!(
        (stats.peer_gone_not_here, stats.dropped.unknown_destination),
        (7, 41)
    );
}

#[tokio::test(start_paused = true)]
async fn of_two_connections_of_a_key_the_one_that_spoke_last_gets_the_traffic() {
    let relay = TestRelay::new();
    let mut bob = relay.join(2).await;
    let mut first = relay.join(1).await;
    let key = first.key;
    bob.send(&key, "1").await;
    first.expect_packet(&bob.key, "1").await;

    let mut second = relay.join(1).await;
    assert_eq!(relay.server.stats().duplicate_connections, 2);
    bob.send(&key, "2").await;
    second.expect_packet(&bob.key, "2").await;

    assert_eq!(first.sync().await, [], "it is still open, and got nothing");
    bob.send(&key, "3").await;
    first.expect_packet(&bob.key, "3").await;

    let mut third = relay.join(1).await;
    assert_eq!(relay.server.stats().duplicate_connections, 3);
    assert!(third.sync().await.is_empty());
    assert!(third.leave().await.is_ok());
    bob.send(&key, "4").await;
    first.expect_packet(&bob.key, "4").await;
    assert!(first.leave().await.is_ok());
    bob.send(&key, "5").await;
    second.expect_packet(&bob.key, "5").await;
    let stats = relay.server.stats();
    assert_eq!(
        (
            stats.duplicate_connections,
            stats.connections,
            stats.accepted
        ),
        (0, 2, 4)
    );
}

#[tokio::test(start_paused = true)]
async fn a_key_with_too_many_connections_loses_the_one_that_was_silent_longest() {
    let config = RelayConfig {
        connections_per_key: 2,
        ..RelayConfig::default()
    };
    let relay = TestRelay::with(config);
    let mut first = relay.join(1).await;
    let second = relay.join(1).await;
    first.sync().await;
    let _third = relay.join(1).await;
    let ended = soon(second.session).await.unwrap();
    assert!(matches!(ended, Err(SessionError::Superseded)), "{ended:?}");
    assert_eq!(first.sync().await, []);
    assert_eq!(relay.server.stats().connections, 2);
}

#[tokio::test(start_paused = true)]
async fn disconnect_closes_all_connections_of_a_node_and_no_other() {
    let relay = TestRelay::new();
    let mut bob = relay.join(2).await;
    let (mut first, second) = (relay.join(1).await, relay.join(1).await);
    let key = first.key;
    assert!(relay.server.is_connected(&key));
    assert_eq!(relay.server.disconnect(&key), 2);
    assert!(matches!(
        soon(first.client.recv()).await,
        Err(Error::Closed)
    ));
    for session in [first.session, second.session] {
        assert!(matches!(
            soon(session).await.unwrap(),
            Err(SessionError::Revoked)
        ));
    }
    assert!(!relay.server.is_connected(&key));
    assert_eq!(relay.server.disconnect(&key), 0);
    assert_eq!(bob.sync().await, []);
    let stats = relay.server.stats();
    assert_eq!(
        (
            stats.revoked,
            stats.connections,
            stats.duplicate_connections
        ),
        (2, 1, 0)
    );
}

#[tokio::test(start_paused = true)]
async fn disconnect_does_not_wait_for_a_client_that_does_not_read() {
    let relay = TestRelay::new();
    let mut alice = relay.join(1).await;
    let bob = relay.join_through(2, 64).await;
    alice.send(&bob.key, vec![0; 1000]).await;
    alice.sync().await;
    let start = Instant::now();
    assert_eq!(relay.server.disconnect(&bob.key), 1);
    relay.until(|stats| stats.connections == 1).await;
    assert_eq!(start.elapsed(), Duration::ZERO);
    assert!(matches!(
        soon(bob.session).await.unwrap(),
        Err(SessionError::Revoked)
    ));
}

#[tokio::test(start_paused = true)]
async fn home_clients_are_counted_once_each() {
    let relay = TestRelay::new();
    let (mut alice, mut bob) = (relay.join(1).await, relay.join(2).await);
    let homes = || relay.server.stats().home_connections;
    for is_home in [true, true] {
        alice.client.writer().note_preferred(is_home).await.unwrap();
        alice.sync().await;
        assert_eq!(homes(), 1);
    }
    bob.client.writer().note_preferred(true).await.unwrap();
    bob.sync().await;
    assert_eq!(homes(), 2);
    alice.client.writer().note_preferred(false).await.unwrap();
    alice.sync().await;
    assert_eq!(homes(), 1);
    assert!(bob.leave().await.is_ok());
    assert_eq!(homes(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_idle_client_hears_something_every_minute_and_a_bit() {
    for (random, wanted) in [(0, 60_000..60_010), (0xff, 64_900..65_010)] {
        let entropy = Entropy::from_fn(move |out| {
            out.fill(random);
            Ok(())
        });
        let relay = TestRelay::with(RelayConfig {
            entropy,
            ..RelayConfig::default()
        });
        let mut alice = relay.join(1).await;
        let start = Instant::now();
        for round in 1..4 {
            assert_eq!(alice.client.recv().await.unwrap(), Event::KeepAlive);
            let elapsed = start.elapsed().as_millis() / round;
            assert!(wanted.contains(&elapsed), "{elapsed}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn shutdown_ends_every_session() {
    let relay = TestRelay::new();
    let (mut alice, mut bob) = (relay.join(1).await, relay.join(2).await);
    alice.send(&bob.key, "hi").await;
    bob.expect_packet(&alice.key, "hi").await;
    let (_stream, half_open) = relay.open(1024);
    relay.shutdown.cancel();
    let last = soon(alice.client.recv()).await;
    assert!(matches!(last, Err(Error::Closed)), "{last:?}");
    let last = soon(bob.client.recv()).await;
    assert!(
        matches!(last, Err(Error::Closed)),
        "not even that Alice left: {last:?}"
    );
    assert!(soon(alice.session).await.unwrap().is_ok());
    assert!(soon(half_open).await.unwrap().is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_session_whose_task_is_aborted_is_forgotten() {
    let relay = TestRelay::new();
    let (mut bob, mut alice) = (relay.join(2).await, relay.join(1).await);
    alice.send(&bob.key, "hi").await;
    bob.expect_packet(&alice.key, "hi").await;
    alice.session.abort();
    assert!(soon(alice.session).await.unwrap_err().is_cancelled());
    assert_eq!(
        bob.recv().await,
        gone(alice.key, PeerGoneReason::DISCONNECTED)
    );
    assert_eq!(relay.server.stats().connections, 1);
    assert!(!relay.server.is_connected(&alice.key));
}
