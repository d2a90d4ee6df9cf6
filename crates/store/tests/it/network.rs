//! PostgreSQL behind a connection that breaks, and the engines that ask for another try.

use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bowline_store::{CommitError, Kind, OpenError, Options, Store, StoreUrl};
use futures_util::future::join_all;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::database::{Database, on_postgres};
use crate::rows::{batch, device, ids, keyed, putting, tailnet};

/// What becomes of the next `COMMIT`.
const PASS: u8 = 0;
const CUT_BEFORE: u8 = 1;
const CUT_AFTER: u8 = 2;

/// A way to the server that can be cut at a `COMMIT`.
struct Wire {
    plan: Arc<AtomicU8>,
    cuts: Arc<AtomicUsize>,
    url: StoreUrl,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Wire {
    async fn to(database: &Database) -> Self {
        let StoreUrl::Postgres(url) = &database.url else {
            panic!("not a server")
        };
        let config: tokio_postgres::Config = url.parse().unwrap();
        let port = config.get_ports()[0];
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let own = listener.local_addr().unwrap().port();
        let url = StoreUrl::Postgres(url.replace(&format!(":{port}/"), &format!(":{own}/")));
        let (plan, cuts) = (Arc::new(AtomicU8::new(PASS)), Arc::new(AtomicUsize::new(0)));
        let (plan_, cuts_) = (Arc::clone(&plan), Arc::clone(&cuts));
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((near, _)) = listener.accept().await {
                let far = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                connections.spawn(carry(near, far, Arc::clone(&plan_), Arc::clone(&cuts_)));
            }
        });
        Self {
            plan,
            cuts,
            url,
            task,
        }
    }

    fn next(&self, plan: u8) {
        self.plan.store(plan, Ordering::SeqCst);
    }
}

async fn carry(near: TcpStream, far: TcpStream, plan: Arc<AtomicU8>, cuts: Arc<AtomicUsize>) {
    let (mut from_near, mut to_near) = near.into_split();
    let (mut from_far, mut to_far) = far.into_split();
    let mut up = vec![0; 65536];
    let mut down = vec![0; 65536];
    loop {
        tokio::select! {
            read = from_near.read(&mut up) => {
                let Ok(length @ 1..) = read else { return };
                let bytes = &up[..length];
                if bytes.windows(7).any(|part| part == b"COMMIT\0") {
                    match plan.swap(PASS, Ordering::SeqCst) {
                        CUT_BEFORE => {
                            cuts.fetch_add(1, Ordering::SeqCst);
                            return;
                        }
                        CUT_AFTER => {
                            // The server has it and answers, but nobody hears.
                            to_far.write_all(bytes).await.unwrap();
                            let _ = from_far.read(&mut down).await;
                            cuts.fetch_add(1, Ordering::SeqCst);
                            return;
                        }
                        _ => {}
                    }
                }
                if to_far.write_all(bytes).await.is_err() { return }
            }
            read = from_far.read(&mut down) => {
                let Ok(length @ 1..) = read else { return };
                if to_near.write_all(&down[..length]).await.is_err() { return }
            }
        }
    }
}

/// Waits for a state.
async fn until(what: &str, mut reached: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !reached().await {
        assert!(Instant::now() < deadline, "waited 30 s for: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_lost_during_commit_leaves_the_outcome_to_be_looked_up() {
    on_postgres(|database: Arc<Database>| async move {
        let wire = Wire::to(&database).await;
        let store = Store::open(&wire.url, Options::default()).await.unwrap();
        store.commit(putting(1, 0, device(1, "a"))).await.unwrap();
        for (base, plan, expected) in [
            (1, CUT_BEFORE, None),
            (1, CUT_AFTER, Some(2)),
            (2, CUT_BEFORE, None),
        ] {
            let one = putting(1, base, device(base + 10, "b"));
            let id = one.commit_id;
            wire.next(plan);
            let outcome = store.commit(one).await;
            assert!(matches!(outcome, Err(CommitError::Unknown)), "{outcome:?}");
            assert_eq!(
                store.commit_outcome(tailnet(1), id).await.unwrap(),
                expected
            );
            assert_eq!(
                store.seq(tailnet(1)).await.unwrap(),
                expected.unwrap_or(base)
            );
        }
        // The first commit of a tailnet too, whose head is not there to be waited for.
        for (of, plan, expected) in [(2, CUT_AFTER, Some(1)), (3, CUT_BEFORE, None)] {
            let one = batch(of, 0);
            let id = one.commit_id;
            wire.next(plan);
            let outcome = store.commit(one).await;
            assert!(matches!(outcome, Err(CommitError::Unknown)), "{outcome:?}");
            assert_eq!(
                store.commit_outcome(tailnet(of), id).await.unwrap(),
                expected
            );
        }
        assert_eq!(wire.cuts.load(Ordering::SeqCst), 5);
        assert_eq!(ids(&store, 1, Kind::Device).await, [1, 11]);
        store.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outcome_is_not_told_while_the_commit_is_still_under_way() {
    on_postgres(|database: Arc<Database>| async move {
        let store = database.open().await;
        store.commit(batch(1, 0)).await.unwrap();
        // Another session is between its last row and its COMMIT, as a lost connection leaves it.
        let other = database.client().await;
        let id = crate::rows::commit_id();
        other
            .batch_execute(&format!(
                "BEGIN; UPDATE heads SET seq = 2 WHERE tailnet = 1; \
                 INSERT INTO changes VALUES (1, 2, '\\x{:032x}', 0, '[]')",
                u128::from_be_bytes(id)
            ))
            .await
            .unwrap();
        let mut outcome = Box::pin(store.commit_outcome(tailnet(1), id));
        let early = tokio::time::timeout(Duration::from_millis(300), &mut outcome).await;
        assert!(early.is_err(), "answered too early: {early:?}");
        other.batch_execute("COMMIT").await.unwrap();
        assert_eq!(outcome.await.unwrap(), Some(2));
        store.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn broken_connections_are_replaced() {
    on_postgres(|database: Arc<Database>| async move {
        let store = database.open().await;
        store.commit(putting(1, 0, device(1, "a"))).await.unwrap();
        // All but the session that holds the lock.
        let kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                    WHERE datname = current_database() AND pid <> pg_backend_pid() \
                    AND pid NOT IN (SELECT pid FROM pg_locks WHERE locktype = 'advisory')";
        for base in 1..4 {
            database.execute(kill).await;
            assert_eq!(ids(&store, 1, Kind::Device).await.len() as u64, base);
            database.execute(kill).await;
            store
                .commit(putting(1, base, device(base + 1, "a")))
                .await
                .unwrap();
        }
        store.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_hold_on_the_database_is_taken_again() {
    on_postgres(|database: Arc<Database>| async move {
        let store = database.open().await;
        store.commit(batch(1, 0)).await.unwrap();
        database.execute(KILL_HOLDER).await;
        // Whether or not the loss was noticed already, the store comes back by itself …
        let holders = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND \
                       database = (SELECT oid FROM pg_database WHERE datname = current_database())";
        let client = database.client().await;
        until("the lock is held again", async || {
            client
                .query_one(holders, &[])
                .await
                .unwrap()
                .get::<_, i64>(0)
                == 1
        })
        .await;
        until("writes are accepted again", async || {
            let base = store.seq(tailnet(1)).await.unwrap();
            store.commit(batch(1, base)).await.is_ok()
        })
        .await;
        // … and still keeps others out.
        let error = Store::open(&database.url, Options::default())
            .await
            .unwrap_err();
        assert!(matches!(error, OpenError::InUse { .. }), "{error:?}");
        store.close().await;
    })
    .await;
}

const KILL_HOLDER: &str = "SELECT pg_terminate_backend(pid) FROM pg_locks \
    WHERE locktype = 'advisory' AND \
    database = (SELECT oid FROM pg_database WHERE datname = current_database())";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_taken_over_by_another_stops_the_first() {
    on_postgres(|database: Arc<Database>| async move {
        let told = Arc::new(Mutex::new(Vec::new()));
        let tell = Arc::clone(&told);
        let on_fatal = Arc::new(move |text: &str| tell.lock().unwrap().push(text.to_owned()));
        let first = database
            .open_with(Options {
                on_fatal,
                ..Options::default()
            })
            .await;
        first.commit(putting(1, 0, keyed(1, "a"))).await.unwrap();
        // Another process was waiting for the moment the lock is free.
        let second = loop {
            database.execute(KILL_HOLDER).await;
            if let Ok(store) = Store::open(&database.url, Options::default()).await {
                break store;
            }
        };
        second.commit(putting(1, 1, keyed(2, "b"))).await.unwrap();
        // A write made from before the takeover is fenced by its number, noticed or not.
        let outcome = first.commit(putting(1, 1, keyed(3, "c"))).await;
        let fenced = matches!(
            outcome,
            Err(CommitError::Conflict { current: 2 } | CommitError::Unavailable(_))
        );
        assert!(fenced, "{outcome:?}");
        until("the first is told to stop", async || {
            !told.lock().unwrap().is_empty()
        })
        .await;
        let outcome = first.commit(putting(1, 2, keyed(3, "c"))).await;
        assert!(
            matches!(outcome, Err(CommitError::Unavailable(_))),
            "{outcome:?}"
        );
        assert_eq!(ids(&second, 1, Kind::Device).await, [1, 2]);
        first.close().await;
        second.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_serialisable_database_is_written_by_trying_again() {
    on_postgres(|database: Arc<Database>| async move {
        database
            .execute(
                "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET default_transaction_isolation \
                 = serializable', current_database()); END $$",
            )
            .await;
        let store = database.open().await;
        store.commit(batch(1, 0)).await.unwrap();
        let writers = (1..=6_u64).map(|writer| {
            let store = store.clone();
            tokio::spawn(async move {
                for number in 0..5 {
                    let put = keyed(writer * 10 + number, &format!("{writer} {number}"));
                    let make =
                        move |found: bowline_store::CatchUp| putting(1, found.seq, put.clone());
                    store.lock_and_commit(tailnet(1), 0, make).await.unwrap();
                    let (of, base) = (100 + writer, number);
                    store
                        .commit(putting(of, base, device(of * 10 + base, "own")))
                        .await
                        .unwrap();
                }
            })
        });
        for writer in join_all(writers).await {
            writer.unwrap();
        }
        assert_eq!(store.seq(tailnet(1)).await.unwrap(), 31);
        assert_eq!(ids(&store, 1, Kind::Device).await.len(), 30);
        store.close().await;
    })
    .await;
}

#[tokio::test]
async fn a_server_that_cannot_be_used_is_told_apart() {
    let nobody = StoreUrl::Postgres("postgres://bowline@127.0.0.1:1/bowline".to_owned());
    let error = Store::open(&nobody, Options::default()).await.unwrap_err();
    assert!(matches!(error, OpenError::Unreachable(_)), "{error:?}");
    let wrong = StoreUrl::Postgres("postgres://u:hunter2@h/d?port=none".to_owned());
    let error = Store::open(&wrong, Options::default()).await.unwrap_err();
    assert!(matches!(error, OpenError::Setting(_)), "{error:?}");
    assert!(
        !format!("{error} {error:?}").contains("hunter2"),
        "{error:?}"
    );
    on_postgres(|database: Arc<Database>| async move {
        let StoreUrl::Postgres(url) = &database.url else {
            return;
        };
        let missing = StoreUrl::Postgres(format!("{url}_missing"));
        let error = Store::open(&missing, Options::default()).await.unwrap_err();
        assert!(matches!(error, OpenError::Refused(_)), "{error:?}");
    })
    .await;
}
