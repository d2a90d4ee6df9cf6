//! Files of a database that are removed or replaced while it is open.

use std::path::{Path, PathBuf};

use bowline_store::{CommitError, Condition, Kind, Store};

use crate::database::Database;
use crate::rows::{ids, keyed, putting, tailnet};
use crate::wire::until;

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    PathBuf::from(name)
}

/// What a process that is killed now leaves, opened by another one.
async fn after_a_kill(path: &Path) -> Vec<u64> {
    let other = tempfile::tempdir().unwrap();
    let copy = other.path().join("bowline.db");
    for ending in ["", "-wal"] {
        let _ = std::fs::copy(beside(path, ending), beside(&copy, ending));
    }
    let store = Store::open(&copy.as_path().into(), crate::database::options())
        .await
        .unwrap();
    let found = ids(&store, 1, Kind::Device).await;
    store.close().await;
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_is_removed_is_written_out_anew_and_nothing_acknowledged_is_lost() {
    let combinations: [&[&str]; 6] = [
        &["-wal"],
        &["-shm"],
        &[""],
        &["-wal", "-shm"],
        &["", "-wal"],
        &["", "-wal", "-shm"],
    ];
    for removed in combinations {
        let database = Database::sqlite();
        let store = database.open().await;
        for n in 0..50 {
            store
                .commit(putting(1, n, keyed(n + 1, &n.to_string())))
                .await
                .unwrap();
        }
        for ending in removed {
            std::fs::remove_file(beside(&database.path(), ending)).unwrap();
        }
        // Noticed before the next change is acknowledged.
        store
            .commit(putting(1, 50, keyed(51, "next")))
            .await
            .unwrap();
        assert!(store.trouble().is_none(), "{removed:?}");
        let expected: Vec<u64> = (1..=51).collect();
        assert_eq!(ids(&store, 1, Kind::Device).await, expected, "{removed:?}");
        assert_eq!(
            after_a_kill(&database.path()).await,
            expected,
            "{removed:?}"
        );
        // And without any change, by looking now and then.
        for ending in removed {
            std::fs::remove_file(beside(&database.path(), ending)).unwrap();
        }
        until("the files are there again", async || {
            removed
                .iter()
                .all(|ending| beside(&database.path(), ending).exists())
        })
        .await;
        until("it is whole", async || store.trouble().is_none()).await;
        assert_eq!(
            after_a_kill(&database.path()).await,
            expected,
            "{removed:?}"
        );
        store
            .commit(putting(1, 51, keyed(52, "last")))
            .await
            .unwrap();
        store.close().await;
        let store = database.open().await;
        assert_eq!(ids(&store, 1, Kind::Device).await.len(), 52);
        store.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_replaced_the_database_is_left_alone_and_no_change_is_taken() {
    let database = Database::sqlite();
    let store = database.open().await;
    store.commit(putting(1, 0, keyed(1, "a"))).await.unwrap();
    let backup = beside(&database.path(), ".backup");
    let copy = Store::open(&backup.as_path().into(), crate::database::options())
        .await
        .unwrap();
    copy.close().await;
    store.commit(putting(1, 1, keyed(2, "b"))).await.unwrap();
    let before = std::fs::read(&backup).unwrap();
    std::fs::rename(&backup, database.path()).unwrap();
    let refused = store
        .commit(putting(1, 2, keyed(3, "c")))
        .await
        .unwrap_err();
    assert_eq!(
        refused.condition(),
        Some(Condition::Replaced),
        "{refused:?}"
    );
    assert!(matches!(refused, CommitError::Unavailable(_)));
    let said = refused.to_string();
    assert!(
        said.contains("bowline.db.rescued") && said.contains("stop the server"),
        "{said}"
    );
    assert_eq!(
        store.trouble().map(|t| t.condition),
        Some(Condition::Replaced)
    );
    // What is in memory and in the open files can still be read.
    assert_eq!(ids(&store, 1, Kind::Device).await, [1, 2]);
    assert_eq!(std::fs::read(database.path()).unwrap(), before);
    let rescued = beside(&database.path(), ".rescued");
    let copy = Store::open(&rescued.as_path().into(), crate::database::options())
        .await
        .unwrap();
    assert_eq!(ids(&copy, 1, Kind::Device).await, [1, 2]);
    assert_eq!(copy.seq(tailnet(1)).await.unwrap(), 2);
    copy.close().await;
    store.close().await;
}
