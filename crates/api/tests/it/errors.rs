//! Failures that no operation has to itself.

use std::sync::atomic::Ordering;

use serde_json::{Value, json};

use crate::server::{Server, basic, bearer};

#[tokio::test]
async fn unknown_paths_and_methods_answer_json() {
    let server = Server::start().await;
    for path in [
        "/nothing",
        "/device",
        "/tailnet/-/dns",
        "/device/x/y/z",
        "/tailnet/-/devices/x",
        "/device/%ff",
    ] {
        assert_eq!(
            server.call("GET", path, Value::Null).await.message(404),
            "not found",
            "{path}"
        );
    }
    let user = format!("/users/{}", server.tailnet.owner.stable());
    for (method, path) in [
        ("DELETE", user.as_str()),
        ("PUT", "/tailnet/-/devices"),
        ("GET", "/device/1/expire"),
        ("POST", ""),
    ] {
        assert_eq!(
            server.call(method, path, Value::Null).await.message(405),
            "method not allowed",
            "{path}"
        );
    }
}

#[tokio::test]
async fn a_body_is_json_whatever_it_calls_itself_and_an_object() {
    let server = Server::start().await;
    let send = async |body: &[u8]| {
        server
            .send(
                false,
                basic(&server.tailnet.token),
                "POST",
                "/tailnet/-/dns/searchpaths",
                body.to_vec(),
            )
            .await
    };
    send(b"\n {\"searchPaths\":[\"a.com\"], \"unknown\": 1} ")
        .await
        .ok();
    assert_eq!(send(b"").await.message(400), "unexpected end of JSON input");
    assert_eq!(
        send(b" \n").await.message(400),
        "unexpected end of JSON input"
    );
    for body in [&b"[[\"a.com\"]]"[..], b"null", b"1", b"searchPaths=a"] {
        assert_eq!(
            send(body).await.message(400),
            "invalid body: expected a JSON object"
        );
    }
    for body in [
        &b"{"[..],
        b"{\"searchPaths\":1}",
        b"{} {}",
        b"{\"searchPaths\":[],\"searchPaths\":[]}",
        b"{\"a\":\"\xff\"}",
        b"{\"searchPaths\":[\"\\ud800\"]}",
    ] {
        assert!(send(body).await.message(400).starts_with("invalid body: "));
    }
    let big = vec![b' '; 1024 * 1024 + 1];
    assert_eq!(send(&big).await.message(413), "request body is too large");
    let quoted = json!({"searchPaths": ["x y".repeat(100_000)]}).to_string();
    assert!(send(quoted.as_bytes()).await.message(400).chars().count() < 600);
}

#[tokio::test]
async fn a_full_disk_is_told_and_recovers() {
    let server = Server::start().await;
    server.disk_is_full.store(true, Ordering::SeqCst);
    let body = json!({"searchPaths": ["a.com"]});
    let reply = server
        .call("POST", "/tailnet/-/dns/searchpaths", body.clone())
        .await;
    assert!(reply.message(503).contains("no space left"));
    assert_eq!(reply.headers["retry-after"], "1");
    server.disk_is_full.store(false, Ordering::SeqCst);
    assert_eq!(
        server.get("/tailnet/-/dns/searchpaths").await,
        json!({"searchPaths": []})
    );
    server
        .call("POST", "/tailnet/-/dns/searchpaths", body)
        .await
        .ok();
}

#[tokio::test]
async fn both_schemes_carry_a_token_and_of_basic_the_password_is_ignored() {
    use base64::Engine as _;
    let server = Server::start().await;
    let token = &server.tailnet.token;
    let with_password = base64::prelude::BASE64_STANDARD.encode(format!("{token}:pass:word"));
    for value in [
        bearer(token),
        basic(token),
        format!("bearer {token}"),
        format!("BASIC {with_password}"),
    ] {
        let reply = server
            .send(
                false,
                value.clone(),
                "GET",
                "/tailnet/-/devices",
                Vec::new(),
            )
            .await;
        assert_eq!(reply.status, 200, "{value:?}");
        assert!(!reply.headers.contains_key("www-authenticate"));
    }
}
