//! Backup and restore.

use std::sync::Arc;

use bowline_store::{
    Backup, Batch, Column, JobRow, Kind, Owner, Put, Store, TextRow, TransferError,
};

use crate::backup::{restore, rows_of, take, taken};
use crate::database::Database;
use crate::rows::{
    at, batch, deleting, device, event, ids, job, jobs, keyed, of_server, presence, putting,
    sealed, tailnet, user,
};

/// Something of everything.
pub(crate) async fn fill(store: &Store) {
    let mut first = batch(1, 0);
    first.puts = vec![
        Put::new(Kind::Tailnet, 1, "{\n\"v\": 1}").with(Column::TailnetName, "example.com"),
        user(2, "alice@example.com"),
        keyed(3, "nodekey:3").with(Column::Ipv6, "fd7a::3"),
        device(4, "goes"),
        Put::new(Kind::Key, 5, r#"{"zero":"\u0000"}"#),
        Put::new(Kind::Dns, 1, r#"{"b":1,"a":[1.0,1e2]}"#),
        Put::new(Kind::Policy, 1, r#"{"text":"// é 💡\n{}"}"#),
    ];
    first.audit = vec![event(1, 5), event(2, 6)];
    first.jobs = vec![
        job(1, "webhook"),
        JobRow {
            lane: Some("endpoint".to_owned()),
            name: Some("name".to_owned()),
            body: "{\n\"v\": 1}".into(),
            ..job(2, "webhook")
        },
    ];
    first.texts = vec![TextRow::new(at(5), "// é 💡\n{}\0")];
    first.secrets = vec![sealed("webhook", &[0, 255])];
    store.commit(first).await.unwrap();
    let server = JobRow {
        name: Some("retention".to_owned()),
        ..job(3, "retention")
    };
    store.add_job(server).await.unwrap();
    // One that is being done, by a process that has this database.
    let until = at(1_000_000);
    store
        .claim_jobs("retention", at(0), until, 1)
        .await
        .unwrap();
    store.commit(deleting(1, 1, Kind::Device, 4)).await.unwrap();
    store
        .commit(putting(2, 0, user(6, "alice@example.com")))
        .await
        .unwrap();
    let mut own = of_server(0);
    own.puts = vec![Put::new(Kind::WaitingLogin, 7, r#"{"v":1}"#)];
    own.audit = vec![event(3, 7)];
    store.commit(own).await.unwrap();
    store
        .put_presence(tailnet(1), vec![presence(3, 9, true)])
        .await
        .unwrap();
    store
        .put_secret_if_absent(Owner::Server, "noise", &[0, 1, 254, 255])
        .await
        .unwrap();
    let many = (100..400).map(|id| device(id, &"x".repeat(1000))).collect(); // several chunks
    store
        .commit(Batch {
            puts: many,
            ..batch(2, 1)
        })
        .await
        .unwrap();
}

/// Restores a backup of `from`, and takes one of what was restored.
async fn check_restored(from: &Store, bytes: &[u8], database: &Database) -> Vec<u8> {
    let store = database.open().await;
    restore(&store, bytes).await.unwrap();
    let again = take(&database.url).await.unwrap();
    assert_eq!(rows_of(&again), rows_of(bytes));
    assert_eq!(
        store.tailnets().await.unwrap(),
        from.tailnets().await.unwrap()
    );
    let tailnets = store.tailnets().await.unwrap().into_iter();
    for one in tailnets
        .map(|(id, _)| Owner::from(id))
        .chain([Owner::Server])
    {
        assert_eq!(
            store.load(one).await.unwrap(),
            from.load(one).await.unwrap()
        );
        assert_eq!(
            store.changes(one, 0, 99).await.unwrap(),
            from.changes(one, 0, 99).await.unwrap()
        );
        assert_eq!(
            store.audit(one, at(0), at(99), 99).await.unwrap(),
            from.audit(one, at(0), at(99), 99).await.unwrap()
        );
        for version in from.texts(one).await.unwrap() {
            let texts = (
                store.text(one, &version.sha256).await.unwrap(),
                from.text(one, &version.sha256).await.unwrap(),
            );
            assert!(texts.0.is_some());
            assert_eq!(texts.0, texts.1);
        }
        for name in ["noise", "webhook"] {
            assert_eq!(
                store.secret(one, name).await.unwrap(),
                from.secret(one, name).await.unwrap()
            );
        }
    }
    // What was being done there is to be done here, once that claim has run out.
    assert_eq!(jobs(&store, "retention").await.len(), 1);
    // It goes on where it was, with the same walls and unique values.
    let clash = store.commit(putting(1, 2, keyed(900, "nodekey:3"))).await;
    assert!(clash.is_err(), "{clash:?}");
    assert_eq!(
        store
            .commit(putting(1, 2, keyed(900, "nodekey:900")))
            .await
            .unwrap(),
        3
    );
    store.close().await;
    let found = bowline_store::examine(&database.url).await.unwrap();
    assert!(found.is_sound(), "{found:?}");
    again
}

/// From this engine to both, and from each of those to both again.
pub(crate) async fn a_backup_restored_is_the_same_on_both_engines(database: Arc<Database>) {
    let store = database.open().await;
    fill(&store).await;
    let first = take(&database.url).await.unwrap();
    let second = check_restored(&store, &first, &Database::sqlite()).await;
    check_restored(&store, &second, &Database::sqlite()).await;
    if let Some(other) = Database::postgres().await {
        let second = check_restored(&store, &first, &other).await;
        other.remove().await;
        check_restored(&store, &second, &Database::sqlite()).await;
    }
    store.close().await;
}

pub(crate) async fn a_restore_refuses_a_database_that_is_not_empty(database: Arc<Database>) {
    let store = database.open().await;
    store.commit(putting(1, 0, device(1, "a"))).await.unwrap();
    let before = take(&database.url).await.unwrap();
    let outcome = restore(&store, &before).await;
    assert!(
        matches!(outcome, Err(TransferError::NotEmpty)),
        "{outcome:?}"
    );
    assert_eq!(taken(&database.url).await, rows_of(&before));
    store.close().await;
}

pub(crate) async fn a_restore_without_secrets_leaves_them_out(database: Arc<Database>) {
    let store = database.open().await;
    fill(&store).await;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("backup");
    std::fs::write(&path, take(&database.url).await.unwrap()).unwrap();
    store.close().await;
    let other = Database::sqlite();
    let store = other.open().await;
    let backup = Backup::open(&path, Arc::default()).await.unwrap();
    let secrets = backup.secrets().iter();
    let places: Vec<(Owner, &str)> = secrets.map(|one| (one.owner, &*one.name)).collect();
    let expected = [(Owner::Server, "noise"), (tailnet(1).into(), "webhook")];
    assert_eq!(places, expected);
    assert_eq!(backup.secrets()[0].sealed, [0, 1, 254, 255]);
    store.restore(&backup, false, Arc::default()).await.unwrap();
    assert_eq!(store.secret(Owner::Server, "noise").await.unwrap(), None);
    assert_eq!(store.secret(tailnet(1), "webhook").await.unwrap(), None);
    assert_eq!(store.tailnets().await.unwrap().len(), 2);
    store.close().await;
}

/// The file is read twice: once to verify it, and once to restore it.
pub(crate) async fn a_file_that_changes_after_it_was_verified_leaves_nothing(
    database: Arc<Database>,
) {
    let other = Database::sqlite();
    let full = other.open().await;
    fill(&full).await;
    let sound = take(&other.url).await.unwrap();
    full.close().await;
    let store = database.open().await;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("backup");
    for at in [sound.len() / 3, sound.len() - 60] {
        std::fs::write(&path, &sound).unwrap();
        let backup = Backup::open(&path, Arc::default()).await.unwrap();
        let mut changed = sound.clone();
        changed[at] ^= 1;
        std::fs::write(&path, &changed).unwrap();
        let outcome = store.restore(&backup, true, Arc::default()).await;
        assert!(
            matches!(outcome, Err(TransferError::Damaged { .. })),
            "{outcome:?}"
        );
        assert!(store.tailnets().await.unwrap().is_empty());
        assert_eq!(store.secret(Owner::Server, "noise").await.unwrap(), None);
    }
    // And the database is still one to restore into.
    restore(&store, &sound).await.unwrap();
    assert_eq!(taken(&database.url).await, rows_of(&sound));
    store.close().await;
}

pub(crate) async fn a_backup_is_of_one_moment(database: Arc<Database>) {
    let store = database.open().await;
    store.commit(putting(1, 0, device(1, "a"))).await.unwrap();
    let writer = {
        let store = store.clone();
        tokio::spawn(async move {
            for base in 1..60 {
                store
                    .commit(putting(1, base, device(base + 1, "a")))
                    .await
                    .unwrap();
            }
        })
    };
    let mut backups = Vec::new();
    let mut next = 0;
    while !writer.is_finished() {
        if store.seq(tailnet(1)).await.unwrap() >= next {
            backups.push(take(&database.url).await.unwrap());
            next += 6;
        }
    }
    writer.await.unwrap();
    backups.push(take(&database.url).await.unwrap());
    for bytes in backups {
        let other = Database::sqlite();
        let restored = other.open().await;
        restore(&restored, &bytes).await.unwrap();
        let seq = restored.seq(tailnet(1)).await.unwrap();
        assert_eq!(
            ids(&restored, 1, Kind::Device).await,
            (1..=seq).collect::<Vec<_>>()
        );
        let changes = restored.changes(tailnet(1), 0, 1000).await.unwrap();
        assert_eq!(changes.len() as u64, seq);
        restored.close().await;
    }
    store.close().await;
}
