//! Decisions about SSH sessions, as the device that they go to asks for them.

use bowline_control::Config;
use bowline_engine::credential::NewAuthKey;
use bowline_testkit::client::{Answer, Client};
use http::{Method, StatusCode};
use serde_json::Value;

use crate::server::{Server, config};

const POLICY: &str = r#"{
    "acls": [{"action": "accept", "src": ["*"], "dst": ["*:*"]}],
    "ssh": [{"action": "ACTION", "src": ["autogroup:member"], "dst": ["autogroup:self"], "users": ["o p"], "checkPeriod": "1h"}],
}"#;

struct Pair {
    server: Server,
    target: Client,
    path: String,
}

impl Pair {
    async fn new(action: &str) -> Self {
        let server = Server::start().await;
        let policy = POLICY.replace("ACTION", action);
        let policy = if action == "check" {
            policy
        } else {
            policy.replace(r#", "checkPeriod": "1h""#, "")
        };
        server.set_policy(&policy).await;
        let (_, source) = server.joined(1).await;
        let (target, id) = server.joined(2).await;
        let path = format!("/machine/ssh/action/{source}/to/{id}");
        Self {
            server,
            target,
            path,
        }
    }

    async fn get(&self, client: &Client, path: &str) -> Answer {
        let connection = client.connect().await.unwrap();
        connection.request(Method::GET, path, "").await.unwrap()
    }

    /// The action for a local user.
    async fn action(&self, user: &str) -> Value {
        let path = format!("{}?local_user={user}", self.path);
        self.get(&self.target, &path).await.json().unwrap()
    }

    /// Asks where the action says, as the client does.
    fn delegated(&self, action: &Value) -> tokio::task::JoinHandle<Value> {
        let url = action["holdAndDelegate"].as_str().unwrap();
        let path = url.strip_prefix("https://unused").unwrap().to_owned();
        let client = self.target.clone();
        tokio::spawn(async move {
            let connection = client.connect().await.unwrap();
            let answer = connection.request(Method::GET, &path, "").await.unwrap();
            answer.json().unwrap()
        })
    }
}

fn code(action: &Value) -> String {
    let message = action["message"].as_str().unwrap();
    assert!(message.ends_with('\n'), "{message:?}");
    let at = message.find("http://bowline.example.com/ssh/").unwrap();
    message[at..].trim().rsplit('/').next().unwrap().to_owned()
}

#[tokio::test]
async fn accepted_and_denied_sessions_are_answered_at_once() {
    let pair = Pair::new("accept").await;
    let accepted = pair.action("o+p").await;
    assert_eq!(
        accepted,
        serde_json::json!({
            "accept": true, "allowAgentForwarding": true,
            "allowLocalPortForwarding": true, "allowRemotePortForwarding": true,
        })
    );
    let denied = pair.action("root").await;
    assert_eq!(denied["reject"], true);
    assert!(denied["message"].as_str().unwrap().contains("policy"));
}

#[tokio::test]
async fn a_checked_session_is_held_until_it_is_confirmed_and_remembered() {
    let pair = Pair::new("check").await;
    let held = pair.action("o%20p").await;
    let waits = pair.delegated(&held);
    let server = &pair.server;
    server
        .engine
        .decide_ssh_check(&server.admin, &code(&held), true)
        .await
        .unwrap();
    assert_eq!(waits.await.unwrap()["accept"], true);
    assert_eq!(pair.action("o%20p").await["accept"], true);
    assert_eq!(pair.action("root").await["reject"], true);
}

#[tokio::test]
async fn a_checked_session_that_is_refused_ends_with_a_message() {
    let pair = Pair::new("check").await;
    let held = pair.action("o%20p").await;
    let waits = pair.delegated(&held);
    let server = &pair.server;
    server
        .engine
        .decide_ssh_check(&server.admin, &code(&held), false)
        .await
        .unwrap();
    let refused = waits.await.unwrap();
    assert_eq!(
        (&refused["reject"], &refused["message"]),
        (&true.into(), &"the session was refused\n".into())
    );
    assert!(pair.action("o%20p").await["holdAndDelegate"].is_string());
}

#[tokio::test]
async fn only_the_device_itself_is_answered_about_what_it_can_see() {
    let pair = Pair::new("accept").await;
    let path = format!("{}?local_user=o+p", pair.path);
    // The source may not ask, nor a machine without a device.
    for number in [1, 9] {
        let answer = pair.get(&pair.server.client(number), &path).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND);
    }
    // A source of another tailnet is as one that is not there.
    let made = pair
        .server
        .engine
        .create_tailnet("eve@example.org", None)
        .await
        .unwrap();
    let eve = pair
        .server
        .engine
        .authenticate(made.token.expose())
        .unwrap()
        .asking(bowline_model::requirement::Requirement::CALLER);
    let key = pair
        .server
        .engine
        .create_auth_key(&eve, None, NewAuthKey::default())
        .await
        .unwrap()
        .0;
    let foreign = pair.server.client(3);
    foreign.join(key.expose()).await.unwrap();
    let node_key = foreign.identity().node_key_text().parse().unwrap();
    let foreign = pair.server.engine.find_device(&node_key).unwrap().2;
    let target = pair.path.rsplit('/').next().unwrap();
    for source in [foreign.device.id.get(), 12] {
        let path = format!("/machine/ssh/action/{source}/to/{target}?local_user=o+p");
        let answer = pair.get(&pair.target, &path).await.json().unwrap();
        assert_eq!(answer["reject"], true, "{answer}");
    }
    for path in [
        pair.path.clone(),
        format!("/machine/ssh/action/x/to/{target}?local_user=a"),
        format!("{}?local_user={}", pair.path, "a".repeat(257)),
    ] {
        let answer = pair.get(&pair.target, &path).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{path}");
    }
}

#[tokio::test]
async fn a_machine_that_asks_too_often_is_told_to_wait_and_may_still_register() {
    let server = Server::with(Config {
        registrations_per_second: 0.001,
        ..config()
    })
    .await;
    let (client, _) = server.joined(1).await;
    let connection = client.connect().await.unwrap();
    let path = "/machine/ssh/action/1/to/2?local_user=root";
    let mut waits = 0;
    for _ in 0..25 {
        let answer = connection.request(Method::GET, path, "").await.unwrap();
        waits += usize::from(answer.status == StatusCode::TOO_MANY_REQUESTS);
    }
    assert_eq!(waits, 5, "twenty at once, and no more");
    client.register(&client.register_request()).await.unwrap();
}
