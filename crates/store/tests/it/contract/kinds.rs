//! Every kind of the list: what its table must do, on both engines.

use std::sync::Arc;

use bowline_store::{Batch, Delete, Kind, Operation, Prune, Put, Row, Store, examine};

use crate::backup::{restore, take};
use crate::database::Database;
use crate::rows::{at, batch_of, object, owner, tailnet};

async fn write(store: &Store, kind: Kind, base: u64, puts: Vec<Put>) {
    let written = store
        .commit(Batch {
            puts,
            ..batch_of(owner(kind), base)
        })
        .await;
    assert_eq!(written.unwrap(), base + 1, "{kind}");
}

/// Objects of the kind with their bodies, as their readers get them.
async fn read(store: &Store, kind: Kind) -> Vec<(u64, Box<str>)> {
    let rows: Vec<Row> = if kind.is_cold() {
        store.page(kind, owner(kind), 0, at(0), 99).await.unwrap()
    } else {
        store.load(owner(kind)).await.unwrap().rows
    };
    let own = rows.into_iter().filter(|row| row.kind == kind);
    own.map(|row| (row.id, row.body)).collect()
}

pub(crate) async fn every_kind_is_written_read_and_removed(database: Arc<Database>) {
    let store = database.open().await;
    for kind in Kind::all() {
        let base = store.seq(owner(kind)).await.unwrap();
        let puts = vec![object(kind, 7, "first"), object(kind, 8, "other")];
        let bodies: Vec<_> = puts.iter().map(|put| put.body.clone()).collect();
        write(&store, kind, base, puts).await;
        let expected = [(7, bodies[0].clone()), (8, bodies[1].clone())];
        assert_eq!(read(&store, kind).await, expected, "{kind}");

        let second = object(kind, 7, "second");
        let body = second.body.clone();
        write(&store, kind, base + 1, vec![second]).await;
        assert_eq!(read(&store, kind).await[0], (7, body), "{kind}");

        let removal = Batch {
            deletes: vec![Delete { kind, id: 7 }],
            ..batch_of(owner(kind), base + 2)
        };
        store.commit(removal).await.unwrap();
        let left: Vec<_> = read(&store, kind).await;
        assert_eq!(left, [(8, bodies[1].clone())], "{kind}");

        let changes = store.changes(owner(kind), base, 9).await.unwrap();
        let touched = changes.iter().flat_map(|change| &change.touched);
        let operations: Vec<_> = touched
            .filter(|one| one.kind == kind && one.id == 7)
            .map(|one| one.operation)
            .collect();
        let expected = [Operation::Put, Operation::Put, Operation::Delete];
        assert_eq!(operations, expected, "{kind}");
    }
    let examined = examine(&database.url).await.unwrap();
    assert!(examined.is_sound(), "{examined:?}");
    store.close().await;
}

pub(crate) async fn every_kind_comes_back_from_a_backup(database: Arc<Database>) {
    let store = database.open().await;
    for kind in Kind::all() {
        let base = store.seq(owner(kind)).await.unwrap();
        write(&store, kind, base, vec![object(kind, 7, "kept")]).await;
    }
    let backup = take(&database.url).await.unwrap();
    store.close().await;
    let mut others = vec![Database::sqlite()];
    others.extend(Database::postgres().await);
    for other in others {
        let store = other.open().await;
        restore(&store, &backup).await.unwrap();
        for kind in Kind::all() {
            let body = object(kind, 7, "kept").body;
            assert_eq!(read(&store, kind).await, [(7, body)], "{kind}");
        }
        // What ends still does.
        for kind in Kind::all().filter(|kind| kind.is_cold()) {
            let what = Prune::Expired { kind, at: at(1000) };
            assert_eq!(store.prune(what, 9).await.unwrap(), 1);
        }
        store.close().await;
        assert!(examine(&other.url).await.unwrap().is_sound());
        other.remove().await;
    }
}

pub(crate) async fn an_object_of_another_tailnet_is_not_replaced(database: Arc<Database>) {
    let store = database.open().await;
    for kind in Kind::all().filter(|kind| !kind.is_server_wide()) {
        let base = store.seq(tailnet(1)).await.unwrap();
        write(&store, kind, base, vec![object(kind, 7, "ours")]).await;
        let foreign = Put {
            columns: Vec::new(),
            ..object(kind, 7, "theirs")
        };
        let outcome = store
            .commit(Batch {
                puts: vec![foreign],
                ..batch_of(tailnet(2).into(), 0)
            })
            .await;
        assert!(
            matches!(
                outcome,
                Err(bowline_store::CommitError::Rejected {
                    put: 0,
                    column: None
                })
            ),
            "{kind}: {outcome:?}"
        );
    }
    store.close().await;
}
