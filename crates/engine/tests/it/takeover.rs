//! Another process writes to the database: what follows here.

use std::sync::Arc;
use std::time::Duration;

use bowline_engine::credential::NewAuthKey;
use bowline_engine::{
    Actor, Engine, Followed, Freshness, LoginState, Notice, Refusal, Registered, SystemClock,
    SystemRandom,
};
use bowline_model::id::DeviceId;
use bowline_store::{Batch, Condition, Delete, Kind, Options, Store, StoreUrl};
use tokio::sync::broadcast;

use crate::net::{Net, node_key, present, quick, request, until};

/// Waits for the revocation of a device's node key.
async fn revoked(notices: &mut broadcast::Receiver<Notice>, device: u64) {
    let wait = async {
        while notices.recv().await.unwrap() != Notice::NodeKeyRevoked(node_key(device)) {}
    };
    tokio::time::timeout(Duration::from_secs(10), wait)
        .await
        .expect("the node key is revoked");
}

#[tokio::test]
async fn a_conflict_is_caught_up_with_and_revokes_what_another_removed() {
    for many in [false, true] {
        let net = Net::new().await;
        let kept = net.join(1).await;
        let removed = net.join(2).await;
        let mut notices = net.engine.notices();
        let before = net.snapshot();
        let mut other = Batch::new(net.tailnet, before.seq, [9; 16], net.now());
        other.deletes = vec![Delete {
            kind: Kind::Device,
            id: removed.get(),
        }];
        let mut seq = net.engine.store().commit(other).await.unwrap();
        // More than are followed one by one: then everything is read.
        let more = if many { 1001 } else { 0 };
        for _ in 0..more {
            let empty = Batch::new(net.tailnet, seq, [8; 16], net.now());
            seq = net.engine.store().commit(empty).await.unwrap();
        }
        net.engine
            .rename_device(&net.admin, kept, "renamed")
            .await
            .unwrap();
        let after = net.snapshot();
        assert_eq!(after.seq, seq + 1);
        assert_eq!(after.device(kept).unwrap().device.name, "renamed");
        assert!(after.device(removed).is_none());
        assert!(net.engine.find_device(&node_key(2)).is_none());
        revoked(&mut notices, 2).await;
    }
}

/// An empty database on the server that the tests were given; `None` without one.
async fn database() -> Option<(StoreUrl, tokio_postgres::Client)> {
    let Ok(server) = std::env::var("BOWLINE_TEST_POSTGRES") else {
        assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "no PostgreSQL");
        #[expect(clippy::print_stderr, reason = "a test says that it did nothing")]
        {
            eprintln!("skipped: needs BOWLINE_TEST_POSTGRES (tests/postgres sets it)");
        }
        return None;
    };
    let name = format!("bowline_takeover_{}", std::process::id());
    let client = connect(&server).await;
    for sql in [
        format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"),
        format!("CREATE DATABASE {name}"),
    ] {
        client.batch_execute(&sql).await.unwrap();
    }
    let base = server.rsplit_once('/').unwrap().0;
    let url = format!("{base}/{name}");
    let client = connect(&url).await;
    Some((StoreUrl::Postgres(url), client))
}

async fn connect(url: &str) -> tokio_postgres::Client {
    let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls)
        .await
        .unwrap();
    tokio::spawn(connection);
    client
}

async fn engine(url: &StoreUrl, place: &str, lease: Duration) -> Engine {
    let options = Options {
        lease,
        place: Some(place.to_owned()),
        // A holder that finds another one would end this process.
        on_fatal: Arc::new(|text| panic!("{text}")),
        ..Options::default()
    };
    let store = Store::open(url, options).await.unwrap();
    let (clock, random) = (Arc::new(SystemClock), Arc::new(SystemRandom));
    Engine::open(store, quick(), clock, random).await.unwrap()
}

async fn join(engine: &Engine, admin: &Actor, number: u64) -> DeviceId {
    let key = engine
        .create_auth_key(admin, None, NewAuthKey::default())
        .await
        .unwrap();
    match engine.register(request(number, key.0.expose())).await {
        Ok(Registered::In { device, .. }) => device,
        other => panic!("not let in: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_has_the_database_again_reads_before_it_answers() {
    let Some((url, client)) = database().await else {
        return;
    };
    let first = engine(&url, "first", Duration::from_secs(30)).await;
    let made = first
        .create_tailnet("ann@example.com", Some("example.com"))
        .await
        .unwrap();
    let admin = present(&first, made.token.expose());
    let other = first
        .create_access_token(&admin, None, "other", None)
        .await
        .unwrap();
    let kept = join(&first, &admin, 1).await;
    let removed = join(&first, &admin, 2).await;
    let source: std::net::IpAddr = [192, 0, 2, 1].into();
    let code = first.begin_login(request(7, ""), source).await.unwrap();
    let follows = {
        let (first, code) = (first.clone(), code.clone());
        async move { first.follow_login(&code, request(7, ""), source).await }
    };
    let waits = tokio::spawn(follows);
    let mut notices = first.notices();
    let mut stream = first.open_stream(admin.tailnet, kept).await.unwrap();
    let seen = stream.first();
    assert_eq!(first.freshness(), Freshness::Current);

    // As if it had been silent for longer than its lease and another had taken over, whose process
    // is then started again in its directory.
    client
        .batch_execute(
            "UPDATE lease SET epoch = epoch + 1, holder = 'second', place = 'second', \
             milliseconds = 600000",
        )
        .await
        .unwrap();
    // A lease so long that it is not renewed while this test runs.
    let second = engine(&url, "second", Duration::from_mins(20)).await;
    second.revoke_credential(&admin, other.1.id).await.unwrap();
    second.delete_device(&admin, removed).await.unwrap();
    second.rename_device(&admin, kept, "renamed").await.unwrap();
    let more = second
        .create_tailnet("bob@example.net", Some("example.net"))
        .await
        .unwrap();
    // What waits is known to the next one, which decides about it.
    let confirmed = second.confirm_login(&admin, &code, Some("ann@example.com"), None);
    let device = confirmed.await.unwrap();
    let later = second.begin_login(request(8, ""), source).await.unwrap();
    // The first learns of it by its next write, and answers nothing from memory any more.
    let refused = first.rename_device(&admin, kept, "lost").await;
    assert!(
        matches!(&refused, Err(Refusal::Store(bowline_engine::StoreFailure::Unavailable(t)))
            if t.condition == Condition::NotHeld),
        "{refused:?}"
    );
    assert_eq!(first.freshness(), Freshness::Unknown);
    let refused = first.ensure_current().await.unwrap_err();
    assert!(refused.to_string().contains("does not hold"), "{refused}");
    // What needs no fresh state goes on.
    assert!(first.open_stream(admin.tailnet, kept).await.is_some());
    second.close().await;

    until("the first has it again", || {
        (first.freshness() == Freshness::Current).then_some(())
    })
    .await;
    first.ensure_current().await.unwrap();
    assert!(first.authenticate(other.0.expose()).is_none());
    assert!(first.authenticate(made.token.expose()).is_some());
    let snapshot = first.snapshot(admin.tailnet).unwrap();
    assert!(snapshot.device(removed).is_none());
    assert_eq!(snapshot.device(kept).unwrap().device.name, "renamed");
    assert!(first.authenticate(more.token.expose()).is_some());
    revoked(&mut notices, 2).await;
    // So is who waits for a login that another process confirmed.
    let told = waits.await.unwrap().unwrap();
    let tailnet = admin.tailnet;
    assert_eq!(told, Followed::In { tailnet, device });
    let state = first.login(&code).unwrap().state;
    assert_eq!(state, LoginState::Confirmed { tailnet, device });
    assert_eq!(first.login(&later).unwrap().state, LoginState::Waiting);
    // Map streams are told.
    let mut stream = first.open_stream(admin.tailnet, kept).await.unwrap();
    until("the stream has it", || {
        stream
            .first()
            .snapshot()
            .device(removed)
            .is_none()
            .then_some(())
    })
    .await;
    drop(seen);
    first.rename_device(&admin, kept, "again").await.unwrap();
    first.close().await;
}
