//! Many writers at once.

use std::sync::Arc;

use bowline_store::{CommitError, Kind};
use futures_util::future::join_all;

use crate::database::Database;
use crate::rows::{device, ids, keyed, putting, tailnet};

pub(crate) async fn concurrent_tailnets_all_commit(database: Arc<Database>) {
    const TAILNETS: u64 = 40;
    const COMMITS: u64 = 10;
    let store = database.open().await;
    let writers = (1..=TAILNETS).map(|of| {
        let store = store.clone();
        tokio::spawn(async move {
            for base in 0..COMMITS {
                let put = device(of * 1000 + base, "a");
                assert_eq!(
                    store.commit(putting(of, base, put)).await.unwrap(),
                    base + 1
                );
            }
        })
    });
    for writer in join_all(writers).await {
        writer.unwrap();
    }
    assert_eq!(store.tailnets().await.unwrap().len() as u64, TAILNETS);
    for of in 1..=TAILNETS {
        let expected: Vec<u64> = (0..COMMITS).map(|base| of * 1000 + base).collect();
        assert_eq!(ids(&store, of, Kind::Device).await, expected);
    }
    store.close().await;
}

pub(crate) async fn writers_of_one_tailnet_take_turns(database: Arc<Database>) {
    const WRITERS: u64 = 8;
    const COMMITS: u64 = 5;
    let store = database.open().await;
    store.commit(putting(1, 0, device(1, "a"))).await.unwrap();
    let writers = (1..=WRITERS).map(|writer| {
        let store = store.clone();
        tokio::spawn(async move {
            let mut known = 0;
            for number in 0..COMMITS {
                let put = device(writer * 100 + number, "a");
                loop {
                    match store.commit(putting(1, known, put.clone())).await {
                        Ok(seq) => {
                            known = seq;
                            break;
                        }
                        Err(CommitError::Conflict { current }) => known = current,
                        Err(error) => panic!("{error:?}"),
                    }
                }
            }
        })
    });
    for writer in join_all(writers).await {
        writer.unwrap();
    }
    assert_eq!(store.seq(tailnet(1)).await.unwrap(), 1 + WRITERS * COMMITS);
    assert_eq!(
        ids(&store, 1, Kind::Device).await.len() as u64,
        1 + WRITERS * COMMITS
    );
    let changes = store.changes(tailnet(1), 0, 1000).await.unwrap();
    let numbers: Vec<u64> = changes.iter().map(|change| change.seq).collect();
    assert_eq!(numbers, (1..=1 + WRITERS * COMMITS).collect::<Vec<_>>());
    store.close().await;
}

pub(crate) async fn a_rejected_batch_does_not_disturb_others_of_its_group(database: Arc<Database>) {
    let store = database.open().await;
    store
        .commit(putting(1, 0, keyed(1, "taken")))
        .await
        .unwrap();
    // All are sent before any is answered, so that they share transactions.
    let commits = (2..60).map(|of| {
        let key = if of % 3 == 0 {
            "taken".to_owned()
        } else {
            format!("key {of}")
        };
        store.commit(putting(of, 0, keyed(of, &key)))
    });
    for (of, outcome) in (2..).zip(join_all(commits).await) {
        if of % 3 == 0 {
            assert!(
                matches!(outcome, Err(CommitError::Rejected { put: 0, .. })),
                "{outcome:?}"
            );
            assert_eq!(store.seq(tailnet(of)).await.unwrap(), 0);
        } else {
            assert_eq!(outcome.unwrap(), 1);
            assert_eq!(ids(&store, of, Kind::Device).await, [of]);
        }
    }
    store.close().await;
}

pub(crate) async fn a_storm_on_one_unique_value_has_one_winner(database: Arc<Database>) {
    let store = database.open().await;
    let commits = (1..=30).map(|of| {
        let store = store.clone();
        tokio::spawn(async move { store.commit(putting(of, 0, keyed(of, "the key"))).await })
    });
    let mut winners = 0;
    for outcome in join_all(commits).await {
        match outcome.unwrap() {
            Ok(1) => winners += 1,
            Err(CommitError::Rejected {
                put: 0,
                column: Some(_),
            }) => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(winners, 1);
    assert_eq!(store.tailnets().await.unwrap().len(), 1);
    store.close().await;
}
