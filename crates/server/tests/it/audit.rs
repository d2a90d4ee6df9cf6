//! `bowline audit`: events listed and exported, and chains verified.

use serde_json::Value;

use crate::home::Home;

/// A data directory with some events in its only tailnet.
async fn home() -> Home {
    let home = Home::new();
    home.prints(&[
        "init",
        "--owner",
        "ann@example.com",
        "--tailnet",
        "example.com",
    ])
    .await;
    for name in ["one", "two"] {
        home.prints(&["key", "create", "--description", name]).await;
    }
    home
}

fn lines(text: &str) -> Vec<Value> {
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[tokio::test]
async fn events_are_listed_and_exported_as_they_are_in_the_chain() {
    let home = home().await;
    let exported = lines(&home.prints(&["audit", "export"]).await);
    let numbers: Vec<u64> = exported
        .iter()
        .map(|event| event["number"].as_u64().unwrap())
        .collect();
    let count = numbers.len() as u64;
    assert_eq!(numbers, (1..=count).collect::<Vec<_>>());
    let verified = home.prints_json(&["audit", "verify"]).await;
    let logs = verified["logs"].as_array().unwrap();
    let log = logs.iter().find(|log| log["log"] != "server").unwrap();
    assert_eq!(log["newest"], count);
    assert_eq!(log["newestHash"], exported[numbers.len() - 1]["hash"]);

    let listed = home
        .prints(&[
            "audit",
            "list",
            "--event",
            "API_KEY.CREATE",
            "--target",
            "Auth key",
        ])
        .await;
    assert_eq!(listed.matches("API_KEY.CREATE").count(), 2, "{listed}");
    assert!(
        listed.contains("NUMBER") && listed.contains("two"),
        "{listed}"
    );
    let newest = home.prints_json(&["audit", "list", "--limit", "1"]).await;
    assert_eq!(newest["logs"][0], exported[numbers.len() - 1]);
    let none = home.prints(&["audit", "list", "--actor", "~nobody"]).await;
    assert_eq!(none.trim(), "No events.");
    let refused = home
        .refuses(&["audit", "list", "--since", "yesterday"])
        .await;
    assert!(refused.contains("how long ago, such as 24h"), "{refused}");
    let refused = home
        .refuses(&["audit", "list", "--event", "NODE.FLY"])
        .await;
    assert!(refused.contains("unknown event \"NODE.FLY\""), "{refused}");
}

#[tokio::test]
async fn a_page_follows_the_other() {
    let home = home().await;
    let serving = home.serve().await;
    for number in 0..30 {
        let name = number.to_string();
        home.prints(&["key", "create", "--description", &name])
            .await;
    }
    let all = lines(&home.prints(&["audit", "export"]).await);
    // An event behind the end of the time asked for is not there.
    let last = all[all.len() - 1]["eventTime"].as_str().unwrap();
    let until = lines(&home.prints(&["audit", "export", "--until", last]).await);
    assert_eq!(until, all);
    let verified = home.prints(&["audit", "verify"]).await;
    assert!(verified.contains("are what was written"), "{verified}");
    serving.terminate();
    serving.end().await;
}

/// What is done to the database, and what is said of it.
type Case = (&'static str, &'static str);

/// All by somebody who knows how the rows are made, but for the hashes that follow.
const DAMAGE: [Case; 5] = [
    (
        "UPDATE audit SET body = replace(body, 'one', 'eno') WHERE tailnet > 0",
        "was changed",
    ),
    (
        "DELETE FROM audit WHERE tailnet > 0 AND number = 2",
        "event 2 is missing",
    ),
    (
        "DELETE FROM audit WHERE tailnet > 0 AND number > 3",
        "are missing",
    ),
    (
        "UPDATE audit SET number = CASE number WHEN 2 THEN -3 WHEN 3 THEN -2 END \
         WHERE tailnet > 0 AND number IN (2, 3); \
         UPDATE audit SET number = -number WHERE tailnet > 0 AND number < 0",
        "event 2 does not follow the one before it",
    ),
    (
        "DELETE FROM audit WHERE tailnet > 0 AND number = 2; \
         UPDATE audit SET number = number - 1 WHERE tailnet > 0 AND number > 2",
        "event 2 does not follow the one before it",
    ),
];

#[tokio::test]
async fn an_event_that_was_changed_removed_or_moved_is_found() {
    for (damage, said) in DAMAGE {
        let home = home().await;
        let path = home.data().join("bowline.db");
        rusqlite::Connection::open(&path)
            .unwrap()
            .execute_batch(damage)
            .unwrap();
        let ran = home.run(&["audit", "verify"]).await;
        assert_eq!(ran.code, 1, "{damage}: {ran:?}");
        assert!(ran.out.contains("are not what was written"), "{ran:?}");
        assert!(ran.out.contains(said), "{damage}: {ran:?}");
        let ran = home.run(&["audit", "verify", "--json"]).await;
        assert_eq!(ran.code, 1);
        let found: Value = serde_json::from_str(&ran.out).unwrap();
        assert_eq!(found["sound"], false);
        let faults = found["faults"].as_array().unwrap();
        let is_said = |fault: &Value| fault["text"].as_str().unwrap().contains(said);
        assert!(faults.iter().any(is_said), "{damage}: {faults:?}");
    }
}

#[tokio::test]
async fn what_cannot_be_verified_is_neither_sound_nor_not() {
    let home = Home::new();
    let ran = home.run(&["audit", "verify"]).await;
    assert_eq!(ran.code, 2, "{ran:?}");
    assert!(ran.err.contains("there is no database at"), "{ran:?}");
}
