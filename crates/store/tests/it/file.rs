//! The SQLite file: who may read it, what is refused, and what happens when the disk fails.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bowline_store::{
    Batch, CommitError, Condition, Fault, Kind, OpenError, Options, Point, Prune, Store, TextRow,
};
use futures_util::future::join_all;

use crate::database::Database;
use crate::rows::{at, batch, device, ids, keyed, presence, putting, tailnet};

async fn refused(path: &Path) -> OpenError {
    Store::open(&path.into(), Options::default())
        .await
        .unwrap_err()
}

#[tokio::test]
async fn the_files_can_be_read_by_their_owner_alone() {
    let database = Database::sqlite();
    std::fs::write(database.path(), "").unwrap();
    std::fs::set_permissions(database.path(), std::fs::Permissions::from_mode(0o644)).unwrap();
    let store = database.open().await;
    store.commit(putting(1, 0, device(1, "a"))).await.unwrap();
    let mut names = Vec::new();
    for entry in std::fs::read_dir(database.path().parent().unwrap()).unwrap() {
        let entry = entry.unwrap();
        let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{entry:?}");
        names.push(entry.file_name().into_string().unwrap());
    }
    names.sort();
    let expected = [
        "bowline.db",
        "bowline.db-shm",
        "bowline.db-wal",
        "bowline.db.lock",
    ];
    assert_eq!(names, expected);
    store.close().await;
}

#[tokio::test]
async fn another_programs_database_is_refused_and_left_alone() {
    let database = Database::sqlite();
    database
        .execute("CREATE TABLE notes (text TEXT); INSERT INTO notes VALUES ('mine')")
        .await;
    let before = std::fs::read(database.path()).unwrap();
    let error = refused(&database.path()).await;
    assert!(matches!(error, OpenError::Foreign { .. }), "{error:?}");
    assert_eq!(std::fs::read(database.path()).unwrap(), before);
}

#[tokio::test]
async fn a_file_that_is_no_database_is_unreadable() {
    let database = Database::sqlite();
    std::fs::write(
        database.path(),
        "not a database at all, but long enough to have a header ".repeat(40),
    )
    .unwrap();
    let error = refused(&database.path()).await;
    assert!(matches!(error, OpenError::Unreadable { .. }), "{error:?}");
    // A damaged one as well: the first page is overwritten behind its header.
    let database = Database::sqlite();
    database.open().await.close().await;
    let mut bytes = std::fs::read(database.path()).unwrap();
    bytes[100..4096].fill(0x5a);
    std::fs::write(database.path(), bytes).unwrap();
    let error = refused(&database.path()).await;
    assert!(matches!(error, OpenError::Unreadable { .. }), "{error:?}");
}

#[tokio::test]
async fn a_place_that_cannot_be_written_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let missing = directory.path().join("no such directory/bowline.db");
    let error = refused(&missing).await;
    assert!(matches!(error, OpenError::NotWritable { .. }), "{error:?}");
    assert!(error.to_string().contains("no such directory"), "{error}");
    let error = refused(directory.path()).await; // a directory, not a file
    assert!(matches!(error, OpenError::NotWritable { .. }), "{error:?}");
}

#[tokio::test]
async fn a_lock_of_a_dead_process_does_not_count() {
    let database = Database::sqlite();
    let mut lock = database.path().into_os_string();
    lock.push(".lock");
    std::fs::write(&lock, "1\n").unwrap(); // nobody holds it, whatever it says
    database.open().await.close().await;
    assert_eq!(
        std::fs::read_to_string(&lock).unwrap().trim(),
        std::process::id().to_string()
    );
}

/// Options whose hook fails the commits that `fail` picks by their number, from 0.
fn failing(
    fault: Fault,
    point: Point,
    fail: impl Fn(usize) -> bool + Send + Sync + 'static,
) -> Options {
    let seen = AtomicUsize::new(0);
    let hook = move |at: Point| {
        let number = if at == point {
            seen.fetch_add(1, Ordering::Relaxed)
        } else {
            return None;
        };
        fail(number).then_some(fault)
    };
    Options {
        hook: Some(Arc::new(hook)),
        ..Options::default()
    }
}

#[tokio::test]
async fn a_full_disk_at_any_point_costs_the_group_and_the_store_goes_on() {
    for point in [
        Point::BeforeRelease,
        Point::AfterRelease,
        Point::BeforeCommit,
    ] {
        let database = Database::sqlite();
        let store = database
            .open_with(failing(Fault::Full, point, |number| number == 1))
            .await;
        store.commit(putting(1, 0, keyed(1, "a"))).await.unwrap();
        let outcome = store.commit(putting(1, 1, keyed(2, "b"))).await;
        assert!(
            matches!(outcome, Err(CommitError::Unavailable(ref t)) if t.condition == Condition::Full),
            "{point:?}: {outcome:?}"
        );
        assert_eq!(ids(&store, 1, Kind::Device).await, [1]);
        assert_eq!(store.commit(putting(1, 1, keyed(2, "b"))).await.unwrap(), 2);
        store.close().await;
        let store = database.open().await;
        assert_eq!(ids(&store, 1, Kind::Device).await, [1, 2]);
        store.close().await;
    }
}

#[tokio::test]
async fn a_failed_fsync_is_reported_once_and_never_retried() {
    let told = Arc::new(Mutex::new(Vec::new()));
    let mut options = failing(Fault::Io, Point::BeforeCommit, |number| number >= 1);
    let tell = Arc::clone(&told);
    options.on_fatal = Arc::new(move |text| tell.lock().unwrap().push(text.to_owned()));
    let database = Database::sqlite();
    let store = database.open_with(options).await;
    store.commit(putting(1, 0, device(1, "a"))).await.unwrap();
    let outcome = store.commit(putting(1, 1, device(2, "b"))).await;
    assert!(matches!(outcome, Err(CommitError::Unknown)), "{outcome:?}");
    let outcome = store.commit(putting(1, 1, device(2, "b"))).await;
    assert!(
        matches!(outcome, Err(CommitError::Unavailable(_))),
        "{outcome:?}"
    );
    let outcome = store
        .put_presence(tailnet(1), vec![presence(1, 1, true)])
        .await;
    assert!(outcome.is_err());
    assert_eq!(told.lock().unwrap().len(), 1);
    store.close().await;
    let store = database.open().await;
    assert_eq!(ids(&store, 1, Kind::Device).await, [1]);
    store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_that_wait_together_share_one_commit() {
    let commits = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&commits);
    // The first commit is held until all others wait.
    let (release, held) = std::sync::mpsc::channel::<()>();
    let held = Mutex::new(held);
    let hook = move |point: Point| {
        if point == Point::BeforeCommit && count.fetch_add(1, Ordering::SeqCst) == 0 {
            let _ = held.lock().unwrap().recv();
        }
        None
    };
    let database = Database::sqlite();
    let options = Options {
        hook: Some(Arc::new(hook)),
        ..Options::default()
    };
    let store = database.open_with(options).await;
    let all = join_all((1..=100).map(|of| store.commit(putting(of, 0, device(of, "a")))));
    let mut all = Box::pin(all);
    // After a few polls everything is sent: some are with the thread, the others wait.
    for _ in 0..4 {
        assert!(futures_util::poll!(&mut all).is_pending());
    }
    release.send(()).unwrap();
    assert!((&mut all).await.iter().all(Result::is_ok));
    drop(all);
    // The first group may have had more than one in it; there are never more than two groups.
    assert!(commits.load(Ordering::SeqCst) <= 2, "{commits:?}");
    store.close().await;
}

#[tokio::test]
async fn the_write_ahead_log_does_not_grow_for_ever() {
    let database = Database::sqlite();
    let store = database.open().await;
    let text = "x".repeat(2000);
    for base in 0..60 {
        let puts = (0..100).map(|n| device(base * 100 + n, &text)).collect();
        store
            .commit(Batch {
                puts,
                ..batch(1, base)
            })
            .await
            .unwrap();
    }
    let mut log = database.path().into_os_string();
    log.push("-wal");
    let size = std::fs::metadata(log).unwrap().len();
    assert!(size < 8 * 1024 * 1024, "{size} bytes after 12 MB of rows");
    store.close().await;
}

#[tokio::test]
async fn the_room_of_removed_rows_goes_back_to_the_file_system() {
    let database = Database::sqlite();
    let store = database.open().await;
    let texts = |seq: u64| {
        let text = |n: u64| TextRow::new(at(0), format!("{seq} {n} {}", "x".repeat(100_000)));
        (0..10).map(text).collect()
    };
    for base in 0..10 {
        let batch = Batch {
            texts: texts(base),
            ..batch(1, base)
        };
        store.commit(batch).await.unwrap();
    }
    let full = store.size().await.unwrap();
    let all = Prune::Texts {
        owner: tailnet(1).into(),
        texts: store.texts(tailnet(1)).await.unwrap(),
    };
    assert_eq!(store.prune(all, 999).await.unwrap(), 100);
    let free = store.free_pages().await.unwrap();
    assert!(free > 2000, "{free}");
    // In portions, so that nobody waits for all of it.
    assert_eq!(store.give_back(500).await.unwrap(), free - 500);
    assert_eq!(store.give_back(u32::MAX).await.unwrap(), 0);
    assert_eq!(store.free_pages().await.unwrap(), 0);
    let file = std::fs::metadata(database.path()).unwrap().len();
    // What is left is the empty tables and their indexes, a page for each.
    assert!(file < 400_000, "{file}");
    // The log keeps its length up to a limit.
    let left = store.size().await.unwrap();
    assert!(left < full - 8_000_000, "{left} of {full}");
    store.close().await;
    let store = database.open().await;
    let left = store.size().await.unwrap();
    assert!(left < 400_000, "{left}");
    store.close().await;
}
