//! Posture attributes.

use serde_json::{Value, json};

use crate::server::Server;

#[tokio::test]
async fn a_device_reports_its_own_attributes() {
    let server = Server::start().await;
    let device = server.device(&server.tailnet, "laptop").await;
    let expected = json!({"attributes": {
        "node:os": "linux", "node:osVersion": "6.1", "node:tsVersion": "1.80.3",
        "node:tsReleaseTrack": "stable", "node:tsAutoUpdate": false,
    }, "expiries": {}});
    assert_eq!(
        server.get(&format!("/device/{device}/attributes")).await,
        expected
    );
}

#[tokio::test]
async fn a_custom_attribute_is_set_changed_expires_and_goes() {
    let server = Server::start().await;
    let device = server.device(&server.tailnet, "laptop").await;
    let path = format!("/device/{device}/attributes/custom%3Ascore");
    let count = server.audit(server.tailnet.id).await.len();
    let body = json!({"value": 87, "expiry": "0001-01-01T00:00:00Z", "comment": ""});
    for _ in 0..2 {
        let answer = server.call("POST", &path, body.clone()).await.ok();
        assert_eq!(answer["attributes"]["custom:score"].to_string(), "87");
        assert_eq!(answer["expiries"], json!({}));
    }
    let body = json!({"value": 88, "expiry": "2026-03-01T13:00:00Z", "comment": "a check"});
    let answer = server.call("POST", &path, body).await.ok();
    assert_eq!(answer["expiries"]["custom:score"], "2026-03-01T13:00:00Z");
    assert_eq!(
        server.events_after(count).await,
        ["NODE.CREATE.ATTRIBUTES", "NODE.UPDATE.ATTRIBUTES"]
    );
    let last = server.audit(server.tailnet.id).await.pop().unwrap();
    assert_eq!(last.details.as_deref(), Some("a check"));
    server.advance(3601).await;
    let attributes = server.get(&format!("/device/{device}/attributes")).await;
    assert!(attributes["attributes"].get("custom:score").is_none());

    server
        .call("POST", &path, json!({"value": true}))
        .await
        .ok();
    let count = server.audit(server.tailnet.id).await.len();
    for _ in 0..2 {
        assert_eq!(
            server.call("DELETE", &path, Value::Null).await.ok(),
            json!({})
        );
    }
    assert_eq!(server.events_after(count).await, ["NODE.DELETE.ATTRIBUTES"]);
}

#[tokio::test]
async fn keys_and_values_that_cannot_be_are_refused() {
    let server = Server::start().await;
    let device = server.device(&server.tailnet, "laptop").await;
    let other = server.device(&server.tailnet, "desk").await;
    server
        .call(
            "POST",
            &format!("/device/{other}/attributes/custom:Kind"),
            json!({"value": "a.b_1"}),
        )
        .await
        .ok();
    let set = async |key: &str, body: Value| {
        server
            .call("POST", &format!("/device/{device}/attributes/{key}"), body)
            .await
            .message(400)
    };
    for key in [
        "node:os",
        "custom:",
        "custom:a-b",
        "x",
        &format!("custom:{}", "x".repeat(122)),
    ] {
        assert!(
            set(key, json!({"value": 1}))
                .await
                .contains("attribute key must be"),
            "{key}"
        );
        if !key.starts_with("custom:") {
            let reply = server
                .call(
                    "DELETE",
                    &format!("/device/{device}/attributes/{key}"),
                    Value::Null,
                )
                .await;
            assert!(reply.message(400).contains("custom"));
        }
    }
    for value in [
        json!(1.5),
        json!(9_007_199_254_740_992_i64),
        json!("a b"),
        json!("x".repeat(51)),
        json!([]),
        json!({}),
    ] {
        assert!(
            set("custom:x", json!({"value": value}))
                .await
                .contains("attribute value must be")
        );
    }
    assert_eq!(set("custom:x", json!({})).await, "value is required");
    assert_eq!(
        set("custom:x", json!({"value": null})).await,
        "value is required"
    );
    assert!(
        set("custom:x", json!({"value": 1, "expiry": "soon"}))
            .await
            .contains("RFC 3339")
    );
    assert!(
        set(
            "custom:x",
            json!({"value": 1, "expiry": "2026-03-01T12:00:00Z"})
        )
        .await
        .contains("future")
    );
    assert!(
        set("custom:x", json!({"value": 1, "comment": "x".repeat(201)}))
            .await
            .contains("200")
    );
    assert!(
        set("custom:x", json!({"value": 1, "comment": "a\u{0}b"}))
            .await
            .contains("comment")
    );
    assert!(
        set("custom:Kind", json!({"value": 1}))
            .await
            .contains("type string, not number")
    );
    assert!(
        set("custom:kind", json!({"value": "a"}))
            .await
            .contains("only by case")
    );
}

#[tokio::test]
async fn a_batch_is_all_or_nothing() {
    let server = Server::start().await;
    let a = server.device(&server.tailnet, "a").await;
    let b = server.device(&server.tailnet, "b").await;
    let foreign = server.device(&server.other, "c").await;
    let path = "/tailnet/-/device-attributes";
    server
        .call(
            "POST",
            &format!("/device/{b}/attributes/custom:old"),
            json!({"value": 1}),
        )
        .await
        .ok();
    let body = json!({"nodes": {
        a.stable(): {"custom:x": {"value": "one"}},
        b.to_string(): {"custom:x": {"value": "two"}, "custom:old": null},
    }, "comment": "both"});
    let count = server.audit(server.tailnet.id).await.len();
    for _ in 0..2 {
        assert_eq!(
            server.call("PATCH", path, body.clone()).await.ok(),
            Value::Null
        );
    }
    assert_eq!(server.events_after(count).await.len(), 3);
    let custom = async |device: String| {
        let all = server.get(&format!("/device/{device}/attributes")).await;
        let attributes = all["attributes"].as_object().unwrap().clone();
        attributes
            .into_iter()
            .filter(|(key, _)| key.starts_with("custom:"))
            .collect::<serde_json::Map<_, _>>()
    };
    assert_eq!(
        json!(custom(b.to_string()).await),
        json!({"custom:x": "two"})
    );
    for bad in [
        json!({foreign.stable(): {"custom:x": {"value": "three"}}}),
        json!({"n9CNTRL": {}}),
        json!({b.stable(): {"custom:x": {"value": 3}}}),
        json!({b.stable(): {"custom:x": {}}}),
        json!({b.stable(): {"node:os": null}}),
    ] {
        let mut nodes = json!({a.to_string(): {"custom:x": {"value": "lost"}}});
        nodes
            .as_object_mut()
            .unwrap()
            .extend(bad.as_object().unwrap().clone());
        server
            .call("PATCH", path, json!({"nodes": nodes}))
            .await
            .message(400);
    }
    assert_eq!(
        json!(custom(a.to_string()).await),
        json!({"custom:x": "one"})
    );
    assert!(
        server
            .call("PATCH", path, json!({}))
            .await
            .message(400)
            .contains("nodes")
    );
}

#[tokio::test]
async fn a_policy_declares_the_type_of_an_attribute_and_asks_for_its_value() {
    let server = Server::start().await;
    let laptop = server.device(&server.tailnet, "laptop").await;
    let desk = server.device(&server.tailnet, "desk").await;
    server
        .set_policy(
            r#"{
                "attrConfig": {"custom:tier": {"type": "number"}, "custom:on": {"type": "bool"}},
                "postures": {"posture:high": ["custom:tier >= 3"]},
                "acls": [{
                    "action": "accept", "src": ["*"], "dst": ["*:22"],
                    "srcPosture": ["posture:high"],
                }],
            }"#,
        )
        .await;
    let set = async |key: &str, value: Value| {
        let path = format!("/device/{laptop}/attributes/custom:{key}");
        server.call("POST", &path, json!({"value": value})).await
    };
    for (key, value, message) in [
        (
            "tier",
            json!("high"),
            "attribute custom:tier is declared as number in the policy file, not string",
        ),
        (
            "on",
            json!(1),
            "attribute custom:on is declared as boolean in the policy file, not number",
        ),
    ] {
        assert_eq!(set(key, value).await.message(400), message);
    }
    set("on", json!(true)).await.ok();
    set("free", json!("text")).await.ok();
    let peers = || server.map(desk)["Peers"].as_array().map_or(0, Vec::len);
    for (tier, seen) in [(2, 0), (3, 1), (1, 0)] {
        set("tier", json!(tier)).await.ok();
        assert_eq!(peers(), seen, "{tier}");
    }
}

/// Devices with attributes, and the batch that changes them.
struct Batch {
    server: Server,
    low: String,
    high: String,
}

impl Batch {
    async fn new() -> Self {
        let server = Server::start().await;
        let mut ids = Vec::new();
        for host in ["a", "b"] {
            ids.push(server.device(&server.tailnet, host).await.stable());
        }
        ids.sort();
        let high = ids.pop().unwrap();
        let low = ids.pop().unwrap();
        Self { server, low, high }
    }

    async fn set(&self, device: &str, key: &str, value: Value) {
        let path = format!("/device/{device}/attributes/{key}");
        let set = self.server.call("POST", &path, json!({"value": value}));
        set.await.ok();
    }

    async fn send(&self, nodes: Value) -> crate::server::Reply {
        let path = "/tailnet/-/device-attributes";
        self.server
            .call("PATCH", path, json!({"nodes": nodes}))
            .await
    }
}

#[tokio::test]
async fn a_batch_is_judged_by_what_it_leads_to() {
    let batch = Batch::new().await;
    let (low, high) = (&*batch.low, &*batch.high);
    // Another spelling takes a key's place, on one device and over two, whichever comes first.
    batch.set(low, "custom:Q1", json!(1)).await;
    let nodes = json!({low: {"custom:Q1": null, "custom:q1": {"value": 1}}});
    batch.send(nodes).await.ok();
    let nodes = json!({low: {"custom:q1": null}, high: {"custom:Q1": {"value": 1}}});
    batch.send(nodes).await.ok();
    let nodes = json!({high: {"custom:Q1": null}, low: {"custom:q1": {"value": 1}}});
    batch.send(nodes).await.ok();
    // So does another type.
    batch.set(high, "custom:ty", json!(1)).await;
    let nodes = json!({high: {"custom:ty": null}, low: {"custom:ty": {"value": "x"}}});
    batch.send(nodes).await.ok();
    let nodes = json!({low: {"custom:ty": null}, high: {"custom:ty": {"value": true}}});
    batch.send(nodes).await.ok();
    batch
        .send(json!({high: {"custom:ty": {"value": 5}}}))
        .await
        .ok();
    // What would end with two spellings or two types is refused, and changes nothing.
    let all = async || {
        let get = async |id: &str| batch.server.get(&format!("/device/{id}/attributes")).await;
        (get(low).await, get(high).await)
    };
    let before = all().await;
    for (nodes, part) in [
        (
            json!({low: {"custom:tier": {"value": "gold"}, "custom:Tier": {"value": 5}}}),
            "only by case",
        ),
        (
            json!({low: {"custom:tier": {"value": 1}}, high: {"custom:Tier": {"value": 1}}}),
            "only by case",
        ),
        (
            json!({low: {"custom:new": {"value": 1}}, high: {"custom:new": {"value": "1"}}}),
            "has values of type",
        ),
        (
            json!({low: {"custom:ty": {"value": "x"}}}),
            "has values of type number",
        ),
        (json!({low: {"custom:TY": {"value": 1}}}), "only by case"),
    ] {
        let message = batch.send(nodes).await.message(400);
        assert!(message.contains(part), "{message}");
        assert_eq!(all().await, before);
    }
    // Nothing is stuck by what was refused.
    batch.set(low, "custom:tier", json!("gold")).await;
}

#[tokio::test]
async fn a_device_is_once_in_a_batch() {
    let batch = Batch::new().await;
    let snapshot = batch
        .server
        .engine
        .snapshot(batch.server.tailnet.id)
        .unwrap();
    let device = snapshot.devices().next().unwrap().device.id;
    let nodes = json!({
        device.stable(): {"custom:a": {"value": 1}},
        device.to_string(): {"custom:a": {"value": 2}},
    });
    let message = batch.send(nodes).await.message(400);
    assert!(message.contains("both of its ids"), "{message}");
}

#[tokio::test]
async fn a_batch_changes_at_most_so_many_attributes() {
    use bowline_engine::device::attribute::EDITS_MAX;
    let batch = Batch::new().await;
    let nodes = |count: usize| {
        let edits = (0..count).map(|n| (format!("custom:k{n}"), Value::Null));
        json!({&*batch.low: Value::Object(edits.collect())})
    };
    batch.send(nodes(EDITS_MAX)).await.ok();
    let message = batch.send(nodes(EDITS_MAX + 1)).await.message(400);
    assert!(message.contains("send several requests"), "{message}");
}

#[tokio::test]
async fn an_expiry_is_an_rfc_3339_time_and_keeps_its_fraction() {
    let server = Server::start().await;
    let device = server.device(&server.tailnet, "laptop").await;
    let path = format!("/device/{device}/attributes/custom:x");
    for (expiry, shown) in [
        (
            "2030-01-01T00:00:00.511Z",
            json!("2030-01-01T00:00:00.511Z"),
        ),
        ("2030-01-01T00:00:00Z", json!("2030-01-01T00:00:00Z")),
        ("2030-01-01T02:00:00+02:00", json!("2030-01-01T00:00:00Z")),
        ("9999-12-31T23:59:59Z", json!("9999-12-31T23:59:59Z")),
        ("0001-01-01T00:00:00Z", Value::Null),
    ] {
        let body = json!({"value": 1, "expiry": expiry});
        let set = server.call("POST", &path, body).await.ok();
        assert_eq!(set["expiries"]["custom:x"], shown, "{expiry}");
        let all = server.get(&format!("/device/{device}/attributes")).await;
        assert_eq!(all["expiries"]["custom:x"], shown, "{expiry}");
    }
    for expiry in [
        "2030-01-01 00:00:00Z",
        "2030-01-01T00:00:00",
        "2030-01-01",
        "soon",
    ] {
        let body = json!({"value": 1, "expiry": expiry});
        let message = server.call("POST", &path, body).await.message(400);
        assert!(message.contains("RFC 3339"), "{message}");
    }
}
