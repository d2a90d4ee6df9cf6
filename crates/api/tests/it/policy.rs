//! The policy file.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bowline_model::id::DeviceId;
use bowline_model::policy_file::PolicyRef;
use bowline_policy::hujson;
use serde_json::{Value, json};

use crate::server::{Reply, Server};

const ACL: &str = "/tailnet/-/acl";

#[tokio::test]
async fn the_default_policy_is_read_in_every_form_with_one_etag() {
    let server = Server::start().await;
    let plain = server.call("GET", ACL, Value::Null).await;
    assert_eq!(plain.headers["content-type"], "application/hujson");
    let etag = plain.headers["etag"].to_str().unwrap().to_owned();
    assert!(etag.len() == 66 && etag.starts_with('"') && etag.ends_with('"'));
    assert!(
        etag[1..65]
            .bytes()
            .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    );
    for query in ["?details=1", "?details=true"] {
        let details = server
            .call("GET", &format!("{ACL}{query}"), Value::Null)
            .await;
        assert_eq!(details.headers["etag"], etag);
        let details = details.ok();
        assert_eq!(
            (&details["warnings"], &details["errors"]),
            (&json!([]), &Value::Null)
        );
        let text = BASE64_STANDARD
            .decode(details["acl"].as_str().unwrap())
            .unwrap();
        assert_eq!(text, plain.body);
    }
    assert_eq!(
        server
            .call("GET", &format!("{ACL}?details=no"), Value::Null)
            .await
            .body,
        plain.body
    );
}

#[tokio::test]
async fn the_form_of_the_policy_is_the_one_that_is_accepted() {
    let server = Server::start().await;
    let plain = server.call("GET", ACL, Value::Null).await;
    for accept in ["*/*", "application/hujson", "text/html"] {
        assert_eq!(
            server.get_as(ACL, accept).await.body,
            plain.body,
            "{accept}"
        );
    }
    let json = server.get_as(ACL, "application/json").await;
    assert_eq!(json.headers["content-type"], "application/json");
    assert_eq!(json.headers["etag"], plain.headers["etag"]);
    assert!(json.ok().is_object());
    // An old client asks for both.
    let path = format!("{ACL}?details=1");
    assert!(server.get_as(&path, "application/hujson").await.ok()["acl"].is_string());
}

/// A policy with comments, and what it looks like to machines.
const RULES: &str = r#"// Ours.
{
	"groups": {"group:dev": ["ann@example.com"]},
	"tagOwners": {"tag:web": ["group:dev"]},
	"acls": [
		// Developers reach the web servers.
		{"action": "accept", "src": ["group:dev"], "dst": ["tag:web:443"]},
	],
}
"#;

fn text(reply: &Reply) -> String {
    assert_eq!(
        reply.status,
        200,
        "{}",
        String::from_utf8_lossy(&reply.body)
    );
    String::from_utf8(reply.body.clone()).unwrap()
}

async fn in_force(server: &Server) -> (String, String) {
    let reply = server.call("GET", ACL, Value::Null).await;
    let etag = reply.headers["etag"].to_str().unwrap().to_owned();
    (text(&reply), etag)
}

#[tokio::test]
async fn a_policy_is_kept_as_it_was_written_and_answered_as_it_is_accepted() {
    let server = Server::start().await;
    let count = server.audit(server.tailnet.id).await.len();
    let (default, _) = in_force(&server).await;
    let kind = [("content-type", "application/x-www-form-urlencoded")];
    let set = server.post_policy(ACL, &kind, RULES).await;
    assert_eq!(set.headers["content-type"], "application/hujson");
    assert_eq!(text(&set), RULES);
    let (now, etag) = in_force(&server).await;
    assert_eq!(
        (now.as_str(), set.headers["etag"].to_str().unwrap()),
        (RULES, &*etag)
    );
    assert_eq!(server.events_after(count).await, ["TAILNET.UPDATE.ACL"]);
    let event = server.audit(server.tailnet.id).await.pop().unwrap();
    // By their versions: a log that kept each text would grow by it.
    let version = |text| json!(PolicyRef::of(text));
    assert_eq!((event.old, event.new), (version(&default), version(RULES)));
    // The versions are kept beside the log.
    for text in [&*default, RULES] {
        let version = PolicyRef::of(text).version();
        let kept = server.engine.store().text(server.tailnet.id, &version);
        assert_eq!(&*kept.await.unwrap().unwrap().body, text);
    }

    // The same again changes nothing, in whatever form it is asked for.
    let again = server
        .post_policy(ACL, &[("accept", "application/json")], RULES)
        .await;
    assert_eq!(again.headers["content-type"], "application/json");
    assert_eq!(again.headers["etag"].to_str().unwrap(), etag);
    assert_eq!(
        again.ok()["groups"]["group:dev"],
        json!(["ann@example.com"])
    );
    assert_eq!(server.events_after(count).await.len(), 1);
    // Plain JSON is taken, and written so. Layout makes no other ETag.
    let body = hujson::to_json(RULES).unwrap();
    let plain = server.post_policy(ACL, &[], &body).await;
    assert_eq!(text(&plain), body);
    let spaced = server.post_policy(ACL, &[], &format!("\n\n{body}\n")).await;
    assert_eq!(spaced.headers["etag"], plain.headers["etag"]);
    assert_ne!(plain.headers["etag"].to_str().unwrap(), etag);
    assert_eq!(server.events_after(count).await.len(), 3);
}

#[tokio::test]
async fn a_policy_survives_a_restart_of_the_server() {
    let server = Server::start().await;
    server.set_policy(RULES).await;
    let loaded = server.engine.store().load(server.tailnet.id).await.unwrap();
    let stored = loaded
        .rows
        .iter()
        .find(|row| row.kind == bowline_store::Kind::Policy);
    let body: Value = serde_json::from_str(&stored.unwrap().body).unwrap();
    assert_eq!(body["text"], RULES);
}

#[tokio::test]
async fn if_match_names_the_policy_that_is_replaced() {
    let server = Server::start().await;
    let (_, etag) = in_force(&server).await;
    let bare = etag.trim_matches('"').to_owned();
    let set =
        async |tag: &str, text: &str| server.post_policy(ACL, &[("if-match", tag)], text).await;
    let outdated = "precondition failed, invalid old hash";
    let zeros = format!("\"{}\"", "0".repeat(64));
    for wrong in [
        &*zeros,
        "\"\"",
        "",
        &format!("{zeros}, \"x\""),
        &etag.to_uppercase(),
        &format!("W/{etag}"),
    ] {
        assert_eq!(set(wrong, RULES).await.message(412), outdated, "{wrong}");
    }
    // What cannot be read is told first.
    let message = set(&zeros, "{").await.message(400);
    assert!(
        message.starts_with("hujson: line 1, column 2: "),
        "{message}"
    );
    assert_eq!(in_force(&server).await.1, etag);

    text(&set("\"ts-default\"", "{}").await);
    for untouched in ["\"ts-default\"", "ts-default"] {
        assert_eq!(set(untouched, RULES).await.message(412), outdated);
    }
    // A default that somebody wrote is not untouched.
    server.set_policy(bowline_policy::DEFAULT_POLICY).await;
    assert_eq!(in_force(&server).await.1, etag);
    assert_eq!(set("ts-default", RULES).await.message(412), outdated);
    text(&set(&bare, RULES).await);
    assert_eq!(set(&etag, "{}").await.message(412), outdated);
    let (_, etag) = in_force(&server).await;
    text(&set(&etag, "{}").await);
    // Absent: no check.
    server.set_policy(RULES).await;
    // A list that has it, and whatever it is.
    let (_, etag) = in_force(&server).await;
    text(&set(&format!("{zeros}, {etag}"), RULES).await);
    text(&set("*", RULES).await);
    let two = [("if-match", &*zeros), ("if-match", &*etag)];
    text(&server.post_policy(ACL, &two, "{}").await);
    // Only where there is none, and there is always one.
    for none in ["*", &in_force(&server).await.1] {
        let header = [("if-none-match", none)];
        let reply = server.post_policy(ACL, &header, RULES).await;
        assert_eq!(reply.message(412), outdated);
    }
    text(
        &server
            .post_policy(ACL, &[("if-none-match", &zeros)], RULES)
            .await,
    );
}

#[tokio::test]
async fn who_has_the_policy_already_is_not_sent_it() {
    let server = Server::start().await;
    let (_, etag) = in_force(&server).await;
    let token = crate::server::bearer(&server.tailnet.token);
    let get = async |tag: &str, path: &str| {
        let headers = [("authorization", &*token), ("if-none-match", tag)];
        server
            .send_with(false, &headers, "GET", path, Vec::new())
            .await
    };
    for known in [
        &*etag,
        "*",
        &format!("W/{etag}"),
        &format!("\"x\", {etag}"),
        "ts-default",
    ] {
        for path in [ACL.to_owned(), format!("{ACL}?details=1")] {
            let reply = get(known, &path).await;
            assert_eq!(
                (reply.status.as_u16(), reply.body.len()),
                (304, 0),
                "{known}"
            );
            assert_eq!(reply.headers["etag"].to_str().unwrap(), etag);
        }
    }
    for other in ["\"x\"", "", "x"] {
        assert_eq!(get(other, ACL).await.status, 200, "{other}");
    }
}

#[tokio::test]
async fn an_empty_body_resets_the_policy_and_a_lost_one_does_not() {
    let server = Server::start().await;
    let (default, etag) = in_force(&server).await;
    server.set_policy(RULES).await;
    let wrong = [("if-match", "ts-default")];
    server.post_policy(ACL, &wrong, "").await.message(412);
    let count = server.audit(server.tailnet.id).await.len();
    for _ in 0..2 {
        let reset = server.post_policy(ACL, &[], "").await;
        assert_eq!(text(&reset), default);
        assert_eq!(reset.headers["etag"].to_str().unwrap(), etag);
        assert_eq!(server.events_after(count).await, ["TAILNET.UPDATE.ACL"]);
    }
    text(&server.post_policy(ACL, &wrong, RULES).await);
    // A body that was announced and did not come: chunks, of which there are none.
    let lost = server.post_lost_body(ACL).await;
    assert_eq!(lost.message(400), "unexpected end of JSON input");
    for blank in [" ", "\n", "// nothing\n"] {
        let message = server.post_policy(ACL, &[], blank).await.message(400);
        assert!(message.contains("unexpected EOF"), "{message}");
    }
    assert_eq!(in_force(&server).await.0, RULES);
}

#[tokio::test]
async fn a_policy_that_is_wrong_is_refused_in_the_services_words() {
    let server = Server::start().await;
    let before = in_force(&server).await;
    for (policy, message) in [
        (
            "{",
            "hujson: line 1, column 2: parsing value: unexpected EOF",
        ),
        (
            "{\n \"acls\": [],,}",
            "hujson: line 2, column 13: invalid character ',' at start of value",
        ),
        (
            r#"{"acls": [{"action": "accept", "src": ["tag:no"], "dst": ["*:*"]}]}"#,
            r#"src=tag not found: "tag:no""#,
        ),
        (
            r#"{"acls": [{"action": "accept", "src": ["*"], "dst": ["tag:no:22"]}]}"#,
            r#"dst="tag:no": tag not found: "tag:no""#,
        ),
        (
            r#"{"grants": [{"src": ["*"], "dst": ["*"]}]}"#,
            "ip and app can not both be empty",
        ),
        (
            "null // lost",
            "hujson: line 1, column 6: parsing comment: unexpected EOF",
        ),
        (
            "[]",
            "json: cannot use an array where an object is expected",
        ),
        (
            r#"{"acls": [], "nonsense": 1}"#,
            r#"json: unknown field "nonsense""#,
        ),
        (
            r#"{"ssh": [{"action": "accept", "src": ["user:*@other.org"], "dst": ["autogroup:self"], "users": ["root"]}]}"#,
            "[ssh] other.org is not associated with this Tailnet and cannot be used in user:*@<domain> expressions",
        ),
        (
            r#"{"ssh": [{"action": "accept", "src": ["autogroup:member"], "dst": ["autogroup:self"], "users": ["localpart:*@EXAMPLE.com"]}]}"#,
            "EXAMPLE.com is not associated with this Tailnet and cannot be used in user:*@<domain> expressions",
        ),
    ] {
        assert_eq!(
            server.post_policy(ACL, &[], policy).await.message(400),
            message
        );
        // Trying it out tells the same.
        let preview = format!("{ACL}/preview?type=user&previewFor=ann@example.com");
        let reply = server.post_policy(&preview, &[], policy).await;
        assert_eq!(reply.message(400), message);
        let validated = server
            .post_policy(&format!("{ACL}/validate"), &[], policy)
            .await;
        if policy == "[]" {
            // No tests, none of which fails.
            assert_eq!(validated.ok(), json!({}));
        } else {
            assert_eq!(validated.ok(), json!({"message": message}));
        }
        for (operation, body) in [
            (
                "explain",
                json!({"src": "*", "dst": "*:1", "policy": policy}),
            ),
            ("diff", json!({"policy": policy})),
        ] {
            let reply = server
                .call("POST", &format!("{ACL}/{operation}"), body)
                .await;
            assert_eq!(reply.message(400), message, "{operation}");
        }
    }
    for null in ["null", "null // lost\n"] {
        let message = server.post_policy(ACL, &[], null).await.message(400);
        assert_eq!(message, "json: cannot use null where an object is expected");
    }
    assert_eq!(in_force(&server).await, before);
    // The tailnet's own domains are that of its name and its owner's, not everybody's.
    server.user("bob@invited.net", "member").await;
    let policy = |domain: &str| {
        let rule = json!({"src": [format!("user:*@{domain}")], "dst": ["*"], "ip": ["*"]});
        json!({"grants": [rule]}).to_string()
    };
    server.set_policy(&policy("example.com")).await;
    let refused = server.post_policy(ACL, &[], &policy("invited.net")).await;
    assert_eq!(
        refused.message(400),
        "[grants] invited.net is not associated with this Tailnet and cannot be used in user:*@<domain> expressions"
    );
}

#[tokio::test]
async fn a_policy_whose_tests_fail_changes_nothing() {
    let server = Server::start().await;
    let laptop = server.device(&server.tailnet, "laptop").await;
    let (before, map) = (in_force(&server).await, server.map(laptop));
    let policy = r#"{
        "tagOwners": {"tag:web": []},
        "acls": [{"action": "accept", "src": ["ann@example.com"], "dst": ["tag:web:443"]}],
        "tests": [
            {"src": "ann@example.com", "accept": ["tag:web:443"]},
            {"src": "ann@example.com", "accept": ["tag:web:22"], "deny": ["tag:web:443"]},
        ],
    }"#;
    let reply = server.post_policy(ACL, &[], policy).await;
    assert_eq!(reply.message(400), "test(s) failed");
    let errors = [
        "address \"tag:web:22\": want: Accept, got: Drop",
        "address \"tag:web:443\": want: Drop, got: Accept",
    ];
    let data = json!([{"user": "ann@example.com", "errors": errors}]);
    assert_eq!(reply.json()["data"], data);
    assert_eq!(in_force(&server).await, before);
    assert_eq!(server.map(laptop), map);
    // Warnings do not keep a policy out.
    let warned = r#"{"acls": [{"action": "accept", "src": ["group:x@example.com"], "dst": ["*:*"]}],
        "groups": {"group:dev": ["nobody@example.com"]}}"#;
    server.set_policy(warned).await;
    let details = server.get(&format!("{ACL}?details=true")).await;
    assert_eq!(
        details["warnings"],
        json!([
            "\"group:dev\": user not found: \"nobody@example.com\"",
            "\"group:x@example.com\": group is not syncing from SCIM and will be ignored by rules in the policy file",
        ])
    );
    assert_eq!(details["errors"], Value::Null);
}

#[tokio::test]
async fn what_devices_are_told_follows_the_policy_at_once() {
    let server = Server::start().await;
    let laptop = server.device(&server.tailnet, "laptop").await;
    let desk = server.device(&server.tailnet, "desk").await;
    let foreign = server.device(&server.other, "laptop").await;
    let peers = |device| server.map(device)["Peers"].as_array().map_or(0, Vec::len);
    assert_eq!((peers(laptop), peers(desk)), (1, 1));
    let other = server.engine.snapshot(server.other.id).unwrap();

    server.set_policy(r#"{"acls": []}"#).await;
    assert_eq!((peers(laptop), peers(desk)), (0, 0));
    server
        .set_policy(
            r#"{"hosts": {"desk": "100.64.9.9"}, "acls": [
            {"action": "accept", "src": ["ann@example.com"], "dst": ["desk:22"]}]}"#,
        )
        .await;
    assert_eq!((peers(laptop), peers(desk)), (0, 0));
    let path = format!("/device/{desk}/ip");
    server
        .call("POST", &path, json!({"ipv4": "100.64.9.9"}))
        .await
        .ok();
    assert_eq!((peers(laptop), peers(desk)), (1, 1));
    let filter = server.map(desk)["PacketFilters"].to_string();
    assert!(
        filter.contains(r#""IP":"100.64.9.9","Ports":{"First":22,"Last":22}"#),
        "{filter}"
    );

    // Another tailnet has a policy of its own.
    let now = server.engine.snapshot(server.other.id).unwrap();
    assert_eq!(now.policy().text, None);
    assert!(std::sync::Arc::ptr_eq(
        other.device(foreign).unwrap(),
        now.device(foreign).unwrap()
    ));
}

#[tokio::test]
async fn routes_that_a_policy_approves_are_enabled_and_stay_so() {
    let server = Server::start().await;
    let router = server.device(&server.tailnet, "router").await;
    let waiting = server.device(&server.tailnet, "waiting").await;
    let authorize = format!("/device/{waiting}/authorized");
    server
        .call("POST", &authorize, json!({"authorized": false}))
        .await
        .ok();
    let enabled = async |device: DeviceId| {
        server.get(&format!("/device/{device}/routes")).await["enabledRoutes"].clone()
    };
    assert_eq!(enabled(router).await, json!([]));
    let count = server.audit(server.tailnet.id).await.len();
    let policy =
        r#"{"acls": [], "autoApprovers": {"routes": {"10.0.0.0/8": ["ann@example.com"]}}}"#;
    server.set_policy(policy).await;
    assert_eq!(enabled(router).await, json!(["10.0.1.0/24"]));
    assert_eq!(
        server.events_after(count).await,
        ["TAILNET.UPDATE.ACL", "NODE.UPDATE.AUTO_APPROVED_ROUTES"]
    );
    // A device that waits for approval routes nothing; once approved, it does.
    assert_eq!(enabled(waiting).await, json!([]));
    server
        .call("POST", &authorize, json!({"authorized": true}))
        .await
        .ok();
    assert_eq!(enabled(waiting).await, json!(["10.0.1.0/24"]));
    // Taking the approver away withdraws nothing.
    server.set_policy(r#"{"acls": []}"#).await;
    assert_eq!(enabled(router).await, json!(["10.0.1.0/24"]));
}

#[tokio::test]
async fn a_large_policy_is_taken_and_one_that_is_too_large_is_not() {
    let server = Server::start().await;
    let mut policy = String::from("{\"hosts\": {\n");
    for n in 0..500 {
        policy.push_str(&["\"h", &n.to_string(), "\": \"10.1.2.3\", // "].concat());
        policy.push_str(&"x".repeat(2000));
        policy.push('\n');
    }
    policy.push_str("}, \"acls\": []}");
    server.set_policy(&policy).await;
    assert_eq!(in_force(&server).await.0.len(), policy.len());
    let body = json!({"policy": policy}).to_string();
    let diff = server.post_policy(&format!("{ACL}/diff"), &[], &body).await;
    assert_eq!(diff.ok()["access"], json!([]));
    // Longer than a policy may be, and no longer than a request may be.
    let longer = format!("{{}}{}", " ".repeat(1 << 20));
    for end in ["", "/preview?type=user&previewFor=a", "/validate"] {
        let reply = server
            .post_policy(&format!("{ACL}{end}"), &[], &longer)
            .await;
        let message = reply.message(400);
        assert!(
            message.starts_with("policy is too large: it has 1048578 bytes"),
            "{message}"
        );
    }
    let asked = json!({"policy": longer, "src": "a", "dst": "b:1"}).to_string();
    for end in ["/explain", "/diff"] {
        let reply = server
            .post_policy(&format!("{ACL}{end}"), &[], &asked)
            .await;
        assert!(
            reply.message(400).starts_with("policy is too large"),
            "{end}"
        );
    }
    let longest = format!("{{}}{}", " ".repeat((1 << 20) - 2));
    let reply = server
        .post_policy(&format!("{ACL}/validate"), &[], &longest)
        .await;
    assert_eq!(reply.ok(), json!({}));
    let huge = format!("{{}}{}", " ".repeat(16 << 20));
    for end in [
        "",
        "/preview?type=user&previewFor=a",
        "/validate",
        "/explain",
        "/diff",
    ] {
        let reply = server.post_policy(&format!("{ACL}{end}"), &[], &huge).await;
        assert_eq!(reply.message(413), "request body is too large", "{end}");
    }
    // Other operations keep their limit.
    let body = " ".repeat(2 << 20);
    let reply = server.post_policy("/tailnet/-/keys", &[], &body).await;
    assert_eq!(reply.message(413), "request body is too large");
}

#[tokio::test]
async fn a_policy_that_is_not_utf_8_is_refused() {
    let server = Server::start().await;
    let token = crate::server::bearer(&server.tailnet.token);
    for body in [&b"{} // \xff\n"[..], b"\"\xff\"", b"\xff"] {
        for end in ["", "/validate"] {
            let path = format!("{ACL}{end}");
            let reply = server
                .send(false, token.clone(), "POST", &path, body.to_vec())
                .await;
            let message = reply.message(400);
            assert!(
                message.contains("line 1, column") || message.contains("UTF-8"),
                "{message}"
            );
        }
    }
}

#[tokio::test]
async fn a_full_disk_leaves_the_policy_as_it_was() {
    let server = Server::start().await;
    let before = in_force(&server).await;
    server
        .disk_is_full
        .store(true, std::sync::atomic::Ordering::SeqCst);
    let message = server.post_policy(ACL, &[], RULES).await.message(503);
    assert!(message.contains("no space left"), "{message}");
    assert_eq!(in_force(&server).await, before);
    server
        .disk_is_full
        .store(false, std::sync::atomic::Ordering::SeqCst);
    server.set_policy(RULES).await;
}
