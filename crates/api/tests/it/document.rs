//! Our OpenAPI document.

use std::collections::BTreeSet;
use std::path::Path;

use bowline_api::operations;
use serde_json::Value;

use crate::schema::{official, ours};
use crate::server::Server;

/// Set it to write the file in place of comparing it.
const WRITE: &str = "BOWLINE_WRITE";

#[test]
fn openapi_document_is_current() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../openapi/api-v2.json");
    let text = format!("{:#}\n", ours());
    if std::env::var_os(WRITE).is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        return;
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == text,
        "openapi/api-v2.json is not current: run `cargo run -p bowline-xtask -- openapi`"
    );
}

#[tokio::test]
async fn the_document_is_served_to_everybody() {
    let server = Server::start().await;
    for path in [
        "?outputOpenapiSchema=true",
        "",
        "/",
        "/?outputOpenapiSchema=true",
    ] {
        let reply = server.send(false, None, "GET", path, Vec::new()).await;
        assert_eq!(reply.ok(), *ours());
    }
}

#[test]
fn operations_are_told_apart_and_official_ones_keep_their_names() {
    let Some(document) = official() else {
        return;
    };
    let mut ids = BTreeSet::new();
    let mut own = Vec::new();
    for operation in operations() {
        assert!(ids.insert(operation.id), "{} is there twice", operation.id);
        let method = operation.verb.as_str().to_lowercase();
        match document["paths"]
            .get(operation.path)
            .and_then(|path| path.get(&method))
        {
            Some(official) => assert_eq!(official["operationId"], operation.id),
            None => own.push(operation.id),
        }
    }
    own.sort_unstable();
    let expected = [
        "confirmClock",
        "confirmLogin",
        "confirmSshCheck",
        "createAccessToken",
        "createOauthToken",
        "createScimKey",
        "createTailnet",
        "createUser",
        "diffPolicyFile",
        "exchangeToken",
        "explainPolicyFile",
        "getClock",
        "getOpenapi",
        "identifySecret",
        "listLogins",
        "listScimKeys",
        "listSshChecks",
        "listTailnets",
        "listWebhookDeliveries",
        "refuseLogin",
        "refuseSshCheck",
        "replayWebhookDeliveries",
    ];
    assert_eq!(own, expected);
}

#[test]
fn every_reference_leads_somewhere_and_every_component_is_used() {
    fn references(value: &Value, found: &mut BTreeSet<String>) {
        match value {
            Value::Object(fields) => {
                if let Some(Value::String(target)) = fields.get("$ref") {
                    found.insert(target.clone());
                }
                fields.values().for_each(|value| references(value, found));
            }
            Value::Array(items) => items.iter().for_each(|value| references(value, found)),
            _ => {}
        }
    }
    let mut found = BTreeSet::new();
    references(ours(), &mut found);
    let mut declared = BTreeSet::new();
    for kind in ["parameters", "schemas", "responses"] {
        for name in ours()["components"][kind].as_object().unwrap().keys() {
            declared.insert(format!("#/components/{kind}/{name}"));
        }
    }
    assert_eq!(found, declared);
}
