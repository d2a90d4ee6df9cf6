//! Who may open a database.

use std::sync::Arc;

use bowline_store::{OpenError, Store};

use crate::backup::taken;
use crate::database::{Database, options};
use crate::rows::{batch, tailnet};

pub(crate) async fn a_second_opener_is_refused_until_the_first_closes(database: Arc<Database>) {
    let store = database.open().await;
    let error = Store::open(&database.url, options()).await.unwrap_err();
    assert!(matches!(error, OpenError::InUse { .. }), "{error:?}");
    let process = std::process::id().to_string();
    assert!(error.to_string().contains(&process), "{error}");
    store.commit(batch(1, 0)).await.unwrap();
    store.close().await;
    let store = database.open().await;
    assert_eq!(store.seq(tailnet(1)).await.unwrap(), 1);
    store.close().await;
}

pub(crate) async fn a_newer_database_is_refused(database: Arc<Database>) {
    database.open().await.close().await;
    let newer = "INSERT INTO refinery_schema_history (version, name, applied_on, checksum) \
                 VALUES (1000, 'from_the_future', '2030-01-01T00:00:00Z', '1')";
    database.execute(newer).await;
    let error = Store::open(&database.url, options()).await.unwrap_err();
    assert!(
        matches!(error, OpenError::Newer { found: 1000, .. }),
        "{error:?}"
    );
    assert!(error.to_string().contains("1000"), "{error}");
    database
        .execute("DELETE FROM refinery_schema_history WHERE version = 1000")
        .await;
    database.open().await.close().await;
}

pub(crate) async fn opening_again_changes_nothing(database: Arc<Database>) {
    let store = database.open().await;
    store.commit(batch(1, 0)).await.unwrap();
    let before = taken(&database.url).await;
    store.close().await;
    let store = database.open().await;
    assert_eq!(taken(&database.url).await, before);
    store.close().await;
}
