//! An administrator of lower rank tries to become the owner of their tailnet.

use bowline_testkit::client::{Client, Identity, Server};
use http::Method;
use serde_json::{Value, json};

use crate::harness::{Site, Tailnet, call};
use crate::home::patiently;

const KEYS: &str = "/api/v2/tailnet/-/keys";

/// The tailnet as an IT administrator has it.
async fn it_admin(site: &Site) -> Tailnet {
    let of = ["--tailnet", "example.com"];
    let create = ["user", "create", "it@example.com", "--role", "it-admin"];
    site.home.prints(&[&create[..], &of].concat()).await;
    let create = ["user", "create", "max@example.com"];
    site.home.prints(&[&create[..], &of].concat()).await;
    let create = ["token", "create", "--user", "it@example.com"];
    let token = site.home.prints_json(&[&create[..], &of].concat()).await;
    let key = token["key"].as_str().or(token["token"].as_str());
    Tailnet {
        token: key.unwrap().to_owned(),
        ..site.attacked.clone()
    }
}

async fn refused(server: &Server, method: Method, path: &str, token: &str, body: Value) {
    let error = call(server, method, path, token, body).await.unwrap_err();
    assert!(error.to_string().contains("answered 403"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_it_admin_does_not_become_the_owner() {
    let site = Site::start(&[]).await;
    let admin = it_admin(&site).await;
    let server = site.as_attacker().await;
    let bystander = site.bystander().await;
    let token = admin.token.as_str();
    let key_for = |user: &str| {
        let create = json!({"devices": {"create": {"reusable": true}}});
        json!({"capabilities": create, "user": user})
    };

    // By an auth key.
    let owner = key_for("ann@example.com");
    refused(&server, Method::POST, KEYS, token, owner).await;
    // By a token of the owner's.
    let tokens = "/api/v2/tailnet/-/access-tokens";
    let body = json!({"user": "ann@example.com"});
    refused(&server, Method::POST, tokens, token, body).await;
    // By a login that waits: the device asks, and the administrator says whose it is.
    let device = Client::new(server.clone(), Identity::numbered(66), "laptop");
    let connection = device.connect().await.unwrap();
    let request = device.register_request();
    let answer = patiently(connection.register(&request)).await.unwrap();
    let url = answer["AuthURL"].as_str().unwrap().to_owned();
    let code = url.rsplit('/').next().unwrap();
    let login = format!("/api/v2/tailnet/-/logins/{code}");
    let body = json!({"user": "ann@example.com"});
    refused(&server, Method::POST, &login, token, body).await;
    // By a device of the owner's that has tags, once these are taken away.
    let policy = json!({"tagOwners": {"tag:box": []}});
    let acl = "/api/v2/tailnet/-/acl";
    let owners = &site.attacked.token;
    call(&server, Method::POST, acl, owners, policy)
        .await
        .unwrap();
    let tagged = Client::new(server.clone(), Identity::numbered(67), "box");
    patiently(tagged.join(&site.attacked.auth_key))
        .await
        .unwrap();
    let devices = "/api/v2/tailnet/-/devices";
    let list = call(&server, Method::GET, devices, token, Value::Null).await;
    let id = list.unwrap()["devices"][0]["nodeId"]
        .as_str()
        .unwrap()
        .to_owned();
    let tags = format!("/api/v2/device/{id}/tags");
    let body = json!({"tags": ["tag:box"]});
    call(&server, Method::POST, &tags, owners, body)
        .await
        .unwrap();
    refused(&server, Method::POST, &tags, token, json!({"tags": []})).await;

    // For a member they may, and that is whose device it is.
    let made = call(
        &server,
        Method::POST,
        KEYS,
        token,
        key_for("max@example.com"),
    )
    .await;
    let made = made.unwrap();
    let joined = Client::new(server.clone(), Identity::numbered(68), "max");
    let answer = patiently(joined.join(made["key"].as_str().unwrap())).await;
    assert_eq!(answer.unwrap()["Login"]["LoginName"], "max@example.com");
    bystander.rounds(2).await;
    bystander.assert_served().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_refused_for_ever_keeps_nobody_waiting() {
    let site = Site::start(&[]).await;
    let admin = it_admin(&site).await;
    let server = site.as_attacker().await;
    let bystander = site.bystander().await;
    for _ in 0..200 {
        let body = json!({"dns": ["1.1.1.1"]});
        let path = "/api/v2/tailnet/-/dns/nameservers";
        refused(&server, Method::POST, path, &admin.token, body).await;
    }
    bystander.rounds(2).await;
    bystander.assert_served().await;
}
