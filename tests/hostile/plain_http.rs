//! Somebody on the way between clients and a server without TLS answers in its place. Nothing on
//! the server can prevent that, so it does not start where it would be possible, unless it is told
//! to.

use http::Method;

use crate::harness::Site;
use crate::home::Home;

#[tokio::test]
async fn a_server_does_not_send_clients_over_plain_http_without_being_told_to() {
    for url in [
        "http://bowline.example.com",
        "http://198.51.100.7:8080",
        "http://[2001:db8::1]:8080",
    ] {
        let home = Home::new();
        let flag = format!("--url={url}");
        let told = home.run(&Home::serve_args(&[&flag])).await;
        // What is wrong with the value of a flag is a mistake in typing.
        assert!(matches!(told.code, 1 | 2), "{told:?}");
        assert!(told.err.contains("over http://"), "{told:?}");
        assert!(told.err.contains("allow_insecure_url"), "{told:?}");
        assert!(!home.data().exists(), "nothing was made");
    }
    let home = Home::new();
    let settings = home.file("told.toml", "allow_insecure_url = true\n");
    let config = format!("--config={}", settings.display());
    let serving = home
        .serve_with(&[&config, "--url=http://bowline.example.com"])
        .await;
    let health = serving.server().await;
    let health = health.request(Method::GET, "/health", &[], "").await;
    assert_eq!(health.unwrap().status, 200);
}

#[tokio::test]
async fn the_page_of_a_server_never_tells_to_send_a_token_over_plain_http() {
    let site = Site::start(&["--url=http://10.0.0.1:8080"]).await;
    let server = site.as_attacker().await;
    let page = server.request(Method::GET, "/", &[], "").await.unwrap();
    assert_eq!(page.status, 200);
    let text = page.text();
    assert!(
        !text.contains("curl") && !text.contains("tskey-api"),
        "{text}"
    );
    assert!(text.contains("tailscale up --login-server http://10.0.0.1:8080"));
}
