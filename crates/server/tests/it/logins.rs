//! A device without an auth key: the page that it is sent to, and the commands that let it in.

use bowline_testkit::client::{Client, Identity};
use http::Method;
use serde_json::Value;

use crate::home::Home;

#[tokio::test]
async fn a_device_shows_a_page_whose_command_lets_it_in() {
    let home = Home::new();
    let serving = home.serve().await;
    let server = serving.server().await;
    let client = Client::new(server.clone(), Identity::numbered(1), "<b>laptop</b>");
    let page = async |path: &str| {
        let answer = server.request(Method::GET, path, &[], "").await.unwrap();
        (answer.status.as_u16(), answer.text())
    };
    assert!(home.prints(&["login", "list"]).await.starts_with("OWNER"));
    let request = client.register_request();
    let connection = client.connect().await.unwrap();
    let answer = connection.register(&request).await.unwrap();
    let url = answer["AuthURL"].as_str().unwrap().to_owned();
    let code = url.rsplit('/').next().unwrap();
    let (status, text) = page(&format!("/login/{code}")).await;
    assert_eq!(status, 200);
    assert!(
        text.contains(&format!("bowline login approve {code} --user EMAIL")),
        "{text}"
    );
    assert!(text.contains("&lt;b&gt;laptop&lt;/b&gt;") && !text.contains("<b>laptop"));
    let list = home.prints(&["login", "list"]).await;
    let line = list.lines().find(|line| line.contains(code)).unwrap();
    assert!(
        line.starts_with("new ") && line.contains(" 127.0.0.1 "),
        "{list}"
    );
    // Whose it is to be must be said: it is nobody's by default.
    let refused = home.refuses(&["login", "approve", &url]).await;
    assert!(
        refused.contains("the device is new here") && refused.contains("--user EMAIL"),
        "{refused}"
    );
    let refused = home
        .refuses(&["login", "approve", &url, "--user", "who@example.com"])
        .await;
    assert!(refused.contains("bowline user create"), "{refused}");

    let mut request = request;
    request["Followup"] = url.clone().into();
    let waits = tokio::spawn(async move { connection.register(&request).await });
    home.prints(&["user", "create", "bob@example.com"]).await;
    let done = home
        .prints(&["login", "approve", &url, "--user", "bob@example.com"])
        .await;
    assert!(done.contains("a device of bob@example.com"), "{done}");
    let answer: Value = waits.await.unwrap().unwrap();
    assert_eq!(answer["Login"]["LoginName"], "bob@example.com");
    let (status, text) = page(&format!("/login/{code}")).await;
    assert!(status == 200 && text.contains("The device is in"), "{text}");

    // Expired, it logs in again: it stays its user's, without a word.
    let device = home.prints_json(&["device", "list"]).await["devices"][0]["nodeId"].clone();
    let expire = ["device", "expire", device.as_str().unwrap(), "--yes"];
    home.prints(&expire).await;
    let identity = Identity::numbered(1).with_node_key([7; 32]);
    let again = client.clone().with_identity(identity);
    let mut request = again.register_request();
    request["OldNodeKey"] = client.identity().node_key_text().into();
    let answer = again.connect().await.unwrap();
    let answer = answer.register(&request).await.unwrap();
    let url = answer["AuthURL"].as_str().unwrap().to_owned();
    let list = home.prints(&["login", "list"]).await;
    assert!(list.contains("\nbob@example.com "), "{list}");
    let done = home.prints(&["login", "approve", &url]).await;
    assert!(done.contains("a device of bob@example.com"), "{done}");

    let (status, text) = page("/login/0123456789abcdef0123456789abcdef").await;
    assert!(
        status == 404 && text.contains("Nothing waits here"),
        "{text}"
    );
    assert_eq!(page("/ssh/nothing").await.0, 404);
}

#[tokio::test]
async fn a_device_that_is_denied_is_told() {
    let home = Home::new();
    let serving = home.serve().await;
    let client = Client::new(serving.server().await, Identity::numbered(1), "laptop");
    let mut request = client.register_request();
    let connection = client.connect().await.unwrap();
    let answer = connection.register(&request).await.unwrap();
    request["Followup"] = answer["AuthURL"].clone();
    let code = home.prints_json(&["login", "list"]).await["logins"][0]["code"]
        .as_str()
        .unwrap()
        .to_owned();
    home.prints(&["login", "deny", &code]).await;
    let answer = connection.register(&request).await.unwrap();
    assert_eq!(answer["Error"], "the login was refused");
    let refused = home.refuses(&["login", "approve", &code]).await;
    assert!(
        refused.contains("no login waits with the code"),
        "{refused}"
    );
    assert_eq!(
        home.prints_json(&["ssh", "list"]).await,
        serde_json::json!({"sshChecks": []})
    );
}
