//! Roles, approval, suspension and deletion of users, as callers and devices see them.

use serde_json::{Value, json};

use crate::access::NOT_PERMITTED;
use crate::server::Server;

async fn post(server: &Server, user: &str, verb: &str) -> crate::server::Reply {
    let path = format!("/users/{user}/{verb}");
    server.call("POST", &path, Value::Null).await
}

async fn set_role(server: &Server, token: &str, user: &str, role: &str) -> crate::server::Reply {
    let path = format!("/users/{user}/role");
    server
        .call_as(token, "POST", &path, json!({"role": role}))
        .await
}

/// Names of the peers that a device is told of.
fn peers(map: &Value) -> Vec<&str> {
    let peers = map["Peers"].as_array().map_or(&[][..], Vec::as_slice);
    peers
        .iter()
        .map(|peer| peer["Name"].as_str().unwrap().split('.').next().unwrap())
        .collect()
}

#[tokio::test]
async fn a_suspended_users_devices_and_tokens_are_good_for_nothing_until_they_are_restored() {
    let server = Server::start().await;
    let ann = server.device(&server.tailnet, "anns").await;
    let (max, token) = server.user("max@example.com", "admin").await;
    let body = json!({"capabilities": {"devices": {"create": {"reusable": true}}}, "user": max});
    let key = server.call("POST", "/tailnet/-/keys", body).await.ok();
    let device = server.register(&key, "maxs").await.unwrap();
    assert_eq!(peers(&server.map(ann)), ["maxs"]);
    assert_eq!(peers(&server.map(device)), ["anns"]);

    assert_eq!(post(&server, &max, "suspend").await.ok(), json!({}));
    let shown = server.get(&format!("/users/{max}")).await;
    assert_eq!(
        (&shown["status"], &shown["deviceCount"]),
        (&json!("suspended"), &json!(1))
    );
    let reply = server.call_as(&token, "GET", "/tailnet/-/devices", Value::Null);
    assert_eq!(reply.await.message(401), "API token invalid");
    assert!(server.register(&key, "more").await.is_none());
    // It is listed, and nobody is told of it; it is told why it has nobody.
    let listed = server.get("/tailnet/-/devices").await;
    assert_eq!(listed["devices"].as_array().unwrap().len(), 2);
    assert!(peers(&server.map(ann)).is_empty());
    let map = server.map(device);
    assert!(peers(&map).is_empty(), "{map}");
    assert_eq!(map["PacketFilters"], json!({"base": []}));
    let message = &map["DisplayMessages"]["bowline-user-suspended"];
    assert_eq!(message["Severity"], "high", "{map}");
    // The credential itself is there, and is its user's.
    let id = key["id"].as_str().unwrap();
    let shown = server.get(&format!("/tailnet/-/keys/{id}")).await;
    assert_eq!(shown["revoked"], Value::Null);

    assert_eq!(post(&server, &max, "restore").await.ok(), json!({}));
    assert_eq!(peers(&server.map(ann)), ["maxs"]);
    let map = server.map(device);
    assert_eq!(
        (peers(&map), map.get("DisplayMessages")),
        (vec!["anns"], None)
    );
    let reply = server.call_as(&token, "GET", "/tailnet/-/devices", Value::Null);
    reply.await.ok();
    assert!(server.register(&key, "more").await.is_some());
}

#[tokio::test]
async fn a_deleted_user_is_gone_with_devices_and_credentials() {
    let server = Server::start().await;
    let ann = server.device(&server.tailnet, "anns").await;
    let (max, token) = server.user("max@example.com", "member").await;
    let body = json!({"capabilities": {"devices": {"create": {}}}, "user": max});
    let key = server.call("POST", "/tailnet/-/keys", body).await.ok();
    let device = server.register(&key, "maxs").await.unwrap();
    assert_eq!(post(&server, &max, "delete").await.ok(), json!({}));
    for path in [
        format!("/users/{max}"),
        format!("/device/{}", device.stable()),
    ] {
        let reply = server.call("GET", &path, Value::Null).await;
        assert_eq!(reply.message(404), "not found", "{path}");
    }
    assert!(peers(&server.map(ann)).is_empty());
    let id = key["id"].as_str().unwrap();
    let shown = server.get(&format!("/tailnet/-/keys/{id}")).await;
    assert!(shown["revoked"].is_string(), "{shown}");
    let reply = server.call_as(&token, "GET", "/tailnet/-/devices", Value::Null);
    assert_eq!(reply.await.message(401), "API token invalid");
    let reply = post(&server, &max, "delete").await;
    assert_eq!(reply.message(404), "not found");
}

#[tokio::test]
async fn nobody_changes_themselves_or_whoever_has_more_rights() {
    let server = Server::start().await;
    let (ida, token) = server.user("ida@example.com", "it-admin").await;
    let (net, _) = server.user("net@example.com", "network-admin").await;
    let (max, _) = server.user("max@example.com", "member").await;
    let owner = server.tailnet.owner.stable();
    for user in [&ida, &net, &owner] {
        for verb in ["approve", "suspend", "restore", "delete"] {
            let path = format!("/users/{user}/{verb}");
            let reply = server.call_as(&token, "POST", &path, Value::Null).await;
            assert_eq!(reply.message(403), NOT_PERMITTED, "{path}");
        }
        let reply = set_role(&server, &token, user, "member").await;
        assert_eq!(reply.message(403), NOT_PERMITTED);
    }
    for (role, status) in [
        ("it-admin", 200),
        ("auditor", 200),
        ("billing-admin", 200),
        ("network-admin", 403),
        ("admin", 403),
        ("owner", 403),
        ("member", 200),
    ] {
        let reply = set_role(&server, &token, &max, role).await;
        assert_eq!(reply.status, status, "{role}");
    }
    // Nor does the owner, who is never without a successor.
    for verb in ["suspend", "delete"] {
        assert_eq!(
            post(&server, &owner, verb).await.message(403),
            NOT_PERMITTED
        );
    }
}

#[tokio::test]
async fn a_role_is_one_that_there_is_and_the_owners_is_handed_over() {
    let server = Server::start().await;
    let (max, token) = server.user("max@example.com", "member").await;
    let path = format!("/users/{max}/role");
    for (body, part) in [
        (json!({}), "role is required"),
        (json!({"role": null}), "role is required"),
        (json!({"role": "king"}), "unknown role"),
        (json!({"role": "Admin"}), "unknown role"),
        (json!({"role": 1}), ""),
        (json!([]), ""),
    ] {
        let reply = server.call("POST", &path, body.clone()).await;
        assert!(reply.message(400).contains(part), "{body}");
    }
    let reply = server.call_as(&token, "GET", "/tailnet/-/users", Value::Null);
    assert_eq!(reply.await.message(404), "not found");
    let own = &server.tailnet.token;
    assert_eq!(set_role(&server, own, &max, "owner").await.ok(), json!({}));
    // Their token of before acts as the owner's, and the owner's of before as an administrator's.
    let list = server.call_as(&token, "GET", "/tailnet/-/users", Value::Null);
    let list = list.await.ok();
    let roles = list["users"].as_array().unwrap().iter();
    let roles: Vec<_> = roles
        .map(|user| (user["loginName"].clone(), user["role"].clone()))
        .collect();
    assert_eq!(
        roles,
        [
            (json!("ann@example.com"), json!("admin")),
            (json!("max@example.com"), json!("owner"))
        ]
    );
    let reply = post(&server, &max, "suspend").await;
    assert_eq!(reply.message(403), NOT_PERMITTED);
    let path = format!("/users/{max}/delete");
    let reply = server.operate("POST", &path, Value::Null).await;
    assert!(reply.message(400).contains("exactly one owner"));
}

#[tokio::test]
async fn the_setting_for_user_approval_is_kept_and_shown() {
    let server = Server::start().await;
    let path = "/tailnet/-/settings";
    assert_eq!(server.get(path).await["usersApprovalOn"], false);
    let body = json!({"usersApprovalOn": true});
    let shown = server.call("PATCH", path, body).await.ok();
    assert_eq!(shown["usersApprovalOn"], true);
    assert_eq!(server.get(path).await["usersApprovalOn"], true);
    // A person who makes a user vouches for them, and to approve somebody twice is nothing.
    let (max, _) = server.user("max@example.com", "member").await;
    assert_eq!(
        server.get(&format!("/users/{max}")).await["status"],
        "active"
    );
    let count = server.audit(server.tailnet.id).await.len();
    assert_eq!(post(&server, &max, "approve").await.ok(), json!({}));
    assert!(server.events_after(count).await.is_empty());
    let body = json!({"usersApprovalOn": "yes"});
    server.call("PATCH", path, body).await.message(400);
}
