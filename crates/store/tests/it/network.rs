//! PostgreSQL behind a connection that breaks, and the engines that ask for another try.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bowline_store::{CommitError, Kind, OpenError, Options, Store, StoreUrl};
use futures_util::future::join_all;

use crate::database::{Database, on_postgres, options};
use crate::rows::{batch, device, ids, keyed, putting, tailnet};
use crate::wire::{CUT_AFTER, CUT_BEFORE, Wire};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_lost_during_commit_leaves_the_outcome_to_be_looked_up() {
    on_postgres(|database: Arc<Database>| async move {
        let wire = Wire::to(&database).await;
        let store = Store::open(&wire.url, options()).await.unwrap();
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
                 INSERT INTO changes VALUES (1, 2, '\\x{:032x}', 0, '[]', 0)",
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
        // The session that renews the lease too.
        let kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                    WHERE datname = current_database() AND pid <> pg_backend_pid()";
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
                    // Whoever was overtaken goes on from there.
                    let mut seq = store.seq(tailnet(1)).await.unwrap();
                    while let Err(error) = store.commit(putting(1, seq, put.clone())).await {
                        let CommitError::Conflict { current } = error else {
                            panic!("{error}");
                        };
                        seq = current;
                    }
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
