//! `bowline policy` on files alone.

mod fmt;
mod server;

use std::fs;
use std::path::Path;
use std::process::Stdio;

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;

use crate::home::{Home, Ran, patiently};

const POLICY: &str = r#"{
	// Who is who.
	"groups":    {"group:dev": ["alice@example.com"]},
	"tagOwners": {"tag:web": ["group:dev"]},
	"postures":  {"posture:mac": ["node:os == 'macos'"]},
	"acls": [
		{"action": "accept", "src": ["group:dev"], "dst": ["tag:web:22"]},
		{
			"action":     "accept",
			"src":        ["group:dev"],
			"dst":        ["tag:web:443"],
			"srcPosture": ["posture:mac"],
		},
	],
	"tests": [
		{"src": "alice@example.com", "accept": ["tag:web:22"], "deny": ["tag:web:9"]},
	],
	"sshTests": [
		{"src": "alice@example.com", "dst": ["tag:web"], "deny": ["root"]},
	],
}
"#;

const TAILNET: &str = r#"{
	// Two people and a server.
	"users": [{"login": "alice@example.com"}, {"login": "bob@example.com"}],
	"devices": [
		{"name": "laptop", "user": "alice@example.com", "attributes": {"node:os": "macos"}},
		{"name": "phone", "user": "alice@example.com"},
		{"name": "desktop", "user": "bob@example.com"},
		{"name": "server", "tags": ["tag:web"]},
	],
}
"#;

/// A directory with a policy and a tailnet, and nothing of a server.
fn files() -> Home {
    let home = Home::new();
    home.file("policy.hujson", POLICY);
    home.file("tailnet.hujson", TAILNET);
    home
}

/// What `bowline policy` comes to with arguments without spaces.
async fn policy(home: &Home, args: &str) -> Ran {
    let args: Vec<&str> = ["policy"].into_iter().chain(args.split(' ')).collect();
    home.run(&args).await
}

/// The same with text on standard input.
async fn piped(home: &Home, args: &str, input: &str) -> Ran {
    let args: Vec<&str> = ["policy"].into_iter().chain(args.split(' ')).collect();
    let mut command = home.command(&args);
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(input.as_bytes()).await.unwrap();
    drop(stdin);
    let output = patiently(child.wait_with_output()).await.unwrap();
    Ran {
        code: output.status.code().unwrap(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

/// Asserts exit code, standard output and standard error.
#[track_caller]
fn is(ran: &Ran, code: i32, out: &str, err: &str) {
    assert_eq!(
        (ran.code, ran.out.as_str(), ran.err.as_str()),
        (code, out, err)
    );
}

fn json_of(ran: &Ran) -> Value {
    serde_json::from_str(&ran.out).unwrap_or_else(|error| panic!("{error}: {ran:?}"))
}

#[tokio::test]
async fn a_good_policy_is_fine_without_any_server() {
    let home = files();
    let fine = "policy.hujson: fine, 2 tests passed\n";
    is(&policy(&home, "check policy.hujson").await, 0, fine, "");
    let with_tailnet = "check policy.hujson --topology tailnet.hujson";
    is(&policy(&home, with_tailnet).await, 0, fine, "");
    let fine = "<stdin>: fine, no tests\n";
    is(&piped(&home, "check -", "{}").await, 0, fine, "");
    let ran = policy(&home, "check policy.hujson --json").await;
    assert_eq!(
        (ran.code, json_of(&ran)),
        (
            0,
            json!({"ok": true, "errors": [], "warnings": [], "tests": {"passed": 2, "failed": 0}})
        )
    );
    assert!(!home.data().exists());
}

#[tokio::test]
async fn errors_point_at_their_places_as_a_compilers_do() {
    let home = files();
    let wrong = POLICY
        .replace(
            "\"src\": [\"group:dev\"], \"dst\"",
            "\"src\": [\"group:ops\"], \"dst\"",
        )
        .replace("\"action\":     \"accept\"", "\"action\":     \"deny\"");
    home.file("wrong.hujson", &wrong);
    home.file("syntax.hujson", "{\n\t\"groups\": {,},\n}\n");
    let ran = policy(&home, "check wrong.hujson syntax.hujson policy.hujson").await;
    is(
        &ran,
        1,
        "policy.hujson: fine, 2 tests passed\n",
        r#"wrong.hujson:7:32: error: src=group not found: "group:ops"
    7 |         {"action": "accept", "src": ["group:ops"], "dst": ["tag:web:22"]},
      |                                      ^^^^^^^^^^^
wrong.hujson:9:18: error: action="deny" is not supported
    9 |             "action":     "deny",
      |                           ^^^^^^
syntax.hujson:2:13: error: invalid character ',' at start of value
    2 |     "groups": {,},
      |                ^
"#,
    );
    let ran = policy(&home, "check wrong.hujson syntax.hujson --json").await;
    assert_eq!((ran.code, ran.err.as_str()), (1, ""));
    assert_eq!(
        json_of(&ran),
        json!({
            "ok": false,
            "errors": [
                {"file": "wrong.hujson", "line": 7, "column": 32,
                 "message": "src=group not found: \"group:ops\""},
                {"file": "wrong.hujson", "line": 9, "column": 18,
                 "message": "action=\"deny\" is not supported"},
                {"file": "syntax.hujson", "line": 2, "column": 13,
                 "message": "invalid character ',' at start of value"},
            ],
            "warnings": [],
            "tests": {"passed": 0, "failed": 0},
        })
    );
    fs::write(home.file("latin1.hujson", ""), b"{\n// \xe9\n}\n").unwrap();
    let ran = policy(&home, "check latin1.hujson").await;
    let told = "latin1.hujson:2:4: error: the file is not UTF-8\n";
    assert!(ran.code == 1 && ran.err.starts_with(told), "{ran:?}");
}

#[tokio::test]
async fn what_cannot_be_read_exits_with_2_after_all_else_was_checked() {
    let home = files();
    let missing = "bowline: cannot read missing.hujson\n  \
                   because: No such file or directory (os error 2)\n";
    let fine = "policy.hujson: fine, 2 tests passed\n";
    let ran = policy(&home, "check missing.hujson policy.hujson").await;
    is(&ran, 2, fine, missing);
    let ran = policy(&home, "check missing.hujson --json").await;
    assert_eq!(ran.code, 2);
    assert_eq!(json_of(&ran)["errors"][0]["file"], "missing.hujson");
    assert_eq!(json_of(&ran)["ok"], false);
    for (args, told) in [
        (
            "check policy.hujson --topology policy.hujson",
            "bowline: policy.hujson is not a topology file: unknown field `tagOwners`, expected one of \
             `users`, `devices`, `groups`, `services`, `httpsEnabled` at line 4 column 12\n",
        ),
        (
            "check policy.hujson --topology tailnet.hujson --tailnet x",
            "bowline: --topology is for work without a server: leave it out, or --server, --tailnet \
             and --on-server\n",
        ),
        (
            "diff - -",
            "bowline: - stands for standard input and can be given once only\n",
        ),
        (
            "test --topology tailnet.hujson",
            "bowline: --topology needs a policy file\n",
        ),
        (
            "explain --src alice@example.com --dst tag:web policy.hujson",
            "bowline: invalid port \"web\": give one number\n",
        ),
        (
            "diff policy.hujson policy.hujson --connections tailnet.hujson",
            "bowline: tailnet.hujson is not a list of connections like [{\"src\": \"100.64.0.1\", \
             \"dst\": \"100.64.0.2\", \"protocol\": 6, \"port\": 22}]\n  because: invalid type: map, \
             expected a sequence at line 1 column 0\n",
        ),
    ] {
        is(&policy(&home, args).await, 2, "", told);
    }
}

#[tokio::test]
async fn what_is_odd_on_a_tailnet_is_a_warning() {
    let home = files();
    let odd = POLICY
        .replace(
            "[\"alice@example.com\"]",
            "[\"alice@example.com\", \"carol@example.com\"]",
        )
        .replace(
            "\"src\": [\"group:dev\"], \"dst\"",
            "\"src\": [\"group:sales@example.com\", \"group:dev\"], \"dst\"",
        );
    home.file("odd.hujson", &odd);
    let fine = "odd.hujson: fine, 2 tests passed\n";
    is(&policy(&home, "check odd.hujson").await, 0, fine, "");
    let ran = policy(&home, "check odd.hujson --topology tailnet.hujson").await;
    is(
        &ran,
        0,
        fine,
        r#"odd.hujson:3:51: warning: "group:dev": user not found: "carol@example.com"
    3 |     "groups":    {"group:dev": ["alice@example.com", "carol@example.com"]},
      |                                                      ^^^^^^^^^^^^^^^^^^^
odd.hujson:7:32: warning: group:sales@example.com: group is not syncing from SCIM and will be ignored by rules in the policy file
    7 |         {"action": "accept", "src": ["group:sales@example.com", "group:dev"], "dst": ["tag:web:22"]},
      |                                      ^^^^^^^^^^^^^^^^^^^^^^^^^
"#,
    );
    let ran = policy(&home, "check odd.hujson --topology tailnet.hujson --json").await;
    let found = json_of(&ran);
    assert_eq!((&found["ok"], &found["errors"]), (&json!(true), &json!([])));
    assert_eq!(
        found["warnings"][1],
        json!({
            "file": "odd.hujson", "line": 7, "column": 32, "message": "warning(s) found",
            "data": [{
                "user": "group:sales@example.com",
                "warnings": ["group is not syncing from SCIM and will be ignored by rules in the \
                              policy file"],
            }],
        })
    );
}

#[tokio::test]
async fn failed_tests_are_told_with_their_lines() {
    let home = files();
    let failing = POLICY
        .replace("\"deny\": [\"tag:web:9\"]", "\"deny\": [\"tag:web:22\"]")
        .replace("\"deny\": [\"root\"]", "\"check\": [\"root\"]");
    home.file("failing.hujson", &failing);
    let told = r#"failing.hujson:16:3: error: test of alice@example.com failed
   16 |         {"src": "alice@example.com", "accept": ["tag:web:22"], "deny": ["tag:web:22"]},
      |         ^
      = address "tag:web:22": want: Drop, got: Accept
failing.hujson:19:3: error: test of alice@example.com failed
   19 |         {"src": "alice@example.com", "dst": ["tag:web"], "check": ["root"]},
      |         ^
      = src "alice@example.com" at "100.64.0.1", dst "tag:web" at "100.64.0.2", ssh user "root": want: "check" got: "deny"
"#;
    is(&policy(&home, "check failing.hujson").await, 1, "", told);
    let passed = "failing.hujson: 0 of 2 tests passed\n";
    is(&policy(&home, "test failing.hujson").await, 1, passed, told);
    let ran = policy(&home, "test failing.hujson --json").await;
    let found = json_of(&ran);
    assert_eq!(ran.code, 1);
    assert_eq!(found["tests"], json!({"passed": 0, "failed": 2}));
    assert_eq!(
        found["errors"][0],
        json!({
            "file": "failing.hujson", "line": 16, "column": 3, "message": "test(s) failed",
            "data": [{
                "user": "alice@example.com",
                "errors": ["address \"tag:web:22\": want: Drop, got: Accept"],
            }],
        })
    );
}

#[tokio::test]
async fn tests_run_on_a_topology_and_may_come_from_another_file() {
    let home = files();
    let ran = policy(&home, "test policy.hujson").await;
    is(&ran, 0, "policy.hujson: 2 tests passed\n", "");
    // The posture holds on one of her two devices.
    home.file(
        "more.hujson",
        "// More.\n[\n\t{\"src\": \"alice@example.com\", \"accept\": [\"tag:web:443\"]},\n\
         \t{\"src\": \"bob@example.com\", \"deny\": [\"tag:web:22\"]},\n]\n",
    );
    let args = "test policy.hujson --topology tailnet.hujson --tests more.hujson";
    is(
        &policy(&home, args).await,
        1,
        "policy.hujson: 1 of 2 tests passed\n",
        r#"more.hujson:3:2: error: test of alice@example.com failed
    3 |     {"src": "alice@example.com", "accept": ["tag:web:443"]},
      |     ^
      = address "tag:web:443": want: Accept, got: Drop
"#,
    );
    home.file(
        "ssh.hujson",
        r#"{"sshTests": [{"src": "alice@example.com", "dst": ["tag:web"], "deny": ["root"]}]}"#,
    );
    let ran = policy(&home, "test policy.hujson --tests ssh.hujson").await;
    is(&ran, 0, "policy.hujson: 1 test passed\n", "");
    home.file("broken.hujson", "[{\"src\": 1}]");
    let ran = policy(&home, "test policy.hujson --tests broken.hujson").await;
    let told = "broken.hujson:1:10: error: json: cannot use a number where a string is expected\n";
    assert!(ran.code == 1 && ran.err.starts_with(told), "{ran:?}");
}

#[tokio::test]
async fn previews_name_the_rules_with_their_lines() {
    let home = files();
    let ran = policy(&home, "preview --user alice@example.com policy.hujson").await;
    is(
        &ran,
        0,
        "policy.hujson:7: group:dev -> tag:web:22\n\
         policy.hujson:8: group:dev -> tag:web:443 if posture:mac\n",
        "",
    );
    let server = "--ipport 100.64.0.4:443 policy.hujson --topology tailnet.hujson";
    let ran = policy(&home, &format!("preview {server}")).await;
    let rule = "policy.hujson:8: group:dev -> tag:web:443 if posture:mac\n";
    is(&ran, 0, rule, "");
    let ran = policy(&home, &format!("preview {server} --json")).await;
    assert_eq!(
        json_of(&ran),
        json!({
            "matches": [{
                "users": ["group:dev"], "ports": ["tag:web:443"], "lineNumber": 8,
                "postures": ["posture:mac"],
            }],
            "type": "ipport",
            "previewFor": "100.64.0.4:443",
            "postures": {"posture:mac": ["node:os == 'macos'"]},
        })
    );
    let ran = policy(&home, "preview --user bob@example.com policy.hujson").await;
    is(&ran, 0, "no rule applies to bob@example.com\n", "");
    assert_eq!(policy(&home, "preview policy.hujson").await.code, 2);
}

#[tokio::test]
async fn explanations_say_what_allows_a_connection_or_what_it_lacks() {
    let home = files();
    let ask = async |rest: &str| {
        let tailnet = "policy.hujson --topology tailnet.hujson";
        policy(&home, &format!("explain {tailnet} {rest}")).await
    };
    let allowed = "laptop -> server: allowed\n  line 7 (acls): allows it\n    \
                   src group:dev = alice@example.com\n    dst tag:web:22 = server\n";
    is(
        &ask("--src laptop --dst server:22 --exit-code").await,
        0,
        allowed,
        "",
    );
    let denied = "desktop -> server: denied\n  \
                  line 7 (acls): has the destination, not the source\n    dst tag:web:22 = server\n  \
                  line 8 (acls): has the destination, not the source\n    dst tag:web:443 = server\n";
    is(&ask("--src desktop --dst server:22").await, 0, denied, "");
    is(
        &ask("--src desktop --dst server:22 --exit-code").await,
        1,
        denied,
        "",
    );
    let posture = "phone -> server: denied\n  \
                   line 8 (acls): has both, but the source's posture fails\n    \
                   posture:mac (line 5): node:os == 'macos'\n    \
                   src group:dev = alice@example.com\n    dst tag:web:443 = server\n  \
                   line 7 (acls): has both, but not the port\n    \
                   src group:dev = alice@example.com\n    dst tag:web:22 = server\n";
    is(&ask("--src phone --dst server:443").await, 0, posture, "");
    let found = json_of(&ask("--src phone --dst server:443 --json").await);
    assert_eq!(found["allowed"], false);
    let rule = &found["pairs"][0]["rules"][0];
    assert_eq!(
        (&rule["verdict"], &rule["line"], &rule["section"]),
        (&json!("postureFailed"), &json!(8), &json!("acls"))
    );
    assert_eq!(
        rule["postures"],
        json!([{"name": "posture:mac", "line": 5, "assertion": "node:os == 'macos'"}])
    );
    let udp = ask("--src laptop --dst server:22 --protocol sctp --exit-code").await;
    assert_eq!(udp.code, 1);
    assert!(
        udp.out.contains("has both, but not the protocol"),
        "{udp:?}"
    );
    // Without a topology the names of the policy stand for devices.
    let ran = policy(
        &home,
        "explain --src alice@example.com --dst tag:web:22 policy.hujson",
    )
    .await;
    assert!(
        ran.out
            .starts_with("alice@example.com -> tag:web: allowed\n"),
        "{ran:?}"
    );
}

#[tokio::test]
async fn differences_name_who_gains_loses_and_is_cut_off() {
    let home = files();
    let new = POLICY
        .replace("\"dst\": [\"tag:web:22\"]", "\"dst\": [\"tag:web:2222\"]")
        .replace(
            "\"accept\": [\"tag:web:22\"], \"deny\": [\"tag:web:9\"]",
            "\"accept\": [\"tag:web:2222\"]",
        );
    home.file("new.hujson", &new);
    home.file(
        "open.json",
        r#"[{"src": "100.64.0.1", "dst": "100.64.0.4", "protocol": 6, "port": 22},
            {"src": "100.64.0.1", "dst": "100.64.0.4", "port": 443}]"#,
    );
    let args = "diff new.hujson policy.hujson --topology tailnet.hujson";
    let told = "+ group:dev (2 devices) -> tag:web (1 device): tcp:2222, udp:2222\n\
                - group:dev (2 devices) -> tag:web (1 device): tcp:22, udp:22\n";
    is(&policy(&home, args).await, 0, told, "");
    let cut = format!("{told}! cuts 100.64.0.1 -> 100.64.0.4 tcp:22\n");
    let args = format!("{args} --connections open.json --exit-code");
    is(&policy(&home, &args).await, 1, &cut, "");
    let found = json_of(&policy(&home, &format!("{args} --json")).await);
    assert_eq!(
        found,
        json!({
            "access": [
                {"direction": "gained", "src": {"selectors": ["group:dev"], "count": 2},
                 "dst": {"selectors": ["tag:web"], "count": 1}, "what": ["tcp:2222", "udp:2222"]},
                {"direction": "lost", "src": {"selectors": ["group:dev"], "count": 2},
                 "dst": {"selectors": ["tag:web"], "count": 1}, "what": ["tcp:22", "udp:22"]},
            ],
            "ssh": [],
            "approvals": [],
            "attributes": [],
            "cut": [{"src": "100.64.0.1", "dst": "100.64.0.4", "protocol": 6, "port": 22}],
        })
    );
    let same = "diff policy.hujson policy.hujson --exit-code";
    is(&policy(&home, same).await, 0, "nothing changes\n", "");
}

#[tokio::test]
async fn without_a_topology_both_policies_say_who_there_is() {
    let home = files();
    let new = POLICY.replace(
        "\"acls\": [",
        "\"acls\": [{\"action\": \"accept\", \"src\": [\"dora@example.com\"], \"dst\": [\"tag:web:1\"]},",
    );
    home.file("new.hujson", &new);
    let gained = "+ dora@example.com (1 device) -> tag:web (1 device): icmp, tcp:1, udp:1, \
                  ipv6-icmp\n";
    is(
        &policy(&home, "diff new.hujson policy.hujson").await,
        0,
        gained,
        "",
    );
    let lost = gained.replacen('+', "-", 1);
    is(
        &policy(&home, "diff policy.hujson new.hujson").await,
        0,
        &lost,
        "",
    );
}

#[tokio::test]
async fn questions_about_a_wrong_policy_show_what_is_wrong_with_it() {
    let home = files();
    home.file("wrong.hujson", "{\"acl\": []}\n");
    let told = "wrong.hujson:1:2: error: json: unknown field \"acl\"\n    1 | {\"acl\": []}\n      |  \
                ^^^^^\n";
    for (args, code) in [
        ("preview --user alice@example.com wrong.hujson", 1),
        (
            "explain --src a@example.com --dst b@example.com:1 wrong.hujson",
            1,
        ),
        ("diff wrong.hujson policy.hujson", 1),
        // 1 would say that something changes.
        ("diff policy.hujson wrong.hujson --exit-code", 2),
        (
            "explain --src a@example.com --dst b@example.com:1 wrong.hujson --exit-code",
            2,
        ),
    ] {
        is(&policy(&home, args).await, code, "", told);
    }
    let found = json_of(&policy(&home, "diff wrong.hujson policy.hujson --json").await);
    assert_eq!(
        (&found["ok"], &found["errors"][0]["line"]),
        (&json!(false), &json!(1))
    );
}

/// The files that the guide gives as examples do what it says.
#[tokio::test]
async fn the_guides_example_is_fine_and_in_canonical_layout() {
    let guide = include_str!("../../../../docs/policy/README.md");
    let mut examples = guide.split("```json5\n").skip(1);
    let mut example = || examples.next().unwrap().split("```").next().unwrap();
    let home = Home::new();
    home.file("policy.hujson", example());
    let tailnet = home.file("tailnet.hujson", example());
    assert!(Path::new(&tailnet).exists());
    let ran = policy(&home, "check policy.hujson").await;
    is(&ran, 0, "policy.hujson: fine, 1 test passed\n", "");
    let ran = policy(&home, "fmt --check --diff policy.hujson").await;
    assert_eq!(ran.code, 0, "{}", ran.out);
    let ran = policy(&home, "preview --user alice@example.com policy.hujson").await;
    assert_eq!(ran.out.lines().count(), 2, "{ran:?}");
    let args = "preview --ipport 10.0.0.1:1 policy.hujson --topology tailnet.hujson";
    assert_eq!(policy(&home, args).await.code, 0);
}
