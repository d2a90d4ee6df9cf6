//! Who is online, across reconnects and restarts.

use std::sync::Arc;
use std::time::Duration;

use bowline_engine::credential::NewAuthKey;
use bowline_engine::{Link, Registration, Report, Settings, Stream};
use bowline_netmap::publication::Publication;
use bowline_store::Options;
use jiff::SignedDuration;

use crate::net::{Net, node_key, quick, request, until};

/// Waits for a publication; fails after ten seconds.
async fn next(stream: &mut Stream, seen: &Arc<Publication>) -> Option<Arc<Publication>> {
    tokio::time::timeout(Duration::from_secs(10), stream.next(seen))
        .await
        .expect("a publication in time")
}

#[tokio::test]
async fn a_reconnect_within_the_grace_period_changes_nothing_for_anybody() {
    let net = Net::new().await;
    let (device, witness) = (net.join(1).await, net.join(2).await);
    let (first, other) = (net.stream(device).await, net.stream(witness).await);
    net.settle().await;
    let before = net.snapshot().revision;
    drop(first);
    let again = net.engine.open_stream(net.tailnet, device).await.unwrap();
    net.settle().await;
    assert_eq!(net.snapshot().revision, before, "nobody is told of it");
    // The other one leaves after it: when its grace is over, the first one's has been too.
    drop(other);
    until("the other is offline", || {
        (!net.is_online(witness)).then_some(())
    })
    .await;
    assert!(net.is_online(device));
    assert_eq!(net.snapshot().revision, before + 1);
    assert_eq!(net.engine.stream_count(), 1);
    drop(again);
    until("it is offline", || (!net.is_online(device)).then_some(())).await;
    assert_eq!(net.entry(device).live.last_seen, Some(net.now()));
    assert_eq!(net.engine.stream_count(), 0);
}

#[tokio::test]
async fn of_two_streams_of_one_node_the_older_ends_and_the_device_stays_online() {
    let net = Net::new().await;
    let (device, witness) = (net.join(1).await, net.join(2).await);
    let mut older = net.stream(device).await;
    let seen = older.first();
    let newer = net.engine.open_stream(net.tailnet, device).await.unwrap();
    assert!(next(&mut older, &seen).await.is_none());
    drop(older);
    drop(net.stream(witness).await);
    until("a grace period is over", || {
        (!net.is_online(witness)).then_some(())
    })
    .await;
    assert!(
        net.is_online(device),
        "the end of a replaced stream says nothing"
    );
    assert_eq!(net.engine.stream_count(), 1);
    drop(newer);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_has_a_stream_is_online_however_it_raced_with_the_end_of_the_one_before() {
    // The grace period ends at about the time at which the next stream is opened.
    let settings = Settings {
        offline_grace: Duration::from_millis(1),
        ..quick()
    };
    let net = Net::with(settings, Options::default()).await;
    let device = net.join(1).await;
    for round in 0..150u64 {
        let stream = net.engine.open_stream(net.tailnet, device).await.unwrap();
        net.settle().await;
        assert!(net.is_online(device), "round {round}");
        drop(stream);
        tokio::time::sleep(Duration::from_micros(700 + round * 13 % 900)).await; // the race is the point
    }
}

#[tokio::test]
async fn a_stream_begins_at_a_state_that_has_what_was_just_written() {
    let net = Net::new().await;
    let settings = Settings {
        publication_interval: Duration::from_millis(400),
        ..quick()
    };
    drop(net);
    let net = Net::with(settings, Options::default()).await;
    let mut first = {
        let device = net.join(1).await;
        net.stream(device).await
    };
    let mut seen = net.engine.publication(net.tailnet).unwrap();
    for number in 2..6 {
        let device = net.join(number).await;
        assert!(
            net.snapshot().device(device).is_some(),
            "written, then read"
        );
        let mut stream = net.engine.open_stream(net.tailnet, device).await.unwrap();
        assert!(stream.first().snapshot().device(device).is_some());
    }
    // Until streams are told of all of them.
    while seen.snapshot().device_count() < 5 {
        seen = next(&mut first, &seen).await.unwrap();
    }
    // A device that everybody knows gets another node key.
    let last = net.engine.find_device(&node_key(5)).unwrap().2.device.id;
    for number in 6..10 {
        let key = net.one_off().await;
        let rotation = Registration {
            node_key: node_key(number),
            old_node_key: Some(node_key(number - 1)),
            ..request(5, &key)
        };
        assert_eq!(net.register(rotation).await, last);
        let mut stream = net.engine.open_stream(net.tailnet, last).await.unwrap();
        let begins_with = stream.first().snapshot().device(last).cloned().unwrap();
        assert_eq!(begins_with.device.node_key, node_key(number));
    }
}

#[tokio::test]
async fn streams_begin_and_go_on_at_the_same_publications() {
    let net = Net::new().await;
    let (one, two) = (net.join(1).await, net.join(2).await);
    let mut streams = [net.stream(one).await, net.stream(two).await];
    net.settle().await;
    let newest = || net.engine.publication(net.tailnet).unwrap();
    until("the newest state is told", || {
        Arc::ptr_eq(&streams[0].first(), &newest()).then_some(())
    })
    .await;
    let [mut seen, other] = [0, 1].map(|index| streams[index].first());
    assert!(Arc::ptr_eq(&seen, &other));
    // What is told later is the newest state of then, whatever came in between.
    net.join(3).await;
    let last = newest();
    for stream in &mut streams {
        seen = other.clone();
        while seen.snapshot().revision < last.snapshot().revision {
            seen = next(stream, &seen).await.unwrap();
        }
        assert!(Arc::ptr_eq(&seen, &last));
    }
}

#[tokio::test]
async fn presence_survives_a_restart_and_ends_after_its_grace_for_who_does_not_return() {
    let net = Net::new().await;
    let (back, lost, away) = (net.join(1).await, net.join(2).await, net.join(3).await);
    let streams = [net.stream(back).await, net.stream(lost).await];
    let endpoints = vec!["192.0.2.1:41641".parse().unwrap()];
    net.engine
        .report(
            net.tailnet,
            back,
            Report {
                endpoints: Some(endpoints.clone()),
                ..Report::default()
            },
        )
        .await;
    net.settle().await;
    net.engine.end_streams();
    drop(streams);
    let net = net.restart(SignedDuration::from_secs(20)).await;
    assert!(net.is_online(back) && net.is_online(lost) && !net.is_online(away));
    assert_eq!(net.entry(back).live.endpoints, endpoints);
    let before = net.snapshot().revision;
    let stream = net.engine.open_stream(net.tailnet, back).await.unwrap();
    net.settle().await;
    assert_eq!(
        net.snapshot().revision,
        before,
        "whoever returns causes no change for anybody"
    );
    until("the lost one is offline", || {
        (!net.is_online(lost)).then_some(())
    })
    .await;
    assert!(net.is_online(back));
    assert_eq!(
        net.snapshot().revision,
        before + 1,
        "all who did not return in one publication"
    );
    drop(stream);
}

#[tokio::test]
async fn a_server_that_was_stopped_for_long_shows_everybody_offline_since_then() {
    let net = Net::new().await;
    let device = net.join(1).await;
    let stream = net.stream(device).await;
    net.engine.end_streams();
    drop(stream);
    let stopped = net.now();
    let net = net.restart(SignedDuration::from_hours(1)).await;
    assert!(!net.is_online(device));
    assert_eq!(net.entry(device).live.last_seen, Some(stopped));
    let stream = net.stream(device).await;
    assert!(net.is_online(device));
    drop(stream);
}

#[tokio::test]
async fn a_deleted_device_and_the_end_of_the_server_end_streams() {
    let net = Net::new().await;
    let (one, two) = (net.join(1).await, net.join(2).await);
    let (mut gone, mut left) = (net.stream(one).await, net.stream(two).await);
    let seen = gone.first();
    net.engine.delete_device(&net.admin, one).await.unwrap();
    let mut state = seen;
    while state.snapshot().device(one).is_some() {
        state = next(&mut gone, &state).await.unwrap();
    }
    drop(gone);
    assert!(net.engine.find_device(&crate::net::node_key(1)).is_none());
    let mut seen = left.first();
    net.engine.end_streams();
    while let Some(next) = next(&mut left, &seen).await {
        seen = next;
    }
    drop(left);
    until("no session is left", || {
        (net.engine.stream_count() == 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_report_that_says_nothing_new_publishes_nothing() {
    let net = Net::new().await;
    let device = net.join(1).await;
    let stream = net.stream(device).await;
    let report = Report {
        endpoints: Some(vec!["192.0.2.1:1".parse().unwrap()]),
        net_info: Some(net_info(900)),
        ..Report::default()
    };
    net.engine.report(net.tailnet, device, report.clone()).await;
    net.settle().await;
    let before = net.snapshot();
    assert_eq!(before.device(device).unwrap().live.home_derp, 900);
    for _ in 0..5 {
        net.engine.report(net.tailnet, device, report.clone()).await;
    }
    // A region of 0 is not known yet: the known one stays.
    let unknown = Report {
        net_info: Some(net_info(0)),
        ..Report::default()
    };
    net.engine.report(net.tailnet, device, unknown).await;
    net.settle().await;
    assert_eq!(net.snapshot().revision, before.revision);
    drop(stream);
}

#[tokio::test]
async fn a_stream_that_only_watches_changes_nothing() {
    let net = Net::new().await;
    let device = net.join(1).await;
    let before = net.snapshot().revision;
    let mut watcher = net.engine.watch(net.tailnet, device).unwrap();
    net.settle().await;
    assert!(!net.is_online(device) && !net.device(device).seen);
    assert_eq!(net.snapshot().revision, before);
    // Nor does it take the place of the device's own stream, which it sees come.
    let stream = net.stream(device).await;
    let mut seen = watcher.first();
    while !seen.snapshot().device(device).unwrap().live.online {
        seen = next(&mut watcher, &seen).await.unwrap();
    }
    drop(watcher);
    assert_eq!(net.engine.stream_count(), 1);
    drop(stream);
}

#[tokio::test]
async fn a_quiet_server_that_is_killed_was_alive_a_moment_ago() {
    let net = Net::new().await;
    let device = net.join(1).await;
    let stream = net.stream(device).await;
    // Nothing happens for hours, but that the server says that it is there.
    net.move_clock(SignedDuration::from_hours(3));
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(31)).await;
    tokio::time::resume();
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    loop {
        let loaded = net.engine.store().load(net.tailnet).await.unwrap();
        if loaded
            .presence
            .iter()
            .any(|row| row.online && row.at == net.now())
        {
            break;
        }
        assert!(
            tokio::time::Instant::now() < deadline,
            "{:?}",
            loaded.presence
        );
    }
    drop(stream);
}

fn net_info(home_derp: u32) -> bowline_engine::NetReport {
    bowline_engine::NetReport {
        json: bowline_model::record::RawJson::empty_object(),
        home_derp,
        is_shortened: false,
    }
}

#[tokio::test]
async fn a_registration_ends_the_silence_of_an_ephemeral_device() {
    let settings = Settings {
        ephemeral_timeout: Duration::from_mins(1),
        ..quick()
    };
    let net = Net::with(settings, Options::default()).await;
    let (key, _) = net
        .key_with(NewAuthKey {
            ephemeral: true,
            ..NewAuthKey::default()
        })
        .await;
    let device = net.register(request(1, &key)).await;
    drop(net.stream(device).await);
    until("it is offline", || (!net.is_online(device)).then_some(())).await;
    net.pass(SignedDuration::from_secs(50)).await;
    assert_eq!(net.register(request(1, &key)).await, device);
    net.pass(SignedDuration::from_secs(15)).await;
    assert!(
        net.snapshot().device(device).is_some(),
        "it just registered"
    );
    drop(net.stream(device).await);
    until("it is offline", || (!net.is_online(device)).then_some(())).await;
    // A report without a stream is one too, and so is one that has just come and is not in the
    // snapshot yet.
    net.pass(SignedDuration::from_secs(50)).await;
    net.move_clock(SignedDuration::from_secs(9));
    net.engine.hear(net.tailnet, device).await;
    net.pass(SignedDuration::from_secs(1)).await;
    net.pass(SignedDuration::from_secs(58)).await;
    assert!(net.snapshot().device(device).is_some());
    net.pass(SignedDuration::from_secs(1)).await;
    assert!(net.snapshot().device(device).is_none());
}

/// Lets time pass at once. The database takes its own time, so that the clock of the runtime cannot
/// stand for a whole test.
async fn advance(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

#[tokio::test]
async fn two_machines_with_one_state_file_are_noticed_and_take_turns() {
    let net = Net::new().await;
    let device = net.join(1).await;
    let links: [Arc<Link>; 2] = [Arc::default(), Arc::default()];
    let open = async |machine: usize| {
        let stream = net
            .engine
            .open_stream_on(net.tailnet, device, &links[machine])
            .await
            .unwrap();
        (stream, tokio::time::Instant::now())
    };
    let (mut held, mut since) = open(0).await;
    let is_noticed = || net.entry(device).live.multiple_connections;
    let turns = [0, 0, 0, 1, 2];
    for (round, turn) in (1..).zip(turns) {
        let (newer, at) = open(round % 2).await;
        let seen = held.first();
        assert!(next(&mut held, &seen).await.is_none(), "the older one ends");
        held = newer;
        net.settle().await;
        assert_eq!(is_noticed(), round >= 3, "round {round}");
        // Not before the other has had its turn.
        assert!(at - since >= Duration::from_secs(turn), "round {round}");
        since = at;
    }
    assert_eq!(net.engine.rivalries(), (1, 1));
    // The machine that has the stream may open it anew at any time.
    let now = tokio::time::Instant::now();
    assert!(open(1).await.1 - now < Duration::from_secs(1));
    // One of them is switched off.
    advance(Duration::from_mins(4)).await;
    until("that is over", || (!is_noticed()).then_some(())).await;
    assert_eq!(net.engine.rivalries(), (1, 0));
}

#[tokio::test]
async fn a_machine_that_reconnects_again_and_again_is_one() {
    let net = Net::new().await;
    let device = net.join(1).await;
    let mut left_behind = Vec::new();
    for round in 0..40u32 {
        // Its earlier connection is dead, which the server does not know.
        left_behind.push(net.stream(device).await);
        if round % 3 == 0 {
            left_behind.pop(); // sometimes it does
        }
        advance(Duration::from_millis(700)).await;
    }
    assert!(!net.entry(device).live.multiple_connections);
    assert_eq!(net.engine.rivalries(), (0, 0));
}
