//! The audit log over the API.

use serde_json::{Value, json};

use crate::server::Server;

const LOG: &str = "/tailnet/-/logging/configuration";
const ALL: &str = "start=2000-01-01T00:00:00Z&end=2100-01-01T00:00:00Z";

async fn read(server: &Server, query: &str) -> Value {
    let path = format!("{LOG}?{query}");
    server.call("GET", &path, Value::Null).await.ok()
}

fn names(answer: &Value) -> Vec<String> {
    let name = |log: &Value| {
        let parts = [
            &log["target"]["type"],
            &log["action"],
            &log["target"]["property"],
        ];
        let parts: Vec<&str> = parts.into_iter().filter_map(Value::as_str).collect();
        parts.join(".")
    };
    answer["logs"]
        .as_array()
        .unwrap()
        .iter()
        .map(name)
        .collect()
}

#[tokio::test]
async fn an_act_is_in_the_log_in_the_official_form() {
    let server = Server::start().await;
    let before = read(&server, ALL).await["logs"].as_array().unwrap().len();
    server.advance(60).await;
    let body = json!({"magicDNS": false});
    server
        .call("POST", "/tailnet/-/dns/preferences", body)
        .await
        .ok();
    let answer = read(&server, ALL).await;
    assert_eq!(answer["version"], "1.1");
    assert_eq!(answer["tailnet"], "example.com");
    assert_eq!(answer["tailnetId"], server.tailnet.id.stable());
    let logs = answer["logs"].as_array().unwrap();
    assert_eq!(
        names(&answer)[before..],
        ["TAILNET.UPDATE.DNS_CONFIG", "TAILNET.DISABLE.MAGIC_DNS"]
    );
    let last = logs.last().unwrap();
    assert_eq!(
        last["actor"],
        json!({
            "id": server.tailnet.owner.stable(), "type": "USER",
            "loginName": "ann@example.com", "displayName": "ann",
        })
    );
    assert_eq!(
        last["target"],
        json!({
            "id": server.tailnet.id.stable(), "name": "example.com",
            "type": "TAILNET", "property": "MAGIC_DNS",
        })
    );
    let facts = ["type", "deferredAt", "origin", "action", "old", "new"].map(|key| &last[key]);
    assert_eq!(
        facts,
        [
            &json!("CONFIG"),
            &json!("0001-01-01T00:00:00Z"),
            &json!("CONFIG_API"),
            &json!("DISABLE"),
            &json!(true),
            &json!(false)
        ]
    );
    let group = last["eventGroupID"].as_str().unwrap();
    assert_eq!(group.len(), 32);
    assert_eq!(logs[before]["eventGroupID"], group);
    for (index, log) in logs.iter().enumerate() {
        assert_eq!(log["number"], index + 1);
        assert_eq!(log["hash"].as_str().unwrap().len(), 64);
    }
}

#[tokio::test]
async fn filters_are_joined_and_their_values_are_alternatives() {
    let server = Server::start().await;
    let key = json!({"capabilities": {"devices": {"create": {}}}, "description": "printers"});
    server.call("POST", "/tailnet/-/keys", key).await.ok();
    server.advance(3600).await;
    let dns = json!({"dns": ["9.9.9.9"]});
    server
        .call("POST", "/tailnet/-/dns/nameservers", dns)
        .await
        .ok();
    let owner = server.tailnet.owner.stable();
    for (query, wanted) in [
        (
            "event=API_KEY.CREATE,TAILNET.UPDATE.DNS_CONFIG".to_owned(),
            // The owner's own token is the first.
            &[
                "API_KEY.CREATE",
                "API_KEY.CREATE",
                "TAILNET.UPDATE.DNS_CONFIG",
            ][..],
        ),
        (
            "event=API_KEY.CREATE&event=TAILNET.UPDATE.DNS_CONFIG&target=auth%20KEY".to_owned(),
            &["API_KEY.CREATE"],
        ),
        (
            format!("actor={owner}&target=dns_config"),
            &["TAILNET.UPDATE.DNS_CONFIG"],
        ),
        (
            "actor=~ANN@&target=dns_config".to_owned(),
            &["TAILNET.UPDATE.DNS_CONFIG"],
        ),
        ("actor=ann@example.com".to_owned(), &[]),
        ("actor=u1CNTRL,~bob".to_owned(), &[]),
    ] {
        let answer = read(&server, &format!("{ALL}&{query}")).await;
        assert_eq!(names(&answer), wanted, "{query}");
    }
    // Both ends are included.
    let all = read(&server, ALL).await;
    let last = all["logs"].as_array().unwrap().last().unwrap().clone();
    let time = last["eventTime"].as_str().unwrap();
    let same = read(&server, &format!("start={time}&end={time}")).await;
    assert_eq!(same["logs"], json!([last]));
    let earlier = read(&server, &format!("start=2000-01-01T00:00:00Z&end={time}")).await;
    assert_eq!(earlier["logs"], all["logs"]);
}

#[tokio::test]
async fn pages_are_together_what_one_answer_is() {
    let server = Server::start().await;
    for number in 0..5 {
        let key = json!({"capabilities": {"devices": {"create": {}}}});
        server.call("POST", "/tailnet/-/keys", key).await.ok();
        if number % 2 == 0 {
            server.advance(60).await;
        }
    }
    let all = read(&server, ALL).await;
    assert!(all["nextCursor"].is_null());
    let (mut logs, mut cursor) = (Vec::new(), String::new());
    loop {
        let mut page = read(&server, &format!("{ALL}&limit=2{cursor}")).await;
        let events = page["logs"].as_array_mut().unwrap();
        assert!(events.len() <= 2 && !events.is_empty());
        logs.append(events);
        let Some(next) = page["nextCursor"].as_str() else {
            break;
        };
        cursor = format!("&cursor={next}");
    }
    let numbers = |logs: &Value| -> Vec<Value> {
        let logs = logs.as_array().unwrap().iter();
        logs.map(|log| log["number"].clone()).collect()
    };
    let logs = Value::from(logs);
    assert_eq!(numbers(&logs), numbers(&all["logs"]));
    assert_eq!(logs, all["logs"]);
}

#[tokio::test]
async fn a_policy_file_is_in_the_log_as_its_text_and_a_secret_is_not() {
    let server = Server::start().await;
    let policy = r#"{"groups": {"group:dev": ["ann@example.com"]}}"#;
    let body = serde_json::from_str(policy).unwrap();
    server.call("POST", "/tailnet/-/acl", body).await.ok();
    let key = json!({"capabilities": {"devices": {"create": {}}}});
    let made = server.call("POST", "/tailnet/-/keys", key).await.ok();
    let answer = read(&server, &format!("{ALL}&event=TAILNET.UPDATE.ACL")).await;
    let new = answer["logs"][0]["new"].as_str().unwrap();
    assert!(new.contains("group:dev"), "{new}");
    let all = read(&server, ALL).await.to_string();
    assert!(!all.contains(made["key"].as_str().unwrap()));
    assert!(!all.contains(&server.tailnet.token));
}

#[tokio::test]
async fn what_cannot_be_read_is_refused() {
    let server = Server::start().await;
    let path = format!("{LOG}?end=2100-01-01T00:00:00Z");
    let refused = server.call("GET", &path, Value::Null).await;
    assert_eq!(refused.message(400), "start is required");
    // No operation changes or removes what is in it.
    for verb in ["DELETE", "POST", "PUT", "PATCH"] {
        let refused = server.call(verb, LOG, json!({})).await;
        assert_eq!(refused.status, 405, "{verb}");
    }
}
