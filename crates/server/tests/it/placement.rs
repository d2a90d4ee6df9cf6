//! Control protocol and API on listeners of their own.

use bowline_testkit::client::Server;
use http::Method;
use serde_json::json;

use crate::home::Home;

async fn status(server: &Server, method: Method, path: &str) -> u16 {
    let answer = server.request(method, path, &[], "").await;
    answer.unwrap().status.as_u16()
}

#[tokio::test]
async fn each_listener_serves_its_own_and_both_say_their_health() {
    let (home, made) = Home::with_tailnet().await;
    let settings = home.file("apart.toml", "api_listen = \"127.0.0.1:0\"\n");
    let config = format!("--config={}", settings.display());
    let serving = home.serve_with(&[&config]).await;
    let main = serving.server().await;
    let api = Server::with_key(serving.greeting["apiListen"].as_str().unwrap(), [0; 32]);
    let devices = "/api/v2/tailnet/-/devices";

    for (path, on_main, on_api) in [
        ("/health", 200, 200),
        ("/key?v=142", 200, 404),
        ("/", 200, 404),
        ("/login/abc", 404, 404),
        ("/ts2021", 400, 404),
        ("/generate_204", 204, 404),
        ("/api/v2", 404, 200),
        (devices, 404, 401),
    ] {
        assert_eq!(
            status(&main, Method::GET, path).await,
            on_main,
            "main {path}"
        );
        assert_eq!(status(&api, Method::GET, path).await, on_api, "API {path}");
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
