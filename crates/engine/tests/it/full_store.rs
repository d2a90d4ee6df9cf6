//! A store that has no room.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bowline_engine::credential::NewAuthKey;
use bowline_engine::{Refusal, RegistrationRefused, Report, StoreFailure};
use bowline_model::device::HostFacts;
use bowline_model::record::RawJson;
use bowline_store::{Condition, Fault, Options, Point};
use jiff::SignedDuration;

use crate::net::{Net, quick, request, until};

async fn net() -> (Net, Arc<AtomicBool>) {
    let full = Arc::new(AtomicBool::new(false));
    let asked = full.clone();
    let hook = move |point| {
        (point == Point::BeforeCommit && asked.load(Ordering::Relaxed)).then_some(Fault::Full)
    };
    let options = Options {
        hook: Some(Arc::new(hook)),
        ..Options::default()
    };
    (Net::with(quick(), options).await, full)
}

#[tokio::test]
async fn a_full_store_refuses_loses_nothing_and_recovers() {
    let (net, full) = net().await;
    let key = net.one_off().await;
    let device = net.join(7).await;
    let before = net.snapshot();
    full.store(true, Ordering::Relaxed);
    let refused = net.try_register(request(1, &key)).await;
    assert!(
        matches!(refused, Err(RegistrationRefused::Store(StoreFailure::Unavailable(ref t))) if t.condition == Condition::Full),
        "{refused:?}"
    );
    let refused = net.engine.rename_device(&net.admin, device, "other").await;
    assert!(
        matches!(refused, Err(Refusal::Store(StoreFailure::Unavailable(ref t))) if t.condition == Condition::Full),
        "{refused:?}"
    );
    let refused = net
        .engine
        .rename_device(&net.admin, device, "no name!")
        .await;
    assert!(
        matches!(refused, Err(Refusal::Invalid(_))),
        "a refusal stays one: {refused:?}"
    );
    assert_eq!(
        net.snapshot().publication,
        before.publication,
        "nothing of it is seen"
    );
    assert_eq!(net.snapshot().device_count(), 1);
    // Who is in can still connect, and is seen.
    let stream = net.stream(device).await;
    full.store(false, Ordering::Relaxed);
    net.register(request(1, &key)).await;
    net.engine
        .rename_device(&net.admin, device, "other")
        .await
        .unwrap();
    drop(stream);
    let net = net.restart(SignedDuration::ZERO).await;
    assert_eq!(
        (net.snapshot().device_count(), &*net.device(device).name),
        (2, "other")
    );
}

#[tokio::test]
async fn what_is_due_or_reported_while_the_store_is_full_is_stored_when_it_is_not() {
    let (net, full) = net().await;
    let device = net.join(1).await;
    let seq = net.snapshot().seq;
    full.store(true, Ordering::Relaxed);
    let facts = HostFacts {
        hostname: "renamed".to_owned(),
        ..HostFacts::default()
    };
    let report = Report {
        hostinfo: Some((RawJson::empty_object(), facts)),
        ..Report::default()
    };
    net.engine.report(net.tailnet, device, report).await;
    net.pass(SignedDuration::from_hours(24 * 180)).await;
    assert_eq!(
        net.device(device).name,
        "renamed",
        "seen, if not yet stored"
    );
    assert!(!net.device(device).expired, "not seen before it is stored");
    full.store(false, Ordering::Relaxed);
    until("both are stored", || {
        (net.device(device).expired && net.snapshot().seq > seq).then_some(())
    })
    .await;
    let net = net.restart(SignedDuration::ZERO).await;
    assert_eq!(net.device(device).name, "renamed");
    assert!(net.device(device).expired);
}

#[tokio::test]
async fn a_key_that_expired_while_nothing_could_be_stored_lets_nobody_in() {
    let (net, full) = net().await;
    let (key, _) = net
        .key_with(NewAuthKey {
            expiry_seconds: Some(60),
            ..NewAuthKey::default()
        })
        .await;
    full.store(true, Ordering::Relaxed);
    net.pass(SignedDuration::from_secs(61)).await;
    full.store(false, Ordering::Relaxed);
    // Before the writer tries again to mark it.
    let refused = net.try_register(request(1, &key)).await;
    assert!(
        matches!(refused, Err(RegistrationRefused::ExpiredKey)),
        "{refused:?}"
    );
}

#[tokio::test]
async fn a_change_whose_caller_has_gone_is_done_all_the_same() {
    let net = Net::new().await;
    let device = net.join(1).await;
    let rename = net.engine.rename_device(&net.admin, device, "other");
    // Sent, and not waited for.
    let _ = tokio::time::timeout(Duration::ZERO, rename).await;
    until("it is renamed", || {
        (net.device(device).name == "other").then_some(())
    })
    .await;
}
