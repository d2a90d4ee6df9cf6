//! Who has a PostgreSQL database, when a holder vanishes, is cut off or comes back.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bowline_store::{CommitError, Condition, Kind, OpenError, Options, Store, StoreUrl};

use crate::database::{Database, on_postgres, options};
use crate::rows::{batch, device, ids, keyed, putting, tailnet};
use crate::wire::{Wire, until};

/// Options that note what stops a process, in place of stopping it.
fn told() -> (Options, Arc<Mutex<Vec<String>>>) {
    let told = Arc::new(Mutex::new(Vec::new()));
    let tell = Arc::clone(&told);
    let on_fatal = Arc::new(move |text: &str| tell.lock().unwrap().push(text.to_owned()));
    let options = Options {
        on_fatal,
        ..options()
    };
    (options, told)
}

fn condition<T>(outcome: &Result<T, CommitError>) -> Option<Condition> {
    outcome.as_ref().err().and_then(CommitError::condition)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_takes_over_waits_for_the_fence_and_reads_the_last_writes() {
    on_postgres(|database: Arc<Database>| async move {
        let wire = Wire::to(&database).await;
        let (options, told) = told();
        let lease = options.lease;
        let first = Store::open(&wire.url, options).await.unwrap();
        first.commit(putting(1, 0, keyed(1, "a"))).await.unwrap();
        let before = *first.epochs().borrow();
        wire.silence(true);
        let vanished = Instant::now();
        let watched = first.clone();
        let fence = tokio::spawn(async move {
            while watched.is_held() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            Instant::now()
        });
        // A write that is on its way when the network goes, and arrives long after the takeover.
        let late = first.clone();
        let late = tokio::spawn(async move { late.commit(putting(1, 1, keyed(9, "late"))).await });
        let second = database.open().await;
        let taken = Instant::now();
        assert!(taken - vanished < lease * 2, "{:?}", taken - vanished);
        let fallen = fence.await.unwrap();
        assert!(
            fallen < taken,
            "the first still believed when the second had it"
        );
        assert_eq!(ids(&second, 1, Kind::Device).await, [1]);
        second.commit(putting(1, 1, keyed(2, "b"))).await.unwrap();
        let refused = first.commit(putting(1, 1, keyed(3, "c"))).await;
        assert!(condition(&refused).is_some(), "{refused:?}");
        assert!(first.trouble().is_some());
        // The first is heard again: it learns who has the database, and stops.
        wire.silence(false);
        until("the first is told to stop", async || {
            !told.lock().unwrap().is_empty()
        })
        .await;
        assert!(told.lock().unwrap()[0].contains("taken over by bowline process"));
        let late = late.await.unwrap();
        assert!(late.is_err(), "{late:?}");
        assert!(!first.is_held());
        assert_eq!(*first.epochs().borrow(), before);
        assert_eq!(ids(&second, 1, Kind::Device).await, [1, 2]);
        first.close().await;
        assert!(second.is_held());
        assert_eq!(second.commit(batch(1, 2)).await.unwrap(), 3);
        second.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_holder_that_comes_back_after_another_is_told_to_read_again() {
    on_postgres(|database: Arc<Database>| async move {
        let wire = Wire::to(&database).await;
        let first = Store::open(&wire.url, options()).await.unwrap();
        first.commit(putting(1, 0, keyed(1, "a"))).await.unwrap();
        let mut epochs = first.epochs();
        let before = *epochs.borrow_and_update();
        wire.silence(true);
        let second = database.open().await;
        second.commit(putting(1, 1, keyed(2, "b"))).await.unwrap();
        second.close().await;
        assert!(!first.is_held());
        wire.silence(false);
        until("the first has it again", async || first.is_held()).await;
        assert!(*epochs.borrow() > before, "another had it between");
        until("it has no trouble", async || first.trouble().is_none()).await;
        let stale = first.commit(putting(1, 1, keyed(3, "c"))).await;
        assert!(
            matches!(stale, Err(CommitError::Conflict { current: 2 })),
            "{stale:?}"
        );
        assert_eq!(first.commit(putting(1, 2, keyed(3, "c"))).await.unwrap(), 3);
        first.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_interruption_shorter_than_the_lease_changes_nothing() {
    on_postgres(|database: Arc<Database>| async move {
        let store = database.open().await;
        store.commit(batch(1, 0)).await.unwrap();
        let epoch = *store.epochs().borrow();
        let kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                    WHERE datname = current_database() AND pid <> pg_backend_pid()";
        for base in 1..4 {
            database.execute(kill).await;
            assert_eq!(store.commit(batch(1, base)).await.unwrap(), base + 1);
            assert!(store.is_held());
        }
        until("the lease is renewed", async || store.trouble().is_none()).await;
        let refused = Store::open(&database.url, options()).await.unwrap_err();
        assert!(matches!(refused, OpenError::InUse { .. }), "{refused:?}");
        assert_eq!(*store.epochs().borrow(), epoch);
        store.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_under_way_is_over_before_another_has_the_database() {
    on_postgres(|database: Arc<Database>| async move {
        let place = Options {
            place: Some("the same directory".to_owned()),
            ..options()
        };
        let (mut first, told) = told();
        first.place.clone_from(&place.place);
        // Held between its last row and COMMIT.
        let (entered, waiting) = std::sync::mpsc::channel();
        let (release, held) = std::sync::mpsc::channel::<()>();
        let held = Mutex::new(held);
        first.hook = Some(Arc::new(move |point| {
            if point == bowline_store::Point::BeforeCommit {
                let _ = entered.send(());
                let _ = held.lock().unwrap().recv_timeout(Duration::from_secs(20));
            }
            None
        }));
        let first = database.open_with(first).await;
        let writing = first.clone();
        let writing =
            tokio::task::spawn(async move { writing.commit(putting(1, 0, keyed(1, "a"))).await });
        tokio::task::spawn_blocking(move || waiting.recv().unwrap())
            .await
            .unwrap();
        let url = database.url.clone();
        let second = tokio::spawn(async move { Store::open(&url, place).await });
        let client = database.client().await;
        until("the second waits for the row", async || {
            let waiting = "SELECT count(*) FROM pg_stat_activity \
                           WHERE datname = current_database() AND wait_event_type = 'Lock'";
            client
                .query_one(waiting, &[])
                .await
                .unwrap()
                .get::<_, i64>(0)
                > 0
        })
        .await;
        release.send(()).unwrap();
        writing.await.unwrap().unwrap();
        let second = second.await.unwrap().unwrap();
        assert_eq!(ids(&second, 1, Kind::Device).await, [1]);
        until("the first is told", async || {
            !told.lock().unwrap().is_empty()
        })
        .await;
        first.close().await;
        second.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_only_database_is_called_that() {
    on_postgres(|database: Arc<Database>| async move {
        let store = database.open().await;
        store.commit(batch(1, 0)).await.unwrap();
        let read_only = |on: bool| {
            format!(
                "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET default_transaction_read_only \
                 = {}', current_database()); END $$",
                if on { "on" } else { "off" }
            )
        };
        let kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                    WHERE datname = current_database() AND pid <> pg_backend_pid()";
        database.execute(&read_only(true)).await;
        database.execute(kill).await;
        let refused = store.commit(batch(1, 1)).await;
        assert_eq!(
            condition(&refused),
            Some(Condition::ReadOnly),
            "{refused:?}"
        );
        until("readiness is told", async || {
            store.trouble().map(|trouble| trouble.condition) == Some(Condition::ReadOnly)
        })
        .await;
        until("it stays so when the fence has fallen", async || {
            !store.is_held()
        })
        .await;
        let refused = store.commit(batch(1, 1)).await;
        assert_eq!(
            condition(&refused),
            Some(Condition::ReadOnly),
            "{refused:?}"
        );
        assert_eq!(store.load(tailnet(1)).await.unwrap().seq, 1);
        let closed = Store::open(&database.url, options()).await.unwrap_err();
        assert!(matches!(closed, OpenError::ReadOnly { .. }), "{closed:?}");
        let writable = format!("BEGIN READ WRITE; {}; COMMIT", read_only(false));
        database.execute(&writable).await;
        database.execute(kill).await;
        until("writes are taken again", async || {
            store.commit(batch(1, 1)).await.is_ok()
        })
        .await;
        store.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_does_not_answer_is_given_up_in_seconds() {
    on_postgres(|database: Arc<Database>| async move {
        let wire = Wire::to(&database).await;
        let store = Store::open(&wire.url, options()).await.unwrap();
        store.commit(putting(1, 0, device(1, "a"))).await.unwrap();
        wire.silence(true);
        let begun = Instant::now();
        let written = store.commit(putting(1, 1, device(2, "b"))).await;
        let read = store.load(tailnet(1)).await;
        assert!(
            begun.elapsed() < Duration::from_secs(45),
            "{:?}",
            begun.elapsed()
        );
        assert!(condition(&written).is_some(), "{written:?}");
        assert!(read.is_err());
        assert!(store.trouble().is_some());
        wire.silence(false);
        until("it goes on", async || {
            let Ok(seq) = store.seq(tailnet(1)).await else {
                return false;
            };
            store.commit(putting(1, seq, device(3, "c"))).await.is_ok()
        })
        .await;
        store.close().await;
    })
    .await;
}

/// The test's database through another server program on this machine, such as a pool.
pub(crate) fn through(database: &Database, port: u16) -> StoreUrl {
    let StoreUrl::Postgres(url) = &database.url else {
        panic!("not a server")
    };
    let config: tokio_postgres::Config = url.parse().unwrap();
    let own = config.get_ports()[0];
    StoreUrl::Postgres(url.replace(&format!(":{own}/"), &format!(":{port}/")))
}
