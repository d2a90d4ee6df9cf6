//! Names and addresses of devices.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bowline_engine::{Engine, Refusal, Report, Settings, SystemClock, SystemRandom};
use bowline_model::device::HostFacts;
use bowline_model::id::DeviceId;
use bowline_model::record::RawJson;
use bowline_store::Options;

use crate::net::{Net, open_store, quick, request, until};

async fn call(net: &Net, device: DeviceId, hostname: &str) {
    let facts = HostFacts {
        hostname: hostname.to_owned(),
        ..HostFacts::default()
    };
    let report = Report {
        hostinfo: Some((RawJson::empty_object(), facts)),
        ..Report::default()
    };
    net.engine.report(net.tailnet, device, report).await;
    net.settle().await;
}

#[tokio::test]
async fn names_are_unique_and_follow_the_host_name_until_somebody_gives_one() {
    let net = Net::new().await;
    let (one, two) = (net.join(1).await, net.join(2).await);
    call(&net, one, "Web Server.local").await;
    call(&net, two, "web-server").await;
    assert_eq!(
        (&*net.device(one).name, &*net.device(two).name),
        ("web-server", "web-server-1")
    );
    call(&net, one, "other").await;
    assert_eq!(net.device(one).name, "other");
    assert_eq!(
        net.device(two).name,
        "web-server-1",
        "a name that became free changes nobody"
    );

    net.engine
        .rename_device(&net.admin, two, "Printer")
        .await
        .unwrap();
    call(&net, two, "something").await;
    assert_eq!(net.device(two).name, "printer", "a given name stays");
    let suffix = net.snapshot().tailnet().dns_name.clone();
    net.engine
        .rename_device(&net.admin, one, &format!("db.{suffix}."))
        .await
        .unwrap();
    assert_eq!(net.device(one).name, "db");
    for bad in ["printer", "-x", "a b", "x.y", &"x".repeat(64)] {
        let refused = net.engine.rename_device(&net.admin, one, bad).await;
        assert!(
            matches!(refused, Err(Refusal::Invalid(_))),
            "{bad}: {refused:?}"
        );
    }
    net.engine.rename_device(&net.admin, two, "").await.unwrap();
    assert_eq!(
        net.device(two).name,
        "something",
        "without one it follows the host name again"
    );
    call(&net, two, "日本").await;
    assert_eq!(
        net.device(two).name,
        "node",
        "a host name that leaves nothing"
    );
}

#[tokio::test]
async fn a_host_name_that_changed_twice_before_anybody_looked_ends_where_it_began() {
    let net = Net::new().await;
    let device = net.join(1).await;
    let report = |name: &str| Report {
        hostinfo: Some((
            RawJson::empty_object(),
            HostFacts {
                hostname: name.to_owned(),
                ..HostFacts::default()
            },
        )),
        ..Report::default()
    };
    for _ in 0..50 {
        // The second is sent while the first is still on its way to the snapshot.
        net.engine
            .report(net.tailnet, device, report("there"))
            .await;
        net.engine
            .report(net.tailnet, device, report("host1"))
            .await;
        net.settle().await;
        assert_eq!(net.device(device).name, "host1");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_thousand_devices_of_one_name_get_one_each_and_fast() {
    let net = Net::new().await;
    let key = net.reusable().await;
    let start = Instant::now();
    let join = |number: u64| {
        let mut request = request(number, &key);
        request.facts.hostname = "runner".to_owned();
        net.register(request)
    };
    futures_util::future::join_all((1..=2000).map(join)).await;
    let took = start.elapsed();
    let snapshot = net.snapshot();
    let names: HashSet<_> = snapshot
        .devices()
        .map(|entry| entry.device.name.clone())
        .collect();
    assert_eq!(names.len(), 2000);
    assert!(names.iter().all(|name| name.starts_with("runner")));
    let v4: HashSet<_> = snapshot.devices().map(|entry| entry.device.ipv4).collect();
    let v6: HashSet<_> = snapshot.devices().map(|entry| entry.device.ipv6).collect();
    assert_eq!((v4.len(), v6.len()), (2000, 2000));
    assert!(
        snapshot
            .devices()
            .all(|entry| bowline_model::address::is_device_ipv4(entry.device.ipv4))
    );
    // Ten times what it takes without optimisation on a busy machine; a quadratic search takes minutes.
    assert!(took < Duration::from_secs(30), "{took:?}");
    assert!(
        snapshot.seq < 300,
        "a storm is a few transactions: {}",
        snapshot.seq
    );
}

#[tokio::test]
async fn an_address_is_held_once_and_free_after_its_device_is_gone() {
    let net = Net::new().await;
    let (one, two) = (net.join(1).await, net.join(2).await);
    let address = net.device(one).ipv4.to_string();
    let set = async |device, text: &str| {
        net.engine
            .set_device_ipv4(&net.admin, device, Some(text))
            .await
    };
    for bad in [
        &*address,
        "100.100.100.100",
        "100.115.92.7",
        "10.0.0.1",
        "100.64.0.0",
        "x",
    ] {
        let refused = set(two, bad).await;
        assert!(
            matches!(refused, Err(Refusal::Invalid(_))),
            "{bad}: {refused:?}"
        );
    }
    net.engine.delete_device(&net.admin, one).await.unwrap();
    set(two, &address).await.unwrap();
    assert_eq!(
        net.snapshot()
            .device_by_ipv4(address.parse().unwrap())
            .unwrap()
            .device
            .id,
        two
    );
    assert!(net.snapshot().device_by_name("host1").is_none());
    let again = net.join(1).await;
    assert!(again > two, "an id is never used again");
    assert_eq!(net.device(again).name, "host1");
}

#[tokio::test]
async fn reports_are_seen_at_once_and_durable_within_a_second() {
    let net = Net::new().await;
    let device = net.join(1).await;
    let seq = net.snapshot().seq;
    call(&net, device, "renamed").await;
    assert_eq!(net.device(device).name, "renamed");
    let start = Instant::now();
    until("the report is stored", || {
        (net.snapshot().seq > seq).then_some(())
    })
    .await;
    assert!(
        start.elapsed() < Duration::from_secs(1),
        "{:?}",
        start.elapsed()
    );
    let net = net.restart(jiff::SignedDuration::ZERO).await;
    assert_eq!(net.device(device).name, "renamed");
    // And what is not yet when the server stops is stored by its end.
    call(&net, device, "again").await;
    let net = net.restart(jiff::SignedDuration::ZERO).await;
    assert_eq!(net.device(device).name, "again");
}

#[tokio::test]
async fn a_base_domain_leaves_room_for_the_longest_names() {
    for (length, is_good) in [(178, true), (179, false), (243, false)] {
        let directory = tempfile::tempdir().unwrap();
        let store = open_store(directory.path(), Options::default()).await;
        let labels = ["a".repeat(60).as_str(); 5].join(".");
        let settings = Settings {
            base_domain: labels[..length].to_owned(),
            ..quick()
        };
        let (clock, random) = (Arc::new(SystemClock), Arc::new(SystemRandom));
        let engine = Engine::open(store, settings, clock, random).await.unwrap();
        let made = engine.create_tailnet("ann@example.com", None).await;
        if is_good {
            let snapshot = engine.snapshot(made.unwrap().tailnet).unwrap();
            assert_eq!(snapshot.tailnet().dns_name.len() + 1 + 63, 253);
        } else {
            assert!(matches!(made, Err(Refusal::Invalid(_))), "{length}");
            assert!(engine.tailnets().is_empty());
        }
    }
}
