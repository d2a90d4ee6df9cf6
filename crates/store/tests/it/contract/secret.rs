//! Sealed secrets of the server.

use std::sync::Arc;

use crate::database::Database;

pub(crate) async fn the_first_secret_stays(database: Arc<Database>) {
    let store = database.open().await;
    assert_eq!(store.secret("noise").await.unwrap(), None);
    let all = (0..8_u8).map(|n| {
        let store = store.clone();
        async move {
            store
                .put_secret_if_absent("noise", &[n, 0, 255])
                .await
                .unwrap()
        }
    });
    let kept = futures_util::future::join_all(all).await;
    assert!(kept.iter().all(|one| *one == kept[0]), "{kept:?}");
    assert_eq!(
        store.put_secret_if_absent("other", b"x").await.unwrap(),
        b"x"
    );
    store.close().await;
    let store = database.open().await;
    assert_eq!(
        store.secret("noise").await.unwrap().as_ref(),
        Some(&kept[0])
    );
    store.close().await;
}
