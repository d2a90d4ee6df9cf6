//! Webhooks from a server that runs to a receiver that listens.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::home::{Home, Serving, patiently};

/// What a receiver does with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    /// Takes it.
    Ok,
    /// Sends it elsewhere.
    Redirect,
    /// Says nothing for as long as the connection is there.
    Nothing,
}

/// A receiver of webhooks: head and body of each request that came.
struct Receiver {
    url: String,
    got: Arc<Mutex<Vec<(String, Value)>>>,
    answer: Arc<Mutex<Answer>>,
}

impl Receiver {
    async fn listen() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let got = Arc::new(Mutex::new(Vec::new()));
        let answer = Arc::new(Mutex::new(Answer::Ok));
        let (kept, now) = (got.clone(), answer.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, kept.clone(), now.clone()));
            }
        });
        Self { url, got, answer }
    }

    fn answer(&self, answer: Answer) {
        *self.answer.lock().unwrap() = answer;
    }

    /// Waits until the requests are such.
    async fn until(&self, is_enough: impl Fn(&[(String, Value)]) -> bool) {
        patiently(async {
            while !is_enough(&self.got.lock().unwrap()) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await;
    }

    /// Login names in the events of new users, in the order in which they came.
    fn logins(&self) -> Vec<String> {
        logins(&self.got.lock().unwrap())
    }
}

fn logins(got: &[(String, Value)]) -> Vec<String> {
    let events = got.iter().flat_map(|(_, body)| body.as_array().unwrap());
    let of_users = events.filter(|event| event["type"] == "userCreated");
    of_users
        .map(|event| event["data"]["user"].as_str().unwrap().to_owned())
        .collect()
}

async fn serve(
    mut stream: TcpStream,
    got: Arc<Mutex<Vec<(String, Value)>>>,
    answer: Arc<Mutex<Answer>>,
) {
    let mut text = Vec::new();
    let (head, body) = loop {
        let mut buffer = [0; 4096];
        let Ok(read @ 1..) = stream.read(&mut buffer).await else {
            return;
        };
        text.extend(&buffer[..read]);
        let Some(end) = text.windows(4).position(|four| four == b"\r\n\r\n") else {
            continue;
        };
        let head = String::from_utf8(text[..end].to_vec())
            .unwrap()
            .to_lowercase();
        let (_, length) = head.split_once("content-length: ").unwrap();
        let length: usize = length.split("\r\n").next().unwrap().parse().unwrap();
        if text.len() >= end + 4 + length {
            let body = serde_json::from_slice(&text[end + 4..]).unwrap();
            break (head, body);
        }
    };
    let answer = *answer.lock().unwrap();
    got.lock().unwrap().push((head, body));
    let text = match answer {
        Answer::Ok => "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
        Answer::Redirect => {
            "HTTP/1.1 307 Temporary Redirect\r\nlocation: /elsewhere\r\ncontent-length: 0\r\n\r\n"
        }
        Answer::Nothing => {
            let _ = stream.read(&mut [0]).await;
            return;
        }
    };
    let _ = stream.write_all(text.as_bytes()).await;
}

const ALLOWED: &str = "[outbound]\nallow_networks = [\"127.0.0.1/32\"]\n";

async fn serve_with(home: &Home, settings: &str) -> Serving {
    let settings = home.file("bowline.toml", settings);
    let config = format!("--config={}", settings.display());
    home.serve_with(&[&config]).await
}

async fn create(home: &Home, url: &str) -> Value {
    let events = ["--event", "categoryTailnetManagement"];
    home.prints_json(&[&["webhook", "create", url], &events[..]].concat())
        .await
}

#[tokio::test]
async fn a_receiver_is_told_tested_shown_and_replayed() {
    let (home, _) = Home::with_tailnet().await;
    let serving = serve_with(&home, ALLOWED).await;
    let receiver = Receiver::listen().await;
    let made = create(&home, &receiver.url).await;
    let id = made["endpointId"].as_str().unwrap();
    let said = home.prints(&["webhook", "test", id]).await;
    assert_eq!(said, format!("A test event is on its way to {id}.\n"));
    receiver.until(|got| got.len() == 1).await;
    let (head, body) = receiver.got.lock().unwrap()[0].clone();
    assert!(head.starts_with("post /hook http/1.1"), "{head}");
    assert!(
        head.contains("\r\ntailscale-webhook-signature: t="),
        "{head}"
    );
    assert!(
        head.contains("\r\ncontent-type: application/json"),
        "{head}"
    );
    assert_eq!(body[0]["message"], "This is a test event");
    assert_eq!(body[0]["data"], Value::Null);

    let list = home.prints(&["webhook", "list"]).await;
    assert!(list.contains(id) && list.contains(&receiver.url), "{list}");
    receiver.answer(Answer::Redirect);
    home.prints(&["webhook", "test", id]).await;
    receiver.until(|got| got.len() == 2).await;
    let shown = patiently(async {
        loop {
            let shown = home.prints(&["webhook", "show", id]).await;
            if shown.contains("Last error") {
                break shown;
            }
        }
    })
    .await;
    let error = "the endpoint answered 307; redirects are not followed";
    assert!(shown.contains(error), "{shown}");
    let nothing = home.prints(&["webhook", "replay", id]).await;
    assert_eq!(nothing, "There is nothing to be told again.\n");
    let rotated = home.prints_json(&["webhook", "rotate", id]).await;
    assert_ne!(rotated["secret"], made["secret"]);
    home.prints(&["webhook", "delete", id, "--yes"]).await;
    let list = home.prints(&["webhook", "list"]).await;
    assert_eq!(list, "No webhook endpoints.\n");
    // It was told of nothing where the redirect led to.
    assert!(
        receiver
            .got
            .lock()
            .unwrap()
            .iter()
            .all(|(head, _)| head.starts_with("post /hook"))
    );
    serving.terminate();
    assert!(serving.end().await.success());
}

#[tokio::test]
async fn no_receiver_is_where_only_the_server_can_reach() {
    let (home, _) = Home::with_tailnet().await;
    let serving = home.serve().await;
    for url in [
        "https://127.0.0.1/",
        "https://[::1]:8443/",
        "https://169.254.169.254/latest/meta-data",
        "https://10.1.2.3/",
        "https://[::ffff:127.0.0.1]/",
        "https://user:password@example.com/",
    ] {
        let refused = home
            .refuses(&["webhook", "create", url, "--event", "nodeCreated"])
            .await;
        assert!(refused.contains("endpointUrl cannot be used"), "{refused}");
    }
    serving.terminate();
    assert!(serving.end().await.success());
}

/// Makes a user, and returns when that is stored.
async fn user(serving: &Serving, token: &str, login: &str) {
    let authorization = format!("Bearer {token}");
    let headers = [("authorization", authorization.as_str())];
    let body = json!({ "loginName": login }).to_string();
    let server = serving.server().await;
    let path = "/api/v2/tailnet/-/users";
    let answer = server.request(Method::POST, path, &headers, body).await;
    let answer = answer.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
}

/// Killed where a change was just acknowledged, while a request is on its way, and when one was taken
/// and that is not noted yet.
#[tokio::test]
async fn what_was_acknowledged_is_told_in_order_though_the_server_is_killed() {
    let (home, made) = Home::with_tailnet().await;
    let token = made["token"].as_str().unwrap();
    let receiver = Receiver::listen().await;
    let mut serving = serve_with(&home, ALLOWED).await;
    create(&home, &receiver.url).await;
    let mut told = Vec::new();
    for round in 0..3 {
        let is_held = round > 0;
        receiver.answer(if is_held { Answer::Nothing } else { Answer::Ok });
        let before = receiver.got.lock().unwrap().len();
        for number in 0..4 {
            let login = format!("user{round}{number}@example.com");
            user(&serving, token, &login).await;
            told.push(login);
        }
        if is_held {
            receiver.until(|got| got.len() > before).await;
        }
        serving.kill().await;
        receiver.answer(Answer::Ok);
        serving = serve_with(&home, ALLOWED).await;
    }
    let last = told.last().unwrap().clone();
    receiver.until(|got| logins(got).contains(&last)).await;
    // Again and again, perhaps, but none for the first time before an earlier one.
    let mut first = Vec::new();
    for login in receiver.logins() {
        if !first.contains(&login) {
            first.push(login);
        }
    }
    assert_eq!(first, told);
    serving.terminate();
    assert!(serving.end().await.success());
}
