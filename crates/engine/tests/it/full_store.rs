//! A store that has no room.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
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
        net.snapshot().revision,
        before.revision,
        "nothing of it is seen"
    );
    assert_eq!(net.snapshot().device_count(), 1);
    // Devices that are in can still connect, and are seen online.
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

/// Counts the lines of the log that people are to look at.
#[derive(Default)]
struct Lines {
    errors: AtomicUsize,
    warnings: AtomicUsize,
}

impl tracing::Subscriber for Lines {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        *metadata.level() <= tracing::Level::WARN
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        let count = if *event.metadata().level() == tracing::Level::ERROR {
            &self.errors
        } else {
            &self.warnings
        };
        count.fetch_add(1, Ordering::Relaxed);
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}

#[tokio::test]
async fn a_thousand_failed_changes_are_one_line_when_it_begins_and_one_when_it_ends() {
    let lines = Arc::new(Lines::default());
    let _guard = tracing::subscriber::set_default(lines.clone());
    let count = |lines: &Lines| {
        (
            lines.errors.load(Ordering::Relaxed),
            lines.warnings.load(Ordering::Relaxed),
        )
    };
    let (net, full) = net().await;
    let device = net.join(7).await;
    assert_eq!(count(&lines), (0, 0));
    full.store(true, Ordering::Relaxed);
    for number in 0..1000 {
        let name = format!("other{number}");
        let refused = net.engine.rename_device(&net.admin, device, &name).await;
        assert!(
            matches!(
                refused,
                Err(Refusal::Store(StoreFailure::Unavailable(ref trouble)))
                    if trouble.condition == Condition::Full
            ),
            "{refused:?}"
        );
    }
    assert_eq!(count(&lines), (1, 0));
    let report = net.engine.store_report();
    let trouble = report.trouble.unwrap();
    assert_eq!((trouble.condition, trouble.failed), (Condition::Full, 1000));
    let failed = report
        .failed
        .iter()
        .find(|(one, _)| *one == Condition::Full);
    assert_eq!(failed.unwrap().1, 1000);
    full.store(false, Ordering::Relaxed);
    // Nobody writes: the server finds out by itself.
    until("changes can be stored again", || {
        net.engine.store_report().trouble.is_none().then_some(())
    })
    .await;
    assert_eq!(count(&lines), (1, 1));
    net.engine
        .rename_device(&net.admin, device, "again")
        .await
        .unwrap();
    assert!(net.engine.store_report().committed >= 3);
}
