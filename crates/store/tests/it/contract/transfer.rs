//! Dump and restore.

use std::sync::Arc;

use bowline_store::{Batch, Column, Kind, Owner, Put, Store, TransferError};

use crate::database::Database;
use crate::rows::{
    at, batch, deleting, device, event, ids, job, keyed, of_server, presence, putting, tailnet,
    user,
};

async fn dump(store: &Store) -> String {
    let mut bytes = Vec::new();
    store.dump(&mut bytes).await.unwrap();
    String::from_utf8(bytes).unwrap()
}

/// Something of everything.
async fn fill(store: &Store) {
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
    first.outbox = vec![job(1, "webhook")];
    store.commit(first).await.unwrap();
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
        .put_secret_if_absent("noise", &[0, 1, 254, 255])
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

async fn check_restored(from: &Store, database: &Database) {
    let text = dump(from).await;
    let store = database.open().await;
    store.restore(text.as_bytes()).await.unwrap();
    assert_eq!(dump(&store).await, text);
    assert_eq!(
        store.tailnets().await.unwrap(),
        from.tailnets().await.unwrap()
    );
    let tailnets = store.tailnets().await.unwrap().into_iter();
    for one in tailnets
        .map(|(id, _)| Owner::from(id))
        .chain([Owner::Server])
    {
        let (mut ours, theirs) = (
            store.load(one).await.unwrap(),
            from.load(one).await.unwrap(),
        );
        for (row, origin) in ours.rows.iter_mut().zip(&theirs.rows) {
            if origin.body.contains('\n') {
                row.body = origin.body.clone(); // line breaks between tokens become spaces
            }
        }
        assert_eq!(ours, theirs);
        let logs = (
            store.changes(one, 0, 99).await.unwrap(),
            from.changes(one, 0, 99).await.unwrap(),
        );
        assert_eq!(logs.0, logs.1);
        let logs = (
            store.audit(one, at(0), at(99), 99).await.unwrap(),
            from.audit(one, at(0), at(99), 99).await.unwrap(),
        );
        assert_eq!(logs.0, logs.1);
    }
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
}

pub(crate) async fn a_dump_restored_is_the_same_on_both_engines(database: Arc<Database>) {
    let store = database.open().await;
    fill(&store).await;
    check_restored(&store, &Database::sqlite()).await;
    if let Some(other) = Database::postgres().await {
        check_restored(&store, &other).await;
        other.remove().await;
    }
    store.close().await;
}

pub(crate) async fn a_restore_refuses_a_database_that_is_not_empty(database: Arc<Database>) {
    let store = database.open().await;
    store.commit(putting(1, 0, device(1, "a"))).await.unwrap();
    let text = dump(&store).await;
    let outcome = store.restore(text.as_bytes()).await;
    assert!(
        matches!(outcome, Err(TransferError::NotEmpty)),
        "{outcome:?}"
    );
    assert_eq!(dump(&store).await, text);
    store.close().await;
}

pub(crate) async fn a_broken_dump_leaves_nothing(database: Arc<Database>) {
    let store = database.open().await;
    fill(&store).await;
    let text = dump(&store).await;
    store.close().await;
    let other = Database::sqlite();
    let store = other.open().await;
    let cut = text.len() / 2;
    let whole_lines: String = text.lines().take(9).flat_map(|line| [line, "\n"]).collect();
    let missing: Vec<&str> = text
        .lines()
        .enumerate()
        .filter(|(n, _)| *n != 5)
        .map(|(_, l)| l)
        .collect();
    let broken = [
        (text[..cut].to_owned(), "cut inside a line"),
        (whole_lines, "cut after a line"),
        (missing.join("\n"), "a line is missing"),
        (
            text.replacen("\"bowline_dump\":1", "\"bowline_dump\":2", 1),
            "newer format",
        ),
        (
            text.replacen("\"migration\":", "\"migration\":9", 1),
            "newer schema",
        ),
        (
            text.replacen("\"kind\":\"key\"", "\"kind\":\"lock\"", 1),
            "unknown kind",
        ),
        (
            text.lines().skip(1).collect::<Vec<_>>().join("\n"),
            "no header",
        ),
        (String::new(), "empty"),
        ("hello\n".to_owned(), "something else"),
    ];
    for (dump, what) in broken {
        assert_ne!(dump, text, "{what}");
        let outcome = store.restore(dump.as_bytes()).await;
        assert!(outcome.is_err(), "{what}");
        assert!(
            store.tailnets().await.unwrap().is_empty(),
            "{what}: {outcome:?}"
        );
        assert_eq!(store.secret("noise").await.unwrap(), None, "{what}");
    }
    let cut_off = store.restore(&text.as_bytes()[..cut]).await.unwrap_err();
    assert!(
        matches!(cut_off, TransferError::Format { line: 2.., .. }),
        "{cut_off:?}"
    );
    store.restore(text.as_bytes()).await.unwrap();
    store.close().await;
}

pub(crate) async fn a_dump_is_of_one_moment(database: Arc<Database>) {
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
    let mut dumps = Vec::new();
    let mut next = 0;
    while !writer.is_finished() {
        if store.seq(tailnet(1)).await.unwrap() >= next {
            dumps.push(dump(&store).await);
            next += 6;
        }
    }
    writer.await.unwrap();
    dumps.push(dump(&store).await);
    for text in dumps {
        let other = Database::sqlite();
        let restored = other.open().await;
        restored.restore(text.as_bytes()).await.unwrap();
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
