//! Cold kinds: objects that are in the database only, and end by themselves.

use std::sync::Arc;

use bowline_store::{Batch, CommitError, Kind, Owner, Prune, Put, Store, examine};
use jiff::Timestamp;

use crate::database::Database;
use crate::rows::{at, batch, deleting, putting, tailnet, user};

const KIND: Kind = Kind::AccessToken;

fn token(id: u64, ends: Option<i64>) -> Put {
    Put {
        expires: ends.map(at),
        ..Put::new(KIND, id, format!(r#"{{"v":1,"token":{id}}}"#))
    }
}

async fn ids(store: &Store, of: u64, after: u64, second: i64, limit: usize) -> Vec<u64> {
    let page = store.page(KIND, tailnet(of), after, at(second), limit);
    page.await.unwrap().into_iter().map(|row| row.id).collect()
}

async fn prune(store: &Store, kind: Kind, at: Timestamp, limit: usize) -> u64 {
    let what = Prune::Expired { kind, at };
    store.prune(what, limit).await.unwrap()
}

pub(crate) async fn a_cold_object_is_found_until_it_is_over(database: Arc<Database>) {
    let store = database.open().await;
    let puts = vec![token(1, Some(10)), token(2, Some(20)), token(3, None)];
    let first = Batch {
        puts,
        ..batch(1, 0)
    };
    store.commit(first).await.unwrap();
    store
        .commit(putting(2, 0, token(4, Some(20))))
        .await
        .unwrap();

    let (owner, row) = store.find(KIND, 1, at(9)).await.unwrap().unwrap();
    assert_eq!(owner, Owner::from(tailnet(1)));
    assert_eq!(
        (row.id, row.seq, &*row.body),
        (1, 1, r#"{"v":1,"token":1}"#)
    );
    assert_eq!(store.find(KIND, 1, at(10)).await.unwrap(), None);
    assert!(store.find(KIND, 3, at(99_999)).await.unwrap().is_some());
    assert_eq!(store.find(KIND, 5, at(0)).await.unwrap(), None);
    let (owner, _) = store.find(KIND, 4, at(19)).await.unwrap().unwrap();
    assert_eq!(owner, Owner::from(tailnet(2)));

    assert_eq!(ids(&store, 1, 0, 0, 9).await, [1, 2, 3]);
    assert_eq!(ids(&store, 1, 0, 0, 2).await, [1, 2]);
    assert_eq!(ids(&store, 1, 2, 0, 9).await, [3]);
    assert_eq!(ids(&store, 1, 0, 10, 9).await, [2, 3]);
    assert_eq!(ids(&store, 2, 0, 0, 9).await, [4]);
    // Hot kinds are read with everything of their tailnet.
    assert_eq!(store.find(Kind::User, 1, at(0)).await.unwrap(), None);
    store.close().await;
}

pub(crate) async fn a_cold_object_is_not_loaded_and_not_caught_up_with(database: Arc<Database>) {
    let store = database.open().await;
    let puts = vec![user(1, "ann@example.com"), token(1, Some(10))];
    let first = Batch {
        puts,
        ..batch(1, 0)
    };
    store.commit(first).await.unwrap();
    store
        .commit(putting(1, 1, token(2, Some(10))))
        .await
        .unwrap();
    store.commit(deleting(1, 2, KIND, 1)).await.unwrap();
    let loaded = store.load(tailnet(1)).await.unwrap();
    let kinds: Vec<_> = loaded.rows.iter().map(|row| row.kind).collect();
    assert_eq!((loaded.seq, kinds), (3, vec![Kind::User]));
    let found = store.catch_up(tailnet(1), 1).await.unwrap();
    assert_eq!((found.seq, found.whole), (3, false));
    assert!(found.rows.is_empty() && found.gone.is_empty(), "{found:?}");
    // A follower still learns that it was touched.
    let changes = store.changes(tailnet(1), 1, 9).await.unwrap();
    assert!(
        changes
            .iter()
            .all(|change| change.touched.iter().all(|one| one.kind == KIND))
    );
    store.close().await;
}

pub(crate) async fn what_is_over_is_removed_in_portions(database: Arc<Database>) {
    let store = database.open().await;
    let puts = vec![
        token(1, Some(30)),
        token(2, Some(20)),
        token(3, None),
        token(4, Some(10)),
    ];
    let first = Batch {
        puts,
        ..batch(1, 0)
    };
    store.commit(first).await.unwrap();
    assert_eq!(prune(&store, KIND, at(9), 99).await, 0);
    assert_eq!(prune(&store, KIND, at(20), 1).await, 1);
    assert_eq!(ids(&store, 1, 0, 0, 9).await, [1, 2, 3]); // the oldest went
    assert_eq!(prune(&store, KIND, at(30), 99).await, 2);
    assert_eq!(ids(&store, 1, 0, 0, 9).await, [3]);
    assert_eq!(prune(&store, Kind::User, at(30), 99).await, 0);
    // That is not damage, although the log has no entry of it.
    assert_eq!(store.seq(tailnet(1)).await.unwrap(), 1);
    let examined = examine(&database.url).await.unwrap();
    assert!(examined.is_sound(), "{examined:?}");
    // Its id is free.
    store
        .commit(putting(2, 0, token(4, Some(40))))
        .await
        .unwrap();
    store.close().await;
}

pub(crate) async fn only_cold_objects_expire(database: Arc<Database>) {
    let store = database.open().await;
    let put = Put {
        expires: Some(at(10)),
        ..user(1, "ann@example.com")
    };
    let outcome = store.commit(putting(1, 0, put)).await;
    assert!(
        matches!(outcome, Err(CommitError::Malformed(_))),
        "{outcome:?}"
    );
    store.close().await;
}
