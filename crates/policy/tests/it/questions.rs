//! Explanations, differences, previews, tests of the policy itself, and who may apply tags.

use bowline_policy::{
    AttributeValue, Attributes, Budget, Compiled, Connection, Device, Diff, Direction, Exhausted,
    Explanation, Limits, Owner, Policy, PreviewTarget, Question, Role, TagAssigner, Topology, User,
    Verdict,
};
use std::sync::Arc;

fn device(id: u64, name: &str, owner: Owner) -> Device {
    Device {
        id,
        name: name.to_owned(),
        joined: id,
        owner,
        addresses: vec![
            format!("100.64.0.{id}").parse().unwrap(),
            format!("fd7a:115c:a1e0::{id}").parse().unwrap(),
        ],
        advertised: Vec::new(),
        routes: Vec::new(),
        attributes: Attributes::new(),
        services: Vec::new(),
        online: true,
        slot: None,
    }
}

/// Alice with two devices, Bob with one, two tagged servers, one of them a router.
fn tailnet() -> Topology {
    let user = |id, login: &str, role| User {
        id,
        login: login.to_owned(),
        role,
    };
    let tagged = |tag: &str| Owner::Tags(vec![tag.to_owned()]);
    let mut router = device(5, "router", tagged("tag:router"));
    router.advertised = vec!["10.0.0.0/16".parse().unwrap()];
    router.routes.clone_from(&router.advertised);
    let mut laptop = device(1, "laptop", Owner::User(1));
    laptop.attributes.insert(
        "node:os".to_owned(),
        AttributeValue::String("macos".to_owned()),
    );
    Topology {
        users: vec![
            user(1, "alice@example.com", Role::Member),
            user(2, "bob@example.com", Role::Member),
            user(3, "root@example.com", Role::Admin),
        ],
        devices: vec![
            laptop,
            device(2, "phone", Owner::User(1)),
            device(3, "desktop", Owner::User(2)),
            device(4, "server", tagged("tag:server")),
            router,
        ],
        ..Topology::default()
    }
}

fn compile(text: &str) -> Compiled {
    Compiled::new(Arc::new(Policy::parse(text).unwrap()), &tailnet())
}

const POLICY: &str = r#"{
    "groups": {"group:dev": ["alice@example.com"]},
    "tagOwners": {"tag:server": ["group:dev"], "tag:router": ["tag:server"]},
    "postures": {"posture:mac": ["node:os == 'macos'"]},
    "acls": [
        {"action": "accept", "src": ["group:dev"], "dst": ["tag:server:22"]},
        {"action": "accept", "src": ["group:dev"], "dst": ["tag:server:443"], "srcPosture": ["posture:mac"]},
        {"action": "accept", "src": ["autogroup:member"], "dst": ["10.0.0.0/8:*"]},
    ],
}"#;

fn question(src: &str, dst: &str) -> Question {
    Question {
        src: src.to_owned(),
        dst: dst.to_owned(),
        protocol: None,
    }
}

#[test]
fn an_allowed_connection_names_the_rule_the_line_and_the_members() {
    let answer = compile(POLICY)
        .explain(&question("laptop", "server:22"))
        .unwrap();
    assert!(answer.allowed);
    let rule = &answer.pairs[0].rules[0];
    assert_eq!(
        (&*rule.section, rule.line, &rule.verdict),
        ("acls", 6, &Verdict::Allows)
    );
    assert_eq!(rule.src[0].text, "group:dev");
    assert_eq!(rule.src[0].members, ["alice@example.com"]);
    assert_eq!(rule.dst[0].text, "tag:server:22");
    assert_eq!(rule.dst[0].members, ["server"]);
}

#[test]
fn a_denied_connection_names_what_comes_close_and_what_it_lacks() {
    let net = compile(POLICY);
    let answer = net
        .explain(&question("alice@example.com", "server:443"))
        .unwrap();
    assert!(!answer.allowed);
    let phone = answer
        .pairs
        .iter()
        .find(|pair| pair.src.name == "phone")
        .unwrap();
    assert!(!phone.allowed);
    let json = serde_json::to_value(&phone.rules[0]).unwrap();
    assert_eq!(json["verdict"], "postureFailed");
    assert_eq!(json["postures"][0]["assertion"], "node:os == 'macos'");
    assert_eq!(json["postures"][0]["line"], 4);
    let laptop = answer.pairs.iter().find(|pair| pair.src.name == "laptop");
    assert!(laptop.is_some_and(|pair| pair.allowed));

    let answer = net.explain(&question("laptop", "server:80")).unwrap();
    assert_eq!(answer.pairs[0].rules[0].verdict, Verdict::PortNotIncluded);
    let answer = net.explain(&question("desktop", "server:22")).unwrap();
    assert_eq!(answer.pairs[0].rules[0].verdict, Verdict::SourceNotIncluded);
    assert_eq!(answer.pairs[0].rules[0].dst[0].text, "tag:server:22");
}

#[test]
fn an_address_behind_a_router_can_be_asked_about() {
    let answer = compile(POLICY)
        .explain(&question("desktop", "10.0.5.6:8080"))
        .unwrap();
    assert!(answer.allowed);
    assert_eq!(answer.pairs[0].rules[0].line, 8);
}

#[test]
fn nonsense_is_not_answered() {
    let net = compile(POLICY);
    for (src, dst) in [
        ("laptop", "server"),
        ("laptop", "server:*"),
        ("nobody", "server:1"),
        ("10.0.0.0/8", "server:1"),
    ] {
        assert!(net.explain(&question(src, dst)).is_err(), "{src} {dst}");
    }
}

fn diff(new: &str, connections: &[Connection]) -> Diff {
    compile(POLICY).diff(&Arc::new(Policy::parse(new).unwrap()), connections)
}

#[test]
fn the_same_policy_in_another_layout_changes_nothing() {
    let other = bowline_policy::hujson::to_json(POLICY).unwrap();
    assert_eq!(diff(&other, &[]), Diff::default());
}

#[test]
fn access_that_is_gained_and_lost_is_told_by_class() {
    let new = POLICY
        .replace("\"tag:server:22\"", "\"tag:server:20-22\"")
        .replace(
            "\"autogroup:member\"], \"dst\": [\"10.0.0.0/8:*\"]",
            "\"bob@example.com\"], \"dst\": [\"10.0.0.0/8:*\"]",
        );
    let diff = diff(&new, &[]);
    let gained: Vec<_> = diff
        .access
        .iter()
        .filter(|change| change.direction == Direction::Gained)
        .collect();
    assert_eq!(gained.len(), 1, "{diff:#?}");
    assert_eq!(gained[0].src.selectors, ["group:dev"]);
    assert_eq!(gained[0].dst.selectors, ["tag:server"]);
    assert_eq!(gained[0].what, ["tcp:20-21", "udp:20-21"]);
    let lost: Vec<_> = diff
        .access
        .iter()
        .filter(|change| change.direction == Direction::Lost)
        .collect();
    assert_eq!(lost.len(), 1, "{diff:#?}");
    assert_eq!(lost[0].src.selectors, ["group:dev"]);
    assert_eq!(lost[0].src.count, 2);
    assert_eq!(lost[0].through.as_deref(), Some("10.0.0.0/8"));
    assert_eq!(lost[0].what, ["icmp", "tcp:*", "udp:*", "ipv6-icmp"]);
}

#[test]
fn a_rule_that_another_one_covers_changes_nothing() {
    let new = POLICY.replace(
        "\"acls\": [",
        "\"acls\": [{\"action\": \"accept\", \"src\": [\"alice@example.com\"], \"dst\": [\"tag:server:22\"]},",
    );
    assert_eq!(diff(&new, &[]).access, []);
}

#[test]
fn connections_that_would_be_cut_are_named() {
    let open = |port| Connection {
        src: "100.64.0.1".parse().unwrap(),
        dst: "100.64.0.4".parse().unwrap(),
        protocol: 6,
        port,
    };
    let new = POLICY.replace("\"tag:server:22\"", "\"tag:server:2222\"");
    // Port 443 stays open, and port 80 never was.
    assert_eq!(diff(&new, &[open(22), open(443), open(80)]).cut, [open(22)]);
}

#[test]
fn ssh_rules_routes_and_attributes_are_compared_too() {
    let new = POLICY.replace(
        "\"acls\": [",
        r#""ssh": [{"action": "check", "src": ["group:dev"], "dst": ["tag:server"], "users": ["root", "ubuntu"]}],
           "autoApprovers": {"routes": {"10.0.0.0/8": ["tag:router"]}},
           "nodeAttrs": [{"target": ["tag:server"], "attr": ["funnel-x"]}],
           "acls": ["#,
    );
    let diff = diff(&new, &[]);
    assert_eq!(diff.ssh.len(), 1);
    assert_eq!(
        (diff.ssh[0].direction, &*diff.ssh[0].action),
        (Direction::Gained, "check")
    );
    assert_eq!(diff.ssh[0].users, ["root", "ubuntu"]);
    assert_eq!(diff.ssh[0].src.selectors, ["group:dev"]);
    assert_eq!(diff.approvals[0].route, "10.0.0.0/16");
    assert_eq!(diff.approvals[0].devices.selectors, ["tag:router"]);
    assert_eq!(diff.attributes[0].attribute, "funnel-x");
    assert_eq!(diff.attributes[0].devices.count, 1);
}

#[test]
fn answers_can_be_read_by_people() {
    let net = compile(POLICY);
    let answer = net.explain(&question("phone", "server:443")).unwrap();
    assert_eq!(
        answer.to_string(),
        "phone -> server: denied\n\
         \u{20} line 7 (acls): has both, but the source's posture fails\n\
         \u{20}   posture:mac (line 4): node:os == 'macos'\n\
         \u{20}   src group:dev = alice@example.com\n\
         \u{20}   dst tag:server:443 = server\n\
         \u{20} line 6 (acls): has both, but not the port\n\
         \u{20}   src group:dev = alice@example.com\n\
         \u{20}   dst tag:server:22 = server\n\
         \u{20} line 8 (acls): has the source, not the destination\n\
         \u{20}   src autogroup:member\n"
    );
    let new = POLICY.replace("\"tag:server:22\"", "\"tag:server:2222\"");
    assert_eq!(
        diff(&new, &[]).to_string(),
        "+ group:dev (2 devices) -> tag:server (1 device): tcp:2222, udp:2222\n\
         - group:dev (2 devices) -> tag:server (1 device): tcp:22, udp:22\n"
    );
    assert_eq!(diff(POLICY, &[]).to_string(), "nothing changes\n");
}

#[test]
fn nobody_becomes_root_by_being_called_so() {
    let text = r#"{"tagOwners": {"tag:server": [], "tag:router": []},
        "ssh": [{"action": "accept", "src": ["autogroup:member", "tag:router"], "dst": ["tag:server"],
                 "users": ["localpart:*@example.com"]}]}"#;
    let mut topology = tailnet();
    topology.devices.push(device(6, "of-root", Owner::User(3)));
    let net = Compiled::new(Arc::new(Policy::parse(text).unwrap()), &topology);
    let rules = net.ssh_for(4).unwrap();
    assert!(
        rules
            .iter()
            .all(|rule| rule.users.get("root").is_none_or(String::is_empty))
    );
    assert!(!net.ssh_decision(6, 4, "root").is_allowed());
    assert!(net.ssh_decision(1, 4, "alice").is_allowed());
    assert!(!net.ssh_decision(1, 4, "bob").is_allowed());
    assert!(!net.ssh_decision(5, 4, "alice").is_allowed());
}

#[test]
fn recorders_in_kubernetes_capabilities_are_named_by_address() {
    let net = compile(
        r#"{
            "tagOwners": {"tag:server": [], "tag:router": []},
            "grants": [{"src": ["autogroup:member"], "dst": ["tag:server"], "app": {
                "tailscale.com/cap/kubernetes": [{"recorder": ["tag:router"], "enforceRecorder": true}],
            }}],
        }"#,
    );
    let filter = serde_json::to_value(net.filters_for(4).unwrap()).unwrap();
    assert_eq!(
        filter[0]["CapGrant"][0]["CapMap"],
        serde_json::json!({"tailscale.com/cap/kubernetes": [{
            "recorderAddrs": ["100.64.0.5:80", "[fd7a:115c:a1e0::5]:80"], "enforceRecorder": true,
        }]})
    );
}

#[test]
fn previews_give_the_rules_of_a_user_or_an_address() {
    let net = compile(POLICY);
    let lines = |target: PreviewTarget| -> Vec<usize> {
        net.preview(&target)
            .iter()
            .map(|found| found.line_number)
            .collect()
    };
    assert_eq!(
        lines(PreviewTarget::User("alice@example.com".to_owned())),
        [6, 7, 8]
    );
    assert_eq!(
        lines(PreviewTarget::User("Bob@Example.com".to_owned())),
        [8]
    );
    assert_eq!(
        lines(PreviewTarget::User("nobody@elsewhere.net".to_owned())),
        [8]
    );
    assert_eq!(
        lines(PreviewTarget::IpPort("100.64.0.4".parse().unwrap(), 443)),
        [7]
    );
    assert_eq!(
        lines(PreviewTarget::IpPort("10.1.2.3".parse().unwrap(), 1)),
        [8]
    );
    let found = net.preview(&PreviewTarget::IpPort("100.64.0.4".parse().unwrap(), 443));
    assert_eq!(
        serde_json::to_value(&found).unwrap(),
        serde_json::json!([{
            "users": ["group:dev"], "ports": ["tag:server:443"], "lineNumber": 7,
            "postures": ["posture:mac"],
        }])
    );
}

#[test]
fn failing_tests_say_what_was_wanted() {
    let net = compile(POLICY);
    let error = net
        .run_given_tests(
            r#"[
                {"src": "alice@example.com", "accept": ["tag:server:22"], "deny": ["tag:server:80"]},
                {"user": "bob@example.com", "allow": ["tag:server:22"], "deny": ["10.9.9.9:1"], "proto": "tcp"},
                {"src": "alice@example.com", "deny": ["tag:server:443"], "srcPostureAttrs": {"node:os": "linux"}},
                {"src": "alice@example.com", "accept": ["tag:server:443"], "srcPostureAttrs": {"node:os": "macos"}},
            ]"#,
        )
        .unwrap_err();
    assert_eq!(error.message, "test(s) failed");
    assert_eq!(error.place.line, 3);
    assert_eq!(
        serde_json::to_value(&error.failures).unwrap(),
        serde_json::json!([{"user": "bob@example.com", "errors": [
            "address \"tag:server:22\" (protocol \"tcp\"): want: Accept, got: Drop",
            "address \"10.9.9.9:1\" (protocol \"tcp\"): want: Drop, got: Accept",
        ]}])
    );
}

#[test]
fn given_tests_take_the_place_of_the_files_own() {
    let policy = Policy::parse(&POLICY.replace(
        "\"acls\": [",
        r#""tests": [{"src": "alice@example.com", "accept": ["tag:server:1"]}], "acls": ["#,
    ))
    .unwrap();
    let run = |given: &str| {
        let policy = policy.with_tests(given).unwrap();
        let count = policy.test_count();
        (
            count,
            Compiled::new(Arc::new(policy), &tailnet()).run_tests(),
        )
    };
    let holds = r#"[{"src": "alice@example.com", "accept": ["tag:server:22"]}]"#;
    assert_eq!(run(holds), (1, Ok(())));
    let (count, outcome) = run(r#"{
        "tests": [{"src": "bob@example.com", "deny": ["tag:server:22"]}],
        "sshTests": [
            {"src": "bob@example.com", "dst": ["tag:server"], "deny": ["root"]},
            {"src": "alice@example.com", "dst": ["tag:server"], "accept": ["root"]},
        ],
    }"#);
    assert_eq!(count, 3);
    let failures = outcome.unwrap_err().failures;
    assert_eq!(failures.len(), 1);
    assert_eq!(
        (failures[0].user.as_str(), failures[0].place.line),
        ("alice@example.com", 5)
    );
    let error = policy.with_tests("[{\"src\": 1}]").unwrap_err();
    assert_eq!((error.place.line, error.place.column), (1, 10));
}

#[test]
fn answers_can_be_read_back_from_json() {
    let net = compile(POLICY);
    let answer = net.explain(&question("phone", "server:443")).unwrap();
    let json = serde_json::to_string(&answer).unwrap();
    assert_eq!(serde_json::from_str::<Explanation>(&json).unwrap(), answer);
    let new = POLICY.replace(
        "\"acls\": [",
        r#""ssh": [{"action": "check", "src": ["group:dev"], "dst": ["tag:server"], "users": ["root"]}],
           "acls": ["#,
    );
    let cut: Connection =
        serde_json::from_str(r#"{"src": "100.64.0.1", "dst": "100.64.0.4", "port": 22}"#).unwrap();
    assert_eq!(cut.protocol, 6);
    let diff = diff(
        &new.replace("\"tag:server:22\"", "\"tag:server:2222\""),
        &[cut],
    );
    assert_eq!((diff.ssh.len(), diff.cut.len()), (1, 1));
    let json = serde_json::to_string(&diff).unwrap();
    assert_eq!(serde_json::from_str::<Diff>(&json).unwrap(), diff);
}

#[test]
fn tags_are_applied_by_their_owners() {
    let net = compile(POLICY);
    let tags = |list: &[&str]| list.iter().map(|tag| (*tag).to_owned()).collect::<Vec<_>>();
    let refused = |principal, list: &[&str]| net.may_assign_tags(principal, &tags(list)).err();
    // Through the group, and through the tag that owns the other one.
    assert_eq!(
        refused(TagAssigner::User(1), &["tag:server", "tag:router"]),
        None
    );
    assert_eq!(
        refused(TagAssigner::User(2), &["tag:server"]),
        Some(tags(&["tag:server"]))
    );
    assert_eq!(
        refused(TagAssigner::User(3), &["tag:server", "tag:no"]),
        Some(tags(&["tag:no"]))
    );
    let server = tags(&["tag:server"]);
    assert_eq!(refused(TagAssigner::Tags(&server), &["tag:server"]), None);
    assert_eq!(refused(TagAssigner::Tags(&server), &["tag:router"]), None);
    let both = tags(&["tag:router", "tag:server"]);
    assert_eq!(
        refused(TagAssigner::Tags(&both), &["tag:server"]),
        Some(tags(&["tag:server"]))
    );
    assert_eq!(refused(TagAssigner::Unlimited, &["tag:router"]), None);
}

#[test]
fn a_device_that_is_yet_to_join_gets_the_pools_of_its_owner() {
    let policy = r#"{
        "tagOwners": {"tag:server": [], "tag:router": []},
        "groups": {"group:dev": ["alice@example.com"]},
        "nodeAttrs": [
            {"target": ["group:dev"], "ipPool": ["100.81.0.0/16"]},
            {"target": ["tag:server"], "ipPool": ["100.82.0.0/16"]},
            {"target": ["autogroup:admin"], "ipPool": ["100.83.0.0/16"]},
            {"target": ["100.64.0.9"], "ipPool": ["100.84.0.0/16"]},
            {"target": ["tag:router"], "attr": ["funnel"]},
        ],
    }"#;
    let net = compile(policy);
    let tagged = |tags: &[&str]| Owner::Tags(tags.iter().map(|tag| (*tag).to_owned()).collect());
    for (owner, pools) in [
        (Owner::User(1), vec!["100.81.0.0/16"]),
        (Owner::User(2), vec![]),
        (Owner::User(3), vec!["100.83.0.0/16"]),
        (tagged(&["tag:server"]), vec!["100.82.0.0/16"]),
        (tagged(&["tag:router"]), vec![]),
    ] {
        let found: Vec<String> = net
            .ip_pools_for(&owner)
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(found, pools, "{owner:?}");
    }
    // One that is there by then has the same.
    assert_eq!(net.ip_pools(1), net.ip_pools_for(&Owner::User(1)));
    let everybody = compile(r#"{"nodeAttrs": [{"target": ["*"], "ipPool": ["100.85.0.0/24"]}]}"#);
    assert_eq!(everybody.ip_pools_for(&Owner::User(2)).len(), 1);
}

#[test]
fn tests_that_ask_for_too_much_are_told_so_and_name_few_errors() {
    let names = |prefix: &str, count: usize| -> String {
        let list: Vec<String> = (0..count).map(|n| format!("\"{prefix}{n}\"")).collect();
        list.join(",")
    };
    let text = |dst: &str, accept: &str| {
        format!(
            r#"{{"tagOwners": {{"tag:a": []}},
                "sshTests": [{{"src": "tag:a", "dst": [{dst}], "accept": [{accept}]}}]}}"#
        )
    };
    let net = |text: &str| {
        let policy = Arc::new(Policy::parse(text).unwrap());
        Compiled::new(policy.clone(), &Topology::implied_by(&policy))
    };
    let many = net(&text("\"tag:a\"", &names("user", 5_000)));
    let failed = many.run_tests().unwrap_err();
    assert_eq!(failed.message, "test(s) failed");
    let errors = failed.failures[0].errors.clone();
    assert_eq!(errors.len(), 100);
    assert!(
        errors[0].contains("want: \"accept\" got: \"deny\""),
        "{}",
        errors[0]
    );
    // Denied as wanted, so that no error ends it early.
    let text = text(&vec!["\"tag:a\""; 3_000].join(","), "\"x\"");
    let text = text.replace(
        "\"accept\": [\"x\"]",
        &format!("\"deny\": [{}]", names("user", 2_000)),
    );
    let budget = Budget::new(Limits {
        steps: 1_000_000,
        ..Limits::PROPOSED
    });
    let failed = net(&text).run_tests_within(&budget).unwrap_err();
    assert_eq!(failed.exhausted, Some(Exhausted::Steps));
    assert!(failed.failures.is_empty());
}

#[test]
fn the_case_of_tags_does_not_matter() {
    let text = r#"{
        "tagOwners": {"tag:CI": ["alice@example.com"], "tag:web": []},
        "acls": [{"action": "accept", "src": ["tag:Ci"], "dst": ["tag:WEB:80"]}],
    }"#;
    let policy = Arc::new(Policy::parse(text).unwrap());
    assert_eq!(policy.tags().collect::<Vec<_>>(), ["tag:ci", "tag:web"]);
    let topology = Topology::parse(
        r#"{
            "users": [{"login": "alice@example.com"}],
            "devices": [{"name": "runner", "tags": ["tag:ci"]}, {"name": "site", "tags": ["tag:Web"]}],
        }"#,
    )
    .unwrap();
    let net = Compiled::new(policy, &topology);
    let ids: Vec<u64> = topology.devices.iter().map(|device| device.id).collect();
    assert!(net.visible(ids[0], ids[1]));
    let alice = TagAssigner::User(topology.users[0].id);
    let tags = |text: &str| vec![text.to_owned()];
    assert_eq!(net.may_assign_tags(alice, &tags("tag:ci")), Ok(()));
    assert_eq!(net.may_assign_tags(alice, &tags("tag:CI")), Ok(()));
    assert!(net.may_assign_tags(alice, &tags("tag:web")).is_err());
    let own = tags("tag:Web");
    assert_eq!(
        net.may_assign_tags(TagAssigner::Tags(&own), &tags("tag:web")),
        Ok(())
    );
}
