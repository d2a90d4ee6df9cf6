//! `bowline device`, on devices that have joined.

use std::io::Write as _;
use std::process::Stdio;

use bowline_testkit::client::{Client, Compression, Identity};
use serde_json::json;

use crate::home::{Home, end_of, terminal};

#[tokio::test]
async fn devices_are_listed_with_what_people_look_for() {
    let (home, _) = Home::with_tailnet().await;
    let serving = home.serve().await;
    let none = home.prints(&["device", "list"]).await;
    assert!(none.starts_with("No devices yet. "), "{none}");
    let laptop = serving.device(&home, 1, "laptop").await;
    let _stream = laptop.stream(Compression::Zstd).await.unwrap();
    let listed = home.prints_json(&["device", "list"]).await;
    let device = &listed["devices"][0];
    let table = home.prints(&["device", "list"]).await;
    let mut lines = table.lines();
    assert_eq!(
        lines.next().unwrap().split_whitespace().collect::<Vec<_>>(),
        ["NAME", "ADDRESS", "OWNER", "OS", "VERSION", "STATUS", "ID"]
    );
    let cells: Vec<_> = lines.next().unwrap().split_whitespace().collect();
    assert_eq!(
        cells[..4],
        [
            "laptop",
            device["addresses"][0].as_str().unwrap(),
            "ann@example.com",
            "linux"
        ]
    );
    assert_eq!(cells[5..], ["online", device["nodeId"].as_str().unwrap()]);
}

#[tokio::test]
async fn a_device_is_named_by_either_id_name_or_address() {
    let (home, _) = Home::with_tailnet().await;
    let serving = home.serve().await;
    serving.device(&home, 1, "laptop").await;
    serving.device(&home, 2, "phone").await;
    let listed = home.prints_json(&["device", "list"]).await;
    let devices = listed["devices"].as_array().unwrap();
    let phone = devices
        .iter()
        .find(|device| device["hostname"] == "phone")
        .unwrap();
    let name = phone["name"].as_str().unwrap();
    let dotted = format!("{name}.");
    for named in [
        phone["nodeId"].as_str().unwrap(),
        phone["id"].as_str().unwrap(),
        phone["addresses"][0].as_str().unwrap(),
        phone["addresses"][1].as_str().unwrap(),
        "phone",
        "PHONE",
        name,
        &dotted,
    ] {
        let shown = home.prints_json(&["device", "show", named]).await;
        assert_eq!(shown["nodeId"], phone["nodeId"], "{named}");
        assert_eq!(shown["enabledRoutes"], json!([]), "{named}");
    }
    let shown = home.prints(&["device", "show", "phone"]).await;
    assert!(
        shown.starts_with(&format!(
            "Name               {name}\nHost name          phone\n"
        )),
        "{shown}"
    );
    assert!(shown.contains("\nApproved           yes\n"), "{shown}");
}

#[tokio::test]
async fn a_device_is_renamed_expired_and_loses_its_approval() {
    let (home, _) = Home::with_tailnet().await;
    let serving = home.serve().await;
    serving.device(&home, 1, "laptop").await;
    let renamed = home.prints(&["device", "rename", "laptop", "desk"]).await;
    assert!(
        renamed.starts_with("Renamed laptop to desk (desk."),
        "{renamed}"
    );
    let renamed = home.prints(&["device", "rename", "desk", "--reset"]).await;
    assert!(
        renamed.starts_with("Renamed desk to laptop (laptop."),
        "{renamed}"
    );
    assert_eq!(
        home.prints(&["device", "authorize", "laptop", "--revoke"])
            .await,
        "Took the approval of laptop away.\n"
    );
    let device = home.prints_json(&["device", "show", "laptop"]).await;
    assert_eq!(device["authorized"], json!(false));
    let table = home.prints(&["device", "list"]).await;
    assert!(table.contains(", needs approval "), "{table}");
    assert_eq!(
        home.prints(&["device", "authorize", "laptop"]).await,
        "Approved laptop.\n"
    );
    assert_eq!(
        home.prints_json(&["device", "authorize", "laptop"]).await,
        json!({})
    );
    assert_eq!(
        home.prints(&["device", "expire", "laptop", "--yes"]).await,
        "Expired the key of laptop; its user must log in again on it.\n"
    );
    let table = home.prints(&["device", "list"]).await;
    assert!(table.contains(", key expired "), "{table}");
}

#[tokio::test]
async fn routes_are_shown_and_set() {
    let (home, _) = Home::with_tailnet().await;
    let serving = home.serve().await;
    let key = home.prints_json(&["key", "create"]).await;
    let router = Client::new(serving.server().await, Identity::numbered(1), "router")
        .with_hostinfo("RoutableIPs", json!(["192.0.2.0/24", "2001:db8::/64"]));
    router.join(key["key"].as_str().unwrap()).await.unwrap();
    assert_eq!(
        home.prints(&["device", "routes", "router"]).await,
        "ROUTE          ADVERTISED  ENABLED\n\
         192.0.2.0/24   yes         no\n\
         2001:db8::/64  yes         no\n"
    );
    assert_eq!(
        home.prints(&[
            "device",
            "routes",
            "router",
            "--set",
            "192.0.2.0/24,198.51.100.0/24"
        ])
        .await,
        "ROUTE            ADVERTISED  ENABLED\n\
         192.0.2.0/24     yes         yes\n\
         2001:db8::/64    yes         no\n\
         198.51.100.0/24  no          yes\n"
    );
    assert_eq!(
        home.prints_json(&["device", "routes", "router", "--set", ""])
            .await,
        json!({"advertisedRoutes": ["192.0.2.0/24", "2001:db8::/64"], "enabledRoutes": []})
    );
    let told = home
        .refuses(&["device", "routes", "router", "--set", "no"])
        .await;
    assert!(told.starts_with("bowline: "), "{told}");
}

#[tokio::test]
async fn deleting_asks_on_a_terminal() {
    let (home, _) = Home::with_tailnet().await;
    let serving = home.serve().await;
    serving.device(&home, 1, "laptop").await;
    let device = home.prints_json(&["device", "show", "laptop"]).await;
    let question = format!(
        "Delete laptop ({}, {}, {})? It is out of the tailnet at once. [y/N] ",
        device["addresses"][0].as_str().unwrap(),
        device["addresses"][1].as_str().unwrap(),
        device["nodeId"].as_str().unwrap()
    );
    let typed = async |answer: &str, args: &[&str]| {
        let (mut ours, theirs) = terminal();
        ours.write_all(answer.as_bytes()).unwrap();
        let mut command = home.command(args);
        command.stdin(Stdio::from(theirs));
        end_of(command).await
    };
    let delete = ["device", "delete", "laptop"];
    for answer in ["n\n", "\n"] {
        let ran = typed(answer, &delete).await;
        assert_eq!(ran.code, 1);
        assert_eq!(ran.err, format!("{question}bowline: nothing was changed\n"));
    }
    let ran = typed("y\n", &delete).await;
    assert_eq!(
        (ran.code, ran.err, ran.out.as_str()),
        (0, question, "Deleted laptop.\n")
    );
    serving.device(&home, 2, "laptop").await;
    let ran = typed("", &["device", "delete", "laptop", "--yes"]).await;
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
    // Without a terminal there is nobody to ask.
    serving.device(&home, 3, "laptop").await;
    let key = home.prints_json(&["key", "create"]).await;
    let token = home.prints_json(&["token", "create"]).await;
    for args in [
        &delete[..],
        &["device", "expire", "laptop"],
        &["key", "revoke", key["id"].as_str().unwrap()],
        &["token", "revoke", token["id"].as_str().unwrap()],
    ] {
        let refused = home.refuses(args).await;
        assert!(refused.contains("add --yes"), "{args:?}: {refused}");
        let sure = [args, &["--yes"]].concat();
        if args != delete {
            home.prints(&sure).await;
        }
    }
    assert_eq!(
        home.prints_json(&[&delete[..], &["--yes"]].concat()).await,
        json!({})
    );
}

#[tokio::test]
async fn without_a_server_nobody_is_online() {
    let (home, _) = Home::with_tailnet().await;
    let serving = home.serve().await;
    let laptop = serving.device(&home, 1, "laptop").await;
    let stream = laptop.stream(bowline_testkit::client::Compression::Zstd);
    let mut stream = stream.await.unwrap();
    stream.next().await.unwrap();
    let connected = async || {
        home.prints_json(&["device", "show", "laptop"]).await["connectedToControl"].clone()
    };
    while connected().await != json!(true) {}
    serving.kill().await;
    assert_eq!(connected().await, json!(false));
}
