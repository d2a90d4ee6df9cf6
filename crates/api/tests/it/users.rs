//! Users.

use serde_json::{Value, json};

use crate::server::Server;

#[tokio::test]
async fn a_user_is_made_listed_and_shown() {
    let server = Server::start().await;
    let count = server.audit(server.tailnet.id).await.len();
    let body = json!({"loginName": "max@example.com", "displayName": "Max M", "role": "auditor"});
    let max = server
        .call("POST", "/tailnet/-/users", body.clone())
        .await
        .ok();
    assert_eq!(server.events_after(count).await, ["USER.CREATE"]);
    let id = max["id"].as_str().unwrap();
    assert_eq!(
        max,
        json!({
            "id": id, "displayName": "Max M", "loginName": "max@example.com", "profilePicUrl": "",
            "tailnetId": server.tailnet.id.stable(), "created": "2026-03-01T12:00:00Z", "type": "member",
            "role": "auditor", "status": "active", "deviceCount": 0, "currentlyConnected": false,
        })
    );
    assert_eq!(server.get(&format!("/users/{id}")).await, max);
    server.device(&server.tailnet, "laptop").await;
    let list = server.get("/tailnet/-/users").await;
    let shown: Vec<_> = list["users"]
        .as_array()
        .unwrap()
        .iter()
        .map(|user| (user["loginName"].clone(), user["deviceCount"].clone()))
        .collect();
    assert_eq!(
        shown,
        [
            (json!("ann@example.com"), json!(1)),
            (json!("max@example.com"), json!(0))
        ]
    );
    assert!(
        server
            .call("POST", "/tailnet/-/users", body)
            .await
            .message(400)
            .contains("exists already")
    );
}

#[tokio::test]
async fn users_are_filtered_by_type_and_role() {
    let server = Server::start().await;
    server.user("max@example.com", "member").await;
    for (query, count) in [
        ("", 2),
        ("?type=member", 2),
        ("?type=shared", 0),
        ("?role=owner", 1),
        ("?role=all&type=all", 2),
        ("?role=admin", 0),
    ] {
        let list = server.get(&format!("/tailnet/-/users{query}")).await;
        assert_eq!(list["users"].as_array().unwrap().len(), count, "{query}");
    }
    for query in ["?role=king", "?type=x"] {
        server
            .call("GET", &format!("/tailnet/-/users{query}"), Value::Null)
            .await
            .message(400);
    }
}

#[tokio::test]
async fn absent_and_foreign_users_look_alike() {
    let server = Server::start().await;
    for id in [
        server.other.owner.stable(),
        server.other.owner.to_string(),
        "u9zCNTRL".to_owned(),
        "x".to_owned(),
        "0".to_owned(),
    ] {
        let reply = server
            .call("GET", &format!("/users/{id}"), Value::Null)
            .await;
        assert_eq!(reply.message(404), "not found", "{id}");
    }
}

#[tokio::test]
async fn users_that_cannot_be_are_refused() {
    let server = Server::start().await;
    for (body, part) in [
        (json!({}), "loginName"),
        (json!({"loginName": "max"}), "login name"),
        (json!({"loginName": "a\u{0}@b"}), "login name"),
        (json!({"loginName": "ANN@example.com"}), "exists already"),
        (
            json!({"loginName": "m@example.com", "role": "king"}),
            "unknown role",
        ),
        (
            json!({"loginName": "m@example.com", "role": "owner"}),
            "exactly one owner",
        ),
        (
            json!({"loginName": "m@example.com", "displayName": ""}),
            "display name",
        ),
        (
            json!({"loginName": "m@example.com", "displayName": "\u{7}"}),
            "display name",
        ),
    ] {
        let message = server
            .call("POST", "/tailnet/-/users", body)
            .await
            .message(400);
        assert!(message.contains(part), "{message}");
    }
}
