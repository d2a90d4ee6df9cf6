//! Another release wrote the database: members that this one does not know stay where they are.

use bowline_model::kind::Kind;
use bowline_store::{Batch, Put, Row};
use jiff::SignedDuration;

use crate::net::Net;

const NEWER: &str = r#""newer":{"of":["another release",1.50]}"#;

/// Gives every object of the tailnet a member that this release does not know, as another process.
async fn write_as_another_release(net: &Net) -> u64 {
    let store = net.engine.store();
    let loaded = store.load(net.tailnet).await.unwrap();
    let mut batch = Batch::new(net.tailnet, loaded.seq, [5; 16], net.now());
    for row in &loaded.rows {
        let body = row.body.replacen('{', &format!("{{{NEWER},"), 1);
        batch.puts.push(Put {
            columns: columns(net, row),
            ..Put::new(row.kind, row.id, body)
        });
    }
    store.commit(batch).await.unwrap()
}

/// What the row has in its unique columns.
fn columns(net: &Net, row: &Row) -> Vec<(bowline_store::Column, String)> {
    let snapshot = net.snapshot();
    let objects = bowline_netmap::hot::hot(row.kind).unwrap();
    objects.encode(&snapshot, row.id).unwrap().unwrap().columns
}

/// Kinds of which every object has the member.
async fn with_newer(net: &Net) -> Vec<Kind> {
    let loaded = net.engine.store().load(net.tailnet).await.unwrap();
    let mut kinds: Vec<Kind> = Kind::all().filter(|kind| kind.is_hot()).collect();
    kinds.retain(|kind| {
        let mut rows = loaded.rows.iter().filter(|row| row.kind == *kind);
        rows.all(|row| row.body.contains(NEWER))
    });
    kinds
}

#[tokio::test]
async fn a_change_keeps_what_another_release_wrote_before_the_start() {
    let net = Net::new().await;
    let device = net.join(1).await;
    write_as_another_release(&net).await;
    let net = net.restart(SignedDuration::ZERO).await;
    let all = with_newer(&net).await;
    assert!(all.len() > 5, "{all:?}");

    net.engine
        .rename_device(&net.admin, device, "renamed")
        .await
        .unwrap();
    let loaded = net.engine.store().load(net.tailnet).await.unwrap();
    let is_device = |row: &&Row| row.kind == Kind::Device;
    let row = loaded.rows.iter().find(is_device).unwrap();
    assert_eq!(row.seq, loaded.seq, "it was written");
    assert!(row.body.contains(r#""name":"renamed""#), "{}", row.body);
    assert_eq!(with_newer(&net).await, all);
}

#[tokio::test]
async fn a_change_keeps_what_another_release_writes_meanwhile() {
    let net = Net::new().await;
    let device = net.join(1).await;
    let seq = write_as_another_release(&net).await;
    // This one's next change is made from the state before, and has to catch up.
    net.engine
        .rename_device(&net.admin, device, "renamed")
        .await
        .unwrap();
    assert_eq!(net.snapshot().seq, seq + 1);
    assert!(with_newer(&net).await.contains(&Kind::Device));
    assert_eq!(
        net.snapshot().device(device).unwrap().device.name,
        "renamed"
    );
}
