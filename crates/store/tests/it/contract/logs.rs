//! Change log, audit events and outbox.

use std::collections::BTreeMap;
use std::sync::Arc;

use bowline_store::{Batch, Change, CommitError, Kind, Operation, Row, Touched};

use crate::database::Database;
use crate::rows::{at, batch, deleting, device, event, job, putting, tailnet, user};

pub(crate) async fn the_change_log_says_what_each_change_touched(database: Arc<Database>) {
    let store = database.open().await;
    let first = Batch {
        puts: vec![device(1, "a"), user(2, "u")],
        ..batch(1, 0)
    };
    let second = deleting(1, 1, Kind::Device, 1);
    let ids = [first.commit_id, second.commit_id];
    store.commit(first).await.unwrap();
    store.commit(second).await.unwrap();
    let touched = |kind, id, operation| Touched {
        kind,
        id,
        operation,
    };
    let expected = [
        Change {
            seq: 1,
            commit_id: ids[0],
            at: at(0),
            touched: vec![
                touched(Kind::Device, 1, Operation::Put),
                touched(Kind::User, 2, Operation::Put),
            ],
        },
        Change {
            seq: 2,
            commit_id: ids[1],
            at: at(1),
            touched: vec![touched(Kind::Device, 1, Operation::Delete)],
        },
    ];
    assert_eq!(store.changes(tailnet(1), 0, 10).await.unwrap(), expected);
    assert_eq!(
        store.changes(tailnet(1), 1, 10).await.unwrap(),
        expected[1..]
    );
    assert_eq!(
        store.changes(tailnet(1), 0, 1).await.unwrap(),
        expected[..1]
    );
    assert!(store.changes(tailnet(1), 2, 10).await.unwrap().is_empty());
    store.close().await;
}

pub(crate) async fn catching_up_brings_an_old_snapshot_to_the_newest(database: Arc<Database>) {
    let store = database.open().await;
    let mut snapshots = vec![store.load(tailnet(1)).await.unwrap()];
    let steps = [
        putting(1, 0, device(1, "a")),
        putting(1, 1, device(2, "b")),
        putting(1, 2, device(1, "c")),
        deleting(1, 3, Kind::Device, 2),
        putting(1, 4, user(3, "u")),
        putting(1, 5, device(2, "again")),
    ];
    for step in steps {
        store.commit(step).await.unwrap();
        snapshots.push(store.load(tailnet(1)).await.unwrap());
    }
    let newest = snapshots.last().cloned().unwrap();
    for old in snapshots {
        let found = store.catch_up(tailnet(1), old.seq).await.unwrap();
        assert_eq!((found.seq, found.whole), (6, false));
        let mut rows: BTreeMap<(Kind, u64), Row> = old
            .rows
            .into_iter()
            .map(|row| ((row.kind, row.id), row))
            .collect();
        rows.retain(|place, _| !found.gone.contains(place));
        rows.extend(found.rows.into_iter().map(|row| ((row.kind, row.id), row)));
        assert_eq!(
            rows.into_values().collect::<Vec<_>>(),
            newest.rows,
            "from {}",
            old.seq
        );
    }
    store.close().await;
}

pub(crate) async fn catching_up_from_before_a_prune_gives_everything(database: Arc<Database>) {
    let store = database.open().await;
    for base in 0..5 {
        store
            .commit(putting(1, base, device(base + 1, "a")))
            .await
            .unwrap();
    }
    store.prune(at(2)).await.unwrap(); // changes 1 and 2 go
    let found = store.catch_up(tailnet(1), 1).await.unwrap();
    assert_eq!((found.seq, found.whole, found.rows.len()), (5, true, 5));
    let found = store.catch_up(tailnet(1), 2).await.unwrap();
    assert_eq!((found.seq, found.whole, found.rows.len()), (5, false, 3));
    // A snapshot from after a restore of an older backup is ahead of the database.
    let found = store.catch_up(tailnet(1), 7).await.unwrap();
    assert_eq!((found.seq, found.whole, found.rows.len()), (5, true, 5));
    let found = store.catch_up(tailnet(9), 3).await.unwrap();
    assert_eq!((found.seq, found.whole, found.rows.len()), (0, true, 0));
    store.close().await;
}

pub(crate) async fn audit_events_are_read_by_time(database: Arc<Database>) {
    let store = database.open().await;
    let audit = vec![event(3, 30), event(1, 10), event(2, 20), event(4, 20)];
    store
        .commit(Batch {
            audit,
            ..batch(1, 0)
        })
        .await
        .unwrap();
    let read = async |from, to, limit| {
        store
            .audit(tailnet(1), at(from), at(to), limit)
            .await
            .unwrap()
    };
    assert_eq!(
        read(0, 99, 9).await,
        [event(1, 10), event(2, 20), event(4, 20), event(3, 30)]
    );
    assert_eq!(
        read(10, 30, 9).await,
        [event(1, 10), event(2, 20), event(4, 20)]
    );
    assert_eq!(read(11, 99, 2).await, [event(2, 20), event(4, 20)]);
    assert!(read(31, 99, 9).await.is_empty());
    store.close().await;
}

pub(crate) async fn an_audit_id_used_twice_is_malformed(database: Arc<Database>) {
    let store = database.open().await;
    let audit = vec![event(1, 10), event(1, 10)];
    let outcome = store
        .commit(Batch {
            audit,
            ..putting(1, 0, device(1, "a"))
        })
        .await;
    assert!(
        matches!(outcome, Err(CommitError::Malformed(_))),
        "{outcome:?}"
    );
    let outbox = vec![job(1, "webhook"), job(1, "webhook")];
    let outcome = store
        .commit(Batch {
            outbox,
            ..putting(1, 0, device(1, "a"))
        })
        .await;
    assert!(
        matches!(outcome, Err(CommitError::Malformed(_))),
        "{outcome:?}"
    );
    assert!(store.tailnets().await.unwrap().is_empty());
    store.close().await;
}

pub(crate) async fn the_outbox_keeps_rows_until_they_are_done(database: Arc<Database>) {
    let store = database.open().await;
    let outbox = vec![job(2, "webhook"), job(1, "webhook"), job(3, "mail")];
    store
        .commit(Batch {
            outbox,
            ..batch(1, 0)
        })
        .await
        .unwrap();
    store
        .commit(Batch {
            outbox: vec![job(4, "webhook")],
            ..batch(2, 0)
        })
        .await
        .unwrap();
    let waiting = store.outbox("webhook", 2).await.unwrap();
    assert_eq!(
        waiting,
        [
            (tailnet(1), job(1, "webhook")),
            (tailnet(1), job(2, "webhook"))
        ]
    );
    store.outbox_done(tailnet(1), vec![1, 2, 4]).await.unwrap(); // 4 is another tailnet's
    assert_eq!(
        store.outbox("webhook", 9).await.unwrap(),
        [(tailnet(2), job(4, "webhook"))]
    );
    assert_eq!(
        store.outbox("mail", 9).await.unwrap(),
        [(tailnet(1), job(3, "mail"))]
    );
    store.close().await;
}

pub(crate) async fn pruning_removes_what_is_old_and_keeps_the_newest_change(
    database: Arc<Database>,
) {
    let store = database.open().await;
    for base in 0..3 {
        let second = i64::try_from(base).unwrap();
        let audit = vec![event(base, second)];
        store
            .commit(Batch {
                audit,
                ..batch(1, base)
            })
            .await
            .unwrap();
    }
    assert_eq!(store.prune(at(1)).await.unwrap(), 2);
    assert_eq!(
        store
            .audit(tailnet(1), at(0), at(99), 9)
            .await
            .unwrap()
            .len(),
        2
    );
    assert_eq!(store.prune(at(100)).await.unwrap(), 3); // one change, two events
    let left = store.changes(tailnet(1), 0, 9).await.unwrap();
    assert_eq!(
        left.iter().map(|change| change.seq).collect::<Vec<_>>(),
        [3]
    );
    assert_eq!(store.commit(batch(1, 3)).await.unwrap(), 4);
    store.close().await;
}
