//! Columns that the database keeps unique.

use std::sync::Arc;

use bowline_store::{Batch, Column, CommitError, Kind, Put, TextRow};

use crate::database::Database;
use crate::rows::{
    batch, deleting, device, event, ids, job, jobs, keyed, putting, sealed, tailnet, user,
};

fn rejected(outcome: &Result<u64, CommitError>, put: usize, column: Option<Column>) {
    match outcome {
        Err(CommitError::Rejected {
            put: at,
            column: of,
        }) => assert_eq!((*at, *of), (put, column)),
        other => panic!("expected a rejection, got {other:?}"),
    }
}

pub(crate) async fn a_taken_value_is_rejected_with_its_row_and_column(database: Arc<Database>) {
    let store = database.open().await;
    let taken = vec![
        Put::new(Kind::Tailnet, 1, "{}").with(Column::TailnetName, "example.com"),
        user(1, "alice@example.com"),
        keyed(1, "nodekey:1").with(Column::Ipv6, "fd7a::1"),
    ];
    store
        .commit(Batch {
            puts: taken,
            ..batch(1, 0)
        })
        .await
        .unwrap();
    let clashes = [
        (
            Put::new(Kind::Tailnet, 2, "{}").with(Column::TailnetName, "example.com"),
            Column::TailnetName,
        ),
        (user(2, "alice@example.com"), Column::UserLogin),
        (keyed(2, "nodekey:1"), Column::NodeKey),
        (
            keyed(2, "nodekey:2").with(Column::Ipv6, "fd7a::1"),
            Column::Ipv6,
        ),
    ];
    for (put, column) in clashes {
        let puts = vec![device(5, "before"), put.clone(), device(6, "after")];
        let outcome = store
            .commit(Batch {
                puts,
                ..batch(1, 1)
            })
            .await;
        rejected(&outcome, 1, Some(column));
        rejected(&store.commit(putting(1, 1, put)).await, 0, Some(column));
    }
    // Across tailnets as well: a node key and an address belong to one device in the server.
    rejected(
        &store.commit(putting(2, 0, keyed(3, "nodekey:1"))).await,
        0,
        Some(Column::NodeKey),
    );
    assert_eq!(store.tailnets().await.unwrap(), [(tailnet(1), 1)]);
    store.close().await;
}

pub(crate) async fn a_rejected_row_leaves_nothing_of_its_batch(database: Arc<Database>) {
    let store = database.open().await;
    let first = vec![keyed(1, "nodekey:1"), device(9, "stays")];
    store
        .commit(Batch {
            puts: first,
            ..batch(1, 0)
        })
        .await
        .unwrap();
    let mut bad = batch(1, 1);
    bad.puts = vec![device(2, "new"), keyed(3, "nodekey:1")];
    bad.deletes = deleting(1, 1, Kind::Device, 9).deletes;
    bad.audit = vec![event(1, 0)];
    bad.jobs = vec![job(1, "webhook")];
    bad.texts = vec![TextRow::new(crate::rows::at(0), "text")];
    bad.secrets = vec![sealed("webhook", b"x")];
    let id = bad.commit_id;
    rejected(&store.commit(bad).await, 1, Some(Column::NodeKey));
    assert_eq!(ids(&store, 1, Kind::Device).await, [1, 9]);
    assert_eq!(store.seq(tailnet(1)).await.unwrap(), 1);
    assert_eq!(store.changes(tailnet(1), 0, 10).await.unwrap().len(), 1);
    assert!(
        store
            .audit(tailnet(1), crate::rows::at(-9), crate::rows::at(9), 9)
            .await
            .unwrap()
            .is_empty()
    );
    assert!(jobs(&store, "webhook").await.is_empty());
    assert!(store.texts(tailnet(1)).await.unwrap().is_empty());
    assert_eq!(store.secret(tailnet(1), "webhook").await.unwrap(), None);
    assert_eq!(store.commit_outcome(tailnet(1), id).await.unwrap(), None);
    store.commit(putting(1, 1, device(2, "new"))).await.unwrap();
    store.close().await;
}

pub(crate) async fn a_login_is_unique_in_its_tailnet_only(database: Arc<Database>) {
    let store = database.open().await;
    store
        .commit(putting(1, 0, user(1, "alice@example.com")))
        .await
        .unwrap();
    store
        .commit(putting(2, 0, user(2, "alice@example.com")))
        .await
        .unwrap();
    let outcome = store
        .commit(putting(2, 1, user(3, "alice@example.com")))
        .await;
    rejected(&outcome, 0, Some(Column::UserLogin));
    store.close().await;
}

pub(crate) async fn a_value_is_free_again_after_its_row_changed_or_went(database: Arc<Database>) {
    let store = database.open().await;
    store
        .commit(putting(1, 0, keyed(1, "nodekey:1")))
        .await
        .unwrap();
    store
        .commit(putting(1, 1, keyed(1, "nodekey:2")))
        .await
        .unwrap();
    store
        .commit(putting(1, 2, keyed(2, "nodekey:1")))
        .await
        .unwrap();
    store.commit(deleting(1, 3, Kind::Device, 2)).await.unwrap();
    store
        .commit(putting(2, 0, keyed(3, "nodekey:1")))
        .await
        .unwrap();
    // In one batch too: what is deleted frees its value for what is written.
    let mut both = putting(1, 4, keyed(4, "nodekey:2"));
    both.deletes = deleting(1, 4, Kind::Device, 1).deletes;
    store.commit(both).await.unwrap();
    assert_eq!(ids(&store, 1, Kind::Device).await, [4]);
    store.close().await;
}

pub(crate) async fn rows_of_one_batch_may_swap_their_values(database: Arc<Database>) {
    let store = database.open().await;
    let first = vec![keyed(1, "nodekey:1"), keyed(2, "nodekey:2")];
    store
        .commit(Batch {
            puts: first,
            ..batch(1, 0)
        })
        .await
        .unwrap();
    let swapped = vec![keyed(1, "nodekey:2"), keyed(2, "nodekey:1")];
    store
        .commit(Batch {
            puts: swapped,
            ..batch(1, 1)
        })
        .await
        .unwrap();
    // A clash with a row outside the batch stays one, and undoes the swap with it.
    store
        .commit(putting(1, 2, keyed(3, "nodekey:3")))
        .await
        .unwrap();
    let mixed = vec![
        keyed(1, "nodekey:1"),
        keyed(2, "nodekey:2"),
        keyed(4, "nodekey:3"),
    ];
    let outcome = store
        .commit(Batch {
            puts: mixed,
            ..batch(1, 3)
        })
        .await;
    rejected(&outcome, 2, Some(Column::NodeKey));
    // Two rows of one batch with the same value clash with each other.
    let same = vec![keyed(5, "nodekey:5"), keyed(6, "nodekey:5")];
    rejected(
        &store
            .commit(Batch {
                puts: same,
                ..batch(1, 3)
            })
            .await,
        1,
        Some(Column::NodeKey),
    );
    // The earlier swap still stands.
    rejected(
        &store.commit(putting(2, 0, keyed(7, "nodekey:1"))).await,
        0,
        Some(Column::NodeKey),
    );
    store
        .commit(putting(1, 3, keyed(1, "nodekey:9")))
        .await
        .unwrap();
    store
        .commit(putting(2, 0, keyed(7, "nodekey:2")))
        .await
        .unwrap();
    store.close().await;
}

pub(crate) async fn a_put_without_a_column_empties_it(database: Arc<Database>) {
    let store = database.open().await;
    store
        .commit(putting(1, 0, keyed(1, "nodekey:1")))
        .await
        .unwrap();
    store
        .commit(putting(1, 1, device(1, "no key")))
        .await
        .unwrap();
    let puts = vec![keyed(2, "nodekey:1"), device(3, "no key either")];
    store
        .commit(Batch {
            puts,
            ..batch(1, 2)
        })
        .await
        .unwrap();
    store.close().await;
}
