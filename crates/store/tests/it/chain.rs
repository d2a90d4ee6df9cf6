//! The chain of audit events in files that somebody changed.

use bowline_store::{
    AuditRow, Batch, ChainFault, ChainFaultKind, StoreUrl, examine, examine_audit,
};
use rusqlite::Connection;

use crate::database::Database;
use crate::rows::{at, batch, event};

/// A file with ten events, of which some SQL changed some. Checksums of rows are put right, as
/// somebody who knows this program would.
async fn faults_after(sql: &str) -> Vec<ChainFault> {
    let database = Database::sqlite();
    let store = database.open().await;
    for base in 0..5 {
        let id = base * 2 + 1;
        let audit = vec![event(id, 7), event(id + 1, 7)];
        let one = Batch {
            audit,
            ..batch(1, base)
        };
        store.commit(one).await.unwrap();
    }
    store.close().await;
    let conn = Connection::open(database.path()).unwrap();
    conn.execute_batch(sql).unwrap();
    drop(conn);
    let found = examine_audit(&database.url).await.unwrap();
    assert_eq!(found.is_sound(), found.faults.is_empty());
    let all = examine(&database.url).await.unwrap();
    assert_eq!(all.faults, found.faults);
    assert_eq!(all.is_sound(), found.is_sound());
    found.faults
}

fn fault(number: u64, fault: ChainFaultKind) -> ChainFault {
    ChainFault {
        owner: 1,
        number,
        fault,
    }
}

#[tokio::test]
async fn what_was_changed_removed_or_moved_is_named() {
    use ChainFaultKind::{Changed, Missing, OutOfPlace};
    assert_eq!(faults_after("").await, []);
    let changed = faults_after("UPDATE audit SET body = '{\"b\":1}' WHERE number = 4").await;
    assert_eq!(changed, [fault(4, Changed)]);
    let missing = faults_after("DELETE FROM audit WHERE number IN (4, 5)").await;
    assert_eq!(missing, [fault(4, Missing { to: 5 })]);
    let first = faults_after("DELETE FROM audit WHERE number = 1").await;
    assert_eq!(first, [fault(1, Missing { to: 1 })]);
    let last = faults_after("DELETE FROM audit WHERE number > 8").await;
    assert_eq!(last, [fault(9, Missing { to: 10 })]);
    let moved = faults_after(
        "UPDATE audit SET number = 99 WHERE number = 4; \
         UPDATE audit SET number = 4 WHERE number = 5; \
         UPDATE audit SET number = 5 WHERE number = 99",
    )
    .await;
    for number in [4, 5] {
        assert!(moved.contains(&fault(number, OutOfPlace)), "{moved:?}");
    }
}

#[tokio::test]
async fn an_independent_program_finds_the_same_hashes() {
    let database = Database::sqlite();
    let store = database.open().await;
    let audit = vec![
        AuditRow {
            body: r#"{"é":1}"#.into(),
            ..event(5, 1)
        },
        event(6, 2),
    ];
    let one = Batch {
        audit,
        ..batch(1, 0)
    };
    store.commit(one).await.unwrap();
    let found = store
        .audit_after(crate::rows::tailnet(1), (at(0), 0), at(9), 9)
        .await
        .unwrap();
    let mut previous = "0".repeat(64);
    for entry in found {
        // The text of `docs/audit.md`.
        let (at, id) = (entry.event.at.as_microsecond(), entry.event.id);
        let body = &entry.event.body;
        let text = format!("bowline audit 1\n{previous}\n1\n{at}\n{id}\n{body}");
        previous = bowline_store::text_hash(&text);
        assert_eq!(bowline_store::hex(&entry.hash), previous);
    }
    store.close().await;
    assert!(matches!(database.url, StoreUrl::Sqlite(_)));
}
