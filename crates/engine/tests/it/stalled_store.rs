//! A store that does not answer: what needs none goes on, and changes are told so in time.

use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use bowline_engine::{Refusal, Registered, Report, Settings, StoreFailure};
use bowline_model::device::HostFacts;
use bowline_model::id::DeviceId;
use bowline_model::record::RawJson;
use bowline_modelclient::{ModelClient, Rules};
use bowline_netmap::Encoding;
use bowline_netmap::delta;
use bowline_netmap::full;
use bowline_netmap::message::Message;
use bowline_netmap::publication::Publication;
use bowline_netmap::viewer::Viewer;
use bowline_store::{Options, Point};
use futures_util::future::join_all;
use jiff::SignedDuration;

use crate::net::{Net, quick, request, until};

/// Holds commits back, as a disk or a database server that hangs does.
#[derive(Default)]
pub(crate) struct Gate {
    /// Whether it is shut, and how many wait at it.
    state: Mutex<(bool, usize)>,
    opened: Condvar,
}

impl Gate {
    pub(crate) fn options(self: &Arc<Self>) -> Options {
        let gate = self.clone();
        let hook = move |point| {
            if point == Point::BeforeCommit {
                let mut state = gate.state.lock().unwrap();
                state.1 += 1;
                while state.0 {
                    state = gate.opened.wait(state).unwrap();
                }
                state.1 -= 1;
            }
            None
        };
        Options {
            hook: Some(Arc::new(hook)),
            ..Options::default()
        }
    }

    pub(crate) fn shut(&self) {
        self.state.lock().unwrap().0 = true;
    }

    pub(crate) fn open(&self) {
        self.state.lock().unwrap().0 = false;
        self.opened.notify_all();
    }

    pub(crate) async fn until_somebody_waits(&self) {
        until("a commit hangs", || {
            (self.state.lock().unwrap().1 > 0).then_some(())
        })
        .await;
    }
}

async fn net(commit_timeout: Duration) -> (Net, Arc<Gate>) {
    let gate = Arc::new(Gate::default());
    let settings = Settings {
        commit_timeout,
        ..quick()
    };
    (Net::with(settings, gate.options()).await, gate)
}

fn report(port: u16) -> Report {
    Report {
        endpoints: Some(vec![format!("192.0.2.1:{port}").parse().unwrap()]),
        ..Report::default()
    }
}

fn port(net: &Net, device: DeviceId) -> Option<u16> {
    let entry = net.entry(device);
    entry.live.endpoints.first().map(std::net::SocketAddr::port)
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_store_hangs_soft_state_reconnects_and_reads_go_on() {
    let (net, gate) = net(Duration::from_mins(1)).await;
    let key = net.reusable().await;
    let mut devices = Vec::new();
    for number in 0..30 {
        devices.push(net.register(request(number, &key)).await);
    }
    let mut peer = net.stream(devices[0]).await;
    let mut seen = peer.first();
    let token_holder = net.admin.clone();

    gate.shut();
    let engine = net.engine.clone();
    let (admin, renamed) = (net.admin.clone(), devices[1]);
    let rename = tokio::spawn(async move { engine.rename_device(&admin, renamed, "other").await });
    gate.until_somebody_waits().await;

    // Known devices register again and come back, and their peers are told.
    let back = join_all((0..30).map(|number| {
        let (net, key) = (&net, &key);
        async move {
            let again = net.try_register(request(number, key)).await;
            let Ok(Registered::In { device, .. }) = again else {
                panic!("not let in: {again:?}");
            };
            net.engine.open_stream(net.tailnet, device).await.unwrap()
        }
    }))
    .await;
    assert_eq!(back.len(), 30);
    for (index, device) in devices.iter().enumerate() {
        let port = 1000 + u16::try_from(index).unwrap();
        net.engine.report(net.tailnet, *device, report(port)).await;
    }
    until("all are online and their endpoints are told", || {
        let mut all = devices.iter().enumerate();
        all.all(|(index, device)| {
            net.is_online(*device) && port(&net, *device).map(usize::from) == Some(1000 + index)
        })
        .then_some(())
    })
    .await;
    // The first stream was replaced; another one is told by publications.
    drop(peer);
    let mut peer = net
        .engine
        .open_stream(net.tailnet, devices[0])
        .await
        .unwrap();
    while port_in(&seen, devices[29]) != Some(1029) {
        seen = peer.first();
        if port_in(&seen, devices[29]) != Some(1029) {
            seen = peer.next(&seen).await.unwrap();
        }
    }
    // Reads and credentials need no database.
    assert_eq!(net.snapshot().device_count(), 30);
    assert!(net.engine.credentials(&token_holder, true).len() >= 2);
    assert_ne!(
        net.device(renamed).name,
        "other",
        "not before it is durable"
    );
    assert!(!rename.is_finished());

    gate.open();
    rename.await.unwrap().unwrap();
    assert_eq!(net.device(renamed).name, "other");
    assert_eq!(
        port(&net, renamed),
        Some(1001),
        "nothing that came meanwhile is lost"
    );
    let told = peer.next(&seen).await.unwrap();
    assert_eq!(
        told.snapshot().device(renamed).unwrap().device.name,
        "other"
    );
    let net = net.restart(SignedDuration::ZERO).await;
    assert_eq!(net.device(renamed).name, "other");
}

/// Facts that everybody was told of are stored afterwards, which is no news; and what is told while
/// that goes on is not taken back.
#[tokio::test(flavor = "multi_thread")]
async fn the_revision_never_falls_when_facts_are_stored_that_were_told_before() {
    let (net, gate) = net(Duration::from_mins(1)).await;
    let key = net.reusable().await;
    let mut devices = Vec::new();
    for number in 0..2 {
        devices.push(net.register(request(number, &key)).await);
    }
    let mut stream = net.stream(devices[0]).await;
    net.settle().await;
    gate.shut();
    let facts = HostFacts {
        os: "plan9".to_owned(),
        ..HostFacts::default()
    };
    let said = Report {
        hostinfo: Some((RawJson::empty_object(), facts)),
        ..Report::default()
    };
    net.engine.report(net.tailnet, devices[1], said).await;
    gate.until_somebody_waits().await;
    assert_eq!(net.device(devices[1]).facts.os, "plan9", "told at once");
    net.engine
        .report(net.tailnet, devices[1], report(2000))
        .await;
    let mut seen = stream.first();
    while port_in(&seen, devices[1]) != Some(2000) {
        seen = stream.next(&seen).await.unwrap();
    }
    let told = net.snapshot();
    gate.open();
    until("the facts are stored", || {
        (net.snapshot().seq > told.seq).then_some(())
    })
    .await;
    assert_eq!(net.snapshot().revision, told.revision, "no news");
    net.engine
        .report(net.tailnet, devices[1], report(2001))
        .await;
    let next = tokio::time::timeout(Duration::from_secs(10), stream.next(&seen));
    let next = next.await.expect("told of what came afterwards").unwrap();
    assert_eq!(port_in(&next, devices[1]), Some(2001));
}

fn port_in(told: &Publication, device: DeviceId) -> Option<u16> {
    let entry = told.snapshot().device(device)?;
    entry.live.endpoints.first().map(std::net::SocketAddr::port)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_waits_too_long_is_told_the_truth_and_shows_its_end() {
    let (net, gate) = net(Duration::from_millis(300)).await;
    let device = net.join(1).await;
    let other = net.join(2).await;
    gate.shut();
    let engine = net.engine.clone();
    let admin = net.admin.clone();
    let sent = tokio::spawn(async move { engine.rename_device(&admin, device, "sent").await });
    gate.until_somebody_waits().await;
    let held = net.engine.rename_device(&net.admin, other, "held").await;
    assert!(
        matches!(held, Err(Refusal::Store(StoreFailure::Stalled))),
        "{held:?}"
    );
    let sent = sent.await.unwrap();
    assert!(
        matches!(sent, Err(Refusal::Store(StoreFailure::Undecided))),
        "{sent:?}"
    );
    gate.open();
    until("what was sent is stored", || {
        (net.device(device).name == "sent").then_some(())
    })
    .await;
    assert_ne!(
        net.device(other).name,
        "held",
        "what was not sent is not done"
    );
    net.engine
        .rename_device(&net.admin, other, "later")
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_asks_for_something_new_while_the_store_hangs_holds_up_nobody() {
    let (net, gate) = net(Duration::from_millis(300)).await;
    let key = net.reusable().await;
    let (one, two) = (
        net.register(request(1, &key)).await,
        net.register(request(2, &key)).await,
    );
    gate.shut();
    let facts = HostFacts {
        hostname: "host1".to_owned(),
        advertised_routes: vec!["10.1.0.0/24".parse().unwrap()],
        ..HostFacts::default()
    };
    let asks = Report {
        hostinfo: Some((RawJson::empty_object(), facts)),
        ..report(1)
    };
    let engine = net.engine.clone();
    let tailnet = net.tailnet;
    let asking = tokio::spawn(async move { engine.report(tailnet, one, asks).await });
    gate.until_somebody_waits().await;
    let plain = HostFacts {
        hostname: "host2".to_owned(),
        ..HostFacts::default()
    };
    let plain = Report {
        hostinfo: Some((RawJson::empty_object(), plain)),
        ..report(2)
    };
    net.engine.report(net.tailnet, two, plain).await;
    assert!(!asking.is_finished());
    until("the other one is seen", || {
        (port(&net, two) == Some(2) && port(&net, one) == Some(1)).then_some(())
    })
    .await;
    asking.await.unwrap();
    gate.open();
    until("what it asked for is stored", || {
        (!net.device(one).facts.advertised_routes.is_empty()).then_some(())
    })
    .await;
}

/// Every delta applied to the full map before it equals the full map after it, for publications
/// that were made while commits hung and after them.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_published_around_a_commit_follows_from_what_was_told() {
    let (net, gate) = net(Duration::from_mins(1)).await;
    net.set_policy(
        r#"{"tagOwners": {"tag:a": [], "tag:b": []},
            "postures": {"posture:linux": ["node:os == 'linux'"]},
            "grants": [{"src": ["tag:a"], "dst": ["tag:b"], "ip": ["*"],
                        "srcPosture": ["posture:linux"]},
                       {"src": ["autogroup:member"], "dst": ["tag:a"], "ip": ["22"]}]}"#,
    )
    .await;
    let key = net.reusable().await;
    let mut devices = Vec::new();
    for number in 0..8 {
        devices.push(net.register(request(number, &key)).await);
    }
    for round in 0..12_u16 {
        let newest = || net.engine.publication(net.tailnet).unwrap();
        let before = newest();
        gate.shut();
        let (engine, admin) = (net.engine.clone(), net.admin.clone());
        let device = devices[usize::from(round) % 8];
        let tags = match round % 3 {
            0 => vec!["tag:a"],
            1 => vec!["tag:b"],
            _ => vec!["tag:a", "tag:b"],
        };
        let tags = tags.into_iter().map(str::to_owned).collect();
        let change =
            tokio::spawn(async move { engine.set_device_tags(&admin, device, tags).await });
        gate.until_somebody_waits().await;
        // Soft state, and facts that the policy looks at.
        for (index, other) in devices.iter().enumerate() {
            if index % 3 == usize::from(round) % 3 {
                let facts = HostFacts {
                    hostname: format!("host{index}-{round}"),
                    os: if round % 2 == 0 { "linux" } else { "macOS" }.to_owned(),
                    ..HostFacts::default()
                };
                let report = Report {
                    hostinfo: Some((RawJson::empty_object(), facts)),
                    ..report(2000 + round)
                };
                net.engine.report(net.tailnet, *other, report).await;
            }
        }
        until("soft state is published", || {
            (net.snapshot().revision > before.snapshot().revision).then_some(())
        })
        .await;
        let between = newest();
        gate.open();
        change.await.unwrap().unwrap();
        let after = newest();
        for viewer in &devices {
            for (from, to) in [(&before, &between), (&between, &after), (&before, &after)] {
                check_law(&net, *viewer, from, to);
            }
        }
    }
}

fn check_law(net: &Net, device: DeviceId, from: &Publication, to: &Publication) {
    let viewer = Viewer {
        device,
        version: 141,
        encoding: Encoding::Plain,
        log_upload: false,
    };
    let mut told = ModelClient::new(rules());
    let apply = |client: &mut ModelClient, message: &Message| {
        if let Err(violation) = client.apply(&message.payload()) {
            panic!("{violation}");
        }
    };
    apply(&mut told, &full::full(viewer, from, net.now()).unwrap());
    if let Some(delta) = delta::delta(viewer, from, to, net.now()).unwrap() {
        apply(&mut told, &delta);
    }
    let mut fresh = ModelClient::new(rules());
    apply(&mut fresh, &full::full(viewer, to, net.now()).unwrap());
    assert_eq!(told.state(), fresh.state());
}

fn rules() -> Rules {
    Rules {
        both_addresses: false,
        ..Rules::default()
    }
}

/// PostgreSQL's processes for one database, stopped until this is dropped.
struct Stopped(Vec<i32>);

impl Stopped {
    async fn all_of(client: &tokio_postgres::Client, database: &str) -> Self {
        let rows = client
            .query(
                "SELECT pid FROM pg_stat_activity WHERE datname = $1",
                &[&database],
            )
            .await
            .unwrap();
        let stopped = Self(rows.iter().map(|row| row.get(0)).collect());
        stopped.signal("-STOP");
        stopped
    }

    fn signal(&self, signal: &str) {
        for process in &self.0 {
            let status = std::process::Command::new("kill")
                .args([signal, &process.to_string()])
                .status();
            assert!(status.unwrap().success());
        }
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        self.signal("-CONT");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn while_postgresql_is_stopped_devices_reconnect_and_what_is_unknown_is_resolved() {
    let Some(server) = bowline_testdata::postgres() else {
        return;
    };
    let (client, connection) = tokio_postgres::connect(&server, tokio_postgres::NoTls)
        .await
        .unwrap();
    tokio::spawn(connection);
    let name = format!("bowline_test_stalled_{}", std::process::id());
    let drop_it = format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)");
    client.batch_execute(&drop_it).await.unwrap();
    let make = format!("CREATE DATABASE {name}");
    client.batch_execute(&make).await.unwrap();
    let url = format!("{}/{name}", server.rsplit_once('/').unwrap().0);
    let store =
        bowline_store::Store::open(&bowline_store::StoreUrl::Postgres(url), Options::default())
            .await
            .unwrap();
    let settings = Settings {
        commit_timeout: Duration::from_secs(2),
        ..quick()
    };
    let net = Net::on(store, settings).await;
    let key = net.reusable().await;
    let mut devices = Vec::new();
    for number in 0..10 {
        devices.push(net.register(request(number, &key)).await);
    }
    let stopped = Stopped::all_of(&client, &name).await;
    let began = std::time::Instant::now();
    let changes = join_all((0..3).map(|index| {
        net.engine
            .rename_device(&net.admin, devices[index], ["x", "y", "z"][index])
    }));
    let back = async {
        let mut streams = Vec::new();
        for number in 0..10 {
            let device = net.register(request(number, &key)).await;
            let stream = net.engine.open_stream(net.tailnet, device).await;
            streams.push(stream.unwrap());
            net.engine.report(net.tailnet, device, report(9)).await;
        }
        until("all are back", || {
            let mut all = devices.iter();
            all.all(|device| net.is_online(*device) && port(&net, *device) == Some(9))
                .then_some(())
        })
        .await;
        streams
    };
    let (changes, streams) = tokio::join!(changes, back);
    assert!(
        began.elapsed() < Duration::from_secs(10),
        "{:?}",
        began.elapsed()
    );
    for change in &changes {
        assert!(
            matches!(change, Err(Refusal::Store(failure)) if failure.is_condition()),
            "{change:?}"
        );
    }
    drop(stopped);
    let deadline = tokio::time::Instant::now() + Duration::from_mins(1);
    while let Err(error) = net
        .engine
        .rename_device(&net.admin, devices[9], "last")
        .await
    {
        assert!(tokio::time::Instant::now() < deadline, "{error:?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    // What is shown is what is stored, whichever way each of the changes went.
    let stored = net.engine.store().load(net.tailnet).await.unwrap();
    for device in &devices {
        let shown = net.device(*device).name.clone();
        let row = stored
            .rows
            .iter()
            .find(|row| row.kind == bowline_store::Kind::Device && row.id == device.get());
        let row: bowline_model::device::Device =
            bowline_model::record::decode(&row.unwrap().body).unwrap();
        assert_eq!(row.name, shown);
    }
    drop(streams);
    assert!(net.engine.close_within(Duration::from_secs(20)).await);
    client.batch_execute(&drop_it).await.unwrap();
}
