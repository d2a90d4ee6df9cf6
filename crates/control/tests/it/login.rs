//! Devices without an auth key.

use std::time::Duration;

use bowline_testkit::client::Client;
use serde_json::Value;

use crate::server::Server;

const URL: &str = "http://bowline.example.com/login/";

/// Registers without a key; the code of the address to visit.
async fn begin(client: &Client) -> String {
    let answer = send(client, &client.register_request()).await;
    assert_eq!(
        (&answer["Error"], &answer["NodeKeyExpired"]),
        (&"".into(), &false.into())
    );
    let url = answer["AuthURL"].as_str().unwrap();
    url.strip_prefix(URL).unwrap().to_owned()
}

async fn send(client: &Client, request: &Value) -> Value {
    client
        .connect()
        .await
        .unwrap()
        .register(request)
        .await
        .unwrap()
}

fn followup(client: &Client, code: &str) -> tokio::task::JoinHandle<Value> {
    let client = client.clone();
    let mut request = client.register_request();
    request["Followup"] = format!("{URL}{code}").into();
    tokio::spawn(async move { send(&client, &request).await })
}

#[tokio::test]
async fn a_device_waits_until_it_is_confirmed_and_is_in() {
    let server = Server::start().await;
    let client = server.client(1);
    let code = begin(&client).await;
    // Held: nothing is answered before somebody decides.
    let mut one = followup(&client, &code);
    tokio::time::timeout(Duration::from_millis(200), &mut one)
        .await
        .unwrap_err();
    // One request of a device waits: the one that came last.
    let again = followup(&client, &code);
    let replaced = one.await.unwrap_err().into_panic();
    let replaced = replaced.downcast_ref::<String>().unwrap();
    assert!(
        replaced.contains("another request of this device"),
        "{replaced}"
    );
    let engine = &server.engine;
    let device = engine
        .confirm_login(&server.admin, &code, Some("ann@example.com"), None)
        .await
        .unwrap();
    let answer = again.await.unwrap();
    assert_eq!(
        (&answer["Login"]["LoginName"], &answer["AuthURL"]),
        (&"ann@example.com".into(), &"".into())
    );
    assert_eq!(answer["MachineAuthorized"], true);
    // And from now on it is known, with or without that address.
    client.register(&client.register_request()).await.unwrap();
    let late = followup(&client, &code).await.unwrap();
    assert_eq!(late["MachineAuthorized"], true);
    let stream = client
        .stream(bowline_testkit::client::Compression::Zstd)
        .await;
    let stream = stream.unwrap();
    assert_eq!(stream.map().node().unwrap()["ID"], device.get());
}

#[tokio::test]
async fn a_refused_device_is_told_and_one_with_an_unknown_address_begins_anew() {
    let server = Server::start().await;
    let client = server.client(1);
    let code = begin(&client).await;
    let waits = followup(&client, &code);
    server
        .engine
        .refuse_login(&server.admin, &code)
        .await
        .unwrap();
    assert_eq!(waits.await.unwrap()["Error"], "the login was refused");
    for code in ["0123456789abcdef0123456789abcdef", "", &code[1..]] {
        let client = server.client(2);
        let answer = followup(&client, code).await.unwrap();
        let url = answer["AuthURL"].as_str().unwrap();
        assert!(url.starts_with(URL) && !url.ends_with(&format!("/{code}")));
    }
    // Another device's address is as unknown.
    let other = server.client(3);
    let answer = followup(&other, &begin(&server.client(4)).await)
        .await
        .unwrap();
    assert!(answer["AuthURL"].as_str().unwrap().starts_with(URL));
    assert_eq!(
        server
            .engine
            .snapshot(server.admin.tailnet)
            .unwrap()
            .device_count(),
        0
    );
}

#[tokio::test]
async fn tags_that_are_not_permitted_are_refused_by_name() {
    let server = Server::start().await;
    let client = server
        .client(1)
        .with_hostinfo("RequestTags", serde_json::json!(["tag:ci"]));
    let refused = client.join(&server.key().await).await.unwrap_err();
    assert!(
        refused
            .to_string()
            .contains("requested tags [tag:ci] are invalid or not permitted"),
        "{refused}"
    );
    server.set_policy(r#"{"tagOwners": {"tag:ci": []}}"#).await;
    let answer = client.join(&server.key().await).await.unwrap();
    assert_eq!(answer["Login"]["LoginName"], "tagged-devices");
}

#[tokio::test]
async fn routes_and_tags_that_a_device_reports_later_are_decided_at_once() {
    let server = Server::start().await;
    server
        .set_policy(
            r#"{
                "tagOwners": {"tag:router": [], "tag:edge": ["tag:router"]},
                "acls": [{"action": "accept", "src": ["*"], "dst": ["*:*"]}],
                "autoApprovers": {"routes": {"10.0.0.0/8": ["tag:router"]}},
            }"#,
        )
        .await;
    let client = server
        .client(1)
        .with_hostinfo("RequestTags", serde_json::json!(["tag:router"]));
    client.join(&server.key().await).await.unwrap();
    let mut stream = client
        .stream(bowline_testkit::client::Compression::Zstd)
        .await
        .unwrap();
    let routes = |list: &[&str]| serde_json::json!(list);
    let routing = client
        .clone()
        .with_hostinfo("RoutableIPs", routes(&["10.1.0.0/16", "192.168.1.0/24"]));
    routing.update(&serde_json::json!({})).await.unwrap();
    let is_primary = |map: &bowline_modelclient::ModelClient| {
        map.node().unwrap().get("PrimaryRoutes") == Some(&routes(&["10.1.0.0/16"]))
    };
    stream.until(is_primary).await.unwrap();
    let edge = routing
        .clone()
        .with_hostinfo("RequestTags", serde_json::json!(["tag:edge"]));
    edge.update(&serde_json::json!({})).await.unwrap();
    stream
        .until(|map| map.node().unwrap().get("Tags") == Some(&routes(&["tag:edge"])))
        .await
        .unwrap();
    // What its tags do not own it does not get, and its user is told.
    let greedy = edge
        .clone()
        .with_hostinfo("RequestTags", serde_json::json!(["tag:router"]));
    greedy.update(&serde_json::json!({})).await.unwrap();
    let is_told = |map: &bowline_modelclient::ModelClient| {
        let messages = map.state()["DisplayMessages"].to_string();
        messages.contains("cannot have: tag:router")
    };
    let map = stream.until(is_told).await.unwrap();
    assert_eq!(
        map.node().unwrap().get("Tags"),
        Some(&routes(&["tag:edge"]))
    );
    // To be a person's again somebody must log in.
    let untagged = edge.with_hostinfo("RequestTags", serde_json::json!([]));
    untagged.update(&serde_json::json!({})).await.unwrap();
    stream
        .until(|map| map.node().unwrap().get("Expired") == Some(&true.into()))
        .await
        .unwrap();
}
