//! What falls due by the clock.

use std::collections::BTreeMap;

use bowline_engine::credential::NewAuthKey;
use bowline_engine::{Refusal, RegistrationRefused};
use bowline_model::device::AttributeValue;
use jiff::SignedDuration;

use crate::net::{Net, node_key, operator, request, until};

const DAY: SignedDuration = SignedDuration::from_hours(24);

#[tokio::test]
async fn a_node_key_expires_at_its_time_unless_that_is_disabled() {
    let net = Net::new().await;
    let (one, two) = (net.join(1).await, net.join(2).await);
    net.engine
        .set_key_expiry_disabled(&net.admin, two, Some(true))
        .await
        .unwrap();
    let mut notices = net.engine.notices();
    net.pass(DAY * 180 - SignedDuration::from_secs(1)).await;
    assert!(!net.device(one).expired);
    net.pass(SignedDuration::from_secs(1)).await;
    assert!(net.device(one).expired && !net.device(two).expired);
    assert!(!net.engine.admits(&node_key(1)) && net.engine.admits(&node_key(2)));
    assert_eq!(
        notices.recv().await.unwrap(),
        bowline_engine::Notice::NodeKeyRevoked(node_key(1))
    );
    assert!(
        net.audit()
            .await
            .contains(&("EXPIRED".to_owned(), "KEY_EXPIRY_TIME".to_owned()))
    );
    // The token of before has expired too.
    let operator = operator(net.tailnet);
    // Enabled again, the past instant counts; disabled, the key is good again.
    net.engine
        .set_key_expiry_disabled(&operator, two, Some(false))
        .await
        .unwrap();
    assert!(net.device(two).expired);
    net.engine
        .set_key_expiry_disabled(&operator, one, Some(true))
        .await
        .unwrap();
    assert!(!net.device(one).expired);
}

#[tokio::test]
async fn what_fell_due_while_the_server_was_stopped_for_some_hours_is_done_at_its_start() {
    let net = Net::new().await;
    let (token, key) = net
        .engine
        .create_access_token(&net.admin, None, "ci", Some(3600))
        .await
        .unwrap();
    let net = net.restart(SignedDuration::from_hours(23)).await;
    assert!(net.engine.authenticate(token.expose()).is_none());
    until("its end is noted", || {
        let snapshot = net.snapshot();
        snapshot.credential(key.id)?.expired.map(|_| ())
    })
    .await;
}

#[tokio::test]
async fn a_posture_attribute_ends_at_its_time() {
    let net = Net::new().await;
    let device = net.join(1).await;
    let edit = |key: &str, ends| {
        let edits = BTreeMap::from([(key.to_owned(), Some((AttributeValue::Bool(true), ends)))]);
        net.engine
            .edit_attributes(&net.admin, vec![(device, edits)], None)
    };
    edit("custom:kept", None).await.unwrap();
    edit("custom:ends", Some(net.now() + DAY)).await.unwrap();
    edit("custom:later", Some(net.now() + DAY * 2))
        .await
        .unwrap();
    assert!(matches!(
        edit("custom:past", Some(net.now())).await,
        Err(Refusal::Invalid(_))
    ));
    net.pass(DAY).await;
    assert_eq!(
        net.device(device).attributes.keys().collect::<Vec<_>>(),
        ["custom:kept", "custom:later"]
    );
    net.pass(DAY).await;
    assert_eq!(
        net.device(device).attributes.keys().collect::<Vec<_>>(),
        ["custom:kept"]
    );
}

#[tokio::test]
async fn an_ephemeral_device_is_deleted_when_it_was_offline_long_enough_and_never_while_it_has_a_stream()
 {
    let net = Net::new().await;
    let (key, _) = net
        .key_with(NewAuthKey {
            ephemeral: true,
            reusable: true,
            ..NewAuthKey::default()
        })
        .await;
    let (here, gone, never) = (
        net.register(request(1, &key)).await,
        net.register(request(2, &key)).await,
        net.register(request(3, &key)).await,
    );
    let stream = net.stream(here).await;
    drop(net.stream(gone).await);
    until("the device is offline", || {
        (!net.is_online(gone)).then_some(())
    })
    .await;
    net.pass(SignedDuration::from_mins(29)).await;
    assert_eq!(net.snapshot().device_count(), 3);
    net.pass(SignedDuration::from_mins(1)).await;
    let left: Vec<_> = net
        .snapshot()
        .devices()
        .map(|entry| entry.device.id)
        .collect();
    assert_eq!(left, [here], "{gone} was offline, {never} never came");
    net.pass(DAY).await;
    assert_eq!(net.snapshot().device_count(), 1);
    drop(stream);
    until("the device is offline", || {
        (!net.is_online(here)).then_some(())
    })
    .await;
    net.pass(SignedDuration::from_mins(30)).await;
    assert_eq!(net.snapshot().device_count(), 0);
}

#[tokio::test]
async fn the_time_that_the_server_was_stopped_is_no_silence_of_an_ephemeral_device() {
    let net = Net::new().await;
    let (key, _) = net
        .key_with(NewAuthKey {
            ephemeral: true,
            ..NewAuthKey::default()
        })
        .await;
    let device = net.register(request(1, &key)).await;
    let stream = net.stream(device).await;
    drop(stream);
    let net = net.restart(SignedDuration::from_hours(3)).await;
    net.engine.tick().await;
    let stream = net.stream(device).await;
    net.pass(SignedDuration::from_hours(3)).await;
    assert_eq!(net.snapshot().device_count(), 1);
    drop(stream);
}

#[tokio::test]
async fn a_credential_expires_and_is_forgotten_after_ninety_days() {
    let net = Net::new().await;
    let token = net
        .engine
        .create_access_token(&net.admin, None, "ci", Some(60))
        .await
        .unwrap();
    let (key, key_id) = net
        .key_with(NewAuthKey {
            expiry_seconds: Some(60),
            ..NewAuthKey::default()
        })
        .await;
    let (_, revoked) = net.key_with(NewAuthKey::default()).await;
    net.engine
        .revoke_credential(&net.admin, revoked)
        .await
        .unwrap();
    assert!(net.engine.authenticate(token.0.expose()).is_some());
    // At the very moment, whether or not anybody has looked at the clock.
    net.move_clock(SignedDuration::from_secs(60));
    assert!(net.engine.authenticate(token.0.expose()).is_none());
    net.engine.tick().await;
    for id in [token.1.id, key_id, revoked] {
        let credential = net.engine.credential(&net.admin, id).unwrap();
        assert!(!credential.is_valid(net.now()));
    }
    net.pass(DAY * 90 - SignedDuration::from_secs(61)).await;
    net.engine.run_jobs().await;
    assert!(net.engine.credential(&net.admin, revoked).is_ok());
    // Retention comes by every ten minutes.
    net.pass(SignedDuration::from_mins(10)).await;
    net.engine.run_jobs().await;
    assert!(net.engine.credential(&net.admin, revoked).is_err());
    for id in [token.1.id, key_id] {
        assert!(net.engine.credential(&net.admin, id).is_err());
    }
    let refused = net.try_register(request(1, &key)).await;
    assert!(
        matches!(refused, Err(RegistrationRefused::UnknownKey)),
        "{refused:?}"
    );
    let net = net.restart(SignedDuration::ZERO).await;
    assert!(
        net.engine.credential(&net.admin, key_id).is_err(),
        "in the database too"
    );
}

#[tokio::test]
async fn a_credential_is_kept_for_ninety_days_from_when_its_end_was_noted() {
    let net = Net::new().await;
    let (_, id) = net.key_with(NewAuthKey::default()).await;
    let key = || net.snapshot().credential(id).cloned();
    assert!(key().is_some_and(|key| key.expired.is_none()));
    // Nobody looked for long after it expired, and a jump may be the reason.
    net.pass(DAY * 181).await;
    assert_eq!(key().unwrap().expired, Some(net.now()));
    net.pass(DAY * 90 - SignedDuration::from_secs(1)).await;
    net.engine.run_jobs().await;
    assert!(key().is_some());
    net.pass(SignedDuration::from_mins(10)).await;
    net.engine.run_jobs().await;
    assert!(key().is_none());
}
