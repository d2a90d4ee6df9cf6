//! What webhook endpoints are told: through a courier that keeps what it is given.

use std::collections::BTreeSet;
use std::sync::Arc;

use aws_lc_rs::hmac;
use bowline_engine::webhook::NewWebhook;
use bowline_engine::{Delivery, Refusal, Report, Settings, Webhooks};
use bowline_model::device::HostFacts;
use bowline_model::id::WebhookId;
use bowline_model::record::RawJson;
use bowline_model::user::Role;
use bowline_model::webhook::{Provider, Subscription, WebhookEndpoint};
use bowline_store::Options;
use bowline_testkit::post::Post;
use jiff::SignedDuration;
use serde_json::{Value, json};

use crate::net::{Net, quick, until};

async fn net_with(webhooks: Webhooks) -> (Net, Arc<Post>) {
    let post = Arc::new(Post::default());
    let settings = Settings {
        webhooks: Webhooks {
            courier: Some(post.clone()),
            ..webhooks
        },
        url: "https://bowline.example".to_owned(),
        ..quick()
    };
    (Net::with(settings, Options::default()).await, post)
}

async fn net() -> (Net, Arc<Post>) {
    net_with(Webhooks::default()).await
}

fn all() -> BTreeSet<Subscription> {
    [
        Subscription::TailnetManagement,
        Subscription::DeviceMisconfigurations,
    ]
    .into()
}

fn to(url: &str) -> NewWebhook {
    NewWebhook {
        url: url.to_owned(),
        provider: None,
        subscriptions: all(),
    }
}

/// Makes an endpoint: its secret and record.
async fn endpoint(net: &Net, new: NewWebhook) -> (String, Arc<WebhookEndpoint>) {
    let made = net.engine.create_webhook(&net.admin, new).await;
    let (minted, endpoint) = made.unwrap();
    (minted.expose().to_owned(), endpoint)
}

/// Whether a signature header has the signature of a secret.
fn is_signed(delivery: &Delivery, secret: &str) -> bool {
    let mut parts = delivery.signature.split(',');
    let at = parts.next().unwrap().strip_prefix("t=").unwrap();
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let mut text = format!("{at}.").into_bytes();
    text.extend(&delivery.body);
    parts.any(|part| {
        let hex = part.strip_prefix("v1=").unwrap();
        let tag = data_encoding::HEXLOWER.decode(hex.as_bytes()).unwrap();
        hmac::verify(&key, &text, &tag).is_ok()
    })
}

#[tokio::test]
async fn an_endpoint_is_told_what_happened_in_the_official_form() {
    let (net, post) = net().await;
    let (secret, endpoint) = endpoint(&net, to("https://one.example/hook")).await;
    assert!(secret.starts_with("tskey-webhook-"), "{secret}");
    let device = net.join(1).await;
    net.set_policy(r#"{"grants": []}"#).await;
    net.engine.run_jobs().await;

    let delivery = post.got.lock().unwrap()[0].clone();
    assert!(is_signed(&delivery, &secret));
    assert!(!is_signed(&delivery, "tskey-webhook-other"));
    let first = format!("t={},v1=", net.now().as_second());
    assert!(
        delivery.signature.starts_with(&first),
        "{}",
        delivery.signature
    );

    let events: Vec<Value> = post
        .take("one")
        .iter()
        .flat_map(|body| body.as_array().unwrap().clone())
        .collect();
    let name = format!("host1.{}", net.snapshot().tailnet().dns_name);
    let id = device.stable();
    assert_eq!(
        events[0],
        json!({
            "timestamp": net.now(),
            "version": 1,
            "type": "nodeCreated",
            "tailnet": "example.com",
            "message": format!("Node {name} created"),
            "data": {
                "nodeID": id,
                "deviceName": name,
                "managedBy": "ann@example.com",
                "actor": events[0]["data"]["actor"],
                "url": format!("https://bowline.example/api/v2/device/{id}"),
            },
        })
    );
    assert_eq!(events[1]["type"], "policyUpdate");
    assert_eq!(events[1]["data"]["newPolicy"], r#"{"grants": []}"#);
    assert!(events[1]["data"]["oldPolicy"].is_string());
    assert_eq!(events[1]["data"]["actor"], "ann@example.com");
    assert_eq!(events.len(), 2);
    assert_eq!(endpoint.creator, "ann@example.com");
    // Everything was told, and is not told again.
    net.engine.run_jobs().await;
    assert_eq!(post.got.lock().unwrap().len(), 0);
}

#[tokio::test]
async fn an_endpoint_is_told_of_what_it_subscribed_to_and_of_itself() {
    let (net, post) = net().await;
    let deleted = Subscription::parse("nodeDeleted").unwrap();
    let new = NewWebhook {
        subscriptions: [deleted].into(),
        ..to("https://one.example/")
    };
    let (_, endpoint) = endpoint(&net, new).await;
    let device = net.join(1).await;
    net.engine.delete_device(&net.admin, device).await.unwrap();
    let engine = &net.engine;
    engine.test_webhook(&net.admin, endpoint.id).await.unwrap();
    let changed = engine
        .subscribe_webhook(&net.admin, endpoint.id, all())
        .await;
    assert_eq!(changed.unwrap().subscriptions, all());
    // The same again changes nothing.
    let again = engine
        .subscribe_webhook(&net.admin, endpoint.id, all())
        .await;
    again.unwrap();
    net.join(2).await;
    net.engine.run_jobs().await;
    assert_eq!(
        post.types("one"),
        ["nodeDeleted", "test", "webhookUpdated", "nodeCreated"]
    );
}

#[tokio::test]
async fn users_are_told_of_by_what_becomes_of_them() {
    let (net, post) = net().await;
    endpoint(&net, to("https://one.example/")).await;
    let engine = &net.engine;
    let bob = "bob@example.com";
    let made = engine
        .create_user(&net.admin, bob, None, Role::Member)
        .await;
    let id = made.unwrap().id;
    engine
        .set_user_role(&net.admin, id, Role::ItAdmin)
        .await
        .unwrap();
    engine.suspend_user(&net.admin, id).await.unwrap();
    engine.restore_user(&net.admin, id).await.unwrap();
    engine.delete_user(&net.admin, id).await.unwrap();
    net.engine.run_jobs().await;
    let got = post.take("one");
    let events: Vec<&Value> = got
        .iter()
        .flat_map(|body| body.as_array().unwrap())
        .collect();
    let types: Vec<&str> = events
        .iter()
        .map(|it| it["type"].as_str().unwrap())
        .collect();
    assert_eq!(
        types,
        [
            "userCreated",
            "userRoleUpdated",
            "userSuspended",
            "userRestored",
            "userDeleted"
        ]
    );
    assert_eq!(events[1]["data"]["newRoles"], json!(["IT admin"]));
    assert_eq!(events[4]["data"]["user"], bob);
}

#[tokio::test]
async fn products_get_a_message_for_each_event() {
    let (net, post) = net().await;
    for provider in Provider::ALL {
        let new = NewWebhook {
            provider: Some(provider),
            ..to(&format!("https://{}.example/", provider.as_str()))
        };
        endpoint(&net, new).await;
    }
    let one = net.join(1).await;
    net.join(2).await;
    net.engine.run_jobs().await;
    let dns = net.snapshot().tailnet().dns_name.clone();
    let text = format!(
        "Node host1.{dns} created https://bowline.example/api/v2/device/{}",
        one.stable()
    );
    for provider in ["slack", "mattermost", "googlechat"] {
        let got = post.take(provider);
        assert_eq!(got.len(), 2, "{provider}");
        assert_eq!(got[0], json!({"text": text}), "{provider}");
    }
    let got = post.take("discord");
    assert_eq!(
        got[0],
        json!({"content": text, "allowed_mentions": {"parse": []}})
    );
}

#[tokio::test]
async fn what_is_not_taken_is_told_again_in_order_and_keeps_no_other_endpoint_waiting() {
    let (net, post) = net().await;
    endpoint(&net, to("https://one.example/")).await;
    endpoint(&net, to("https://two.example/")).await;
    post.refusing.lock().unwrap().push("one");
    net.join(1).await;
    net.engine.run_jobs().await;
    assert_eq!(post.types("two"), ["nodeCreated"]);
    net.set_policy(r#"{"grants": []}"#).await;
    net.engine.run_jobs().await;
    assert_eq!(post.types("two"), ["policyUpdate"]);
    assert_eq!(post.types("one").len(), 0);

    post.refusing.lock().unwrap().clear();
    // Its time has not come.
    net.pass(SignedDuration::from_secs(9)).await;
    net.engine.run_jobs().await;
    assert_eq!(post.types("one").len(), 0);
    net.pass(SignedDuration::from_secs(2)).await;
    net.engine.run_jobs().await;
    assert_eq!(post.types("one"), ["nodeCreated", "policyUpdate"]);
}

#[tokio::test]
async fn a_silent_endpoint_holds_up_nobody() {
    let (net, post) = net().await;
    for number in 0..12 {
        endpoint(&net, to(&format!("https://silent{number}.example/"))).await;
    }
    let (_, slow) = endpoint(&net, to("https://two.example/")).await;
    post.silent.lock().unwrap().push("silent");
    for number in 1..4 {
        net.join(number).await;
        let mut types = Vec::new();
        until("the other endpoint is told", || {
            types.extend(post.types("two"));
            (!types.is_empty()).then_some(())
        })
        .await;
        assert_eq!(types, ["nodeCreated"]);
    }
    net.engine
        .delete_webhook(&net.admin, slow.id)
        .await
        .unwrap();
}

#[tokio::test]
async fn what_is_not_taken_for_a_day_is_given_up_and_can_be_replayed() {
    let (net, post) = net().await;
    let (_, endpoint) = endpoint(&net, to("https://one.example/")).await;
    post.refusing.lock().unwrap().push("one");
    net.join(1).await;
    net.engine.run_jobs().await;
    let deliveries = || net.engine.webhook_deliveries(&net.admin, endpoint.id);
    let before = deliveries().await.unwrap();
    assert_eq!((before.waiting.len(), before.undelivered.len()), (1, 0));
    let progress = before.progress.unwrap();
    assert_eq!(progress.failures, 1);
    assert_eq!(progress.error.as_deref(), Some("the endpoint answered 500"));

    net.pass(SignedDuration::from_hours(24)).await;
    net.join(2).await;
    net.engine.run_jobs().await;
    let after = deliveries().await.unwrap();
    assert_eq!((after.waiting.len(), after.undelivered.len()), (1, 1));
    assert_eq!(after.undelivered[0].event, "nodeCreated");
    assert_eq!(after.undelivered[0].error, "the endpoint answered 500");

    post.refusing.lock().unwrap().clear();
    let entry = after.undelivered[0].id;
    let replay = |id: WebhookId, entries| net.engine.replay_webhook(&net.admin, id, entries);
    assert_eq!(replay(endpoint.id, Some([entry].into())).await.unwrap(), 1);
    let twice = replay(endpoint.id, Some([entry].into())).await;
    assert!(matches!(twice, Err(Refusal::NotFound)));
    assert_eq!(replay(endpoint.id, None).await.unwrap(), 0);
    let audit = net.audit().await;
    assert_eq!(audit.last().unwrap().0, "REPLAY");
    net.pass(SignedDuration::from_hours(1)).await;
    net.engine.run_jobs().await;
    let got = post.take("one");
    let events: Vec<&Value> = got
        .iter()
        .flat_map(|body| body.as_array().unwrap())
        .collect();
    let names: Vec<&str> = events
        .iter()
        .map(|event| event["data"]["deviceName"].as_str().unwrap())
        .map(|name| name.split('.').next().unwrap())
        .collect();
    assert_eq!(names, ["host2", "host1"]);
    let after = deliveries().await.unwrap();
    assert_eq!((after.waiting.len(), after.undelivered.len()), (0, 0));
}

#[tokio::test]
async fn after_a_rotation_both_secrets_sign_for_a_while() {
    let (net, post) = net().await;
    let (old, endpoint) = endpoint(&net, to("https://one.example/")).await;
    let rotated = net.engine.rotate_webhook(&net.admin, endpoint.id).await;
    let new = rotated.unwrap().0.expose().to_owned();
    assert_ne!(old, new);
    net.engine.run_jobs().await;
    let delivery = post.got.lock().unwrap().remove(0);
    assert!(is_signed(&delivery, &new) && is_signed(&delivery, &old));

    net.pass(SignedDuration::from_hours(24)).await;
    assert_eq!(
        net.snapshot().webhook(endpoint.id).unwrap().former_until,
        None
    );
    let former = format!("webhook/{}/former", endpoint.id);
    let kept = net.engine.store().secret(net.tailnet, &former).await;
    assert_eq!(kept.unwrap(), None);
    net.engine
        .test_webhook(&net.admin, endpoint.id)
        .await
        .unwrap();
    net.engine.run_jobs().await;
    let delivery = post.got.lock().unwrap().remove(0);
    assert!(is_signed(&delivery, &new) && !is_signed(&delivery, &old));
}

#[tokio::test]
async fn a_deleted_endpoint_is_told_so_and_nothing_of_it_stays() {
    let (net, post) = net().await;
    let (secret, endpoint) = endpoint(&net, to("https://one.example/")).await;
    post.refusing.lock().unwrap().push("one");
    net.join(1).await;
    net.engine.run_jobs().await;
    net.engine
        .delete_webhook(&net.admin, endpoint.id)
        .await
        .unwrap();
    let gone = net.engine.webhook(&net.admin, endpoint.id);
    assert!(matches!(gone, Err(Refusal::NotFound)));
    post.refusing.lock().unwrap().clear();
    net.pass(SignedDuration::from_mins(1)).await;
    net.engine.run_jobs().await;
    let delivery = post.got.lock().unwrap()[0].clone();
    assert!(is_signed(&delivery, &secret));
    assert_eq!(post.types("one"), ["webhookDeleted"]);
    let name = format!("webhook/{}", endpoint.id);
    let kept = net.engine.store().secret(net.tailnet, &name).await;
    assert_eq!(kept.unwrap(), None);
    let jobs = net.engine.store().jobs_waiting().await.unwrap();
    assert!(jobs.iter().all(|one| one.topic != "webhook"), "{jobs:?}");
}

#[tokio::test]
async fn what_waits_survives_a_restart() {
    let (net, post) = net().await;
    endpoint(&net, to("https://one.example/")).await;
    post.refusing.lock().unwrap().push("one");
    net.join(1).await;
    net.engine.run_jobs().await;
    let net = net.restart(SignedDuration::from_mins(1)).await;
    post.refusing.lock().unwrap().clear();
    net.join(2).await;
    net.engine.run_jobs().await;
    assert_eq!(post.types("one"), ["nodeCreated", "nodeCreated"]);
}

#[tokio::test]
async fn only_so_many_events_wait_for_an_endpoint() {
    let (net, post) = net_with(Webhooks {
        queue: 2,
        ..Webhooks::default()
    })
    .await;
    let (_, endpoint) = endpoint(&net, to("https://one.example/")).await;
    post.refusing.lock().unwrap().push("one");
    for number in 1..5 {
        net.join(number).await;
    }
    let waiting = net.engine.webhook_deliveries(&net.admin, endpoint.id).await;
    assert_eq!(waiting.unwrap().waiting.len(), 2);
    let dropped = &net.engine.counters().webhook_events_dropped;
    assert_eq!(dropped.load(std::sync::atomic::Ordering::Relaxed), 2);
    post.refusing.lock().unwrap().clear();
    net.pass(SignedDuration::from_mins(1)).await;
    net.engine.run_jobs().await;
    net.join(5).await;
    net.engine.run_jobs().await;
    assert_eq!(post.types("one").len(), 3);
}

#[tokio::test]
async fn the_expiry_of_a_node_key_is_told_a_day_ahead_and_when_it_comes() {
    let (net, post) = net().await;
    endpoint(&net, to("https://one.example/")).await;
    let device = net.join(1).await;
    let expires = net.device(device).key_expiry.unwrap();
    net.engine.run_jobs().await;
    assert_eq!(post.types("one"), ["nodeCreated"]);
    let left = expires.duration_since(net.now());
    net.pass(left - SignedDuration::from_hours(24)).await;
    net.pass(SignedDuration::from_hours(1)).await;
    net.engine.run_jobs().await;
    let got = post.take("one");
    assert_eq!(got[0][0]["type"], "nodeKeyExpiringInOneDay");
    assert_eq!(got[0][0]["data"]["expiration"], json!(expires));
    assert_eq!(got[0][0]["data"]["actor"], "expiring-node-key-marker");
    assert_eq!(got.len(), 1);
    net.pass(SignedDuration::from_hours(24)).await;
    net.engine.run_jobs().await;
    assert_eq!(post.types("one"), ["nodeKeyExpired"]);
}

#[tokio::test]
async fn a_router_without_forwarding_is_told_of_once() {
    let (net, post) = net().await;
    endpoint(&net, to("https://one.example/")).await;
    let device = net.join(1).await;
    let report = |forwarding_off| {
        let facts = HostFacts {
            hostname: "host1".to_owned(),
            advertised_routes: vec!["0.0.0.0/0".parse().unwrap(), "10.0.0.0/8".parse().unwrap()],
            forwarding_off,
            ..HostFacts::default()
        };
        Report {
            hostinfo: Some((RawJson::empty_object(), facts)),
            ..Report::default()
        }
    };
    for off in [false, true, true] {
        net.engine.report(net.tailnet, device, report(off)).await;
    }
    net.settle().await;
    net.engine.run_jobs().await;
    assert_eq!(
        post.types("one"),
        [
            "nodeCreated",
            "subnetIPForwardingNotEnabled",
            "exitNodeIPForwardingNotEnabled"
        ]
    );
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_and_changes_nothing() {
    let (net, _) = net().await;
    for url in [
        "",
        "ftp://example.com/",
        "https://private.example/",
        "https://exa mple.com/",
        "https://example.com/#part",
        &format!("https://example.com/{}", "x".repeat(2048)),
    ] {
        let refused = net.engine.create_webhook(&net.admin, to(url)).await;
        assert!(matches!(refused, Err(Refusal::Invalid(_))), "{url}");
    }
    let none = NewWebhook {
        subscriptions: BTreeSet::new(),
        ..to("https://one.example/")
    };
    let refused = net.engine.create_webhook(&net.admin, none).await;
    assert!(matches!(refused, Err(Refusal::Invalid(_))));
    for _ in 0..20 {
        endpoint(&net, to("https://one.example/")).await;
    }
    let refused = net
        .engine
        .create_webhook(&net.admin, to("https://one.example/"))
        .await;
    assert!(matches!(refused, Err(Refusal::Invalid(_))));
    assert_eq!(net.snapshot().webhook_count(), 20);
}

#[tokio::test]
async fn no_other_tailnet_sees_an_endpoint() {
    let (net, post) = net().await;
    let (_, endpoint) = endpoint(&net, to("https://one.example/")).await;
    let made = net.engine.create_tailnet("eve@other.example", None).await;
    let eve = crate::net::present(&net.engine, made.unwrap().token.expose());
    let engine = &net.engine;
    let id = endpoint.id;
    assert!(matches!(engine.webhook(&eve, id), Err(Refusal::NotFound)));
    assert!(matches!(
        engine.test_webhook(&eve, id).await,
        Err(Refusal::NotFound)
    ));
    assert!(matches!(
        engine.rotate_webhook(&eve, id).await,
        Err(Refusal::NotFound)
    ));
    assert!(matches!(
        engine.delete_webhook(&eve, id).await,
        Err(Refusal::NotFound)
    ));
    let replayed = engine.replay_webhook(&eve, id, None).await;
    assert!(matches!(replayed, Err(Refusal::NotFound)));
    let seen = engine.webhook_deliveries(&eve, id).await;
    assert!(matches!(seen, Err(Refusal::NotFound)));
    let changed = engine.subscribe_webhook(&eve, id, all()).await;
    assert!(matches!(changed, Err(Refusal::NotFound)));
    engine.run_jobs().await;
    assert_eq!(post.types("one").len(), 0);
}
