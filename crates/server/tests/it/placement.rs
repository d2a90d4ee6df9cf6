//! What each listener serves.

use bowline_testkit::client::Server;
use http::Method;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

use crate::home::{Home, patiently};

async fn status(server: &Server, method: Method, path: &str) -> u16 {
    let answer = server.request(method, path, &[], "").await;
    answer.unwrap().status.as_u16()
}

#[tokio::test]
async fn each_listener_serves_its_own_and_both_say_their_health() {
    let (home, made) = Home::with_tailnet().await;
    // The relay speaks no TLS, so that it can be asked like the others.
    let settings = "api_listen = \"127.0.0.1:0\"\n\n[derp]\ntls = \"proxy-plain\"\n";
    let settings = home.file("apart.toml", settings);
    let config = format!("--config={}", settings.display());
    let serving = home.serve_with(&[&config]).await;
    let main = serving.server().await;
    let at = |name: &str| Server::with_key(serving.greeting[name].as_str().unwrap(), [0; 32]);
    let api = at("apiListen");
    let devices = "/api/v2/tailnet/-/devices";

    for (path, on_main, on_api) in [
        ("/health", 200, 200),
        ("/key?v=142", 200, 404),
        ("/", 200, 404),
        ("/login/abc", 404, 404),
        ("/ts2021", 400, 404),
        ("/generate_204", 204, 404),
        ("/.well-known/openid-configuration", 200, 404),
        ("/api/v2", 404, 200),
        ("/api", 404, 404),
        (devices, 404, 401),
        ("/metrics", 404, 404),
        ("/derp", 404, 404),
    ] {
        assert_eq!(
            status(&main, Method::GET, path).await,
            on_main,
            "main {path}"
        );
        assert_eq!(status(&api, Method::GET, path).await, on_api, "API {path}");
    }
    for path in [
        "/", "/health", "/key", "/ts2021", "/verify", "/api/v2", devices,
    ] {
        assert_eq!(status(&at("metricsListen"), Method::GET, path).await, 404);
        let is_greeting = path == "/";
        let on_relay = status(&at("derpListen"), Method::GET, path).await;
        assert_eq!(on_relay == 200, is_greeting, "relay {path}");
        assert!(is_greeting || on_relay == 404, "relay {path}: {on_relay}");
    }
    // The operator's socket has the API, and no other path.
    for (path, answered) in [
        ("/api/v2", "200 OK"),
        ("/api/v2/clock/", "200 OK"),
        ("/health", "404 Not Found"),
        ("/", "404 Not Found"),
        ("/login/abc", "404 Not Found"),
        ("/ts2021", "404 Not Found"),
    ] {
        let said = on_socket(&home, path).await;
        assert_eq!(said, format!("HTTP/1.1 {answered}"), "socket {path}");
    }
    assert_eq!(status(&main, Method::POST, "/verify").await, 400);
    assert_eq!(status(&api, Method::POST, "/verify").await, 404);

    let bearer = format!("Bearer {}", made["token"].as_str().unwrap());
    let headers = [("authorization", bearer.as_str())];
    let answer = api
        .request(Method::GET, devices, &headers, "")
        .await
        .unwrap();
    assert_eq!(answer.json().unwrap(), json!({"devices": []}));
    // Its address is told to whoever asks the wrong one.
    let answer = main.request(Method::GET, devices, &[], "").await.unwrap();
    assert_eq!(
        answer.json().unwrap(),
        json!({"message": "not found; the API of this server has another address"})
    );
    // What has a credential is refused on the other listener all the same.
    let answer = main
        .request(Method::GET, devices, &headers, "")
        .await
        .unwrap();
    assert_eq!(answer.status, 404);
    // Devices join, and the command line works.
    serving.device(&home, 1, "laptop").await;
    let devices = home.prints_json(&["device", "list"]).await;
    assert_eq!(devices["devices"].as_array().unwrap().len(), 1);
}

/// The first line of the answer on the operator's socket.
async fn on_socket(home: &Home, path: &str) -> String {
    let mut socket = UnixStream::connect(home.data().join("bowline.sock"))
        .await
        .unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    patiently(socket.read_to_string(&mut answer)).await.unwrap();
    answer.lines().next().unwrap().to_owned()
}

#[tokio::test]
async fn nothing_is_found_by_a_part_of_a_path() {
    let (home, made) = Home::with_tailnet().await;
    let serving = home.serve().await;
    let server = serving.server().await;
    let bearer = format!("Bearer {}", made["token"].as_str().unwrap());
    let headers = [("authorization", bearer.as_str())];
    for path in [
        "/base",
        "/base/",
        "/base/key?v=142",
        "/settings/key",
        "/base/ts2021",
        "/base/login/abc",
        "/base/ssh/abc",
        "/base/verify",
        "/base/generate_204",
        "/base/.well-known/openid-configuration",
        "/.well-known/openid-configuration/more",
        "/.well-known",
        "/base/health",
        "/base/health/live",
        "/base/api/v2",
        "/base/api/v2/tailnet/-/devices",
        "/api/v2/key",
        "/api/v2/login/abc",
        "/api/v2/health",
        "/api",
        "/key/more",
        "/ts2021/more",
        "/login",
        "/login/",
        "/login/abc/more",
        "/ssh/abc/more",
        "/health/ready",
        "/derp",
        "/machine/map",
        "/metrics",
    ] {
        for method in [Method::GET, Method::POST, Method::OPTIONS] {
            let answer = server.request(method.clone(), path, &headers, "").await;
            let answer = answer.unwrap();
            assert_eq!(answer.status, 404, "{method} {path}");
            let body = answer.json().unwrap();
            assert_eq!(body, json!({"message": "not found"}), "{method} {path}");
        }
    }
    // Slashes too many say nothing, on any path.
    for path in ["/key/", "//key", "/health/", "//api//v2/"] {
        assert_eq!(status(&server, Method::GET, path).await, 200, "{path}");
    }
    // What is mounted with other methods says so.
    for (method, path) in [
        (Method::POST, "/"),
        (Method::POST, "/key"),
        (Method::POST, "/login/abc"),
        (Method::GET, "/verify"),
        (Method::DELETE, "/health"),
        (Method::DELETE, "/api/v2/clock"),
    ] {
        let answer = server.request(method.clone(), path, &[], "").await.unwrap();
        assert_eq!(answer.status, 405, "{method} {path}");
        let body = answer.json().unwrap();
        assert_eq!(body, json!({"message": "method not allowed"}), "{path}");
    }
}

#[tokio::test]
async fn requests_of_the_api_are_counted_by_operation() {
    let (home, _) = Home::with_tailnet().await;
    let serving = home.serve().await;
    let server = serving.server().await;
    for path in [
        "/api/v2",
        "/api/v2/device/1",
        "/api//v2/device/2/",
        "/api/v2/nothing",
    ] {
        server.request(Method::GET, path, &[], "").await.unwrap();
    }
    let metrics = serving.metrics().await;
    for (route, status, count) in [
        ("/api/v2", "2xx", 1),
        ("/api/v2/device/{deviceId}", "4xx", 2),
        ("none", "4xx", 1),
    ] {
        let line = format!(
            "bowline_http_requests_total{{route=\"{route}\",method=\"GET\",status=\"{status}\"}} {count}"
        );
        assert!(
            metrics.lines().any(|found| found == line),
            "{line}\n{metrics}"
        );
    }
}

#[tokio::test]
async fn the_limit_of_bodies_reaches_the_api() {
    let (home, made) = Home::with_tailnet().await;
    let settings = home.file("small.toml", "[limits]\nbody_bytes = 65536\n");
    let config = format!("--config={}", settings.display());
    let serving = home.serve_with(&[&config]).await;
    let server = serving.server().await;
    let bearer = format!("Bearer {}", made["token"].as_str().unwrap());
    let headers = [("authorization", bearer.as_str())];
    let post = async |length: usize| {
        let empty = json!({"capabilities": {"devices": {"create": {}}}, "description": ""});
        let body = empty.to_string();
        let padding = " ".repeat(length - body.len());
        let keys = "/api/v2/tailnet/-/keys";
        let answer = server
            .request(Method::POST, keys, &headers, body + &padding)
            .await;
        answer.unwrap().status.as_u16()
    };
    assert_eq!(post(65_536).await, 200);
    assert_eq!(post(65_537).await, 413);
}
