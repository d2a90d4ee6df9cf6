//! Commands that change something leave exactly the events that `docs/audit-events.md` names, whoever
//! asks for them by which door.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bowline_api::ApiOptions;
use bowline_engine::{Clock as _, Engine, SystemClock, SystemRandom};
use bowline_server::listen::serve_operator;
use bowline_store::{Options, Store};
use bowline_testkit::client::{Client, Identity};
use bowline_testkit::clock::TestClock;
use http::Method;
use jiff::SignedDuration;
use rusqlite::{Connection, OpenFlags};
use serde_json::Value;
use tokio::net::UnixListener;
use tokio_util::sync::CancellationToken;

use crate::home::{Home, Serving};

const TABLES: &str = include_str!("../../../../docs/audit-events.md");

/// An event of a tailnet: its name, and the group that it is in.
struct Written {
    tailnet: i64,
    name: String,
    group: String,
}

/// All events of all tailnets, as they were written.
fn events(home: &Home) -> Vec<Written> {
    let path = home.data().join("bowline.db");
    let database = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    let query = "SELECT tailnet, body FROM audit WHERE tailnet <> 0 ORDER BY id";
    let mut query = database.prepare(query).unwrap();
    let rows = query.query_map([], |row| Ok((row.get(0)?, row.get::<_, String>(1)?)));
    let event = |row: rusqlite::Result<(i64, String)>| {
        let (tailnet, body) = row.unwrap();
        let event: Value = serde_json::from_str(&body).unwrap();
        assert!(event["actor"]["type"].is_string());
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let mut name = format!(
            "{}.{}",
            text(&event["target"]["type"]),
            text(&event["action"])
        );
        if let Some(property) = event["target"]["property"].as_str() {
            name = format!("{name}.{property}");
        }
        Written {
            tailnet,
            name,
            group: text(&event["eventGroupID"]),
        }
    };
    rows.unwrap().map(event).collect()
}

/// The rows of the table: a command, and its events.
fn rows() -> Vec<(&'static str, Vec<&'static str>)> {
    let (_, table) = TABLES.split_once("## Command line\n").unwrap();
    let table = table.split("\n## ").next().unwrap();
    let rows = table.lines().filter(|line| line.starts_with("| ")).skip(2);
    rows.map(|row| {
        let mut quoted = row.split('`').skip(1).step_by(2);
        (quoted.next().unwrap(), quoted.collect())
    })
    .collect()
}

/// The code at the end of a page's address.
fn code(address: &Value) -> String {
    let address = address.as_str().unwrap().trim();
    address.rsplit('/').next().unwrap().to_owned()
}

/// The code of the login of a device that begins to wait.
async fn login(serving: &Serving, number: u64, name: &str) -> String {
    let client = Client::new(serving.server().await, Identity::numbered(number), name);
    let connection = client.connect().await.unwrap();
    let answer = connection.register(&client.register_request()).await;
    code(&answer.unwrap()["AuthURL"])
}

/// The code of an SSH session from one device to another that begins to wait.
async fn session(home: &Home, client: &Client, (source, target): (&str, &str)) -> String {
    let devices = home.prints_json(&["device", "list"]).await;
    let id = |name: &str| {
        let devices = devices["devices"].as_array().unwrap();
        let device = devices.iter().find(|device| device["hostname"] == name);
        device.unwrap()["id"].as_str().unwrap().to_owned()
    };
    let (source, target) = (id(source), id(target));
    let path = format!("/machine/ssh/action/{source}/to/{target}?local_user=ann");
    let connection = client.connect().await.unwrap();
    let answer = connection.request(Method::GET, &path, "").await.unwrap();
    code(&answer.json().unwrap()["message"])
}

/// Runs a command in front of the operator's socket of a server in this process, on the same data,
/// whose wall clock has jumped by two days.
async fn after_a_jump(home: &Home, arguments: &[&str]) {
    let database = home.data().join("bowline.db").as_path().into();
    let store = Store::open(&database, Options::default());
    let clock = Arc::new(TestClock::at(SystemClock.now()));
    let engine = Engine::open(
        store.await.unwrap(),
        bowline_engine::Settings::default(),
        clock.clone(),
        Arc::new(SystemRandom),
    );
    let engine = engine.await.unwrap();
    let options = ApiOptions {
        operator: true,
        ..ApiOptions::default()
    };
    let api = bowline_api::router(engine.clone(), options);
    let socket = UnixListener::bind(home.data().join("bowline.sock")).unwrap();
    let stop = CancellationToken::new();
    let serving = tokio::spawn(serve_operator(socket, api, stop.clone()));
    clock.set(SystemClock.now() + SignedDuration::from_hours(48));
    home.prints(arguments).await;
    stop.cancel();
    serving.await.unwrap();
    assert!(engine.close_within(Duration::from_secs(30)).await);
}

#[tokio::test]
async fn every_command_leaves_exactly_the_events_of_the_table() {
    let (home, _) = Home::with_tailnet().await;
    let serving = home.serve().await;
    let laptop = serving.device(&home, 1, "laptop").await;
    let tablet = serving.device(&home, 2, "tablet").await;
    let policy = home.file("policy.hujson", "{\"acls\": []}\n");
    let made = async |what: &str| {
        let made = home.prints_json(&[what, "create"]).await;
        made["id"].as_str().unwrap().to_owned()
    };
    let endpoint = [
        "webhook",
        "create",
        "https://hooks.example.com/first",
        "--event",
        "userDeleted",
    ];
    let endpoint = home.prints_json(&endpoint).await["endpointId"].clone();
    let (key, token) = (made("key").await, made("token").await);
    let client = ["oauth-client", "create", "--scope", "dns"];
    let client = home.prints_json(&client).await["id"].clone();
    let identity = [
        "federated-identity",
        "create",
        "--issuer=https://issuer.example.com",
        "--subject=x",
        "--scope=dns",
    ];
    let identity = home.prints_json(&identity).await["id"].clone();
    // By the default policy people confirm sessions between their own devices.
    let codes = BTreeMap::from([
        ("login approve", login(&serving, 3, "phone").await),
        ("login deny", login(&serving, 4, "camera").await),
        (
            "ssh approve",
            session(&home, &laptop, ("tablet", "laptop")).await,
        ),
        (
            "ssh deny",
            session(&home, &tablet, ("laptop", "tablet")).await,
        ),
    ]);
    let mut serving = Some(serving);
    let rows = rows();
    assert!(rows.len() > 15);
    for (command, expected) in rows {
        let words: Vec<&str> = command.split(' ').skip(1).collect();
        let mut command = command
            .replace("KEY", &key)
            .replace("TOKEN", &token)
            .replace("IDENTITY", identity.as_str().unwrap())
            .replace("CLIENT", client.as_str().unwrap())
            .replace("ENDPOINT", endpoint.as_str().unwrap())
            .replace("FILE", policy.to_str().unwrap());
        if command.contains("SCIM") {
            let listed = home.prints_json(&["scim-key", "list"]).await;
            command = command.replace("SCIM", listed["keys"][0]["id"].as_str().unwrap());
        }
        if let Some(code) = codes.get(words[..2].join(" ").as_str()) {
            command = command.replace("CODE", code);
        }
        let arguments: Vec<&str> = command.split(' ').skip(1).collect();
        if words[0] == "clock"
            && let Some(serving) = serving.take()
        {
            serving.terminate();
            assert!(serving.end().await.success());
        }
        let before = events(&home).len();
        if serving.is_some() {
            home.prints(&arguments).await;
        } else {
            after_a_jump(&home, &arguments).await;
        }
        let new = events(&home).split_off(before);
        let mut names = BTreeMap::<i64, Vec<&str>>::new();
        for event in &new {
            assert_eq!(event.group, new[0].group, "{command}");
            names.entry(event.tailnet).or_default().push(&event.name);
        }
        // What concerns the whole server is told in each tailnet.
        let places = match words[0] {
            _ if expected.is_empty() => 0,
            "clock" => 2,
            _ => 1,
        };
        assert_eq!(names.len(), places, "{command}");
        for names in names.values() {
            assert_eq!(*names, expected, "{command}");
        }
    }
    assert!(serving.is_none(), "the table has no row of the clock");
}
