//! Users, tokens, keys and tailnets, with a server and without; settings.

use std::fs::File;
use std::io::Write as _;

use serde_json::{Value, json};

use crate::home::{Home, end_of};

/// The last cell of each line but the header.
fn ids(table: &str) -> Vec<&str> {
    let cells = table.lines().skip(1).map(|line| line.rsplit(' ').next());
    cells.map(Option::unwrap).collect()
}

async fn everything_works(home: &Home) {
    let bob = home
        .prints(&["user", "create", "bob@example.com", "--name", "Bob"])
        .await;
    assert!(bob.starts_with("Made the user bob@example.com (u"), "{bob}");
    let users = home.prints(&["user", "list"]).await;
    let [ann, bob] = ids(&users)[..] else {
        panic!("{users}");
    };
    assert_eq!(
        users,
        format!(
            "LOGIN            NAME  ROLE    STATUS  DEVICES  LAST SEEN  ID\n\
             ann@example.com  ann   owner   active  0        -          {ann}\n\
             bob@example.com  Bob   member  active  0        -          {bob}\n"
        )
    );

    let args = [
        "key",
        "create",
        "--reusable",
        "--ephemeral",
        "--preauthorized",
    ];
    let more = [
        "--expires-in",
        "24h",
        "--description",
        "build machines",
        "--user",
        "bob@example.com",
    ];
    let key = home.prints_json(&[&args[..], &more].concat()).await;
    let create = &key["capabilities"]["devices"]["create"];
    assert_eq!(
        (
            create,
            &key["expirySeconds"],
            &key["description"],
            &key["userId"]
        ),
        (
            &json!({"reusable": true, "ephemeral": true, "preauthorized": true}),
            &json!(86400),
            &json!("build machines"),
            &json!(bob)
        )
    );
    let (id, secret) = (key["id"].as_str().unwrap(), key["key"].as_str().unwrap());
    assert!(secret.starts_with("tskey-auth-"), "{secret}");

    let shown = home
        .prints(&["key", "create", "--description", "for people"])
        .await;
    assert!(
        shown.contains("\nIts secret, shown this once:\n\n  tskey-auth-"),
        "{shown}"
    );
    let bobs = home
        .prints(&["key", "list", "--user", "bob@example.com"])
        .await;
    let mut lines = bobs.lines();
    assert_eq!(
        lines.next().unwrap().split_whitespace().collect::<Vec<_>>(),
        [
            "ID",
            "USER",
            "KIND",
            "TAGS",
            "CREATED",
            "EXPIRES",
            "DESCRIPTION"
        ]
    );
    let line = lines.next().unwrap();
    assert!(
        line.starts_with(&format!(
            "{id}  bob@example.com  reusable, ephemeral, preauthorized  -     "
        )) && line.ends_with("  in 24 hours  build machines"),
        "{line}"
    );
    assert_eq!(lines.next(), None);
    let all = home.prints_json(&["key", "list"]).await;
    assert_eq!(all["keys"].as_array().unwrap().len(), 2);
    assert!(all.to_string().find(secret).is_none());

    let client = [
        "oauth-client",
        "create",
        "--scope",
        "dns:read,users",
        "--description",
        "terraform",
    ];
    let client = home.prints_json(&client).await;
    let secret = client["key"].as_str().unwrap();
    assert!(secret.starts_with("tskey-client-"), "{secret}");
    let listed = home.prints(&["oauth-client", "list"]).await;
    let client = client["id"].as_str().unwrap();
    let line = listed.lines().nth(1).unwrap();
    assert!(
        line.starts_with(&format!("{client}  dns:read, users  -     ")),
        "{line}"
    );
    assert!(line.ends_with("  terraform") && !listed.contains(secret));
    let shown = ["oauth-client", "create", "--scope", "dns"];
    let shown = home.prints(&shown).await;
    assert!(shown.contains("/api/v2/oauth/token"), "{shown}");
    assert_eq!(
        home.refuses(&["key", "revoke", client]).await,
        format!("bowline: {client} is an OAuth client; use bowline oauth-client revoke\n")
    );
    assert_eq!(
        home.prints(&["oauth-client", "revoke", client, "--yes"])
            .await,
        format!("Revoked the OAuth client {client}.\n")
    );

    assert_eq!(
        home.refuses(&["token", "revoke", id]).await,
        format!("bowline: {id} is an auth key; use bowline key revoke\n")
    );
    assert_eq!(
        home.prints(&["key", "revoke", id, "--yes"]).await,
        format!("Revoked the auth key {id}.\n")
    );
    let again = home.refuses(&["key", "revoke", id]).await;
    assert!(
        again.starts_with(&format!("bowline: the auth key {id} was revoked already, ")),
        "{again}"
    );
    assert_eq!(
        home.prints(&["key", "list", "--user", "bob@example.com"])
            .await,
        "No valid auth keys.\n"
    );

    let token = home
        .prints_json(&["token", "create", "--expires-in", "30d"])
        .await;
    assert!(token["key"].as_str().unwrap().starts_with("tskey-api-"));
    let token = token["id"].as_str().unwrap();
    let tokens = home.prints(&["token", "list"]).await;
    assert!(
        tokens
            .lines()
            .any(|line| line.starts_with(&format!("{token}  ann@example.com  "))),
        "{tokens}"
    );
    assert_eq!(
        home.prints_json(&["token", "revoke", token, "--yes"]).await,
        json!({})
    );

    for (args, told) in [
        (
            &["key", "create", "--user", "eve"][..],
            "there is no user \"eve\"",
        ),
        (
            &["key", "list", "--user", "eve"],
            "there is no user \"eve\"; bowline user list shows them",
        ),
        (&["key", "revoke", "kNone"], "there is no auth key kNone"),
        (
            &["key", "create", "--tag", "tag:ci"],
            "requested tags [tag:ci] are invalid or not permitted",
        ),
        (
            &["device", "show", "laptop"],
            "there is no device \"laptop\"; bowline device list shows them",
        ),
    ] {
        assert_eq!(home.refuses(args).await, format!("bowline: {told}\n"));
    }
}

#[tokio::test]
async fn everything_works_while_the_server_runs() {
    let (home, _) = Home::with_tailnet().await;
    let _serving = home.serve().await;
    everything_works(&home).await;
}

#[tokio::test]
async fn everything_works_without_a_server() {
    let (home, _) = Home::with_tailnet().await;
    everything_works(&home).await;
}

#[tokio::test]
async fn where_there_are_several_tailnets_one_is_named() {
    let (home, _) = Home::with_tailnet().await;
    let made = home
        .prints_json(&[
            "tailnet",
            "create",
            "example.org",
            "--owner",
            "eve@example.org",
        ])
        .await;
    assert!(made["token"].as_str().unwrap().starts_with("tskey-api-"));
    let tailnets = home.prints_json(&["tailnet", "list"]).await;
    let names: Vec<_> = tailnets["tailnets"]
        .as_array()
        .unwrap()
        .iter()
        .map(|tailnet| tailnet["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["example.com", "example.org"]);
    assert_eq!(
        home.refuses(&["key", "create"]).await,
        "bowline: there are several tailnets: name one with --tailnet; bowline tailnet list shows \
         them\n"
    );
    let id = made["id"].as_str().unwrap();
    for name in ["example.org", id] {
        let users = home.prints_json(&["user", "list", "--tailnet", name]).await;
        assert_eq!(users["users"][0]["loginName"], "eve@example.org");
    }
    assert_eq!(
        home.refuses(&["user", "list", "--tailnet", "example.net"])
            .await,
        "bowline: there is no tailnet \"example.net\"\n"
    );
}

#[tokio::test]
async fn a_directory_without_data_is_not_made_by_looking() {
    let home = Home::new();
    assert_eq!(
        home.refuses(&["key", "list"]).await,
        format!(
            "bowline: there is no server's data in {}; name its directory with --data, start one \
             there with bowline serve, or reach one elsewhere with --server\n",
            home.data().display()
        )
    );
    assert!(!home.data().exists());
}

#[tokio::test]
async fn a_process_that_has_the_directory_and_does_not_answer_is_named() {
    let (home, _) = Home::with_tailnet().await;
    let mut lock = File::options()
        .write(true)
        .truncate(true)
        .open(home.data().join("lock"))
        .unwrap();
    lock.lock().unwrap();
    lock.write_all(b"4711").unwrap();
    assert_eq!(
        home.refuses(&["key", "list"]).await,
        format!(
            "bowline: process 4711 uses the data directory {data}, but does not answer on \
             {data}/bowline.sock (it is not there); stop it, or try again when it has started\n",
            data = home.data().display()
        )
    );
}

#[tokio::test]
async fn commands_at_the_same_time_wait_for_each_other() {
    let (home, _) = Home::with_tailnet().await;
    let create = || home.prints_json(&["key", "create"]);
    tokio::join!(create(), create(), create());
    let keys = home.prints_json(&["key", "list"]).await;
    assert_eq!(keys["keys"].as_array().unwrap().len(), 3);
}

#[tokio::test]
async fn settings_are_shown_with_their_source_and_without_secrets() {
    let home = Home::new();
    let file = home.file(
        "set.toml",
        "[database]\nurl = \"postgres://bowline:hunter2@192.0.2.1/bowline\"\n[log]\nformat = \"json\"\n",
    );
    let file = file.to_str().unwrap();
    let args = ["config", "--config", file, "--listen", "127.0.0.1:9000"];
    let table = home.prints(&args).await;
    let row = |name: &str| -> Vec<&str> {
        let line = table
            .lines()
            .find(|line| line.trim_start().starts_with(&format!("{name} ")));
        line.unwrap_or_else(|| panic!("{name}: {table}"))
            .split_whitespace()
            .collect()
    };
    assert_eq!(row("listen"), ["listen", "127.0.0.1:9000", "--listen"]);
    assert_eq!(
        row("log.format"),
        ["log.format", "json", &format!("{file}:4")]
    );
    assert_eq!(
        row("log.level"),
        ["log.level", "error", "BOWLINE_LOG_LEVEL"]
    );
    assert!(!table.contains("hunter2"), "{table}");

    let shown = home.prints_json(&args).await;
    let setting = |name: &str| -> &Value { &shown["settings"][name] };
    assert_eq!(shown["file"], file);
    assert_eq!(
        setting("listen"),
        &json!({"value": "127.0.0.1:9000", "from": {"source": "flag", "flag": "--listen"}})
    );
    assert_eq!(
        setting("log.level")["from"],
        json!({"source": "environment", "variable": "BOWLINE_LOG_LEVEL"})
    );
    assert_eq!(
        setting("database.url")["from"],
        json!({"source": "file", "file": file, "line": 2})
    );
    assert!(!shown.to_string().contains("hunter2"), "{shown}");
}

#[tokio::test]
async fn a_reader_that_has_had_enough_is_no_error() {
    let (home, _) = Home::with_tailnet().await;
    let mut command = home.command(&["user", "list"]);
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    // `output` takes a standard output that is set already.
    command.stdout(writer);
    let ran = end_of(command).await;
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
}

#[tokio::test]
async fn a_user_is_given_a_role_suspended_restored_and_deleted() {
    let (home, _) = Home::with_tailnet().await;
    let bob = "bob@example.com";
    home.prints(&["user", "create", bob]).await;
    let shown = async || {
        let users = home.prints_json(&["user", "list"]).await;
        let users = users["users"].as_array().unwrap().clone();
        users.into_iter().find(|user| user["loginName"] == bob)
    };
    let id = shown().await.unwrap()["id"].as_str().unwrap().to_owned();
    assert_eq!(
        home.prints(&["user", "role", bob, "auditor"]).await,
        "bob@example.com has the role auditor.\n"
    );
    assert_eq!(shown().await.unwrap()["role"], "auditor");
    // Whoever cannot be asked has to say that it is meant.
    for args in [
        &["user", "suspend", bob][..],
        &["user", "delete", bob],
        &["user", "role", bob, "owner"],
    ] {
        assert_eq!(
            home.refuses(args).await,
            "bowline: this takes effect at once, and nobody can be asked here: add --yes\n"
        );
    }
    assert_eq!(
        home.prints(&["user", "suspend", &id, "--yes"]).await,
        "Suspended bob@example.com, with 0 devices. To end it: bowline user restore \
         bob@example.com\n"
    );
    assert_eq!(shown().await.unwrap()["status"], "suspended");
    let restored = home.prints_json(&["user", "restore", "BOB@example.com"]);
    assert_eq!(restored.await, json!({}));
    assert_eq!(
        home.prints(&["user", "approve", bob]).await,
        "bob@example.com does not wait for approval.\n"
    );
    assert_eq!(shown().await.unwrap()["status"], "active");
    assert_eq!(
        home.prints(&["user", "delete", bob, "--yes"]).await,
        "Deleted bob@example.com, with 0 devices.\n"
    );
    assert!(shown().await.is_none());
    for (args, told) in [
        (
            &["user", "delete", bob, "--yes"][..],
            "there is no user \"bob@example.com\"; bowline user list shows them",
        ),
        (
            &["user", "restore", &id],
            &format!("there is no user {id:?}; bowline user list shows them"),
        ),
        (
            &["user", "role", "ann@example.com", "king"],
            "unknown role \"king\"",
        ),
        (
            &["user", "suspend", "ann@example.com", "--yes"],
            "a tailnet has exactly one owner: make another user the owner first, which makes this \
             one an administrator",
        ),
    ] {
        assert_eq!(home.refuses(args).await, format!("bowline: {told}\n"));
    }
}
