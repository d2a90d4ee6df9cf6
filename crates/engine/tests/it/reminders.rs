//! Auth keys and API access tokens are told of before they expire, once each.

use bowline_engine::Settings;
use bowline_engine::credential::NewAuthKey;
use bowline_model::id::KeyId;
use bowline_store::Options;
use jiff::SignedDuration;

use crate::net::{Net, quick, request};

const DAY: SignedDuration = SignedDuration::from_hours(24);
const SECOND: SignedDuration = SignedDuration::from_secs(1);

/// How many reminders there were.
async fn reminders(net: &Net) -> usize {
    let all = net.audit().await;
    all.iter()
        .filter(|(action, _)| action == "EXPIRING")
        .count()
}

fn is_told(net: &Net, id: KeyId) -> bool {
    let snapshot = net.snapshot();
    snapshot.credential(id).unwrap().expiry_told.is_some()
}

/// The tokens that the net was made with end too.
async fn revoke_all(net: &Net) {
    let ids: Vec<KeyId> = net.snapshot().credentials().map(|it| it.id).collect();
    let operator = crate::net::operator(net.tailnet);
    for id in ids {
        net.engine.revoke_credential(&operator, id).await.unwrap();
    }
}

async fn key(net: &Net, days: i64, reusable: bool) -> (String, KeyId) {
    let operator = crate::net::operator(net.tailnet);
    let new = NewAuthKey {
        expiry_seconds: Some(days * 86_400),
        reusable,
        ..NewAuthKey::default()
    };
    let made = net.engine.create_auth_key(&operator, None, new).await;
    let (minted, credential) = made.unwrap();
    (minted.expose().to_owned(), credential.id)
}

#[tokio::test]
async fn a_key_that_expires_within_a_week_is_told_once() {
    let net = Net::new().await;
    revoke_all(&net).await;
    let (_, id) = key(&net, 90, true).await;
    net.pass(DAY * 83 - SECOND).await;
    assert_eq!((reminders(&net).await, is_told(&net, id)), (0, false));
    net.pass(SECOND).await;
    assert_eq!((reminders(&net).await, is_told(&net, id)), (1, true));
    // Neither the time that passes nor a start nor a clock that goes back tells it again.
    net.pass(DAY).await;
    net.set_clock(net.now() - DAY * 2).await;
    net.pass(DAY * 2).await;
    let net = net.restart(SignedDuration::from_hours(2)).await;
    net.settle().await;
    assert_eq!(reminders(&net).await, 1);
    assert!(!net.snapshot().credential(id).unwrap().is_expired(net.now()));
}

#[tokio::test]
async fn what_nobody_renews_is_not_told() {
    let net = Net::new().await;
    revoke_all(&net).await;
    // Who makes a key for a week knows that it ends in a week.
    let (_, week) = key(&net, 7, true).await;
    let (_, revoked) = key(&net, 8, true).await;
    let operator = crate::net::operator(net.tailnet);
    net.engine
        .revoke_credential(&operator, revoked)
        .await
        .unwrap();
    let (secret, used) = key(&net, 8, false).await;
    net.register(request(1, &secret)).await;
    let (_, unused) = key(&net, 8, false).await;
    net.pass(DAY + SECOND).await;
    let told = [week, revoked, used, unused].map(|id| is_told(&net, id));
    assert_eq!(told, [false, false, false, true]);
    assert_eq!(reminders(&net).await, 1);
}

#[tokio::test]
async fn how_long_ahead_is_a_setting_and_zero_is_never() {
    for (days, after, expected) in [(0, 29, 0), (2, 27, 0), (2, 28, 1)] {
        let settings = Settings {
            expiry_reminder: std::time::Duration::from_hours(24 * days),
            ..quick()
        };
        let net = Net::with(settings, Options::default()).await;
        revoke_all(&net).await;
        key(&net, 30, true).await;
        net.pass(DAY * after).await;
        assert_eq!(reminders(&net).await, expected, "{days} {after}");
    }
}
