//! Auth keys and API access tokens.

use serde_json::{Value, json};

use crate::server::Server;

#[tokio::test]
async fn an_auth_key_shows_its_secret_once_and_all_its_fields() {
    let server = Server::start().await;
    let count = server.audit(server.tailnet.id).await.len();
    let body = json!({
        "keyType": "auth", "scopes": ["ignored"], "expirySeconds": 3600, "description": "dev access",
        "capabilities": {"devices": {"create": {"reusable": true, "ephemeral": true, "preauthorized": true, "tags": null}}},
    });
    let mut made = server.call("POST", "/tailnet/-/keys", body).await.ok();
    assert_eq!(server.events_after(count).await, ["API_KEY.CREATE"]);
    let secret = made.as_object_mut().unwrap().remove("key").unwrap();
    let id = made["id"].as_str().unwrap().to_owned();
    let parts: Vec<&str> = secret.as_str().unwrap().split('-').collect();
    assert_eq!(parts[..3], ["tskey", "auth", &id]);
    assert_eq!(
        made,
        json!({
            "id": id, "keyType": "auth", "expirySeconds": 3600, "description": "dev access",
            "created": "2026-03-01T12:00:00Z", "expires": "2026-03-01T13:00:00Z",
            "capabilities": {"devices": {"create": {"reusable": true, "ephemeral": true, "preauthorized": true}}},
            "userId": server.tailnet.owner.stable(),
        })
    );
    assert_eq!(server.get(&format!("/tailnet/-/keys/{id}")).await, made);
    let list = server.get("/tailnet/-/keys").await;
    assert!(list["keys"].as_array().unwrap().contains(&made));
    assert!(!list.to_string().contains(parts[3]));
}

#[tokio::test]
async fn a_key_defaults_to_one_use_and_ninety_days() {
    let server = Server::start().await;
    for body in [
        json!({"capabilities": {"devices": {}}}),
        json!({"capabilities": {"devices": {"create": {"tags": []}}}, "expirySeconds": 0, "keyType": "auth"}),
    ] {
        let key = server.call("POST", "/tailnet/-/keys", body).await.ok();
        assert_eq!(key["expirySeconds"], 7_776_000);
        assert_eq!(key["expires"], "2026-05-30T12:00:00Z");
        assert_eq!(
            key["capabilities"]["devices"]["create"],
            json!({"reusable": false, "ephemeral": false, "preauthorized": false})
        );
    }
}

#[tokio::test]
async fn keys_that_cannot_be_are_refused_by_name() {
    let server = Server::start().await;
    let capabilities = json!({"devices": {"create": {}}});
    for (body, part) in [
        (json!({}), "capabilities.devices is required"),
        (
            json!({"capabilities": {}}),
            "capabilities.devices is required",
        ),
        (
            json!({"capabilities": capabilities, "expirySeconds": 7_776_001}),
            "expirySeconds",
        ),
        (
            json!({"capabilities": capabilities, "expirySeconds": -1}),
            "expirySeconds",
        ),
        (
            json!({"capabilities": capabilities, "description": "x".repeat(51)}),
            "description",
        ),
        (
            json!({"capabilities": capabilities, "description": "a.b"}),
            "description",
        ),
        (
            json!({"capabilities": capabilities, "keyType": "api"}),
            "access-tokens",
        ),
        (
            json!({"capabilities": capabilities, "keyType": "other"}),
            "keyType",
        ),
        (
            json!({"capabilities": capabilities, "user": "nobody@example.com"}),
            "nobody@example.com",
        ),
        (
            json!({"capabilities": {"devices": {"create": {"tags": ["tag:x"]}}}}),
            "requested tags [tag:x] are invalid or not permitted",
        ),
    ] {
        let message = server
            .call("POST", "/tailnet/-/keys", body)
            .await
            .message(400);
        assert!(message.contains(part), "{message}");
    }
    assert_eq!(
        server
            .call("POST", "/tailnet/-/keys", Value::Null)
            .await
            .message(400),
        "unexpected end of JSON input"
    );
}

#[tokio::test]
async fn a_revoked_key_stays_readable_and_registers_nobody() {
    let server = Server::start().await;
    let key = server
        .auth_key(&server.tailnet, json!({"reusable": true}))
        .await;
    let device = server.register(&key, "laptop").await.unwrap();
    let path = format!("/tailnet/-/keys/{}", key["id"].as_str().unwrap());
    server.advance(5).await;
    let count = server.audit(server.tailnet.id).await.len();
    for _ in 0..2 {
        assert_eq!(
            server.call("DELETE", &path, Value::Null).await.ok(),
            json!({})
        );
    }
    assert_eq!(server.events_after(count).await, ["API_KEY.REVOKE"]);
    let revoked = server.get(&path).await;
    assert_eq!(
        (&revoked["invalid"], &revoked["revoked"]),
        (&json!(true), &json!("2026-03-01T12:00:05Z"))
    );
    assert_eq!(revoked["capabilities"], key["capabilities"]);
    assert!(
        !server
            .get("/tailnet/-/keys")
            .await
            .to_string()
            .contains(key["id"].as_str().unwrap())
    );
    assert!(server.register(&key, "desk").await.is_none());
    assert_eq!(
        server.get(&format!("/device/{device}")).await["authorized"],
        true
    );
}

#[tokio::test]
async fn a_one_off_key_is_invalid_after_its_use_and_an_expired_one_too() {
    let server = Server::start().await;
    let used = server.auth_key(&server.tailnet, json!({})).await;
    server.register(&used, "laptop").await.unwrap();
    assert!(server.register(&used, "desk").await.is_none());
    let path = |key: &Value| format!("/tailnet/-/keys/{}", key["id"].as_str().unwrap());
    let shown = server.get(&path(&used)).await;
    assert_eq!(shown["invalid"], true);
    assert!(shown.get("revoked").is_none());
    let body = json!({"capabilities": {"devices": {}}, "expirySeconds": 1});
    let short = server.call("POST", "/tailnet/-/keys", body).await.ok();
    server.advance(2).await;
    assert_eq!(server.get(&path(&short)).await["invalid"], true);
    assert!(server.register(&short, "desk").await.is_none());
    let listed = server.get("/tailnet/-/keys?all=true").await.to_string();
    for key in [&used, &short] {
        assert!(!listed.contains(key["id"].as_str().unwrap()));
    }
    // Long after its end it is gone.
    server.advance(91 * 86400).await;
    let path = format!(
        "/tailnet/{}/keys/{}",
        server.tailnet.name,
        short["id"].as_str().unwrap()
    );
    assert_eq!(
        server.operate("GET", &path, Value::Null).await.message(404),
        "not found"
    );
}

#[tokio::test]
async fn keys_are_listed_per_owner_and_tokens_of_others_are_hidden() {
    let server = Server::start().await;
    let (ida, token) = server.user("ida@example.com", "it-admin").await;
    let body = json!({"capabilities": {"devices": {}}});
    let key = server
        .call_as(&token, "POST", "/tailnet/-/keys", body)
        .await
        .ok();
    assert_eq!(key["userId"], json!(ida));
    let ids = async |token: &str, query: &str| {
        let list = server
            .call_as(
                token,
                "GET",
                &format!("/tailnet/-/keys{query}"),
                Value::Null,
            )
            .await
            .ok();
        list["keys"]
            .as_array()
            .unwrap()
            .iter()
            .map(|key| key["id"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    let own_token = token.split('-').nth(2).unwrap().to_owned();
    let owners = server.tailnet.token.split('-').nth(2).unwrap().to_owned();
    let key = key["id"].as_str().unwrap().to_owned();
    assert_eq!(
        ids(&server.tailnet.token, "").await,
        std::slice::from_ref(&owners)
    );
    let mut idas = ids(&token, "").await;
    idas.sort();
    let mut expected = [own_token.clone(), key.clone()];
    expected.sort();
    assert_eq!(idas, expected);
    assert_eq!(ids(&server.tailnet.token, "?all=true").await.len(), 3);
    assert!(!ids(&token, "?all=true").await.contains(&owners));
    for method in ["GET", "DELETE", "PUT"] {
        let path = format!("/tailnet/-/keys/{owners}");
        assert_eq!(
            server
                .call_as(&token, method, &path, json!({}))
                .await
                .message(404),
            "not found"
        );
    }
    assert_eq!(
        server.get(&format!("/tailnet/-/keys/{own_token}")).await["scopes"],
        json!(["all"])
    );
    // Everybody else's tailnet has no such key either.
    for id in [&key, &own_token, &owners] {
        let path = format!("/tailnet/-/keys/{id}");
        let reply = server
            .call_as(&server.other.token, "GET", &path, Value::Null)
            .await;
        assert_eq!(reply.message(404), "not found");
        let reply = server
            .call_as(&server.other.token, "DELETE", &path, Value::Null)
            .await;
        assert_eq!(reply.message(404), "not found");
    }
    for id in ["x", "k1CNTRL", "kzzzCNTRL", "12", "TxCNTRL-k2CNTRL"] {
        server
            .call("GET", &format!("/tailnet/-/keys/{id}"), Value::Null)
            .await
            .message(404);
    }
}

#[tokio::test]
async fn a_token_acts_as_its_user_and_ends_itself() {
    let server = Server::start().await;
    let count = server.audit(server.tailnet.id).await.len();
    let body = json!({"description": "ci", "expirySeconds": 60});
    let made = server
        .call("POST", "/tailnet/-/access-tokens", body)
        .await
        .ok();
    assert_eq!(server.events_after(count).await, ["API_KEY.CREATE"]);
    assert_eq!(
        (&made["keyType"], &made["expires"]),
        (&json!("api"), &json!("2026-03-01T12:01:00Z"))
    );
    let token = made["key"].as_str().unwrap();
    let path = format!("/tailnet/-/keys/{}", made["id"].as_str().unwrap());
    assert_eq!(
        server.call_as(token, "GET", &path, Value::Null).await.ok()["description"],
        "ci"
    );
    assert_eq!(
        server
            .call_as(token, "DELETE", &path, Value::Null)
            .await
            .ok(),
        json!({})
    );
    assert_eq!(
        server
            .call_as(token, "GET", &path, Value::Null)
            .await
            .message(401),
        "API token invalid"
    );
    // Nobody makes a token that acts as somebody else.
    server.user("max@example.com", "member").await;
    let body = json!({"user": "max@example.com"});
    server
        .call("POST", "/tailnet/-/access-tokens", body)
        .await
        .message(403);
    for (body, part) in [
        (json!({"user": "nobody@x"}), "nobody@x"),
        (json!({"expirySeconds": 1e9}), "expirySeconds"),
        (json!({"expirySeconds": 1.5}), "expected an integer"),
        (json!({"expirySeconds": 99_999_999}), "expirySeconds"),
        (json!({"description": "\n"}), "description"),
    ] {
        let message = server
            .call("POST", "/tailnet/-/access-tokens", body)
            .await
            .message(400);
        assert!(message.contains(part), "{message}");
    }
}

#[tokio::test]
async fn an_auth_key_cannot_be_changed() {
    let server = Server::start().await;
    let key = server.auth_key(&server.tailnet, json!({})).await;
    let path = format!("/tailnet/-/keys/{}", key["id"].as_str().unwrap());
    let message = server
        .call("PUT", &path, json!({"keyType": "auth"}))
        .await
        .message(400);
    assert!(message.contains("OAuth clients"), "{message}");
}

#[tokio::test]
async fn a_key_for_somebody_above_the_caller_is_refused_and_the_log_says_for_whom_one_is() {
    let server = Server::start().await;
    let (ida, token) = server.user("ida@example.com", "it-admin").await;
    let (max, _) = server.user("max@example.com", "member").await;
    let make = async |user: &str| {
        let body = json!({"capabilities": {"devices": {"create": {}}}, "user": user});
        server
            .call_as(&token, "POST", "/tailnet/-/keys", body)
            .await
    };
    for user in ["ann@example.com", &server.tailnet.owner.stable()] {
        make(user).await.message(403);
    }
    assert_eq!(make(&max).await.ok()["userId"], json!(max));
    let event = server.audit(server.tailnet.id).await.pop().unwrap();
    assert_eq!(
        (&event.new["user"], &event.new["maker"]),
        (&json!(max), &json!(ida))
    );
    // And a login.
    let path = format!("/tailnet/-/logins/{}", server.login("laptop").await);
    let body = |user: &str| json!({"user": user, "tags": []});
    let refused = server
        .call_as(&token, "POST", &path, body("ann@example.com"))
        .await;
    refused.message(403);
    let device = server.call_as(&token, "POST", &path, body(&max)).await.ok();
    assert_eq!(device["user"], "max@example.com");
}

#[tokio::test]
async fn a_key_has_at_most_256_tags() {
    let server = Server::start().await;
    let owners: Vec<String> = (0..300).map(|n| format!(r#""tag:t{n}": []"#)).collect();
    server
        .set_policy(&format!(r#"{{"tagOwners": {{{}}}}}"#, owners.join(",")))
        .await;
    let device = server.device(&server.tailnet, "laptop").await;
    let login = server.login("desk").await;
    for (count, status) in [(256, 200), (257, 400)] {
        let tags: Vec<String> = (0..count).map(|n| format!("tag:t{n}")).collect();
        let create = json!({"capabilities": {"devices": {"create": {"tags": tags}}}});
        let device_path = format!("/device/{device}/tags");
        let login_path = format!("/tailnet/-/logins/{login}");
        let login = json!({"tags": tags, "user": "ann@example.com"});
        for (path, body) in [
            ("/tailnet/-/keys", create),
            (&*device_path, json!({"tags": tags})),
            (&*login_path, login),
        ] {
            let reply = server.call("POST", path, body).await;
            // The login is in by then.
            let status = if path == login_path && count > 256 {
                400
            } else {
                status
            };
            assert_eq!(reply.status, status, "{path} {count}");
            if status == 400 {
                assert!(reply.message(400).contains("at most 256 tags"), "{path}");
            }
        }
    }
}
