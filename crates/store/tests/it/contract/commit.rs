//! Commits, conflicts, and what becomes of a commit nobody waited for.

use std::sync::Arc;

use bowline_store::{Batch, CommitError, Error, Kind, Put, Row};

use crate::database::Database;
use crate::rows::{batch, commit_id, deleting, device, ids, keyed, putting, tailnet};

pub(crate) async fn a_commit_is_there_after_reopening(database: Arc<Database>) {
    let store = database.open().await;
    let mut first = batch(1, 0);
    first.puts = vec![
        Put::new(Kind::Tailnet, 1, "{}"),
        device(7, "a"),
        device(8, "b"),
    ];
    assert_eq!(store.commit(first).await.unwrap(), 1);
    let mut second = batch(1, 1);
    second.puts = vec![device(8, "c")];
    second.deletes = deleting(1, 1, Kind::Device, 7).deletes;
    assert_eq!(store.commit(second).await.unwrap(), 2);
    store.close().await;

    let store = database.open().await;
    assert_eq!(store.tailnets().await.unwrap(), [(tailnet(1), 2)]);
    let loaded = store.load(tailnet(1)).await.unwrap();
    assert_eq!(loaded.seq, 2);
    let expected = [
        Row {
            kind: Kind::Tailnet,
            id: 1,
            seq: 1,
            body: "{}".into(),
        },
        Row {
            kind: Kind::Device,
            id: 8,
            seq: 2,
            body: device(8, "c").body,
        },
    ];
    assert_eq!(loaded.rows, expected);
    store.close().await;
}

pub(crate) async fn a_stale_base_is_a_conflict_and_writes_nothing(database: Arc<Database>) {
    let store = database.open().await;
    store.commit(putting(1, 0, device(1, "a"))).await.unwrap();
    store.commit(putting(1, 1, device(2, "b"))).await.unwrap();
    for base in [1, 3] {
        let outcome = store.commit(putting(1, base, device(3, "c"))).await;
        assert!(
            matches!(outcome, Err(CommitError::Conflict { current: 2 })),
            "{outcome:?}"
        );
    }
    let outcome = store.commit(putting(2, 1, device(4, "d"))).await;
    assert!(
        matches!(outcome, Err(CommitError::Conflict { current: 0 })),
        "{outcome:?}"
    );
    assert_eq!(ids(&store, 1, Kind::Device).await, [1, 2]);
    assert_eq!(store.tailnets().await.unwrap().len(), 1);
    store.close().await;
}

pub(crate) async fn creating_a_tailnet_twice_is_a_conflict(database: Arc<Database>) {
    let store = database.open().await;
    store.commit(batch(1, 0)).await.unwrap();
    let outcome = store.commit(batch(1, 0)).await;
    assert!(
        matches!(outcome, Err(CommitError::Conflict { current: 1 })),
        "{outcome:?}"
    );
    assert_eq!(store.seq(tailnet(1)).await.unwrap(), 1);
    assert_eq!(store.seq(tailnet(2)).await.unwrap(), 0);
    store.close().await;
}

pub(crate) async fn a_body_comes_back_byte_for_byte(database: Arc<Database>) {
    let store = database.open().await;
    let bodies = [
        r#"{"z":1,"a":1.0,"a":2,"n":1e2,"big":9007199254740993,"space":  null}"#,
        r#"{"zero":"\u0000","half":"\ud800","text":"é\n\u00e9 💡"}"#,
        "{\n  \"lines\": [1,\r\n 2]\n}",
        "null",
    ];
    let puts = (1..)
        .zip(bodies)
        .map(|(id, body)| Put::new(Kind::Policy, id, body))
        .collect();
    store
        .commit(Batch {
            puts,
            ..batch(1, 0)
        })
        .await
        .unwrap();
    let rows = store.load(tailnet(1)).await.unwrap().rows;
    let read: Vec<&str> = rows.iter().map(|row| &*row.body).collect();
    assert_eq!(read, bodies);
    store.close().await;
}

pub(crate) async fn a_batch_that_no_database_could_store_is_malformed(database: Arc<Database>) {
    let store = database.open().await;
    let twice = Batch {
        puts: vec![device(1, "a"), device(1, "b")],
        ..batch(1, 0)
    };
    let both = Batch {
        deletes: deleting(1, 0, Kind::Device, 1).deletes,
        ..putting(1, 0, device(1, ""))
    };
    let malformed = [
        twice,
        both,
        putting(1, 0, device(1 << 53, "a")),
        putting(1, 0, Put::new(Kind::Device, 1, "{")),
        putting(1, 0, keyed(1, "zero\0byte")),
        putting(
            1,
            0,
            Put {
                kind: Kind::Key,
                ..keyed(1, "no such column")
            },
        ),
    ];
    for batch in malformed {
        let outcome = store.commit(batch.clone()).await;
        assert!(
            matches!(outcome, Err(CommitError::Malformed(_))),
            "{batch:?}: {outcome:?}"
        );
    }
    assert!(store.tailnets().await.unwrap().is_empty());
    store.close().await;
}

pub(crate) async fn a_commit_is_found_by_its_id(database: Arc<Database>) {
    let store = database.open().await;
    store.commit(batch(1, 0)).await.unwrap();
    let second = batch(1, 1);
    store.commit(second.clone()).await.unwrap();
    store.commit(batch(2, 0)).await.unwrap();
    let outcome = store
        .commit_outcome(tailnet(1), second.commit_id)
        .await
        .unwrap();
    assert_eq!(outcome, Some(2));
    assert_eq!(
        store
            .commit_outcome(tailnet(2), second.commit_id)
            .await
            .unwrap(),
        None
    );
    assert_eq!(
        store.commit_outcome(tailnet(1), commit_id()).await.unwrap(),
        None
    );
    assert_eq!(
        store.commit_outcome(tailnet(9), commit_id()).await.unwrap(),
        None
    );
    assert_eq!(store.tailnets().await.unwrap().len(), 2); // asking has made nothing
    store.close().await;
}

pub(crate) async fn a_write_goes_on_when_its_caller_stops_waiting(database: Arc<Database>) {
    let store = database.open().await;
    for base in 0..20 {
        let mut commit = Box::pin(store.commit(putting(1, base, device(base + 1, "a"))));
        // Polled once, so that it is on its way, and dropped.
        let poll = futures_util::poll!(&mut commit);
        drop(commit);
        if poll.is_ready() {
            continue;
        }
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while store.seq(tailnet(1)).await.unwrap() != base + 1 {
            assert!(
                std::time::Instant::now() < deadline,
                "commit {base} never came"
            );
        }
    }
    assert_eq!(ids(&store, 1, Kind::Device).await.len(), 20);
    store.close().await;
}

pub(crate) async fn a_closed_store_refuses(database: Arc<Database>) {
    let store = database.open().await;
    let clone = store.clone();
    store.close().await;
    let outcome = clone.commit(batch(1, 0)).await;
    assert!(
        matches!(outcome, Err(CommitError::Unavailable(_))),
        "{outcome:?}"
    );
    let outcome = clone.tailnets().await;
    assert!(matches!(outcome, Err(Error::Unavailable(_))), "{outcome:?}");
    let store = database.open().await;
    assert!(store.tailnets().await.unwrap().is_empty());
    store.close().await;
}
