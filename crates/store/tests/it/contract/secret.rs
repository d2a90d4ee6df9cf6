//! Sealed secrets of the server.

use std::sync::Arc;

use bowline_store::{CommitError, Kind, Owner, SecretRow};

use crate::database::Database;
use crate::rows::{batch, deleting, device, putting, sealed, tailnet};

pub(crate) async fn the_first_secret_stays(database: Arc<Database>) {
    let store = database.open().await;
    assert_eq!(store.secret(Owner::Server, "noise").await.unwrap(), None);
    let all = (0..8_u8).map(|n| {
        let store = store.clone();
        async move {
            store
                .put_secret_if_absent(Owner::Server, "noise", &[n, 0, 255])
                .await
                .unwrap()
        }
    });
    let kept = futures_util::future::join_all(all).await;
    assert!(kept.iter().all(|one| *one == kept[0]), "{kept:?}");
    assert_eq!(
        store
            .put_secret_if_absent(Owner::Server, "other", b"x")
            .await
            .unwrap(),
        b"x"
    );
    store.close().await;
    let store = database.open().await;
    assert_eq!(
        store.secret(Owner::Server, "noise").await.unwrap().as_ref(),
        Some(&kept[0])
    );
    store.close().await;
}

pub(crate) async fn a_secret_is_made_and_removed_with_its_object(database: Arc<Database>) {
    let store = database.open().await;
    for of in [1, 2] {
        let mut first = putting(of, 0, device(of, "a"));
        first.secrets = vec![sealed("webhook", &[u8::try_from(of).unwrap()])];
        store.commit(first).await.unwrap();
    }
    let secret = async |of| store.secret(tailnet(of), "webhook").await.unwrap();
    assert_eq!(secret(1).await, Some(vec![1]));
    assert_eq!(store.secret(Owner::Server, "webhook").await.unwrap(), None);
    let mut second = batch(1, 1);
    second.secrets = vec![sealed("webhook", b"new")];
    store.commit(second).await.unwrap();
    assert_eq!(secret(1).await, Some(b"new".to_vec()));
    // A change that is refused changes no secret.
    let mut stale = batch(1, 1);
    stale.secrets = vec![sealed("webhook", b"stale")];
    assert!(store.commit(stale).await.is_err());
    let mut twice = batch(1, 2);
    twice.secrets = vec![sealed("webhook", b"x"), sealed("webhook", b"y")];
    assert!(matches!(
        store.commit(twice).await,
        Err(CommitError::Malformed(_))
    ));
    assert_eq!(secret(1).await, Some(b"new".to_vec()));
    let mut last = deleting(1, 2, Kind::Device, 1);
    last.secrets = vec![SecretRow {
        name: "webhook".to_owned(),
        sealed: None,
    }];
    store.commit(last).await.unwrap();
    assert_eq!((secret(1).await, secret(2).await), (None, Some(vec![2])));
    store.close().await;
}
