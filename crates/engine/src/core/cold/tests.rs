//! Cold objects through the writer and back.

use std::collections::BTreeSet;

use bowline_model::access_token::AccessToken;
use bowline_model::id::{KeyId, TailnetId};
use bowline_model::kind::Kind;
use bowline_model::record::Body;
use bowline_model::scope::Scopes;
use bowline_model::secret::SecretHash;
use bowline_store::{Batch, Prune, Put};
use jiff::SignedDuration;

use crate::core::draft::Draft;
use crate::core::writer::tests::{Net, net};
use crate::{Engine, Refusal};

fn token(engine: &Engine, id: u64, minutes: i64) -> AccessToken {
    AccessToken {
        id: KeyId::new(id).unwrap(),
        hash: SecretHash::of("secret"),
        parent: KeyId::MIN,
        scopes: Scopes::all(),
        tags: BTreeSet::new(),
        narrows_tags: false,
        created: engine.now(),
        expires: engine.now() + SignedDuration::from_mins(minutes),
        revoked: None,
    }
}

async fn write(net: &Net, change: impl Fn(&mut Draft<'_>) -> Result<(), Refusal> + Send + 'static) {
    let written = net.engine.write(&net.admin, move |draft| change(draft));
    written.await.unwrap();
}

#[tokio::test]
async fn a_cold_object_is_read_from_the_store_and_is_in_no_snapshot() {
    let net = net().await;
    let tailnet = net.admin.tailnet;
    let before = net.engine.snapshot(tailnet).unwrap();
    let made = token(&net.engine, 77, 60);
    let put = Body::from(made.clone());
    write(&net, move |draft| Ok(draft.put_cold(&put)?)).await;

    let found = net.engine.cold::<AccessToken>(tailnet, made.id);
    assert_eq!(found.await.unwrap().unwrap().record, made);
    let found = net.engine.find_cold::<AccessToken>(made.id);
    assert_eq!(found.await.unwrap().unwrap().0, tailnet.into());
    let page = net.engine.cold_page::<AccessToken>(tailnet, None, 9);
    assert_eq!(page.await.unwrap().len(), 1);
    let page = net
        .engine
        .cold_page::<AccessToken>(tailnet, Some(made.id), 9);
    assert!(page.await.unwrap().is_empty());
    // Another tailnet does not have it.
    let found = net.engine.cold::<AccessToken>(TailnetId::MAX, made.id);
    assert!(found.await.unwrap().is_none());

    // The change has a number, and no stream is woken by it.
    let after = net.engine.snapshot(tailnet).unwrap();
    assert_eq!(after.seq, before.seq + 1);
    assert_eq!(after.revision, before.revision);

    let id = made.id;
    write(&net, move |draft| {
        draft.remove_cold::<AccessToken>(id);
        Ok(())
    })
    .await;
    let found = net.engine.cold::<AccessToken>(tailnet, made.id);
    assert!(found.await.unwrap().is_none());
}

#[tokio::test]
async fn a_refused_change_leaves_no_cold_object() {
    let net = net().await;
    let made = token(&net.engine, 77, 60);
    let put = Body::from(made.clone());
    let refused: Result<(), Refusal> = net
        .engine
        .write(&net.admin, move |draft| {
            draft.put_cold(&put)?;
            Err(Refusal::NotFound)
        })
        .await;
    assert!(refused.is_err());
    let found = net.engine.find_cold::<AccessToken>(made.id);
    assert!(found.await.unwrap().is_none());
}

#[tokio::test]
async fn a_cold_object_that_is_over_is_not_found() {
    let net = net().await;
    let made = token(&net.engine, 77, -1);
    let put = Body::from(made.clone());
    write(&net, move |draft| Ok(draft.put_cold(&put)?)).await;
    let found = net.engine.find_cold::<AccessToken>(made.id);
    assert!(found.await.unwrap().is_none());
    let store = &net.engine.0.store;
    let what = Prune::Expired {
        kind: Kind::AccessToken,
        at: net.engine.now(),
    };
    assert_eq!(store.prune(what, 9).await.unwrap(), 1);
}

#[tokio::test]
async fn a_cold_object_that_is_written_again_keeps_what_is_not_known_of_it() {
    let net = net().await;
    let tailnet = net.admin.tailnet;
    let made = token(&net.engine, 77, 60);
    let text = Body::from(made.clone()).encode().unwrap();
    let text = text.replacen('{', r#"{"newer":{"a":1},"#, 1);
    let seq = net.engine.snapshot(tailnet).unwrap().seq;
    let mut batch = Batch::new(tailnet, seq, [9; 16], net.engine.now());
    batch.puts.push(Put::new(Kind::AccessToken, 77, text));
    net.engine.0.store.commit(batch).await.unwrap();

    let mut body = net
        .engine
        .cold::<AccessToken>(tailnet, made.id)
        .await
        .unwrap()
        .unwrap();
    body.record.parent = KeyId::MAX;
    let put = body.clone();
    write(&net, move |draft| Ok(draft.put_cold(&put)?)).await;
    let (_, row) = net
        .engine
        .0
        .store
        .find(Kind::AccessToken, 77, net.engine.now())
        .await
        .unwrap()
        .unwrap();
    assert!(row.body.contains(r#""newer":{"a":1}"#), "{}", row.body);
    let found = net.engine.cold::<AccessToken>(tailnet, made.id);
    assert_eq!(found.await.unwrap().unwrap(), body);
}
