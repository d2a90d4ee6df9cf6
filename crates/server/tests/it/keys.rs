//! Commands for kinds of keys, and what lists say of those that expire soon.

use std::fs::File;
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::home::Home;

#[tokio::test]
async fn a_key_that_expires_soon_is_marked_in_the_list_and_told_in_the_log() {
    let (home, _) = Home::with_tailnet().await;
    let logged = home.file("server.log", "");
    let mut command = home.command(&Home::serve_args(&["--json"]));
    command.env("BOWLINE_LOG_LEVEL", "warn");
    command.stderr(Stdio::from(File::create(&logged).unwrap()));
    let serving = Home::started(command).await;
    let create = ["create", "--expires-in", "7d1s", "--description", "ci"];
    let key = home.prints_json(&[&["key"], &create[..]].concat()).await;
    home.prints(&[&["token"], &create[..]].concat()).await;
    home.prints(&["key", "create"]).await;
    // A second later it is a week.
    let deadline = Instant::now() + Duration::from_secs(30);
    for kind in ["key", "token"] {
        let listed = loop {
            let listed = home.prints(&[kind, "list"]).await;
            if listed.contains("(soon)") {
                break listed;
            }
            assert!(Instant::now() < deadline, "{listed}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        assert_eq!(listed.matches("in 7 days (soon)").count(), 1, "{listed}");
        let advice = format!(
            "\nExpiring soon: 1. Who still needs one makes another: bowline {kind} create\n"
        );
        assert!(listed.ends_with(&advice), "{listed}");
    }
    serving.terminate();
    assert!(serving.end().await.success());
    let log = std::fs::read_to_string(&logged).unwrap();
    let line = log
        .lines()
        .find(|line| line.contains(key["id"].as_str().unwrap()));
    let line = line.unwrap_or_else(|| panic!("{log}"));
    assert!(
        line.contains("a key expires soon") && line.contains("\"Auth key\""),
        "{line}"
    );
    assert_eq!(log.matches("a key expires soon").count(), 2, "{log}");
}

#[tokio::test]
async fn federated_identities_are_made_listed_and_revoked() {
    let (home, _) = Home::with_tailnet().await;
    let _serving = home.serve().await;
    let create = [
        "federated-identity",
        "create",
        "--issuer=https://issuer.example.com",
        "--subject=repo:example/*",
        "--claim=ref=refs/heads/main",
        "--scope=dns:read,users:read",
        "--description=deploy",
    ];
    let made = home.prints_json(&create).await;
    let id = made["id"].as_str().unwrap();
    assert!(made.get("key").is_none() && id.starts_with('T'), "{made}");
    assert_eq!(made["customClaimRules"]["ref"], "refs/heads/main");
    let shown = home.prints(&create).await;
    assert!(shown.contains("/api/v2/oauth/token-exchange"), "{shown}");
    assert!(shown.contains("It has no secret"), "{shown}");
    let listed = home.prints(&["federated-identity", "list"]).await;
    let line = listed.lines().find(|line| line.starts_with(id)).unwrap();
    for part in [
        "https://issuer.example.com",
        "repo:example/*",
        "dns:read, users:read",
    ] {
        assert!(line.contains(part), "{line}");
    }
    let refused = home.refuses(&["key", "revoke", id]).await;
    assert!(
        refused.contains("bowline federated-identity revoke"),
        "{refused}"
    );
    let revoked = home
        .prints(&["federated-identity", "revoke", id, "--yes"])
        .await;
    assert_eq!(revoked, format!("Revoked the federated identity {id}.\n"));
    let wrong = [&create[..4], &["--scope=dns", "--claim=x"]].concat();
    let ran = home.run(&wrong).await;
    assert_eq!(ran.code, 2, "{ran:?}");
}

#[tokio::test]
async fn a_scim_key_is_made_replaced_and_revoked() {
    let (home, _) = Home::with_tailnet().await;
    let _serving = home.serve().await;
    let list = ["scim-key", "list"];
    assert_eq!(home.prints(&list).await, "No SCIM key.\n");
    let made = home.prints_json(&["scim-key", "create"]).await;
    let first = made["id"].as_str().unwrap();
    // Nobody can be asked here.
    let refused = home.refuses(&["scim-key", "create"]).await;
    assert!(refused.contains("add --yes"), "{refused}");
    let replace = ["scim-key", "create", "--description=okta", "--yes"];
    let shown = home.prints(&replace).await;
    let told = format!("It replaces {first}, which was revoked.");
    assert!(
        shown.contains(&told) && shown.contains("tskey-scim-"),
        "{shown}"
    );
    let listed = home.prints(&list).await;
    let line = listed.lines().nth(1).unwrap();
    assert!(
        line.ends_with("  okta") && listed.lines().count() == 2,
        "{listed}"
    );
    let refused = home.refuses(&["scim-key", "revoke", first]).await;
    assert!(refused.contains("is not the SCIM key"), "{refused}");
    let second = line.split_whitespace().next().unwrap();
    let revoked = home.prints(&["scim-key", "revoke", second, "--yes"]).await;
    assert_eq!(revoked, format!("Revoked the SCIM key {second}.\n"));
    assert_eq!(home.prints(&list).await, "No SCIM key.\n");
}
