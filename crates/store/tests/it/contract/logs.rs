//! Change log, audit events, texts, and pruning.

use std::collections::BTreeMap;
use std::sync::Arc;

use bowline_store::{
    Batch, Change, CommitError, Kind, Operation, Prune, Row, Store, TextRow, TextVersion, Touched,
    text_hash,
};

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
    store.prune(old_changes(2), 99).await.unwrap(); // changes 1 and 2 go
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
    let jobs = vec![job(1, "webhook"), job(1, "webhook")];
    let outcome = store
        .commit(Batch {
            jobs,
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

fn old_changes(second: i64) -> Prune {
    Prune::Changes {
        owner: tailnet(1).into(),
        before: at(second),
        keep: 99,
    }
}

async fn numbers(store: &Store) -> Vec<u64> {
    let left = store.changes(tailnet(1), 0, 99).await.unwrap();
    left.iter().map(|change| change.seq).collect()
}

pub(crate) async fn pruning_removes_what_is_old_and_keeps_the_newest_change(
    database: Arc<Database>,
) {
    let store = database.open().await;
    for base in 0..6 {
        store.commit(batch(1, base)).await.unwrap();
        store.commit(batch(2, base)).await.unwrap();
    }
    // In portions, the oldest first.
    assert_eq!(store.prune(old_changes(3), 2).await.unwrap(), 2);
    assert_eq!(numbers(&store).await, [3, 4, 5, 6]);
    assert_eq!(store.prune(old_changes(3), 2).await.unwrap(), 1);
    assert_eq!(store.prune(old_changes(3), 2).await.unwrap(), 0);
    assert_eq!(numbers(&store).await, [4, 5, 6]);
    // So many, whatever their age.
    let many = Prune::Changes {
        owner: tailnet(1).into(),
        before: at(-9),
        keep: 2,
    };
    assert_eq!(store.prune(many, 99).await.unwrap(), 1);
    assert_eq!(numbers(&store).await, [5, 6]);
    assert_eq!(store.prune(old_changes(100), 99).await.unwrap(), 1);
    assert_eq!(numbers(&store).await, [6]);
    assert_eq!(store.commit(batch(1, 6)).await.unwrap(), 7);
    let others = store.changes(tailnet(2), 0, 99).await.unwrap();
    assert_eq!(others.len(), 6, "another tailnet's stay");
    store.close().await;
}

pub(crate) async fn audit_events_are_pruned_by_age_and_by_number(database: Arc<Database>) {
    let store = database.open().await;
    for of in [1, 2] {
        let audit = (1..=6).map(|id| event(of * 10 + id, 10 * i64::try_from(id).unwrap()));
        let audit = audit.collect();
        store
            .commit(Batch {
                audit,
                ..batch(of, 0)
            })
            .await
            .unwrap();
    }
    let prune = async |second, limit| {
        let what = Prune::Audit {
            owner: tailnet(1).into(),
            before: at(second),
            keep: 4,
        };
        store.prune(what, limit).await.unwrap()
    };
    let left = async |of| {
        let left = store.audit(tailnet(of), at(0), at(99), 99).await.unwrap();
        left.iter().map(|event| event.id % 10).collect::<Vec<_>>()
    };
    // By number, whatever their age; then by age.
    assert_eq!(prune(-9, 1).await, 1);
    assert_eq!(left(1).await, [2, 3, 4, 5, 6]);
    assert_eq!((prune(-9, 9).await, prune(-9, 9).await), (1, 0));
    assert_eq!(left(1).await, [3, 4, 5, 6]);
    assert_eq!((prune(40, 9).await, prune(40, 9).await), (1, 0));
    assert_eq!(left(1).await, [4, 5, 6]);
    let found = bowline_store::examine_audit(&database.url).await.unwrap();
    assert!(found.is_sound(), "{found:?}");
    let chain = found.chains[&1];
    assert_eq!(
        (chain.removed.number, chain.newest.number, chain.events),
        (3, 6, 3)
    );
    assert_eq!(left(2).await, [1, 2, 3, 4, 5, 6]);
    store.close().await;
}

pub(crate) async fn a_text_is_kept_once_and_goes_by_the_time_it_was_set_last(
    database: Arc<Database>,
) {
    let store = database.open().await;
    let (one, two) = ("// é 💡 \0\n{}", "two");
    for (base, texts) in [vec![(one, 1), (two, 2)], vec![(one, 3)], vec![]]
        .into_iter()
        .enumerate()
    {
        let texts = texts.into_iter();
        let texts = texts
            .map(|(text, second)| TextRow::new(at(second), text))
            .collect();
        let batch = Batch {
            texts,
            ..batch(1, base as u64)
        };
        store.commit(batch).await.unwrap();
    }
    let versions = store.texts(tailnet(1)).await.unwrap();
    let version = |text: &str, second| TextVersion {
        sha256: text_hash(text),
        at: at(second),
        bytes: text.len() as u64,
    };
    assert_eq!(versions, [version(one, 3), version(two, 2)]);
    let kept = store.text(tailnet(1), &text_hash(one)).await.unwrap();
    assert_eq!(kept, Some(TextRow::new(at(3), one)));
    assert_eq!(
        store.text(tailnet(2), &text_hash(one)).await.unwrap(),
        None,
        "it is of one tailnet"
    );
    let prune = async |owner: u64, version| {
        let what = Prune::Texts {
            owner: tailnet(owner).into(),
            texts: vec![version],
        };
        store.prune(what, 9).await.unwrap()
    };
    assert_eq!(prune(2, version(one, 3)).await, 0);
    // One that was set again since it was listed stays.
    assert_eq!(prune(1, version(one, 1)).await, 0);
    assert_eq!(prune(1, version(two, 2)).await, 1);
    assert_eq!(store.texts(tailnet(1)).await.unwrap(), [version(one, 3)]);
    assert_eq!(store.text(tailnet(1), &text_hash(two)).await.unwrap(), None);
    store.close().await;
}
