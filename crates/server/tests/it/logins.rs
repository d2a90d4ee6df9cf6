//! A device without an auth key: the page that it is sent to, and the commands that let it in.

use bowline_testkit::client::{Client, Identity};
use http::Method;
use rustix::process::Signal;
use serde_json::Value;

use crate::home::{Home, Serving};

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

/// The code in a text that ends with an address of a page.
fn code(text: &str) -> String {
    text.trim().rsplit('/').next().unwrap().to_owned()
}

#[tokio::test]
async fn a_login_waits_on_though_the_server_is_killed() {
    let home = Home::new();
    let serving = home.serve().await;
    let client = Client::new(serving.server().await, Identity::numbered(1), "laptop");
    let mut request = client.register_request();
    let connection = client.connect().await.unwrap();
    let answer = connection.register(&request).await.unwrap();
    let begun = code(answer["AuthURL"].as_str().unwrap());
    request["Followup"] = answer["AuthURL"].clone();
    serving.signal(Signal::KILL);
    serving.end().await;
    // It is there while nobody serves, too.
    let list = home.prints_json(&["login", "list"]).await;
    assert_eq!(list["logins"][0]["code"], *begun, "{list}");
    let serving = home.serve().await;
    // The device comes back with the address that it was shown: it is good.
    let client = Client::new(serving.server().await, Identity::numbered(1), "laptop");
    let connection = client.connect().await.unwrap();
    let again = connection.register(&client.register_request()).await;
    assert_eq!(code(again.unwrap()["AuthURL"].as_str().unwrap()), begun);
    let waits = tokio::spawn(async move { connection.register(&request).await });
    home.prints(&["user", "create", "bob@example.com"]).await;
    let approve = ["login", "approve", &begun, "--user", "bob@example.com"];
    home.prints(&approve).await;
    let answer = waits.await.unwrap().unwrap();
    assert_eq!(answer["Login"]["LoginName"], "bob@example.com");
    assert_eq!(answer["MachineAuthorized"], true);
}

#[tokio::test]
async fn an_ssh_session_waits_on_though_the_server_is_killed_and_so_does_its_confirmation() {
    let home = Home::new();
    let serving = home.serve().await;
    // By the default policy people confirm sessions between their own devices.
    serving.device(&home, 1, "laptop").await;
    serving.device(&home, 2, "desk").await;
    let devices = home.prints_json(&["device", "list"]).await;
    let id = |name: &str| {
        let devices = devices["devices"].as_array().unwrap();
        let device = devices.iter().find(|device| device["hostname"] == name);
        device.unwrap()["id"].as_str().unwrap().to_owned()
    };
    let path = format!("/machine/ssh/action/{}/to/{}", id("laptop"), id("desk"));
    let ask = async |serving: &Serving| -> Value {
        let desk = Client::new(serving.server().await, Identity::numbered(2), "desk");
        let connection = desk.connect().await.unwrap();
        let path = format!("{path}?local_user=ann");
        let answer = connection.request(Method::GET, &path, "").await.unwrap();
        answer.json().unwrap()
    };
    let held = code(ask(&serving).await["message"].as_str().unwrap());
    let kill = async |serving: Serving| {
        serving.signal(Signal::KILL);
        serving.end().await;
        home.serve().await
    };
    let serving = kill(serving).await;
    assert_eq!(code(ask(&serving).await["message"].as_str().unwrap()), held);
    home.prints(&["ssh", "approve", &held]).await;
    let serving = kill(serving).await;
    assert_eq!(ask(&serving).await["accept"], true);
}
