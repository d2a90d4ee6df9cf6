//! No section and no field is accepted and then ignored: each is in force, or refused, or said to
//! have no effect. And nothing that is written twice loses a part of it in silence.

use bowline_policy::{Policy, RelayMap};

fn warnings(text: &str) -> Vec<(usize, String)> {
    let policy = Policy::parse(text).unwrap();
    let warnings = policy.warnings().iter();
    warnings
        .map(|warning| (warning.place.line, warning.message.clone()))
        .collect()
}

fn refusal(text: &str) -> String {
    let errors = Policy::parse(text).unwrap_err();
    let error = &errors[0];
    format!(
        "{}:{}: {}",
        error.place.line, error.place.column, error.message
    )
}

#[test]
fn what_is_written_twice_is_said_with_both_lines() {
    for (text, line, message) in [
        (
            "{\n\"acls\": [],\n\"acls\": []}",
            3,
            "\"acls\" replaces \"acls\" of line 2, which has no effect",
        ),
        (
            "{\n\"ACLs\": [],\n\"acls\": []}",
            3,
            "\"acls\" replaces \"ACLs\" of line 2, which has no effect",
        ),
        (
            "{\"acls\": [{\"action\": \"accept\", \"src\": [\"*\"],\n\"src\": [\"a@x.com\"], \"dst\": []}]}",
            2,
            "\"src\" replaces \"src\" of line 1, which has no effect",
        ),
        (
            "{\"groups\": {\"group:a\": [],\n\"group:a\": []}}",
            2,
            "\"group:a\" replaces \"group:a\" of line 1, which has no effect",
        ),
        (
            "{\"groups\": {\"group:a\": [],\n\"group:A\": []}}",
            2,
            "\"group:A\" and \"group:a\" of line 1 differ in case alone",
        ),
        (
            "{\"tests\": [{\"src\": \"a@x.com\",\n\"user\": \"b@x.com\", \"deny\": [\"1.1.1.1:1\"]}]}",
            2,
            "\"user\" replaces \"src\" of line 1, which has no effect",
        ),
    ] {
        assert_eq!(warnings(text), [(line, message.to_owned())], "{text}");
    }
    // What is null is absent, and takes nothing's place.
    assert_eq!(warnings("{\"acls\": [], \"acls\": null}"), []);
}

#[test]
fn what_has_no_effect_yet_is_said() {
    for text in [
        r#"{"attrConfig": {"custom:a": {"allowSetByNode": true}}}"#,
        r#"{"attrConfig": {"custom:a": {"broadcastToPeers": ["*"]}}}"#,
        r#"{"autoApprovers": {"services": {"svc:a": ["autogroup:member"]}}}"#,
    ] {
        let found = warnings(text);
        assert_eq!(found.len(), 1, "{text}");
        assert!(found[0].1.contains("no effect"), "{}", found[0].1);
    }
    assert!(refusal(r#"{"nodeVisibility": {}}"#).contains("not supported"));
}

#[test]
fn every_section_with_a_wrong_type_is_refused_with_its_place() {
    for (section, value) in [
        ("grants", "{}"),
        ("acls", "{}"),
        ("ssh", "{}"),
        ("groups", "[]"),
        ("hosts", "[]"),
        ("ipsets", "[]"),
        ("tagOwners", "[]"),
        ("autoApprovers", "[]"),
        ("nodeAttrs", "{}"),
        ("attrConfig", "[]"),
        ("postures", "[]"),
        ("defaultSrcPosture", "{}"),
        ("tests", "{}"),
        ("sshTests", "{}"),
        ("derpMap", "[]"),
        ("disableIPv4", "\"yes\""),
        ("OneCGNATRoute", "true"),
        ("randomizeClientPort", "1"),
    ] {
        let text = format!("{{\n\"{section}\": {value}}}");
        let refused = refusal(&text);
        let place = format!("2:{}: json: cannot use ", section.len() + 5);
        assert!(refused.starts_with(&place), "{refused}");
    }
}

/// A `derpMap` with this region 900.
fn relays(region: &str) -> String {
    format!("{{\"derpMap\": {{\"Regions\": {{\"900\": {region}}}}}}}")
}

/// The same with this node.
fn relay(node: &str) -> String {
    relays(&format!("{{\"Nodes\": [{node}]}}"))
}

fn read(text: &str) -> RelayMap {
    let policy = Policy::parse(text).unwrap();
    policy.settings().derp_map.clone().unwrap()
}

#[test]
fn a_relay_that_clients_cannot_read_is_refused_with_its_place() {
    for (text, reason) in [
        (
            relay(r#"{"HostName": "r", "DERPPort": "443"}"#),
            "a string where a number",
        ),
        (
            relay(r#"{"HostName": "r", "DERPPort": 65536}"#),
            "from 0 to 65535",
        ),
        (
            relay(r#"{"HostName": "r", "DERPPort": -1}"#),
            "from 0 to 65535",
        ),
        (
            relay(r#"{"HostName": "r", "DERPPort": 4.5}"#),
            "from 0 to 65535",
        ),
        (
            relay(r#"{"HostName": "r", "STUNPort": -2}"#),
            "from -1 to 65535",
        ),
        (
            relay(r#"{"HostName": "r", "STUNOnly": 1}"#),
            "where a boolean",
        ),
        (
            relay(r#"{"HostName": "r", "IPv4": "::1"}"#),
            "not an IPv4 address",
        ),
        (
            relay(r#"{"HostName": "r", "IPv6": "1.1.1.1"}"#),
            "not an IPv6 address",
        ),
        (relay(r#"{"HostName": 5}"#), "where a string"),
        (relay(r#"{"HostName": "a b"}"#), "not a host name"),
        (relay(r#"{"Name": "a"}"#), "no HostName"),
        (
            relay(r#"{"HostName": "r", "RegionID": 901}"#),
            "differs from its region",
        ),
        (
            relay(r#"{"HostName": "r", "STUNTestIP": "1.1.1.1"}"#),
            "unknown field",
        ),
        (
            relay(r#"{"HostName": "r", "Name": "x"}, {"HostName": "s", "Name": "x"}"#),
            "two nodes",
        ),
        (relays("{}"), "has no nodes"),
        (
            relays(r#"{"Latitude": "1", "Nodes": [{"HostName": "r"}]}"#),
            "where a number",
        ),
        (
            relays(r#"{"Latitude": 91, "Nodes": [{"HostName": "r"}]}"#),
            "from -90 to 90",
        ),
        (
            r#"{"derpMap": {"Regions": {"0900": null}}}"#.to_owned(),
            "not a number",
        ),
        (
            r#"{"derpMap": {"Regions": {"-1": null}}}"#.to_owned(),
            "not a number",
        ),
        (
            r#"{"derpMap": {"OmitDefaultRegions": true}}"#.to_owned(),
            "must be a region",
        ),
    ] {
        let refused = refusal(&text);
        assert!(
            refused.starts_with("1:") && refused.contains(reason),
            "{text}: {refused}"
        );
    }
}

#[test]
fn relays_are_read_as_clients_read_them() {
    // Names without regard to case, `null` as absence.
    let map = read(
        r#"{"derpmap": {"regions": {"1": null, "900": {"regionid": 900, "avoid": null,
            "latitude": 1.5, "nodes": [{"hostname": "r.example.com", "derpport": 65535,
            "stunport": -1, "canport80": true, "name": null, "ipv4": "none"}]}}}}"#,
    );
    assert_eq!(map.regions[&1], None);
    let region = map.regions[&900].as_ref().unwrap();
    assert_eq!(region.latitude.as_deref(), Some("1.5"));
    let node = &region.nodes[0];
    assert_eq!((node.derp_port, node.stun_port), (65535, -1));
    assert!(node.can_port80 && !node.name.is_empty());
    assert_eq!(node.ipv4, "none");
}

#[test]
fn limits_hold_at_their_value_and_not_beyond() {
    let nodes = |count: usize| {
        let nodes: Vec<String> = (0..count)
            .map(|_| r#"{"HostName": "r"}"#.to_owned())
            .collect();
        relays(&format!("{{\"Nodes\": [{}]}}", nodes.join(",")))
    };
    assert!(Policy::parse(&nodes(100)).is_ok());
    assert!(refusal(&nodes(101)).contains("more than 100 nodes"));
    let nested = |depth: usize| {
        let inside = "[".repeat(depth - 4) + &"]".repeat(depth - 4);
        format!(
            "{{\"grants\": [{{\"src\": [], \"dst\": [], \"app\": {{\"x.com/a\": {inside}}}}}]}}"
        )
    };
    assert!(Policy::parse(&nested(199)).is_ok());
    assert!(refusal(&nested(205)).contains("nested deeper than 200 levels"));
    let host = |length: usize| relay(&format!("{{\"HostName\": \"{}\"}}", "h".repeat(length)));
    assert!(Policy::parse(&host(253)).is_ok());
    assert!(refusal(&host(254)).contains("longer than 253 bytes"));
}

#[test]
fn localpart_without_a_domain_is_a_name() {
    let text = r#"{"tagOwners": {"tag:a": []}, "ssh": [{"action": "accept",
        "src": ["autogroup:member"], "dst": ["tag:a"], "users": ["localpart:*@"]}]}"#;
    let policy = Policy::parse(text).unwrap();
    assert!(policy.check_domains(["example.com"]).is_ok());
}
