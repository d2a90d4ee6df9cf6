//! Lists as long as a request body can be, sent where something is done for each of them.

use bowline_testkit::client::Server;
use http::Method;
use serde_json::{Map, Value, json};
use tokio::task::JoinSet;

use crate::harness::{Site, call};

/// What somebody with an owner's token would send: each is some 900 KiB.
fn attacks(device: &str) -> Vec<(Method, String, Value)> {
    const MANY: usize = 80_000;
    let texts = |count: usize, text: fn(usize) -> String| -> Value {
        (0..count).map(text).collect::<Vec<String>>().into()
    };
    let members = |count: usize, name: fn(usize) -> String, value: &Value| -> Value {
        let members: Map<String, Value> = (0..count).map(|n| (name(n), value.clone())).collect();
        members.into()
    };
    let tags = texts(MANY, |n| format!("tag:t{n}"));
    let keys = members(15_000, |n| format!("custom:k{n}"), &json!({"value": 1}));
    let ids = members(
        15_000,
        |n| n.to_string(),
        &json!({"custom:k": {"value": 1}}),
    );
    let addresses = |count| texts(count, |n| format!("10.0.{}.{}", n / 256 % 256, n % 256));
    let domains = members(30_000, |n| format!("d{n}.com"), &json!(["10.0.0.1"]));
    let create = json!({"capabilities": {"devices": {"create": {"tags": tags}}}});
    let own = |path: &str| format!("/api/v2/tailnet/-{path}");
    let of_device = |path: &str| format!("/api/v2/device/{device}{path}");
    vec![
        (Method::POST, own("/keys"), create),
        (Method::POST, of_device("/tags"), json!({"tags": tags})),
        (
            Method::POST,
            of_device("/routes"),
            json!({"routes": addresses(60_000)}),
        ),
        (
            Method::PATCH,
            own("/device-attributes"),
            json!({"nodes": {device: keys}}),
        ),
        (
            Method::PATCH,
            own("/device-attributes"),
            json!({"nodes": ids}),
        ),
        (
            Method::POST,
            own("/dns/nameservers"),
            json!({"dns": addresses(60_000)}),
        ),
        (Method::PATCH, own("/dns/split-dns"), domains),
        (
            Method::PUT,
            own("/dns/split-dns"),
            json!({"d.com": addresses(60_000)}),
        ),
    ]
}

async fn first_device(server: &Server, token: &str) -> String {
    let path = "/api/v2/tailnet/-/devices";
    let list = call(server, Method::GET, path, token, Value::Null).await;
    let list = list.unwrap();
    list["devices"][0]["nodeId"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_list_of_two_tailnets_keeps_a_third_waiting() {
    let site = Site::start(&[]).await;
    let server = site.as_attacker().await;
    let create = ["tailnet", "create", "third.example", "--owner"];
    let third = site
        .home
        .prints_json(&[&create[..], &["eve@third.example"]].concat())
        .await;
    let mut tokens = vec![site.attacked.token.clone()];
    tokens.push(third["token"].as_str().unwrap().to_owned());
    for (number, token) in tokens.iter().enumerate() {
        let keys = "/api/v2/tailnet/-/keys";
        let body = json!({"capabilities": {"devices": {"create": {}}}});
        let key = call(&server, Method::POST, keys, token, body).await;
        let identity = bowline_testkit::client::Identity::numbered(66 + number as u64);
        let device = bowline_testkit::client::Client::new(server.clone(), identity, "victim");
        let key = key.unwrap()["key"].as_str().unwrap().to_owned();
        crate::home::patiently(device.join(&key)).await.unwrap();
    }
    let bystander = site.bystander().await;
    bystander.rounds(1).await;
    let mut attackers = JoinSet::new();
    for token in tokens {
        let device = first_device(&server, &token).await;
        let server = server.clone();
        attackers.spawn(async move {
            for (method, path, body) in attacks(&device) {
                let refused = call(&server, method, &path, &token, body).await;
                let error = refused.unwrap_err().to_string();
                assert!(error.contains("answered 400"), "{path}: {error}");
            }
        });
    }
    while let Some(done) = attackers.join_next().await {
        done.unwrap();
    }
    bystander.rounds(2).await;
    bystander.assert_served().await;
}
