//! How much is kept, and that the rest goes.

use std::sync::Arc;
use std::time::Duration;

use bowline_engine::credential::NewAuthKey;
use bowline_engine::{Retention, Settings};
use bowline_policy::{DEFAULT_POLICY, Policy};
use bowline_store::{Kind, Options, text_hash};
use jiff::{SignedDuration, Timestamp};

use crate::net::{Net, quick};

const DAY: SignedDuration = SignedDuration::from_hours(24);

async fn with(retention: Retention) -> Net {
    let settings = Settings {
        retention,
        ..quick()
    };
    Net::with(settings, Options::default()).await
}

/// A policy of so many bytes, another one for each number.
fn policy(number: u64, bytes: usize) -> String {
    let mut text = format!("// {number}\n");
    while text.len() + 81 < bytes {
        // Lines that differ, so that nothing can be saved on them.
        let hash = text_hash(&format!("{number} {}", text.len()));
        text.extend(["// ", &hash, " ", &hash[..12], "\n"]);
    }
    text + r#"{"acls": [{"action": "accept", "src": ["*"], "dst": ["*:*"]}]}"#
}

async fn set(net: &Net, text: &str) {
    let policy = Some(Arc::new(Policy::parse(text).unwrap()));
    net.engine
        .set_policy_file(&net.admin, policy, None)
        .await
        .unwrap();
}

async fn make_and_revoke(net: &Net) {
    let (_, id) = net.key_with(NewAuthKey::default()).await;
    net.engine.revoke_credential(&net.admin, id).await.unwrap();
}

async fn events(net: &Net) -> usize {
    let store = net.engine.store();
    let events = store.audit(net.tailnet, Timestamp::MIN, Timestamp::MAX, 9999);
    events.await.unwrap().len()
}

/// The acceptance of the issue (a thousand policies of a megabyte, ten thousand keys, 50 MB) in
/// small. Without retention the texts alone have 50 MB here, or 100 where events carry them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_stays_small_whatever_is_set_and_made_again_and_again() {
    let net = with(Retention::default()).await;
    for number in 0..50 {
        net.move_clock(SignedDuration::from_secs(1));
        set(&net, &policy(number, 1_000_000)).await;
    }
    for _ in 0..100 {
        make_and_revoke(&net).await;
    }
    net.engine.run_jobs().await;
    let bytes = net.engine.store().size().await.unwrap();
    assert!(bytes < 30_000_000, "{bytes}");
    // The newest are there, and events refer to all of them.
    let texts = net.engine.store().texts(net.tailnet).await.unwrap();
    assert_eq!(texts.len(), 8);
    assert_eq!(texts[0].sha256, text_hash(&policy(49, 1_000_000)));
    let stored = net
        .engine
        .store()
        .audit(net.tailnet, Timestamp::MIN, Timestamp::MAX, 9999);
    let longest = stored.await.unwrap().iter().map(|row| row.body.len()).max();
    assert!(longest < Some(2000), "{longest:?}");
}

#[tokio::test]
async fn policy_versions_are_kept_once_and_the_oldest_go() {
    let net = with(Retention {
        policy_versions: 3,
        ..Retention::default()
    })
    .await;
    let kept = async || {
        net.engine.run_jobs().await;
        let texts = net.engine.store().texts(net.tailnet).await.unwrap();
        texts
            .into_iter()
            .map(|text| text.sha256)
            .collect::<Vec<_>>()
    };
    let hash = |number| text_hash(&policy(number, 200));
    let mut told = Vec::new();
    for number in [1, 2, 1] {
        net.move_clock(SignedDuration::from_secs(1));
        set(&net, &policy(number, 200)).await;
        told = kept().await;
    }
    // The default was in force before the first.
    assert_eq!(told, [hash(1), hash(2), text_hash(DEFAULT_POLICY)]);
    net.move_clock(SignedDuration::from_secs(1));
    set(&net, &policy(3, 200)).await;
    assert_eq!(kept().await, [hash(3), hash(1), hash(2)]);
    let text = net.engine.store().text(net.tailnet, &hash(3)).await;
    assert_eq!(*text.unwrap().unwrap().body, *policy(3, 200));
}

#[tokio::test]
async fn the_policy_in_force_is_kept_whatever_its_size() {
    let net = with(Retention {
        policy_version_bytes: 100,
        ..Retention::default()
    })
    .await;
    for number in 1..3 {
        net.move_clock(SignedDuration::from_secs(1));
        set(&net, &policy(number, 500)).await;
    }
    net.engine.run_jobs().await;
    let texts = net.engine.store().texts(net.tailnet).await.unwrap();
    assert_eq!(texts.len(), 1);
    assert_eq!(texts[0].sha256, text_hash(&policy(2, 500)));
}

#[tokio::test]
async fn logs_are_kept_for_their_time_and_up_to_their_number() {
    let net = with(Retention {
        audit_events: 40,
        changes_kept: 30,
        ..Retention::default()
    })
    .await;
    let changes = async || {
        let store = net.engine.store();
        let changes = store.changes(net.tailnet, 0, 9999).await.unwrap();
        let seq = store.seq(net.tailnet).await.unwrap();
        assert_eq!(changes.last().unwrap().seq, seq);
        changes.len()
    };
    for _ in 0..10 {
        make_and_revoke(&net).await;
    }
    net.engine.run_jobs().await;
    let (few_events, few_changes) = (events(&net).await, changes().await);
    assert!(few_events >= 20 && few_changes >= 20);
    for _ in 0..20 {
        net.move_clock(SignedDuration::from_secs(1));
        make_and_revoke(&net).await;
    }
    net.pass(SignedDuration::from_mins(10)).await;
    net.engine.run_jobs().await;
    assert_eq!((events(&net).await, changes().await), (40, 30));
    net.pass(DAY).await;
    net.engine.run_jobs().await;
    assert_eq!((events(&net).await, changes().await), (40, 1));
    net.pass(DAY * 364).await;
    net.engine.run_jobs().await;
    // What happened meanwhile is told: the access token of the administrator expired.
    assert!(events(&net).await < 5);
}

#[tokio::test]
async fn ended_credentials_go_by_age_and_beyond_their_number() {
    let net = with(Retention {
        credentials: Duration::from_hours(48),
        credentials_kept: 5,
        ..Retention::default()
    })
    .await;
    let (_, good) = net.key_with(NewAuthKey::default()).await;
    for _ in 0..8 {
        net.move_clock(SignedDuration::from_secs(1));
        make_and_revoke(&net).await;
    }
    let keys = async || {
        net.engine.run_jobs().await;
        let stored = net.engine.store().load(net.tailnet).await.unwrap();
        let rows = stored.rows.iter().filter(|row| row.kind == Kind::Key);
        let ended = net.snapshot();
        let ended = ended.credentials().filter(|one| one.revoked.is_some());
        (rows.count(), ended.count())
    };
    // The administrator's token and the good key are no ended ones.
    assert_eq!(keys().await, (7, 5));
    net.pass(DAY * 2 - SignedDuration::from_secs(60)).await;
    assert_eq!(keys().await, (7, 5));
    net.pass(SignedDuration::from_mins(10)).await;
    assert_eq!(keys().await, (2, 0));
    assert!(net.engine.credential(&net.admin, good).is_ok());
}

#[tokio::test]
async fn the_server_goes_on_while_old_rows_are_removed() {
    let net = with(Retention {
        audit: Duration::ZERO,
        ..Retention::default()
    })
    .await;
    for _ in 0..20 {
        make_and_revoke(&net).await;
    }
    net.move_clock(SignedDuration::from_mins(10));
    let ((), ()) = tokio::join!(net.engine.run_jobs(), make_and_revoke(&net));
    assert!(events(&net).await <= 2);
    assert_eq!(net.engine.jobs_report()["retention"].failing, 0);
}
