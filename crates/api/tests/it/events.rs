//! Every operation that changes something leaves exactly the events that `docs/audit-events.md` names,
//! and names and types of events are those of the official document.

use std::collections::{BTreeMap, BTreeSet};

use bowline_api::{Operation, operations};
use bowline_model::audit::{AuditEvent, EventGroup, Origin};
use bowline_model::event::{Name, WebhookEvent};
use bowline_model::record;
use bowline_model::requirement::Requirement;
use bowline_store::Owner;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::access::{case, objects};
use crate::schema;
use crate::server::Server;

const TABLES: &str = include_str!("../../../../docs/audit-events.md");

const POLICY: &str = r#"{
    "acls": [{"action": "accept", "src": ["*"], "dst": ["*:*"]}],
    "ssh": [{"action": "check", "src": ["autogroup:member"], "dst": ["autogroup:self"], "users": ["root"]}],
    "tagOwners": {"tag:case": []},
}"#;

/// A row of the table of operations: a body, where it is not the usual one, and the events.
struct Row {
    body: Option<Value>,
    events: Vec<String>,
}

/// What stands in back quotes.
fn quoted(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

/// Rows of the table, by operation.
fn rows() -> BTreeMap<String, Vec<Row>> {
    let (_, table) = TABLES.split_once("## API\n").unwrap();
    let table = table.split("\n## ").next().unwrap();
    let mut rows: BTreeMap<String, Vec<Row>> = BTreeMap::new();
    for line in table.lines().filter(|line| line.starts_with("| ")).skip(2) {
        let cells: Vec<&str> = line.trim_matches('|').split('|').collect();
        let body = quoted(cells[1]).next();
        rows.entry(cells[0].trim().to_owned())
            .or_default()
            .push(Row {
                body: body.map(|text| serde_json::from_str(text).unwrap()),
                events: quoted(cells[2]).map(str::to_owned).collect(),
            });
    }
    rows
}

/// The events of everybody, by their ids.
async fn all_events(server: &Server) -> BTreeMap<u64, (Owner, AuditEvent)> {
    let tailnets = server.engine.tailnets().into_iter().map(Owner::from);
    let mut all = BTreeMap::new();
    for owner in tailnets.chain([Owner::Server]) {
        let (from, to) = (Timestamp::UNIX_EPOCH, Timestamp::MAX);
        let rows = server.engine.store().audit(owner, from, to, 100_000).await;
        for row in rows.unwrap() {
            all.insert(row.id, (owner, record::decode(&row.body).unwrap()));
        }
    }
    all
}

/// Sends one row's request; what it left, each owner's log by itself.
async fn send(server: &Server, operation: &Operation, path: &str, row: &Row, body: Value) {
    let before = all_events(server).await;
    let verb = operation.verb.as_str();
    let is_operators = operation.requirement == Requirement::OPERATOR;
    let reply = if is_operators {
        server.operate(verb, path, body).await
    } else {
        server.call(verb, path, body).await
    };
    let status = reply.status.as_u16();
    // What cannot be changed is refused.
    let is_served =
        status == operation.success || (matches!(status, 400 | 501) && row.events.is_empty());
    assert!(is_served, "{} {status}", operation.id);
    let mut new = all_events(server).await;
    new.retain(|id, _| !before.contains_key(id));
    let mut logs: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (owner, event) in new.values() {
        let place = match owner {
            Owner::Server => "server".to_owned(),
            Owner::Tailnet(id) => id.to_string(),
        };
        logs.entry(place).or_default().push(event.name());
        assert_eq!(event.origin, Origin::ConfigApi);
        assert_eq!(event.at, server.engine.now());
        let actor = serde_json::to_value(&event.actor).unwrap();
        if is_operators {
            assert_eq!(actor["type"], "operator", "{}", operation.id);
        } else if operation.id == "createOauthToken" {
            assert_eq!(actor["type"], "oauthClient", "{}", operation.id);
        } else if operation.id == "exchangeToken" {
            assert_eq!(actor["type"], "federatedIdentity", "{}", operation.id);
        } else {
            assert_eq!(actor["login"], "ann@example.com", "{}", operation.id);
        }
    }
    // The server's own log has the first of what the tailnet's has.
    if let Some(own) = logs.remove("server") {
        assert_eq!(own, row.events[..1], "{}", operation.id);
    }
    if row.events.is_empty() {
        assert!(logs.is_empty(), "{} left {logs:?}", operation.id);
    } else {
        assert!(!logs.is_empty(), "{} left nothing", operation.id);
    }
    for log in logs.values() {
        assert_eq!(*log, row.events, "{} {:?}", operation.id, row.body);
    }
    let groups: BTreeSet<EventGroup> = new.values().map(|(_, it)| it.event_group_id).collect();
    assert!(groups.len() <= 1, "{}", operation.id);
    let known = before.values().map(|(_, it)| it.event_group_id);
    let known: BTreeSet<EventGroup> = known.collect();
    assert!(groups.is_disjoint(&known), "{}", operation.id);
}

#[tokio::test]
async fn every_mutation_leaves_exactly_the_events_of_the_table() {
    let server = Server::start().await;
    let mut rows = rows();
    for operation in operations() {
        if !operation.changes() {
            continue;
        }
        let of_operation = rows.remove(operation.id);
        let of_operation = of_operation
            .unwrap_or_else(|| panic!("{} has no row in docs/audit-events.md", operation.id));
        server.set_policy(POLICY).await;
        let objects = objects(&server).await;
        let set = format!("/device/{}/attributes/custom:case", objects.device);
        server.call("POST", &set, json!({"value": "y"})).await.ok();
        match operation.id {
            "restoreUser" => {
                let suspend = format!("/users/{}/suspend", objects.user);
                server.call("POST", &suspend, Value::Null).await.ok();
            }
            "deleteUser" => {
                let create = json!({"devices": {"create": {}}});
                let body = json!({"capabilities": create, "user": objects.user});
                let key = server.call("POST", "/tailnet/-/keys", body).await.ok();
                server.register(&key, "theirs").await.unwrap();
            }
            _ => {}
        }
        for row in of_operation {
            let (path, usual) = case(&operation, "-", &objects);
            let body = row.body.clone().unwrap_or(usual);
            send(&server, &operation, &path, &row, body).await;
        }
    }
    let absent: Vec<_> = rows.keys().collect();
    assert!(absent.is_empty(), "no operations that change: {absent:?}");
}

/// The members of an enumeration of the official document.
fn official_names(pointer: &str) -> Option<BTreeSet<String>> {
    let names = schema::official()?.pointer(pointer).expect(pointer);
    let names = names.as_array().unwrap().iter();
    Some(
        names
            .map(|name| name.as_str().unwrap().to_owned())
            .collect(),
    )
}

#[test]
fn names_of_events_are_the_official_ones_and_those_marked_as_ours() {
    let parameters = "/paths/~1tailnet~1{tailnet}~1logging~1configuration/parameters";
    let Some(official) = schema::official() else {
        return; // said where it is looked for
    };
    let parameters = official.pointer(parameters).unwrap().as_array().unwrap();
    let resolved = parameters.iter().map(|one| match one["$ref"].as_str() {
        Some(place) => official.pointer(place.trim_start_matches('#')).unwrap(),
        None => one,
    });
    let event = resolved.into_iter().find(|one| one["name"] == "event");
    let names = event.unwrap()["schema"]["items"]["enum"].as_array();
    let names: BTreeSet<&str> = names.unwrap().iter().filter_map(Value::as_str).collect();
    let ours: BTreeSet<String> = Name::ALL
        .iter()
        .filter(|name| name.is_official())
        .map(Name::to_string)
        .collect();
    assert_eq!(
        ours.iter().map(String::as_str).collect::<BTreeSet<_>>(),
        names
    );
    for name in Name::ALL.iter().filter(|name| !name.is_official()) {
        assert!(!names.contains(&*name.to_string()), "{name} is official");
    }
    let webhooks =
        official_names("/components/schemas/Webhook/properties/subscriptions/items/enum");
    let ours = WebhookEvent::ALL.map(|it| it.as_str().to_owned());
    assert_eq!(webhooks.unwrap(), BTreeSet::from(ours));
}
