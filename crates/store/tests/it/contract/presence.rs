//! Soft state of devices.

use std::sync::Arc;

use bowline_store::{Batch, Kind};

use crate::database::Database;
use crate::rows::{batch, deleting, device, presence, tailnet};

pub(crate) async fn the_newest_presence_is_loaded(database: Arc<Database>) {
    let store = database.open().await;
    let puts = vec![device(1, "a"), device(2, "b"), device(3, "c")];
    store
        .commit(Batch {
            puts,
            ..batch(1, 0)
        })
        .await
        .unwrap();
    store
        .put_presence(
            tailnet(1),
            vec![presence(1, 10, true), presence(2, 10, true)],
        )
        .await
        .unwrap();
    store
        .put_presence(
            tailnet(1),
            vec![presence(1, 20, false), presence(2, 5, false)],
        )
        .await
        .unwrap();
    store.put_presence(tailnet(1), vec![]).await.unwrap();
    let expected = [presence(1, 20, false), presence(2, 10, true)];
    assert_eq!(store.load(tailnet(1)).await.unwrap().presence, expected);
    assert_eq!(store.seq(tailnet(1)).await.unwrap(), 1); // it is not a change
    store.close().await;
    let store = database.open().await;
    assert_eq!(store.load(tailnet(1)).await.unwrap().presence, expected);
    store.close().await;
}

pub(crate) async fn presence_of_a_clock_that_was_set_back_gives_way(database: Arc<Database>) {
    let store = database.open().await;
    let puts = vec![device(1, "a")];
    store
        .commit(Batch {
            puts,
            ..batch(1, 0)
        })
        .await
        .unwrap();
    // Two flushes out of order are seconds apart, a clock that was wrong is hours or more.
    for (second, kept) in [(10_000, 10_000), (9_000, 10_000), (6_000, 6_000)] {
        store
            .put_presence(tailnet(1), vec![presence(1, second, true)])
            .await
            .unwrap();
        assert_eq!(
            store.load(tailnet(1)).await.unwrap().presence,
            [presence(1, kept, true)]
        );
    }
    store.close().await;
}

pub(crate) async fn presence_goes_with_its_device(database: Arc<Database>) {
    let store = database.open().await;
    store
        .commit(Batch {
            puts: vec![device(1, "a")],
            ..batch(1, 0)
        })
        .await
        .unwrap();
    store
        .put_presence(tailnet(1), vec![presence(1, 10, true)])
        .await
        .unwrap();
    store.commit(deleting(1, 1, Kind::Device, 1)).await.unwrap();
    assert!(store.load(tailnet(1)).await.unwrap().presence.is_empty());
    store
        .commit(Batch {
            puts: vec![device(1, "again")],
            ..batch(1, 2)
        })
        .await
        .unwrap();
    assert!(store.load(tailnet(1)).await.unwrap().presence.is_empty());
    store.close().await;
}

pub(crate) async fn presence_of_a_foreign_or_absent_device_is_passed_over(database: Arc<Database>) {
    let store = database.open().await;
    store
        .commit(Batch {
            puts: vec![device(1, "a")],
            ..batch(1, 0)
        })
        .await
        .unwrap();
    store
        .commit(Batch {
            puts: vec![device(2, "b")],
            ..batch(2, 0)
        })
        .await
        .unwrap();
    let all = vec![
        presence(1, 10, true),
        presence(2, 10, true),
        presence(3, 10, true),
    ];
    store.put_presence(tailnet(1), all).await.unwrap();
    assert_eq!(
        store.load(tailnet(1)).await.unwrap().presence,
        [presence(1, 10, true)]
    );
    assert!(store.load(tailnet(2)).await.unwrap().presence.is_empty());
    store.close().await;
}
