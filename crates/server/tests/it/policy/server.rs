//! `bowline policy` with a server.

use std::fs;

use bowline_policy::DEFAULT_POLICY;
use serde_json::json;

use super::{is, json_of, policy};
use crate::home::{Home, end_of};

const POLICY: &str = r#"{
	"tagOwners": {"tag:web": ["ann@example.com"]},
	"acls": [
		{"action": "accept", "src": ["ann@example.com"], "dst": ["ann@example.com:22"]},
	],
	"tests": [
		{"src": "ann@example.com", "accept": ["ann@example.com:22"]},
	],
}
"#;

async fn in_force(home: &Home) -> String {
    home.prints(&["policy", "get"]).await
}

#[tokio::test]
async fn a_policy_is_fetched_changed_and_set_and_nobodys_change_is_overwritten() {
    let (home, _) = Home::with_tailnet().await;
    let _serving = home.serve().await;
    assert_eq!(in_force(&home).await, DEFAULT_POLICY);
    let etag_file = home.file("etag", "");
    let file = home.file("fetched.hujson", "old");
    let ran = policy(&home, "get --output fetched.hujson --etag-file etag").await;
    let first = fs::read_to_string(etag_file).unwrap().trim().to_owned();
    assert_eq!(first.len(), 64);
    is(
        &ran,
        0,
        &format!("Wrote fetched.hujson, ETag {first}\n"),
        "",
    );
    assert_eq!(fs::read_to_string(file).unwrap(), DEFAULT_POLICY);
    let json = json_of(&policy(&home, "get --format json").await);
    assert_eq!(json, json_of(&policy(&home, "get --json").await));
    assert!(
        json["acls"].is_array() || json["grants"].is_array(),
        "{json}"
    );

    home.file("policy.hujson", POLICY);
    let ran = policy(&home, "set policy.hujson --if-default").await;
    let told = ran.out.strip_prefix("policy.hujson is in force, ETag ");
    let second = told.unwrap_or_else(|| panic!("{ran:?}")).trim();
    assert_ne!(second, first);
    assert_eq!(in_force(&home).await, POLICY);
    let outdated = "bowline: the policy in force has another ETag: somebody changed it meanwhile. \
                    Nothing was changed; get it with bowline policy get, and see what differs with \
                    bowline policy diff\n  because: precondition failed, invalid old hash\n";
    let ran = policy(&home, &format!("set fetched.hujson --if-match {first}")).await;
    is(&ran, 1, "", outdated);
    let ran = policy(&home, "set fetched.hujson --if-default").await;
    let used = "bowline: the policy in force is not that of a new tailnet any more; nothing was \
                changed\n";
    assert!(ran.code == 1 && ran.err.starts_with(used), "{ran:?}");
    let ran = policy(&home, "set fetched.hujson --if-default --json").await;
    assert_eq!((ran.code, &json_of(&ran)["ok"]), (1, &json!(false)));
    assert_eq!(in_force(&home).await, POLICY);
    let ran = policy(
        &home,
        &format!("set fetched.hujson --if-match {second} --json"),
    )
    .await;
    assert_eq!(
        (ran.code, json_of(&ran)),
        (
            0,
            json!({"ok": true, "errors": [], "warnings": [], "etag": first})
        )
    );
    assert_eq!(in_force(&home).await, DEFAULT_POLICY);
    home.file("empty.hujson", "\n");
    let empty = "bowline: empty.hujson is empty: a policy file is at least {}\n";
    is(&policy(&home, "set empty.hujson").await, 2, "", empty);
}

#[tokio::test]
async fn a_wrong_policy_is_not_set_and_the_errors_point_at_it() {
    let (home, _) = Home::with_tailnet().await;
    let _serving = home.serve().await;
    home.file("syntax.hujson", "{\n\t\"groups\": {,},\n}\n");
    home.file(
        "names.hujson",
        &POLICY.replace(
            "\"src\": [\"ann@example.com\"], \"dst\"",
            "\"src\": [\"tag:no\"], \"dst\"",
        ),
    );
    home.file(
        "foreign.hujson",
        &POLICY.replace(
            "\"src\": [\"ann@example.com\"], \"dst\"",
            "\"src\": [\"user:*@example.net\"], \"dst\"",
        ),
    );
    home.file(
        "failing.hujson",
        &POLICY.replace("com:22\"]},\n\t],\n}", "com:23\"]},\n\t],\n}"),
    );
    for (file, told) in [
        (
            "syntax.hujson",
            "syntax.hujson:2:13: error: invalid character ',' at start of value\n    2 |     \
             \"groups\": {,},\n      |                ^\n",
        ),
        (
            "names.hujson",
            "names.hujson:4:32: error: src=tag not found: \"tag:no\"\n    4 |         {\"action\": \
             \"accept\", \"src\": [\"tag:no\"], \"dst\": [\"ann@example.com:22\"]},\n      |                                      \
             ^^^^^^^^\n",
        ),
        (
            "foreign.hujson",
            r#"foreign.hujson:4:32: error: [acls] example.net is not associated with this Tailnet and cannot be used in user:*@<domain> expressions
    4 |         {"action": "accept", "src": ["user:*@example.net"], "dst": ["ann@example.com:22"]},
      |                                      ^^^^^^^^^^^^^^^^^^^^
"#,
        ),
        (
            "failing.hujson",
            "failing.hujson:7:3: error: test of ann@example.com failed\n    7 |         {\"src\": \
             \"ann@example.com\", \"accept\": [\"ann@example.com:23\"]},\n      |         ^\n      \
             = address \"ann@example.com:23\": want: Accept, got: Drop\n",
        ),
    ] {
        is(&policy(&home, &format!("set {file}")).await, 1, "", told);
        is(
            &policy(&home, &format!("set {file} --dry-run")).await,
            1,
            "",
            told,
        );
        let check = format!("check {file} --on-server");
        is(&policy(&home, &check).await, 1, "", told);
    }
    let found = json_of(&policy(&home, "set failing.hujson --json").await);
    assert_eq!(
        found["errors"],
        json!([{
            "file": "failing.hujson", "line": 7, "column": 3, "message": "test(s) failed",
            "data": [{
                "user": "ann@example.com",
                "errors": ["address \"ann@example.com:23\": want: Accept, got: Drop"],
            }],
        }])
    );
    home.file("policy.hujson", POLICY);
    let fine = "policy.hujson: fine, and not set\n";
    is(
        &policy(&home, "set policy.hujson --dry-run").await,
        0,
        fine,
        "",
    );
    assert_eq!(in_force(&home).await, DEFAULT_POLICY);
}

#[tokio::test]
async fn files_and_tests_are_judged_on_the_servers_tailnet() {
    let (home, made) = Home::with_tailnet().await;
    let serving = home.serve().await;
    home.file("policy.hujson", POLICY);
    // Nobody says that of a tailnet that is made up for the policy.
    let odd = POLICY.replace(
        "\"src\": [\"ann@example.com\"], \"dst\"",
        "\"src\": [\"group:sales@example.com\", \"ann@example.com\"], \"dst\"",
    );
    home.file("odd.hujson", &odd);
    let fine = "odd.hujson: fine, 1 test passed\n";
    is(&policy(&home, "check odd.hujson").await, 0, fine, "");
    let ran = policy(&home, "check policy.hujson odd.hujson --on-server").await;
    let both = format!("policy.hujson: fine, 1 test passed\n{fine}");
    assert_eq!((ran.code, ran.out.as_str()), (0, both.as_str()));
    let told = "odd.hujson:4:32: warning: group:sales@example.com: group is not syncing from SCIM";
    assert!(ran.err.starts_with(told), "{ran:?}");

    let elsewhere = Home::new();
    elsewhere.file("policy.hujson", POLICY);
    let url = format!("http://{}", serving.authority());
    let args = [
        "policy",
        "check",
        "policy.hujson",
        "--json",
        "--server",
        &url,
    ];
    let mut command = elsewhere.command(&args);
    command.env("BOWLINE_TOKEN", made["token"].as_str().unwrap());
    let ran = end_of(command).await;
    assert_eq!(
        (ran.code, json_of(&ran)),
        (
            0,
            json!({"ok": true, "errors": [], "warnings": [], "tests": {"passed": 1, "failed": 0}})
        )
    );
    let mut command = elsewhere.command(&args);
    command.env("BOWLINE_TOKEN", "tskey-api-kBad");
    let ran = end_of(command).await;
    // Not the policy's fault.
    assert_eq!((ran.code, ran.out.as_str()), (2, ""));

    is(
        &policy(&home, "test policy.hujson --on-server").await,
        0,
        "policy.hujson: 1 test passed\n",
        "",
    );
    is(
        &policy(&home, "test").await,
        0,
        "the policy in force: no tests\n",
        "",
    );
    home.file(
        "given.hujson",
        "[\n\t{\"src\": \"ann@example.com\", \"accept\": [\"ann@example.com:1\"]},\n\
         \t{\"src\": \"ann@example.com\", \"deny\": [\"ann@example.com:2\"]},\n]\n",
    );
    let ran = policy(&home, "test --tests given.hujson").await;
    is(
        &ran,
        1,
        "the policy in force: 1 of 2 tests passed\n",
        "given.hujson:3:2: error: test of ann@example.com failed\n    3 |     {\"src\": \
         \"ann@example.com\", \"deny\": [\"ann@example.com:2\"]},\n      |     ^\n      = address \
         \"ann@example.com:2\": want: Drop, got: Accept\n",
    );
    let object = "bowline: policy.hujson: a server takes an array of tests\n";
    is(
        &policy(&home, "test --tests policy.hujson").await,
        2,
        "",
        object,
    );
}

#[tokio::test]
async fn questions_are_answered_on_the_devices_that_there_are() {
    let (home, _) = Home::with_tailnet().await;
    let serving = home.serve().await;
    let _laptop = serving.device(&home, 1, "laptop").await;
    let _phone = serving.device(&home, 2, "phone").await;
    let devices = home.prints_json(&["device", "list"]).await;
    let address = |name: &str| {
        let devices = devices["devices"].as_array().unwrap();
        let device = devices.iter().find(|device| device["hostname"] == name);
        device.unwrap()["addresses"][0].as_str().unwrap().to_owned()
    };
    home.file("policy.hujson", POLICY);
    home.file("wrong.hujson", "{\"acl\": []}\n");

    // The policy of a new tailnet has one rule for everything.
    let rule = DEFAULT_POLICY
        .lines()
        .position(|line| line.contains("\"dst\""))
        .unwrap()
        + 1;
    let ran = policy(&home, "preview --user ann@example.com").await;
    assert!(
        ran.code == 0 && ran.out.starts_with(&format!("line {rule}: * -> *")),
        "{ran:?}"
    );
    let ran = policy(
        &home,
        "preview --user ann@example.com policy.hujson --on-server",
    )
    .await;
    is(
        &ran,
        0,
        "policy.hujson:4: ann@example.com -> ann@example.com:22\n",
        "",
    );
    let target = format!(
        "preview --ipport {}:22 policy.hujson --on-server --json",
        address("phone")
    );
    let found = json_of(&policy(&home, &target).await);
    assert_eq!(found["matches"][0]["lineNumber"], 4);

    let ran = policy(&home, "explain --src laptop --dst phone:80 --exit-code").await;
    assert!(
        ran.code == 0 && ran.out.starts_with("laptop -> phone: allowed\n"),
        "{ran:?}"
    );
    let proposed = "explain --src laptop --dst phone:80 policy.hujson --on-server --exit-code";
    let denied = "laptop -> phone: denied\n  line 4 (acls): has both, but not the port\n    src \
                  ann@example.com\n    dst ann@example.com:22\n";
    is(&policy(&home, proposed).await, 1, denied, "");
    let found = json_of(&policy(&home, &format!("{proposed} --json")).await);
    assert_eq!(found["pairs"][0]["rules"][0]["verdict"], "portNotIncluded");
    let ran = policy(&home, "explain --src nobody --dst phone:80").await;
    assert_eq!((ran.code, ran.out.as_str()), (2, ""));

    let open = json!([
        {"src": address("laptop"), "dst": address("phone"), "protocol": 6, "port": 22},
        {"src": address("laptop"), "dst": address("phone"), "protocol": 6, "port": 80},
    ]);
    home.file("open.json", &open.to_string());
    let ran = policy(
        &home,
        "diff policy.hujson --connections open.json --exit-code",
    )
    .await;
    assert_eq!((ran.code, ran.err.as_str()), (1, ""));
    let cut = format!(
        "! cuts {} -> {} tcp:80\n",
        address("laptop"),
        address("phone")
    );
    assert!(ran.out.starts_with("- "), "{ran:?}");
    assert!(ran.out.ends_with(&cut), "{ran:?}");
    let found = json_of(&policy(&home, "diff policy.hujson --connections open.json --json").await);
    assert_eq!(found["cut"], json!([open[1]]));
    assert_eq!(found["access"][0]["direction"], "lost");
    assert_eq!(policy(&home, "set policy.hujson").await.code, 0);
    let ran = policy(&home, "diff policy.hujson --exit-code").await;
    is(&ran, 0, "nothing changes\n", "");

    let told = "wrong.hujson:1:2: error: json: unknown field \"acl\"\n    1 | {\"acl\": []}\n      |  \
                ^^^^^\n";
    for args in [
        "diff wrong.hujson",
        "preview --user ann@example.com wrong.hujson --on-server",
        "explain --src laptop --dst phone:80 wrong.hujson --on-server",
    ] {
        is(&policy(&home, args).await, 1, "", told);
    }
}

#[tokio::test]
async fn without_a_server_that_runs_the_data_directory_is_asked() {
    let (home, _) = Home::with_tailnet().await;
    home.file("policy.hujson", POLICY);
    assert_eq!(policy(&home, "set policy.hujson").await.code, 0);
    assert_eq!(in_force(&home).await, POLICY);
    let fine = "policy.hujson: fine, 1 test passed\n";
    is(
        &policy(&home, "check policy.hujson --on-server").await,
        0,
        fine,
        "",
    );
}
