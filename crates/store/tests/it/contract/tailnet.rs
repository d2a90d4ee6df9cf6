//! A tailnet is a wall.

use std::sync::Arc;

use bowline_store::{Batch, CommitError, Kind, Loaded};

use crate::database::Database;
use crate::rows::{at, batch, deleting, device, event, keyed, presence, putting, tailnet, user};

pub(crate) async fn an_id_of_another_tailnet_cannot_be_written_or_removed(database: Arc<Database>) {
    let store = database.open().await;
    store
        .commit(putting(1, 0, keyed(1, "nodekey:1")))
        .await
        .unwrap();
    let puts = vec![device(2, "own"), device(1, "foreign")];
    let outcome = store
        .commit(Batch {
            puts,
            ..batch(2, 0)
        })
        .await;
    assert!(
        matches!(
            outcome,
            Err(CommitError::Rejected {
                put: 1,
                column: None
            })
        ),
        "{outcome:?}"
    );
    store.commit(deleting(2, 0, Kind::Device, 1)).await.unwrap();
    let rows = store.load(tailnet(1)).await.unwrap().rows;
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0].body, keyed(1, "nodekey:1").body);
    store.close().await;
}

pub(crate) async fn a_tailnet_sees_only_its_own(database: Arc<Database>) {
    let store = database.open().await;
    for of in [1, 2] {
        let mut all = batch(of, 0);
        all.puts = vec![device(of * 10, "d"), user(of * 10, "u")];
        all.audit = vec![event(of, 0)];
        store.commit(all).await.unwrap();
        store
            .put_presence(tailnet(of), vec![presence(of * 10, 1, true)])
            .await
            .unwrap();
    }
    for of in [1, 2] {
        let loaded = store.load(tailnet(of)).await.unwrap();
        assert!(loaded.rows.iter().all(|row| row.id == of * 10));
        assert_eq!(loaded.rows.len(), 2);
        assert_eq!(loaded.presence, [presence(of * 10, 1, true)]);
        assert_eq!(
            store.audit(tailnet(of), at(0), at(1), 10).await.unwrap(),
            [event(of, 0)]
        );
        let changes = store.changes(tailnet(of), 0, 10).await.unwrap();
        assert!(
            changes
                .iter()
                .flat_map(|change| &change.touched)
                .all(|one| one.id == of * 10)
        );
    }
    assert_eq!(store.load(tailnet(3)).await.unwrap(), Loaded::default());
    store.close().await;
}
