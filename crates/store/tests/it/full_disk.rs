//! A disk that is really full: a small file system in memory.

use std::path::{Path, PathBuf};
use std::process::Command;

use bowline_store::{Batch, CommitError, Condition, Error, Kind, OpenError, Options, Store};
use futures_util::future::join_all;

use crate::rows::{batch, device, ids, presence, putting, tailnet};

/// A mounted file system of 3 MiB.
struct Disk {
    place: PathBuf,
    _directory: tempfile::TempDir,
}

impl Disk {
    /// `None` where mounting is not permitted, after saying so.
    fn mount() -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path().join("disk");
        std::fs::create_dir(&place).unwrap();
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=3m", "tmpfs"])
            .arg(&place)
            .output();
        match mount {
            Ok(output) if output.status.success() => Some(Self {
                place,
                _directory: directory,
            }),
            other => {
                eprintln!("skipped: cannot mount a small file system here: {other:?}");
                None
            }
        }
    }

    fn ballast(&self) -> PathBuf {
        self.place.join("ballast")
    }

    /// Takes all space that is left.
    fn fill(&self) {
        use std::io::Write;
        let mut file = std::fs::File::create(self.ballast()).unwrap();
        for size in [65536, 4096, 1] {
            while file.write_all(&vec![1; size]).is_ok() {}
        }
    }

    fn free(&self) {
        std::fs::remove_file(self.ballast()).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.place).status();
    }
}

fn big(of: u64, base: u64) -> Batch {
    let text = "x".repeat(4000);
    let puts = (0..10)
        .map(|n| device(of * 100_000 + base * 10 + n, &text))
        .collect();
    Batch {
        puts,
        ..batch(of, base)
    }
}

async fn open(path: &Path) -> Store {
    Store::open(&path.into(), Options::default()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_loses_nothing_and_recovers() {
    let Some(disk) = Disk::mount() else { return };
    let path = disk.place.join("bowline.db");
    let store = open(&path).await;
    store
        .commit(putting(1, 0, device(1, "first")))
        .await
        .unwrap();
    for round in 0..3_u64 {
        disk.fill();
        // Until nothing fits any more; a few may still fit into the log as it is.
        let mut seq = store.seq(tailnet(1)).await.unwrap();
        let mut refused = 0;
        for _ in 0..400 {
            match store.commit(big(1, seq)).await {
                Ok(new) => seq = new,
                Err(CommitError::Unavailable(ref t)) if t.condition == Condition::Full => {
                    refused += 1;
                }
                Err(other) => panic!("{other:?}"),
            }
            if refused == 3 {
                break;
            }
        }
        assert_eq!(refused, 3, "the disk never was full");
        // A group of several tailnets, too; each is told, and none is half there.
        let group = (0..10).map(|n| store.commit(big(10 + round * 10 + n, 0)));
        for outcome in join_all(group).await {
            assert!(
                matches!(outcome, Err(CommitError::Unavailable(ref t)) if t.condition == Condition::Full),
                "{outcome:?}"
            );
        }
        let outcome = store
            .put_presence(tailnet(1), vec![presence(1, 1, true); 1])
            .await;
        assert!(
            matches!(outcome, Ok(()))
                || matches!(outcome, Err(Error::Unavailable(ref t)) if t.condition == Condition::Full),
            "{outcome:?}"
        );
        // Reading goes on.
        let loaded = store.load(tailnet(1)).await.unwrap();
        assert_eq!(loaded.seq, seq);
        assert_eq!(loaded.rows.len() as u64, whole_rows(&store).await);
        assert_eq!(store.tailnets().await.unwrap().len(), 1);

        disk.free();
        seq = store
            .commit(putting(1, seq, device(1, "again")))
            .await
            .unwrap();
        assert_eq!(store.seq(tailnet(1)).await.unwrap(), seq);
        // Make room for the next round.
        let clear: Vec<u64> = ids(&store, 1, Kind::Device)
            .await
            .into_iter()
            .filter(|id| *id != 1)
            .collect();
        let mut one = batch(1, seq);
        one.deletes = clear
            .into_iter()
            .map(|id| bowline_store::Delete {
                kind: Kind::Device,
                id,
            })
            .collect();
        store.commit(one).await.unwrap();
    }
    let before = store.load(tailnet(1)).await.unwrap();
    store.close().await;
    let store = open(&path).await;
    assert_eq!(store.load(tailnet(1)).await.unwrap(), before);
    store.close().await;
}

/// How many rows the change log says there are.
async fn whole_rows(store: &Store) -> u64 {
    let mut there = std::collections::BTreeSet::new();
    for change in store.changes(tailnet(1), 0, 10_000).await.unwrap() {
        for one in change.touched {
            match one.operation {
                bowline_store::Operation::Put => there.insert((one.kind, one.id)),
                bowline_store::Operation::Delete => there.remove(&(one.kind, one.id)),
            };
        }
    }
    there.len() as u64
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn opening_on_a_full_disk_says_so_and_works_later() {
    let Some(disk) = Disk::mount() else { return };
    let path = disk.place.join("bowline.db");
    disk.fill();
    let error = Store::open(&path.as_path().into(), Options::default())
        .await
        .unwrap_err();
    assert!(matches!(error, OpenError::Full), "{error:?}");
    disk.free();
    let store = open(&path).await;
    store.commit(putting(1, 0, device(1, "a"))).await.unwrap();
    store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_stored_is_read_from_a_disk_that_is_full_at_the_start() {
    let Some(disk) = Disk::mount() else { return };
    let path = disk.place.join("bowline.db");
    let store = open(&path).await;
    let seq = store
        .commit(putting(1, 0, device(1, "first")))
        .await
        .unwrap();
    store.close().await;
    disk.fill();
    let store = open(&path).await;
    assert_eq!(store.seq(tailnet(1)).await.unwrap(), seq);
    assert_eq!(store.load(tailnet(1)).await.unwrap().rows.len(), 1);
    let mut newest = seq;
    let refused = loop {
        match store.commit(big(1, newest)).await {
            Ok(seq) => newest = seq,
            Err(error) => break error,
        }
    };
    assert_eq!(refused.condition(), Some(Condition::Full), "{refused:?}");
    let probed = store.probe(true).await;
    assert!(
        probed
            .as_ref()
            .err()
            .is_none_or(|error| error.condition() == Some(Condition::Full)),
        "{probed:?}"
    );
    // Reading goes on, on all connections.
    for _ in 0..20 {
        assert_eq!(store.seq(tailnet(1)).await.unwrap(), newest);
    }
    disk.free();
    newest = store
        .commit(putting(1, newest, device(1, "again")))
        .await
        .unwrap();
    store.probe(true).await.unwrap();
    assert!(store.size().await.unwrap() > 0);
    let before = store.load(tailnet(1)).await.unwrap();
    store.close().await;
    let store = open(&path).await;
    assert_eq!(store.seq(tailnet(1)).await.unwrap(), newest);
    assert_eq!(store.load(tailnet(1)).await.unwrap(), before);
    store.close().await;
}
