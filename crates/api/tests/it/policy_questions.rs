//! Preview, validate, explain and compare: questions to a policy, which change nothing.

use bowline_model::id::DeviceId;
use serde_json::{Value, json};

use crate::server::{Reply, Server};

const ACL: &str = "/tailnet/-/acl";

/// Line numbers matter: the first rule is on line 5.
const RULES: &str = r#"{
	"groups": {"group:dev": ["ann@example.com"]},
	"postures": {"posture:linux": ["node:os == 'linux'"]},
	"acls": [
		{"action": "accept", "src": ["group:dev"], "dst": ["100.64.0.0/10:22,80"]},
		{
			"action": "accept",
			"src": ["bob@example.com"], "dst": ["*:443"],
			"srcPosture": ["posture:linux"],
		},
	],
	"tests": [{"src": "ann@example.com", "accept": ["100.64.0.9:22"]}],
}
"#;

async fn ask(server: &Server, end: &str, text: &str) -> Reply {
    let count = server.audit(server.tailnet.id).await.len();
    let before = server.engine.snapshot(server.tailnet.id).unwrap();
    let reply = server.post_policy(&format!("{ACL}{end}"), &[], text).await;
    assert_eq!(server.audit(server.tailnet.id).await.len(), count);
    let after = server.engine.snapshot(server.tailnet.id).unwrap();
    assert!(std::sync::Arc::ptr_eq(before.policy(), after.policy()));
    reply
}

#[tokio::test]
async fn a_preview_lists_the_rules_of_a_user_by_their_lines_in_the_text_as_sent() {
    let server = Server::start().await;
    let preview =
        async |query: &str, text: &str| ask(&server, &format!("/preview?{query}"), text).await;
    let of_ann = "type=user&previewFor=ann%40example.com";
    let rule = json!({"users": ["group:dev"], "ports": ["100.64.0.0/10:22,80"], "lineNumber": 5});
    assert_eq!(
        preview(of_ann, RULES).await.ok(),
        json!({"matches": [rule], "type": "user", "previewFor": "ann@example.com"})
    );
    // What was sent counts, not what would be stored.
    let moved = format!("// One\n// Two\n{RULES}");
    assert_eq!(
        preview(of_ann, &moved).await.ok()["matches"][0]["lineNumber"],
        7
    );
    let bob = preview("type=user&previewFor=bob@example.com", RULES)
        .await
        .ok();
    assert_eq!(
        bob["matches"],
        json!([{
            "users": ["bob@example.com"], "ports": ["*:443"], "lineNumber": 6,
            "postures": ["posture:linux"],
        }])
    );
    assert_eq!(
        bob["postures"],
        json!({"posture:linux": ["node:os == 'linux'"]})
    );
    let nobody = preview("type=user&previewFor=x@example.com", RULES)
        .await
        .ok();
    assert_eq!(nobody["matches"], json!([]));

    let lines = async |target: &str| -> Vec<Value> {
        let query = format!("type=ipport&previewFor={target}");
        let answer = preview(&query, RULES).await.ok();
        assert_eq!(answer["previewFor"], *target);
        let matches = answer["matches"].as_array().unwrap().iter();
        matches.map(|found| found["lineNumber"].clone()).collect()
    };
    assert_eq!(lines("100.64.0.1:80").await, [5]);
    assert_eq!(lines("100.64.0.1:443").await, [6]);
    assert_eq!(lines("[fd7a::1]:443").await, [6]);
    assert_eq!(lines("100.64.0.1:81").await, [0; 0]);

    // Without a body: the policy in force.
    let default = preview(of_ann, "").await.ok();
    assert_eq!(default["matches"][0]["users"], json!(["*"]));
    server.set_policy(RULES).await;
    assert_eq!(preview(of_ann, "").await.ok()["matches"], json!([rule]));
}

#[tokio::test]
async fn a_preview_of_nothing_is_refused_by_name() {
    let server = Server::start().await;
    for (query, message) in [
        ("", "previewFor is required"),
        ("?type=user", "previewFor is required"),
        ("?type=user&previewFor=", "previewFor is required"),
        ("?previewFor=ann@example.com", "type must be user or ipport"),
        ("?type=group&previewFor=a", "type must be user or ipport"),
        (
            "?type=ipport&previewFor=100.64.0.1",
            "invalid previewFor \"100.64.0.1\"",
        ),
        (
            "?type=ipport&previewFor=a:80",
            "invalid previewFor \"a:80\"",
        ),
    ] {
        let reply = ask(&server, &format!("/preview{query}"), RULES).await;
        let told = reply.message(400);
        assert!(told.starts_with(message), "{told}");
    }
    let lost = format!("{ACL}/preview?type=user&previewFor=ann@example.com");
    assert_eq!(
        server.post_lost_body(&lost).await.message(400),
        "unexpected end of JSON input"
    );
}

#[tokio::test]
async fn an_object_is_validated_with_its_own_tests() {
    let server = Server::start().await;
    let validate = async |text: &str| ask(&server, "/validate", text).await;
    assert_eq!(validate("{}").await.ok(), json!({}));
    assert_eq!(validate(RULES).await.ok(), json!({}));
    let standard = bowline_policy::hujson::standardize(RULES).unwrap();
    let kind = [("content-type", "application/hujson")];
    let path = format!("{ACL}/validate");
    assert_eq!(
        server.post_policy(&path, &kind, &standard).await.ok(),
        json!({})
    );

    let failing = RULES.replace(
        "accept\": [\"100.64.0.9:22\"]",
        "deny\": [\"100.64.0.9:22\"]",
    );
    assert_eq!(
        validate(&failing).await.ok(),
        json!({"message": "test(s) failed", "data": [{
            "user": "ann@example.com",
            "errors": ["address \"100.64.0.9:22\": want: Drop, got: Accept"],
        }]})
    );
    let warned =
        r#"{"acls": [{"action": "accept", "src": ["group:unknown@example.com"], "dst": ["*:*"]}]}"#;
    assert_eq!(
        validate(warned).await.ok(),
        json!({"message": "warning(s) found", "data": [{
            "user": "group:unknown@example.com",
            "warnings": ["group is not syncing from SCIM and will be ignored by rules in the policy file"],
        }]})
    );
    // Clients take any message for a failure: somebody who is not there is worth none.
    let unknown = r#"{"groups": {"group:a": ["nobody@example.com"]}, "acls": []}"#;
    assert_eq!(validate(unknown).await.ok(), json!({}));
    assert_eq!(
        validate("").await.message(400),
        "unexpected end of JSON input"
    );
    for scalar in ["null", "1", "\"x\""] {
        let message = validate(scalar).await.message(400);
        assert!(
            message.starts_with("invalid body: expected a policy"),
            "{message}"
        );
    }
}

#[tokio::test]
async fn an_array_is_tests_of_the_policy_in_force() {
    let server = Server::start().await;
    server.user("bob@example.com", "member").await;
    server.set_policy(RULES).await;
    let validate = async |body: Value| ask(&server, "/validate", &body.to_string()).await.ok();
    assert_eq!(validate(json!([])).await, json!({}));
    let passing = json!([
        {"src": "ann@example.com", "accept": ["100.64.0.9:22"], "deny": ["100.64.0.9:443"]},
        {"user": "group:dev", "allow": ["100.64.0.9:80"]},
        {"src": "bob@example.com", "accept": ["1.2.3.4:443"], "srcPostureAttrs": {"node:os": "linux"}},
        {"src": "bob@example.com", "deny": ["1.2.3.4:443"], "srcPostureAttrs": {"node:os": "macos"}},
    ]);
    assert_eq!(validate(passing).await, json!({}));
    let failing = json!([
        {"src": "ann@example.com", "accept": ["100.64.0.9:22", "100.64.0.9:443"]},
        {"src": "bob@example.com", "deny": ["100.64.0.9:22"]},
    ]);
    assert_eq!(
        validate(failing).await,
        json!({"message": "test(s) failed", "data": [{
            "user": "ann@example.com",
            "errors": ["address \"100.64.0.9:443\": want: Accept, got: Drop"],
        }]})
    );
    let wrong = validate(json!([1])).await;
    assert!(wrong["message"].is_string(), "{wrong}");
    // What cannot be read is a finding as well.
    let broken = ask(&server, "/validate", "[{]").await.ok();
    let message = broken["message"].as_str().unwrap();
    assert!(
        message.starts_with("hujson: line 1, column 3: "),
        "{broken}"
    );
}

async fn two(server: &Server) -> (DeviceId, DeviceId) {
    (
        server.device(&server.tailnet, "laptop").await,
        server.device(&server.tailnet, "desk").await,
    )
}

#[tokio::test]
async fn an_explanation_names_the_rules_that_allow_or_come_close() {
    let server = Server::start().await;
    two(&server).await;
    server.set_policy(RULES).await;
    let explain = async |body: Value| ask(&server, "/explain", &body.to_string()).await;
    let allowed = explain(json!({"src": "laptop", "dst": "desk:22"}))
        .await
        .ok();
    assert_eq!(allowed["allowed"], true);
    let rule = &allowed["pairs"][0]["rules"][0];
    assert_eq!(
        (&rule["section"], &rule["line"], &rule["verdict"]),
        (&json!("acls"), &json!(5), &json!("allows"))
    );
    assert_eq!(rule["src"][0]["members"], json!(["ann@example.com"]));
    assert_eq!(allowed["pairs"][0]["src"]["user"], "ann@example.com");
    let denied = explain(json!({"src": "laptop", "dst": "desk:23", "protocol": "tcp"}))
        .await
        .ok();
    assert_eq!(denied["allowed"], false);
    assert_eq!(denied["pairs"][0]["rules"][0]["verdict"], "portNotIncluded");

    // Another policy can be asked, and null is none.
    let proposed = r#"{"acls": []}"#;
    let body = json!({"src": "laptop", "dst": "desk:22", "policy": proposed});
    assert_eq!(explain(body).await.ok()["allowed"], false);
    let body = json!({"src": "laptop", "dst": "desk:22", "policy": null, "protocol": null});
    assert_eq!(explain(body).await.ok()["allowed"], true);

    for (body, part) in [
        (json!({"src": "laptop"}), "missing field `dst`"),
        (
            json!({"src": "laptop", "dst": "desk"}),
            "hostport must contain a colon",
        ),
        (json!({"src": "laptop", "dst": "desk:x"}), "invalid port"),
        (json!({"src": "nobody", "dst": "desk:22"}), "nobody"),
        (
            json!({"src": "laptop", "dst": "desk:22", "protocol": "x"}),
            "\"x\"",
        ),
        (
            json!({"src": "laptop", "dst": "desk:22", "policy": ""}),
            "unexpected EOF",
        ),
        (json!([]), "expected a JSON object"),
    ] {
        let message = explain(body).await.message(400);
        assert!(message.contains(part), "{message}");
    }
}

#[tokio::test]
async fn a_diff_says_who_gains_and_loses_and_which_connections_are_cut() {
    let server = Server::start().await;
    let (laptop, desk) = two(&server).await;
    server.set_policy(RULES).await;
    let diff = async |body: Value| ask(&server, "/diff", &body.to_string()).await;
    let nothing = json!({"access": [], "ssh": [], "approvals": [], "attributes": [], "cut": []});
    assert_eq!(diff(json!({"policy": RULES})).await.ok(), nothing);

    let view = server.engine.snapshot(server.tailnet.id).unwrap();
    let address = |id| view.device(id).unwrap().device.ipv4.to_string();
    let connection = |port: u16| json!({"src": address(laptop), "dst": address(desk), "protocol": 6, "port": port});
    // Its tests fail, which does not matter here.
    let proposed = RULES.replace("22,80", "80,8080");
    let body = json!({"policy": proposed, "connections": [connection(22), connection(80)]});
    let answer = diff(body).await.ok();
    let changes = answer["access"].as_array().unwrap();
    let find = |direction: &str| {
        let found = changes
            .iter()
            .find(|change| change["direction"] == direction);
        found.unwrap_or_else(|| panic!("nothing {direction} in {answer}"))
    };
    assert!(find("lost")["what"].to_string().contains("tcp:22"));
    assert!(find("gained")["what"].to_string().contains("tcp:8080"));
    assert_eq!(answer["cut"], json!([connection(22)]));

    for (body, part) in [
        (json!({}), "missing field `policy`"),
        (
            json!({"policy": RULES, "connections": [{}]}),
            "missing field",
        ),
        (
            json!({"policy": RULES, "connections": [["100.64.0.1", "100.64.0.2", 6, 1]]}),
            "an object",
        ),
        (
            json!({"policy": RULES, "connections": [{"src": "x", "dst": "y", "port": 1}]}),
            "invalid",
        ),
    ] {
        let message = diff(body).await.message(400);
        assert!(message.contains(part), "{message}");
    }
}
