//! What devices are told because of the policy, and how little of it when it changes.

use bowline_model::device::Live;
use bowline_model::policy_file::PolicyFile;
use bowline_modelclient::ModelClient;
use bowline_netmap::delta;
use bowline_netmap::publication::Publication;
use bowline_netmap::snapshot::Snapshot;
use bowline_wire::map_request::Encoding;
use serde_json::{Value, json};

use crate::records::{
    advance, at, client, decode, device, id, next, publication, snapshot, viewer,
};

fn policy(text: &str) -> PolicyFile {
    bowline_policy::Policy::parse(text).unwrap();
    PolicyFile {
        text: Some(text.to_owned()),
        updated: Some(at(1)),
    }
}

fn with_policy(mut snapshot: Snapshot, text: &str) -> Publication {
    snapshot.set_policy(policy(text));
    Publication::new(snapshot)
}

/// What device `number` is told between two publications.
fn told(number: u64, from: &Publication, to: &Publication) -> Option<Value> {
    let viewer = viewer(number, Encoding::Plain);
    let message = delta::delta(viewer, from, to, at(9)).unwrap()?;
    Some(serde_json::from_slice(&decode(&message, viewer.encoding)).unwrap())
}

fn look(number: u64, publication: &Publication) -> ModelClient {
    client(viewer(number, Encoding::Zstd), publication)
}

fn strings(value: &Value) -> Vec<&str> {
    let list = value.as_array().map(Vec::as_slice).unwrap_or_default();
    list.iter().filter_map(Value::as_str).collect()
}

#[test]
fn a_rule_that_is_added_or_taken_away_is_one_part_of_the_filter() {
    let rule = |port: u16| {
        format!(
            r#"{{"action": "accept", "src": ["user1@example.com"], "dst": ["user2@example.com:{port}"]}}"#
        )
    };
    let other = |port: u16| {
        format!(
            r#"{{"action": "accept", "src": ["user3@example.com"], "dst": ["user2@example.com:{port}"], "proto": "{port}"}}"#
        )
    };
    let file = |rules: &[String]| format!(r#"{{"acls": [{}]}}"#, rules.join(","));
    // Devices 1, 4 and 7 are of user 2.
    let before = with_policy(snapshot(7), &file(&[rule(22), other(6)]));
    let added = next(&before, |draft| {
        draft.set_policy(policy(&file(&[rule(22), other(17), other(6)])));
    });
    let message = told(1, &before, &added).unwrap();
    let fields: Vec<_> = message.as_object().unwrap().keys().collect();
    assert_eq!(fields, ["PacketFilters"], "{message}");
    let parts = message["PacketFilters"].as_object().unwrap();
    assert_eq!(parts.len(), 1, "{message}");
    let (name, rules) = parts.iter().next().unwrap();
    assert_eq!(rules[0]["IPProto"], json!([17]));
    assert!(
        told(2, &before, &added).is_none(),
        "user 3 is not told of it"
    );
    let removed = next(&added, |draft| {
        draft.set_policy(policy(&file(&[rule(22), other(6)])));
    });
    assert_eq!(
        told(1, &added, &removed).unwrap(),
        json!({"PacketFilters": {name: []}})
    );
    // The order in force is the policy's.
    let ports = |snapshot: &Publication| -> Vec<Value> {
        let state = look(1, snapshot).state();
        let rules = state["PacketFilter"].as_array().unwrap();
        rules
            .iter()
            .map(|rule| rule["DstPorts"][0]["Ports"]["First"].clone())
            .collect()
    };
    assert_eq!(ports(&added), [22, 17, 6].map(Value::from));
    assert_eq!(ports(&removed), [22, 6].map(Value::from));
}

#[test]
fn a_policy_that_says_the_same_in_other_words_is_no_message() {
    let before = with_policy(
        snapshot(70),
        r#"{"acls": [{"action": "accept", "src": ["autogroup:member"], "dst": ["user1@example.com:*"]}]}"#,
    );
    let after = next(&before, |draft| {
        draft.set_policy(policy(
            r#"{
                // Everybody reaches the first user.
                "acls": [{"action": "accept", "users": ["autogroup:member"], "ports": ["user1@example.com:*"]}],
                "groups": {"group:unused": []},
            }"#,
        ));
    });
    for number in [1, 2, 3, 70] {
        assert!(told(number, &before, &after).is_none(), "{number}");
    }
}

#[test]
fn who_is_in_no_rule_together_does_not_learn_of_the_other() {
    let before = publication(6);
    let after = next(&before, |draft| {
        draft.set_policy(policy(
            r#"{"acls": [{"action": "accept", "src": ["user1@example.com"], "dst": ["user2@example.com:22"]}]}"#,
        ));
    });
    // 3 and 6 are of user 1; 1 and 4 of user 2; 2 and 5 of user 3.
    let viewer = viewer(3, Encoding::Plain);
    let mut client = client(viewer, &before);
    advance(&mut client, viewer, &before, &after).unwrap();
    let peers: Vec<u64> = client.peers().map(|(id, _)| id).collect();
    assert_eq!(peers, [1, 4]);
    let map = look(3, &after).state().to_string();
    assert!(!map.contains("user3@") && map.contains("user2@"), "{map}");
    assert_eq!(look(2, &after).peer_count(), 0);
    assert!(look(1, &after).peer(3).is_some());
}

#[test]
fn routes_are_told_to_those_who_may_use_them_and_via_steers() {
    let mut tailnet = snapshot(6);
    for number in [1, 2] {
        let mut router = device(number);
        router.tags = [if number == 1 { "tag:east" } else { "tag:west" }
            .parse()
            .unwrap()]
        .into();
        router.facts.advertised_routes = vec!["10.0.0.0/8".parse().unwrap()];
        router.enabled_routes = router.facts.advertised_routes.clone();
        tailnet.put_device(router);
        let online = Live {
            online: true,
            ..Live::default()
        };
        tailnet.set_live(id(number), online);
    }
    let tailnet = with_policy(
        tailnet,
        r#"{
            "tagOwners": {"tag:east": [], "tag:west": []},
            "grants": [
                {"src": ["autogroup:member"], "dst": ["tag:east", "tag:west"], "ip": ["22"]},
                {"src": ["user1@example.com"], "dst": ["10.0.0.0/8"], "ip": ["*"], "via": ["tag:west"]},
                {"src": ["user2@example.com"], "dst": ["10.1.0.0/16"], "ip": ["*"]},
            ],
        }"#,
    );
    let routed = |viewer: u64, router: u64| {
        let client = look(viewer, &tailnet);
        let peer = Value::from(client.peer(router).unwrap().clone());
        let allowed = strings(&peer["AllowedIPs"]).contains(&"10.0.0.0/8");
        assert_eq!(allowed, strings(&peer["PrimaryRoutes"]) == ["10.0.0.0/8"]);
        allowed
    };
    // User 1 through the west, user 2 through the first router, user 3 not at all.
    assert_eq!((routed(3, 1), routed(3, 2)), (false, true));
    assert_eq!((routed(4, 1), routed(4, 2)), (true, false));
    assert_eq!((routed(5, 1), routed(5, 2)), (false, false));
    // The first router goes away: user 2 is sent through the other one, and nobody else is told
    // more than that it went.
    let after = next(&tailnet, |draft| {
        let gone = Live {
            last_seen: Some(at(5)),
            ..Live::default()
        };
        draft.set_live(id(1), gone);
    });
    let fields = |number| -> Vec<String> {
        let message = told(number, &tailnet, &after).unwrap();
        message.as_object().unwrap().keys().cloned().collect()
    };
    assert_eq!(fields(3), ["PeersChangedPatch"]);
    assert_eq!(fields(5), ["PeersChangedPatch"]);
    assert!(fields(4).contains(&"PeersChanged".to_owned()));
    // Routers know all their routes, in use or not.
    let own = look(2, &tailnet);
    let own = Value::from(own.node().unwrap().clone());
    assert!(strings(&own["AllowedIPs"]).contains(&"10.0.0.0/8"));
    assert!(strings(&own["PrimaryRoutes"]).is_empty());
}

#[test]
fn ssh_rules_are_told_to_those_who_let_sessions_in() {
    let text = r#"{
        "acls": [{"action": "accept", "src": ["*"], "dst": ["*:*"]}],
        "ssh": [{"action": "check", "src": ["autogroup:member"], "dst": ["autogroup:self"], "users": ["root"]}],
    }"#;
    let quiet = with_policy(snapshot(5), text);
    assert_eq!(look(1, &quiet).state().get("SSHPolicy"), None);
    let listening = next(&quiet, |draft| {
        let mut host = device(1);
        host.facts.ssh = true;
        draft.put_device(host);
    });
    let message = told(1, &quiet, &listening).unwrap();
    let rules = message["SSHPolicy"]["rules"].as_array().unwrap();
    // Devices 1 and 4 are of user 2, with two addresses each.
    assert_eq!(rules[0]["principals"].as_array().unwrap().len(), 4);
    assert_eq!(
        rules[0]["action"]["holdAndDelegate"],
        "https://unused/machine/ssh/action/$SRC_NODE_ID/to/$DST_NODE_ID?local_user=$LOCAL_USER"
    );
    // Another device of the user is one more principal, one of somebody else is not.
    let joined = next(&listening, |draft| {
        draft.put_device(device(6));
        draft.put_device(device(7));
    });
    let message = told(1, &listening, &joined).unwrap();
    let principals = &message["SSHPolicy"]["rules"][0]["principals"];
    assert_eq!(principals.as_array().unwrap().len(), 6);
}

#[test]
fn a_hidden_ipv4_address_is_hidden_on_both_sides_and_relays_are_combined() {
    let tailnet = with_policy(
        snapshot(3),
        r#"{
            "acls": [{"action": "accept", "src": ["*"], "dst": ["*:*"]}],
            "nodeAttrs": [{"target": ["user2@example.com"], "attr": ["disable-ipv4", "custom:a"]}],
            "derpMap": {"Regions": {"910": {"RegionID": 910, "RegionCode": "p", "RegionName": "P",
                "Nodes": [{"Name": "910a", "RegionID": 910, "HostName": "relay.example.org", "STUNOnly": true}]}}},
        }"#,
    );
    let addresses = |node: &serde_json::Map<String, Value>| -> usize {
        node["Addresses"].as_array().unwrap().len()
    };
    // Device 1 is of user 2.
    let (one, two) = (look(1, &tailnet), look(2, &tailnet));
    assert_eq!(addresses(one.node().unwrap()), 1);
    assert_eq!(
        (
            addresses(one.peer(2).unwrap()),
            addresses(one.peer(3).unwrap())
        ),
        (1, 1)
    );
    assert_eq!(
        (
            addresses(two.peer(1).unwrap()),
            addresses(two.peer(3).unwrap())
        ),
        (1, 2)
    );
    assert!(one.node().unwrap()["CapMap"].get("custom:a").is_some());
    assert!(two.node().unwrap()["CapMap"].get("custom:a").is_none());
    let regions = one.state()["DERPMap"]["Regions"].clone();
    assert_eq!(regions["910"]["Nodes"][0]["STUNOnly"], true);
    assert!(regions.get("900").is_some());
    // Everybody's.
    let all = next(&tailnet, |draft| {
        draft.set_policy(policy(r#"{"disableIPv4": true}"#));
    });
    assert_eq!(addresses(look(2, &all).peer(3).unwrap()), 1);
    assert_eq!(look(2, &all).state(), {
        let viewer = viewer(2, Encoding::Zstd);
        let mut client = client(viewer, &tailnet);
        advance(&mut client, viewer, &tailnet, &all).unwrap();
        client.state()
    });
}

#[test]
fn a_policy_that_cannot_be_read_lets_nobody_in() {
    let mut tailnet = snapshot(2);
    tailnet.set_policy(PolicyFile {
        text: Some(r#"{"acls": [{"action": "later"}]}"#.to_owned()),
        updated: Some(at(1)),
    });
    let client = look(1, &Publication::new(tailnet));
    assert_eq!(client.peer_count(), 0);
    assert_eq!(client.state()["PacketFilter"], json!([]));
}

#[test]
fn a_recorder_that_joins_is_told_to_everybody_whose_rules_name_it() {
    let mut tailnet = snapshot(3);
    let mut host = device(1);
    host.facts.ssh = true;
    tailnet.put_device(host);
    let before = with_policy(
        tailnet,
        r#"{
            "tagOwners": {"tag:rec": [], "tag:srv": []},
            "acls": [{"action": "accept", "src": ["*"], "dst": ["*:*"]}],
            "ssh": [{"action": "accept", "src": ["autogroup:member"], "dst": ["tag:srv"],
                "users": ["localpart:*@example.com"], "recorder": ["tag:rec"]}],
        }"#,
    );
    let after = next(&before, |draft| {
        let mut recorder = device(4);
        recorder.tags = ["tag:rec".parse().unwrap()].into();
        draft.put_device(recorder);
    });
    // Device 1 is a source, and has rules that `localpart` splits off.
    let message = told(1, &before, &after).unwrap();
    let recorders = &message["SSHPolicy"]["rules"][0]["action"]["recorders"];
    assert_eq!(recorders.as_array().map(Vec::len), Some(2), "{message}");
    let viewer = viewer(1, Encoding::Plain);
    let mut client = client(viewer, &before);
    advance(&mut client, viewer, &before, &after).unwrap();
    assert_eq!(client.state(), look(1, &after).state());
}
