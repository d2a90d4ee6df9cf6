//! Bodies that nobody should send: every operation refuses them, and nothing breaks.

use std::path::Path;

use bowline_api::{Operation, operations};
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use serde_json::{Map, Value, json};

use crate::access::{Objects, case, objects};
use crate::server::{Reply, Server, bearer};

async fn send(server: &Server, operation: &Operation, objects: &Objects, body: &[u8]) -> Reply {
    let (path, _) = case(operation, "-", objects);
    let reply = server
        .send(
            false,
            bearer(&server.tailnet.token),
            operation.verb.as_str(),
            &path,
            body.to_vec(),
        )
        .await;
    let status = reply.status.as_u16();
    assert!(
        status < 500 || status == 501,
        "{} answered {status} to {}",
        operation.id,
        String::from_utf8_lossy(body)
    );
    if status >= 400 {
        speaks_json(&reply.message(status));
    }
    reply
}

/// A message has no word that only this server's source knows.
fn speaks_json(message: &str) {
    // What is quoted was sent.
    let unquoted: String = message.split('"').step_by(2).collect();
    let words: Vec<&str> = unquoted
        .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .collect();
    for word in [
        "u8", "u16", "u32", "u64", "i32", "i64", "usize", "f64", "sequence", "struct", "variant",
        "Option", "enum", "tuple", "newtype", "unit",
    ] {
        assert!(!words.contains(&word), "{word} in {message}");
    }
    assert!(!message.contains("\\u{"), "{message}");
}

fn with_bodies() -> Vec<Operation> {
    let names = Objects {
        device: "n".to_owned(),
        key: "k".to_owned(),
        client: "k".to_owned(),
        secret: "s".to_owned(),
        exchange: String::new(),
        user: "u".to_owned(),
        webhook: "w".to_owned(),
        login: "0".to_owned(),
        session: "0".to_owned(),
    };
    operations()
        .filter(|operation| {
            let body = case(operation, "-", &names).1;
            // A form is no JSON.
            !body.is_null() && !body.is_string()
        })
        .collect()
}

/// The saved corpus of the fuzz target.
#[tokio::test]
async fn no_operation_takes_what_is_no_object_of_the_saved_corpus() {
    let server = Server::start().await;
    let objects = objects(&server).await;
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/api_body");
    let mut count = 0;
    for file in std::fs::read_dir(directory).unwrap() {
        let body = std::fs::read(file.unwrap().path()).unwrap();
        count += 1;
        bowline_api::fuzzing::body(&body);
        let is_object = serde_json::from_slice::<Map<String, Value>>(&body).is_ok();
        for operation in with_bodies() {
            let reply = send(&server, &operation, &objects, &body).await;
            // Those take HuJSON, nothing at all, and lists of tests.
            let takes_policy = matches!(
                operation.id,
                "setPolicyFile" | "previewRuleMatches" | "validateAndTestPolicyFile"
            );
            assert!(
                is_object || takes_policy || reply.status != 200,
                "{} took {}",
                operation.id,
                String::from_utf8_lossy(&body)
            );
        }
    }
    assert!(count >= 10, "the corpus is gone");
}

fn nasty() -> Vec<Value> {
    let mut deep = json!(1);
    for _ in 0..60 {
        deep = json!([deep]);
    }
    vec![
        Value::Null,
        json!(true),
        json!(-1),
        json!(1e308),
        json!(u64::MAX),
        json!(""),
        json!("\u{0}"),
        json!("\u{202e}\u{feff}x"),
        json!("x".repeat(70_000)),
        json!("';DROP TABLE objects;--"),
        json!("../../etc/passwd"),
        json!("tag:\n"),
        json!([]),
        json!([null]),
        json!([[]]),
        json!({}),
        json!({"": {}}),
        json!(["\u{0}"]),
        json!(vec!["::/0"; 2000]),
        json!("0001-01-01T00:00:00Z"),
        json!("9999-12-31T23:59:59Z"),
        json!(i64::MIN),
        json!("255.255.255.255"),
        json!("%00"),
        deep,
    ]
}

/// Every way to put one value in place of one part of a good body.
fn mutations(good: &Value, value: &Value) -> Vec<Value> {
    let mut all = vec![value.clone()];
    match good {
        Value::Object(fields) => {
            for (name, part) in fields {
                for mutated in mutations(part, value) {
                    let mut copy = fields.clone();
                    copy.insert(name.clone(), mutated);
                    all.push(Value::Object(copy));
                }
                let mut renamed = Map::new();
                renamed.insert(value.as_str().unwrap_or("\u{0}").to_owned(), part.clone());
                all.push(Value::Object(renamed));
            }
        }
        Value::Array(items) => {
            for part in items {
                all.extend(
                    mutations(part, value)
                        .into_iter()
                        .map(|mutated| json!([part, mutated])),
                );
            }
        }
        _ => {}
    }
    all
}

#[tokio::test]
async fn no_value_in_any_place_breaks_an_operation() {
    let server = Server::start().await;
    let objects = objects(&server).await;
    for operation in with_bodies() {
        let (_, good) = case(&operation, "-", &objects);
        for value in nasty() {
            for body in mutations(&good, &value) {
                send(&server, &operation, &objects, body.to_string().as_bytes()).await;
            }
        }
    }
    // The server still works, and so does what it stored.
    server.get("/tailnet/-/devices").await;
    let id = server.tailnet.id;
    assert_eq!(
        server.engine.store().load(id).await.unwrap().seq,
        server.engine.snapshot(id).unwrap().seq
    );
}

#[tokio::test]
async fn no_bytes_break_an_operation() {
    let server = Server::start().await;
    let objects = objects(&server).await;
    let mut runner = TestRunner::deterministic();
    let text = prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..64),
        "[\\[\\]{}\",:0-9a-zA-Z \\\\]{0,48}".prop_map(String::into_bytes),
        "\\{\"(routes|name|dns|nodes|value|capabilities)\":[\\[\\]{}\",:0-9eE.+-]{0,24}\\}"
            .prop_map(String::into_bytes),
    ];
    for operation in with_bodies() {
        for _ in 0..24 {
            let body = text.new_tree(&mut runner).unwrap().current();
            send(&server, &operation, &objects, &body).await;
        }
    }
}

#[tokio::test]
async fn no_id_in_a_path_breaks_an_operation() {
    let server = Server::start().await;
    for id in [
        "%00",
        "%ff",
        "..",
        "%2e%2e%2f",
        "18446744073709551616",
        "-1",
        "n%E2%80%AECNTRL",
        "'",
        "%7B",
        "*",
    ] {
        let names = Objects {
            device: id.to_owned(),
            key: id.to_owned(),
            client: id.to_owned(),
            secret: String::new(),
            exchange: String::new(),
            user: id.to_owned(),
            webhook: id.to_owned(),
            login: id.to_owned(),
            session: id.to_owned(),
        };
        for operation in operations() {
            if !operation.path.contains("Id}") && !operation.path.contains("{code}") {
                continue;
            }
            let (path, value) = case(&operation, "-", &names);
            let reply = server.call(operation.verb.as_str(), &path, value).await;
            assert_eq!(reply.message(404), "not found", "{} {id}", operation.id);
        }
    }
}
