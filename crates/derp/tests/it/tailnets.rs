//! A tailnet is a wall: the relay carries nothing from one to another, and tells nothing.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use bowline_derp::{
    NodeKey, RelayConfig, SessionError, TailnetId, client::Event, frame::PeerGoneReason,
};

use crate::harness::{TestRelay, disco, secret, soon};

type Members = Arc<Mutex<HashMap<NodeKey, TailnetId>>>;

fn tailnet(number: u64) -> TailnetId {
    TailnetId::new(number).unwrap()
}

/// A relay, and who is in which tailnet.
fn relay_of(members: &[(u8, u64)], config: RelayConfig) -> (TestRelay, Members) {
    let members = members
        .iter()
        .map(|(seed, number)| (secret(*seed).public(), tailnet(*number)));
    let members: Members = Arc::new(Mutex::new(members.collect()));
    let known = Arc::clone(&members);
    let relay = TestRelay::admitting(config, move |node, _| {
        known.lock().unwrap().get(&node).copied()
    });
    (relay, members)
}

#[tokio::test(start_paused = true)]
async fn a_device_of_another_tailnet_is_as_unknown_as_one_that_does_not_exist() {
    let (relay, _) = relay_of(&[(1, 1), (2, 1), (3, 2)], RelayConfig::default());
    let (mut alice, mut bob) = (relay.join(1).await, relay.join(2).await);
    let mut stranger = relay.join(3).await;
    let mut told = Vec::new();
    for destination in [alice.key, secret(9).public()] {
        stranger.send(&destination, "data").await;
        stranger.send(&destination, disco(1)).await;
        let gone = stranger.sync().await.into_iter().map(|event| match event {
            Event::PeerGone { peer, reason } => (peer == destination, reason),
            other => panic!("{other:?}"),
        });
        told.push(gone.collect::<Vec<_>>());
    }
    assert_eq!(told[0], [(true, PeerGoneReason::NOT_HERE)]);
    assert_eq!(told[0], told[1]);
    assert_eq!(alice.sync().await, [], "nothing crossed");

    // Her own tailnet reaches her, and learns that she left; the stranger does not.
    bob.send(&alice.key, "hello").await;
    alice.expect_packet(&bob.key, "hello").await;
    alice.send(&bob.key, "hello").await;
    bob.expect_packet(&alice.key, "hello").await;
    let key = alice.key;
    assert!(alice.leave().await.is_ok());
    assert_eq!(
        bob.sync().await,
        [Event::PeerGone {
            peer: key,
            reason: PeerGoneReason::DISCONNECTED
        }]
    );
    assert_eq!(stranger.sync().await, []);
    let stats = relay.server.stats();
    assert_eq!(stats.dropped.unknown_destination, 4);
}

#[tokio::test(start_paused = true)]
async fn another_tailnet_pushes_nothing_out_of_a_queue() {
    let config = RelayConfig {
        queue_packets: 4,
        ..RelayConfig::default()
    };
    let (relay, _) = relay_of(&[(1, 1), (2, 1), (3, 2)], config);
    // Alice does not read: her packets wait in the relay.
    let alice = relay.join_through(1, 64).await;
    let (mut bob, mut stranger) = (relay.join(2).await, relay.join(3).await);
    for number in 0..4 {
        bob.send(&alice.key, vec![number; 100]).await;
    }
    bob.sync().await;
    let before = relay.server.stats().dropped;
    for number in 0..100 {
        stranger.send(&alice.key, vec![number; 100]).await;
        stranger.send(&alice.key, disco(number)).await;
    }
    stranger.sync().await;
    let dropped = relay.server.stats().dropped;
    assert_eq!(dropped.queue_full, before.queue_full);
    let mut alice = alice;
    for number in 0..4 {
        alice.expect_packet(&bob.key, vec![number; 100]).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_that_moves_to_another_tailnet_leaves_the_first() {
    let (relay, members) = relay_of(&[(1, 1), (2, 1), (3, 2)], RelayConfig::default());
    let before = relay.join(1).await;
    let (mut bob, mut carol) = (relay.join(2).await, relay.join(3).await);
    members.lock().unwrap().insert(before.key, tailnet(2));
    let mut after = relay.join(1).await;
    assert!(matches!(
        soon(before.session).await.unwrap(),
        Err(SessionError::Revoked)
    ));
    carol.send(&after.key, "welcome").await;
    after.expect_packet(&carol.key, "welcome").await;
    bob.send(&after.key, "still there?").await;
    bob.sync().await;
    assert_eq!(after.sync().await, []);
}

#[tokio::test(start_paused = true)]
async fn a_recheck_ends_those_who_were_removed_unnoticed_and_nobody_else() {
    let everyone: Vec<(u8, u64)> = (1..=40).map(|seed| (seed, 1)).collect();
    let (relay, members) = relay_of(&everyone, RelayConfig::default());
    let mut nodes = Vec::new();
    for (seed, _) in &everyone {
        nodes.push(relay.join(*seed).await);
    }
    assert_eq!(relay.server.recheck().await, 0);
    for node in &nodes[..20] {
        members.lock().unwrap().remove(&node.key);
    }
    members.lock().unwrap().insert(nodes[20].key, tailnet(2));
    assert_eq!(relay.server.recheck().await, 21);
    for (number, node) in nodes.into_iter().enumerate() {
        if number <= 20 {
            let ended = soon(node.session).await.unwrap();
            assert!(matches!(ended, Err(SessionError::Revoked)), "{number}");
        } else {
            assert!(relay.server.is_connected(&node.key), "{number}");
        }
    }
}
