//! Federated identities through the API, and the exchange as clients call it.

use std::sync::LazyLock;

use bowline_testkit::issuer::{Client, Issuer, SigningKey};
use serde_json::{Value, json};

use crate::server::{Reply, Server, basic};

const KEYS: &str = "/tailnet/-/keys";
const SUBJECT: &str = "repo:acme/site:ref:refs/heads/main";

/// One issuer for all tests, with a thread of its own: each test has a runtime that ends with it.
pub(crate) static SHARED: LazyLock<Shared> = LazyLock::new(|| {
    let (sender, started) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async move {
            let issuer = Issuer::start().await;
            let key = SigningKey::new("first");
            issuer.publish(&[&key]);
            let client = issuer.client();
            let url = issuer.url().to_owned();
            sender.send(Shared { url, client, key }).unwrap();
            std::future::pending::<()>().await;
            drop(issuer);
        });
    });
    started.recv().unwrap()
});

/// What tests need of it.
pub(crate) struct Shared {
    pub(crate) url: String,
    client: Client,
    key: SigningKey,
}

impl Shared {
    pub(crate) fn client(&self) -> Client {
        self.client.clone()
    }
}

fn wanted() -> Value {
    json!({
        "keyType": "federated",
        "issuer": SHARED.url,
        "subject": "repo:acme/site:*",
        "scopes": ["dns:read"],
    })
}

async fn made(server: &Server, body: Value) -> Value {
    server.call("POST", KEYS, body).await.ok()
}

fn token(server: &Server, identity: &Value, subject: &str) -> String {
    let now = server.engine.now().as_second();
    SHARED.key.sign(&json!({
        "iss": SHARED.url, "aud": identity["audience"], "sub": subject, "iat": now, "exp": now + 300,
    }))
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

fn form(identity: &Value, token: &str) -> String {
    format!("client_id={}&jwt={token}", text(&identity["id"]))
}

/// The form that exchanges a good token of a new identity.
pub(crate) async fn good_form(server: &Server) -> String {
    let identity = made(server, wanted()).await;
    form(&identity, &token(server, &identity, SUBJECT))
}

async fn exchange(server: &Server, form: &str) -> Reply {
    let path = "/oauth/token-exchange";
    let form = form.as_bytes().to_vec();
    server.send(false, None, "POST", path, form).await
}

#[tokio::test]
async fn a_federated_identity_is_made_read_changed_and_revoked() {
    let server = Server::start().await;
    let mut body = wanted();
    body["description"] = json!("ci");
    body["customClaimRules"] = Value::Null;
    body["tags"] = Value::Null;
    body["audience"] = json!("");
    // What the Python library sends for every kind.
    body["capabilities"] = json!({"devices": {"create": {}}});
    let identity = made(&server, body).await;
    let id = text(&identity["id"]);
    let tailnet = server.tailnet.id.stable();
    let own = id.strip_prefix(&format!("{tailnet}-")).unwrap();
    assert_eq!(
        identity,
        json!({
            "id": id, "keyType": "federated", "created": "2026-03-01T12:00:00Z",
            "scopes": ["dns:read"], "description": "ci",
            "issuer": SHARED.url, "subject": "repo:acme/site:*", "customClaimRules": {},
            "audience": format!("bowline.example.com/{id}"),
        })
    );
    for id in [id, own] {
        assert_eq!(server.get(&format!("{KEYS}/{id}")).await, identity);
    }
    let other = server.other.id.stable();
    for id in [
        format!("{other}-{own}"),
        format!("{tailnet}-{tailnet}"),
        format!("{tailnet}-"),
    ] {
        let path = format!("{KEYS}/{id}");
        assert_eq!(
            server.call("GET", &path, Value::Null).await.message(404),
            "not found"
        );
        server.call("DELETE", &path, Value::Null).await.message(404);
    }
    let listed = server.get(&format!("{KEYS}?all=true")).await;
    assert!(listed["keys"].as_array().unwrap().contains(&identity));

    server.advance(60).await;
    let mut change = wanted();
    change["subject"] = json!("repo:acme/*");
    change["customClaimRules"] = json!({"environment": "prod*"});
    let path = format!("{KEYS}/{id}");
    let changed = server.call("PUT", &path, change.clone()).await.ok();
    assert_eq!(changed["subject"], "repo:acme/*");
    assert_eq!(changed["customClaimRules"], json!({"environment": "prod*"}));
    assert_eq!(
        changed["audience"], identity["audience"],
        "an empty one keeps it"
    );
    assert_eq!(changed["description"], "");
    assert_eq!(changed["updated"], "2026-03-01T12:01:00Z");
    change["keyType"] = json!("client");
    let message = server.call("PUT", &path, change).await.message(400);
    assert_eq!(message, "keyType is not that of this key");

    server.call("DELETE", &path, Value::Null).await.ok();
    let revoked = server.get(&path).await;
    assert_eq!(
        (&revoked["invalid"], &revoked["id"]),
        (&json!(true), &identity["id"])
    );
    assert_eq!(revoked["revoked"], "2026-03-01T12:01:00Z");
    server.call("PUT", &path, wanted()).await.message(400);
}

#[tokio::test]
async fn what_no_federated_identity_can_be_is_refused_with_the_reason() {
    let server = Server::start().await;
    for (member, value, part) in [
        ("issuer", Value::Null, "issuer"),
        ("issuer", json!("http://issuer.example"), "https://"),
        ("issuer", json!("https://192.168.0.1"), "no public address"),
        ("issuer", json!("https://[::1]:8443"), "no public address"),
        ("subject", Value::Null, "subject"),
        ("subject", json!(""), "subject"),
        ("scopes", json!([]), "scope"),
        ("scopes", Value::Null, "scope"),
        ("scopes", json!(["nonsense"]), "nonsense"),
        ("scopes", json!(["devices:core"]), "tags are required"),
        ("tags", json!(["tag:nowhere"]), "tag:nowhere"),
        ("customClaimRules", json!({"sub": "x"}), "sub"),
        ("customClaimRules", json!({"a": ""}), "pattern"),
        ("customClaimRules", json!({"a": 7}), "expected a string"),
        ("description", json!("a/b"), "description"),
    ] {
        let mut body = wanted();
        body[member] = value.clone();
        let message = server.call("POST", KEYS, body).await.message(400);
        assert!(message.contains(part), "{member} {value}: {message}");
    }
}

#[tokio::test]
async fn the_exchange_answers_as_clients_expect() {
    let server = Server::start().await;
    let identity = made(&server, wanted()).await;
    let good = form(&identity, &token(&server, &identity, SUBJECT));

    // The Go library of the API sends two members; that of OAuth more, and an empty header, in one of
    // two styles.
    let own = exchange(&server, &good).await;
    let more = format!("grant_type=authorization_code&code=&{good}");
    let of_oauth = server
        .send(
            false,
            Some(basic("")),
            "POST",
            "/oauth/token-exchange",
            more.clone().into_bytes(),
        )
        .await;
    let again = exchange(&server, &more).await;
    for reply in [&own, &of_oauth, &again] {
        let answer = reply.ok();
        let secret = text(&answer["access_token"]);
        assert!(secret.starts_with("tskey-api-"));
        assert_eq!(
            answer,
            json!({
                "access_token": secret, "token_type": "Bearer", "expires_in": 3600,
                "scope": "dns:read",
            })
        );
        assert_eq!(reply.headers["content-type"], "application/json");
        assert_eq!(reply.headers["cache-control"], "no-store");
        let read = server.call_as(secret, "GET", "/tailnet/-/dns/nameservers", Value::Null);
        read.await.ok();
        let written = json!({"dns": []});
        let written = server.call_as(secret, "POST", "/tailnet/-/dns/nameservers", written);
        written.await.message(403);
    }
}

#[tokio::test]
async fn a_bad_client_and_a_bad_token_are_told_apart_and_nothing_else() {
    let server = Server::start().await;
    let identity = made(&server, wanted()).await;
    let signed = token(&server, &identity, SUBJECT);
    let before = server.audit(server.tailnet.id).await.len();
    for bad in [
        String::new(),
        format!("jwt={signed}"),
        format!("client_id={}", text(&identity["id"])),
        format!("client_id=x&jwt={signed}"),
        format!("client_id=&jwt={signed}"),
        format!(
            "client_id={}-k1CNTRL&jwt={signed}",
            server.tailnet.id.stable()
        ),
    ] {
        assert_eq!(
            exchange(&server, &bad).await.message(400),
            "invalid request",
            "{bad}"
        );
    }
    let twice = format!("{}&jwt=x", form(&identity, &signed));
    exchange(&server, &twice).await.message(400);
    let mut told = std::collections::BTreeSet::new();
    let mut forged = signed.clone();
    forged.pop();
    for bad in [
        "x".to_owned(),
        "eyJhbGciOiJub25lIn0.e30.".to_owned(),
        forged,
        token(&server, &identity, "repo:other/site:ref"),
    ] {
        told.insert(exchange(&server, &form(&identity, &bad)).await.message(403));
    }
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(server.audit(server.tailnet.id).await.len(), before);

    // What an identity lost, or another tailnet's.
    let path = format!("{KEYS}/{}", text(&identity["id"]));
    server.call("DELETE", &path, Value::Null).await.ok();
    let reply = exchange(&server, &form(&identity, &signed)).await;
    assert_eq!(reply.message(400), "invalid request");
}

#[tokio::test]
async fn a_device_joins_with_a_key_that_its_workload_made() {
    let server = Server::start().await;
    server
        .set_policy(r#"{"tagOwners": {"tag:ci": ["ann@example.com"]}}"#)
        .await;
    let mut body = wanted();
    body["scopes"] = json!(["auth_keys"]);
    body["tags"] = json!(["tag:ci"]);
    let identity = made(&server, body).await;
    let issued = exchange(
        &server,
        &form(&identity, &token(&server, &identity, SUBJECT)),
    )
    .await;
    let issued = issued.ok();
    // As `tailscale up --client-id … --id-token … --advertise-tags tag:ci` goes on.
    let create =
        json!({"reusable": false, "ephemeral": true, "preauthorized": false, "tags": ["tag:ci"]});
    let body = json!({"capabilities": {"devices": {"create": create}}});
    let key = server.call_as(text(&issued["access_token"]), "POST", KEYS, body);
    let key = key.await.ok();
    let device = server.register(&key, "runner").await.unwrap();
    let device = server.get(&format!("/device/{device}")).await;
    assert_eq!(device["tags"], json!(["tag:ci"]));
}
