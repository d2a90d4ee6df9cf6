//! What belongs to the server and to no tailnet.

use std::sync::Arc;

use bowline_store::{Batch, Column, CommitError, Delete, Kind, Owner, Put, Store};

use crate::database::Database;
use crate::rows::{at, batch, device, event, of_server, tailnet};

fn waits(id: u64, body: &str) -> Put {
    Put::new(Kind::WaitingLogin, id, format!(r#"{{"name":"{body}"}}"#))
}

/// A tailnet that begins, with its name.
fn birth(number: u64, name: &str) -> Batch {
    let own = Put::new(Kind::Tailnet, number, "{}").with(Column::TailnetName, name);
    Batch {
        puts: vec![own],
        audit: vec![event(number, 1)],
        ..batch(number, 0)
    }
}

pub(crate) async fn the_server_has_a_head_and_rows_of_its_own(database: Arc<Database>) {
    let store = database.open().await;
    assert_eq!(store.seq(Owner::Server).await.unwrap(), 0);
    let first = Batch {
        puts: vec![waits(1, "a"), waits(2, "b")],
        audit: vec![event(1, 1)],
        ..of_server(0)
    };
    assert_eq!(store.commit(first).await.unwrap(), 1);
    let second = Batch {
        deletes: vec![Delete {
            kind: Kind::WaitingLogin,
            id: 1,
        }],
        ..of_server(1)
    };
    let commit_id = second.commit_id;
    assert_eq!(store.commit(second.clone()).await.unwrap(), 2);
    let again = store.commit(second).await;
    assert!(
        matches!(again, Err(CommitError::Conflict { current: 2 })),
        "{again:?}"
    );
    let outcome = store.commit_outcome(Owner::Server, commit_id).await;
    assert_eq!(outcome.unwrap(), Some(2));
    let found = store.catch_up(Owner::Server, 1).await.unwrap();
    assert_eq!(
        (found.seq, found.whole, found.rows.len(), found.gone),
        (2, false, 0, vec![(Kind::WaitingLogin, 1)])
    );
    store.close().await;
    let store = database.open().await;
    let loaded = store.load(Owner::Server).await.unwrap();
    assert_eq!((loaded.seq, loaded.rows.len()), (2, 1));
    assert_eq!(loaded.rows[0].id, 2);
    let events = store.audit(Owner::Server, at(0), at(9), 9).await.unwrap();
    assert_eq!(events, [event(1, 1)]);
    // It is not a tailnet.
    assert!(store.tailnets().await.unwrap().is_empty());
    store.close().await;
}

pub(crate) async fn a_tailnet_begins_with_a_change_of_the_server(database: Arc<Database>) {
    let store = database.open().await;
    let both = Batch {
        audit: vec![event(1, 1)],
        births: vec![birth(5, "five.example"), birth(6, "six.example")],
        ..of_server(0)
    };
    assert_eq!(store.commit(both).await.unwrap(), 1);
    let tailnets = store.tailnets().await.unwrap();
    assert_eq!(tailnets, [(tailnet(5), 1), (tailnet(6), 1)]);
    for (one, _) in tailnets {
        assert_eq!(store.load(one).await.unwrap().rows.len(), 1);
        assert_eq!(store.changes(one, 0, 9).await.unwrap().len(), 1);
        assert_eq!(store.audit(one, at(0), at(9), 9).await.unwrap().len(), 1);
    }
    assert!(store.load(Owner::Server).await.unwrap().rows.is_empty());
    store.close().await;
}

async fn is_untouched(store: &Store) {
    assert_eq!(store.seq(Owner::Server).await.unwrap(), 1);
    let tailnets = store.tailnets().await.unwrap();
    assert_eq!(tailnets, [(tailnet(5), 1)]);
    assert_eq!(store.load(Owner::Server).await.unwrap().rows.len(), 0);
}

pub(crate) async fn a_birth_that_is_refused_leaves_nothing(database: Arc<Database>) {
    let store = database.open().await;
    let first = Batch {
        births: vec![birth(5, "five.example")],
        ..of_server(0)
    };
    store.commit(first).await.unwrap();
    // The rows of births count after the server's own.
    let taken = |births| Batch {
        puts: vec![waits(1, "a")],
        births,
        ..of_server(1)
    };
    let name = taken(vec![birth(7, "seven.example"), birth(8, "five.example")]);
    let outcome = store.commit(name).await;
    assert!(
        matches!(
            outcome,
            Err(CommitError::Rejected {
                put: 2,
                column: Some(Column::TailnetName)
            })
        ),
        "{outcome:?}"
    );
    is_untouched(&store).await;
    let id = taken(vec![birth(7, "seven.example"), birth(5, "other.example")]);
    let outcome = store.commit(id).await;
    assert!(
        matches!(
            outcome,
            Err(CommitError::Rejected {
                put: 2,
                column: None
            })
        ),
        "{outcome:?}"
    );
    is_untouched(&store).await;
    let twice = taken(vec![birth(7, "seven.example"), birth(7, "again.example")]);
    let empty = taken(vec![batch(7, 0)]);
    let old = taken(vec![Batch {
        base: 1,
        ..birth(7, "seven.example")
    }]);
    let of_tailnet = Batch {
        births: vec![birth(7, "seven.example")],
        ..batch(9, 0)
    };
    for batch in [twice, empty, old, of_tailnet] {
        let outcome = store.commit(batch).await;
        assert!(
            matches!(outcome, Err(CommitError::Malformed(_))),
            "{outcome:?}"
        );
    }
    is_untouched(&store).await;
    store.close().await;
}

pub(crate) async fn kinds_of_the_server_and_of_tailnets_do_not_mix(database: Arc<Database>) {
    let store = database.open().await;
    let of_server = Batch {
        puts: vec![device(1, "d")],
        ..of_server(0)
    };
    let of_tailnet = Batch {
        puts: vec![waits(1, "a")],
        ..batch(1, 0)
    };
    for batch in [of_server, of_tailnet] {
        let outcome = store.commit(batch).await;
        assert!(
            matches!(outcome, Err(CommitError::Malformed(_))),
            "{outcome:?}"
        );
    }
    store.close().await;
}

pub(crate) async fn the_change_log_of_the_server_is_short(database: Arc<Database>) {
    let store = database.open().await;
    for base in 0..120 {
        let change = Batch {
            puts: vec![waits(1, &base.to_string())],
            ..of_server(base)
        };
        store.commit(change).await.unwrap();
    }
    let changes = store.changes(Owner::Server, 0, 1000).await.unwrap();
    let numbers: Vec<u64> = changes.iter().map(|change| change.seq).collect();
    assert_eq!(numbers, (21..=120).collect::<Vec<_>>());
    let found = store.catch_up(Owner::Server, 5).await.unwrap();
    assert!(found.whole && found.seq == 120 && found.rows.len() == 1);
    let found = store.catch_up(Owner::Server, 119).await.unwrap();
    assert!(!found.whole && found.rows.len() == 1);
    store.close().await;
}
