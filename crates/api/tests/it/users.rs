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
            "tailnetId": "example.com", "created": "2026-03-01T12:00:00Z", "type": "member",
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
        ("?role=&type=", 2),
        ("?role=&type=shared", 0),
        ("?type=", 2),
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
        (json!({"loginName": "*@example.com"}), "login name"),
        (json!({"loginName": "tag:x@example.com"}), "login name"),
        (json!({"loginName": "group:x@example.com"}), "login name"),
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

#[tokio::test]
async fn a_user_is_last_seen_while_connected_and_idle_after_four_weeks() {
    let server = Server::start().await;
    let shown = async || {
        server
            .get(&format!("/users/{}", server.tailnet.owner))
            .await
    };
    let listed = async || server.get("/tailnet/-/users").await["users"][0].clone();
    assert_eq!(shown().await.get("lastSeen"), None, "never");
    let device = server.device(&server.tailnet, "laptop").await;
    let stream = server.engine.open_stream(server.tailnet.id, device).await;
    let stream = stream.unwrap();
    server.advance(90).await;
    let user = shown().await;
    assert_eq!(
        (&user["currentlyConnected"], &user["lastSeen"]),
        (&json!(true), &json!("2026-03-01T12:01:30Z"))
    );
    assert_eq!(listed().await, user);
    let is_online = || {
        let snapshot = server.engine.snapshot(server.tailnet.id).unwrap();
        snapshot.devices().any(|entry| entry.live.online)
    };
    drop(stream);
    // The end of a connection is a change of its own, beside every request.
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(20);
    while is_online() {
        assert!(tokio::time::Instant::now() < deadline, "still connected");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert_eq!(shown().await["currentlyConnected"], false);
    server.advance(28 * 86400).await;
    assert_eq!(shown().await["status"], "active");
    server.advance(1).await;
    assert_eq!(
        (&shown().await["status"], &listed().await["status"]),
        (&json!("idle"), &json!("idle"))
    );
}

#[tokio::test]
async fn lists_are_the_same_for_many_as_for_few() {
    let server = Server::start().await;
    let key = server
        .auth_key(&server.tailnet, json!({"reusable": true}))
        .await;
    let (max, _) = server.user("max@example.com", "member").await;
    let body = json!({"capabilities": {"devices": {"create": {"reusable": true}}}, "user": max});
    let maxs = server.call("POST", "/tailnet/-/keys", body).await.ok();
    for number in 0..120 {
        let key = if number % 3 == 0 { &maxs } else { &key };
        server
            .register(key, &format!("host{number}"))
            .await
            .unwrap();
    }
    // Several at once wait for each other, and all are answered.
    let lists = (0..8).map(|_| server.get("/tailnet/-/users"));
    for users in futures_util::future::join_all(lists).await {
        let counts: Vec<_> = users["users"]
            .as_array()
            .unwrap()
            .iter()
            .map(|user| user["deviceCount"].clone())
            .collect();
        assert_eq!(counts, [json!(80), json!(40)]);
    }
    assert_eq!(
        server.get(&format!("/users/{max}")).await["deviceCount"],
        40
    );
    let devices = server.get("/tailnet/-/devices?user=max@example.com").await;
    assert_eq!(devices["devices"].as_array().unwrap().len(), 40);
}
