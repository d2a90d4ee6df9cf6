//! Commands that change something leave exactly the events that `docs/audit-events.md` names, whoever
//! asks for them by which door.

use rusqlite::{Connection, OpenFlags};
use serde_json::Value;

use crate::home::Home;

const TABLES: &str = include_str!("../../../../docs/audit-events.md");

/// Names of all events of all tailnets, as they were written, with the groups that they are in.
fn events(home: &Home) -> Vec<(String, String)> {
    let path = home.data().join("bowline.db");
    let database = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    let query = "SELECT body FROM audit WHERE tailnet <> 0 ORDER BY id";
    let mut query = database.prepare(query).unwrap();
    let bodies = query.query_map([], |row| row.get::<_, String>(0)).unwrap();
    let event = |body: rusqlite::Result<String>| {
        let event: Value = serde_json::from_str(&body.unwrap()).unwrap();
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
        (name, text(&event["eventGroupID"]))
    };
    bodies.map(event).collect()
}

#[tokio::test]
async fn every_command_leaves_exactly_the_events_of_the_table() {
    let (home, _) = Home::with_tailnet().await;
    let serving = home.serve().await;
    let _laptop = serving.device(&home, 1, "laptop").await;
    let policy = home.file("policy.hujson", "{\"acls\": []}\n");
    let made = async |what: &str| {
        let made = home.prints_json(&[what, "create"]).await;
        made["id"].as_str().unwrap().to_owned()
    };
    let (key, token) = (made("key").await, made("token").await);
    let (_, table) = TABLES.split_once("## Command line\n").unwrap();
    let table = table.split("\n## ").next().unwrap();
    let rows = table.lines().filter(|line| line.starts_with("| ")).skip(2);
    let mut tried = 0;
    for row in rows {
        let mut quoted = row.split('`').skip(1).step_by(2);
        let command = quoted.next().unwrap();
        let expected: Vec<&str> = quoted.collect();
        let command = command
            .replace("KEY", &key)
            .replace("TOKEN", &token)
            .replace("FILE", policy.to_str().unwrap());
        let arguments: Vec<&str> = command.split(' ').skip(1).collect();
        let before = events(&home).len();
        home.prints(&arguments).await;
        let new = events(&home).split_off(before);
        let names: Vec<&str> = new.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, expected, "{command}");
        assert!(new.iter().all(|(_, group)| *group == new[0].1), "{command}");
        tried += 1;
    }
    assert!(tried > 10);
    serving.terminate();
    assert!(serving.end().await.success());
}
