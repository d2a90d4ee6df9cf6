//! The model against the rules of the clients, rule by rule.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use bowline_modelclient::{ModelClient, Rule, Rules};
use proptest::prelude::*;
use serde_json::{Value, json};

const ME: u64 = 1;

fn key(prefix: &str, id: u64) -> String {
    format!("{prefix}:{id:064x}")
}

fn node(id: u64) -> Value {
    json!({
        "ID": id, "StableID": format!("n{id}"), "Name": format!("host-{id}.corp.example."),
        "User": 7, "Key": key("nodekey", id), "Machine": key("mkey", id),
        "DiscoKey": key("discokey", id),
        "Addresses": [format!("100.64.0.{id}/32"), format!("fd7a:115c:a1e0::{id:x}/128")],
        "Endpoints": [format!("192.0.2.{id}:41641")], "HomeDERP": 900,
        "Hostinfo": {"OS": "linux", "Hostname": format!("host-{id}")},
        "Created": "2026-01-01T00:00:00Z", "Cap": 141, "Online": true, "MachineAuthorized": true,
    })
}

fn with(mut value: Value, changes: Value) -> Value {
    let Value::Object(changes) = changes else {
        panic!("changes must be an object")
    };
    for (field, change) in changes {
        if change == json!("absent") {
            value.as_object_mut().unwrap().remove(&field);
        } else {
            value[field] = change;
        }
    }
    value
}

fn full(peers: &[Value]) -> Value {
    let mut map = json!({
        "Node": node(ME), "Domain": "corp.example", "CollectServices": false,
        "DERPMap": {"Regions": {"900": {"RegionID": 900, "RegionCode": "own", "RegionName": "Own",
            "Nodes": [{"Name": "900a", "RegionID": 900, "HostName": "relay.example"}]}}},
        "DNSConfig": {"Proxied": true, "Domains": ["corp.example"]},
        "PacketFilters": {"base": [rule("*")]},
        "UserProfiles": [{"ID": 7, "LoginName": "ann@corp.example", "DisplayName": "Ann"}],
        "ControlTime": "2026-08-01T00:00:00Z",
    });
    if !peers.is_empty() {
        map["Peers"] = peers.into();
    }
    map
}

fn rule(source: &str) -> Value {
    json!({"SrcIPs": [source], "DstPorts": [{"IP": "*", "Ports": {"First": 0, "Last": 65535}}]})
}

fn client(peers: &[Value]) -> ModelClient {
    let mut client = ModelClient::new(Rules::default());
    apply(&mut client, &full(peers));
    client
}

fn apply(client: &mut ModelClient, message: &Value) {
    client.apply(message.to_string().as_bytes()).unwrap();
}

fn refused(client: &ModelClient, message: &Value) -> Rule {
    client
        .clone()
        .apply(message.to_string().as_bytes())
        .unwrap_err()
        .rule
}

/// The state after the delta is the state after the later full map.
fn assert_same(client: &ModelClient, peers: &[Value]) {
    assert_eq!(client.state(), self::client(peers).state());
}

#[test]
fn peers_are_replaced_removed_changed_and_patched() {
    let mut client = client(&[node(2), node(3)]);
    apply(&mut client, &json!({"Peers": [node(3), node(4)]}));
    assert_same(&client, &[node(3), node(4)]);
    apply(
        &mut client,
        &json!({"PeersRemoved": [3, 99], "PeersChanged": [node(5)]}),
    );
    assert_same(&client, &[node(4), node(5)]);
    apply(
        &mut client,
        &json!({"PeersChangedPatch": [
        {"NodeID": 5, "DERPRegion": 901, "Endpoints": ["198.51.100.9:1"], "Cap": 142},
        {"NodeID": 99, "DERPRegion": 5}]}),
    );
    let changed = with(
        node(5),
        json!({"HomeDERP": 901, "Endpoints": ["198.51.100.9:1"], "Cap": 142}),
    );
    assert_same(&client, &[node(4), changed]);
    apply(&mut client, &json!({"PeersRemoved": [4, 5]}));
    assert_same(&client, &[]);
}

#[test]
fn a_complete_list_of_peers_makes_the_deltas_beside_it_void() {
    let mut client = client(&[node(2)]);
    apply(
        &mut client,
        &json!({"Peers": [node(3)], "PeersRemoved": [3], "PeersChanged": [node(4)]}),
    );
    assert_same(&client, &[node(3)]);
}

#[test]
fn patches_come_last() {
    let mut client = client(&[node(2)]);
    let renamed = with(
        node(2),
        json!({"Name": "new.corp.example.", "HomeDERP": 902}),
    );
    apply(
        &mut client,
        &json!({
        "PeersChangedPatch": [{"NodeID": 2, "DERPRegion": 901, "Online": false}],
        "OnlineChange": {"2": true}, "PeersChanged": [renamed]}),
    );
    assert_same(
        &client,
        &[with(renamed, json!({"HomeDERP": 901, "Online": false}))],
    );
}

#[test]
fn a_patch_says_none_only_with_a_value() {
    let expiring = with(node(2), json!({"KeyExpiry": "2027-01-01T00:00:00Z"}));
    let mut client = client(std::slice::from_ref(&expiring));
    apply(
        &mut client,
        &json!({"PeersChangedPatch": [{"NodeID": 2, "DERPRegion": 0, "Cap": 0}]}),
    );
    assert_same(&client, &[expiring]);
    apply(
        &mut client,
        &json!({"PeersChangedPatch": [
        {"NodeID": 2, "Endpoints": [], "KeyExpiry": "0001-01-01T00:00:00Z"}]}),
    );
    assert_same(&client, &[with(node(2), json!({"Endpoints": "absent"}))]);
}

#[test]
fn a_full_record_takes_endpoints_away_only_when_it_says_so() {
    // The Go client makes a patch of a record that differs in patchable fields only, and an absent
    // list becomes a patch that says nothing.
    let mut client = client(&[node(2)]);
    apply(
        &mut client,
        &json!({"PeersChanged": [with(node(2), json!({"Endpoints": "absent"}))]}),
    );
    assert_same(&client, &[node(2)]);
    apply(
        &mut client,
        &json!({"PeersChanged": [with(node(2), json!({"Endpoints": []}))]}),
    );
    assert_same(&client, &[with(node(2), json!({"Endpoints": "absent"}))]);
}

#[test]
fn a_full_record_that_differs_in_more_replaces_all() {
    let mut client = client(&[node(2)]);
    let other = with(
        node(2),
        json!({"Endpoints": "absent", "HomeDERP": 0, "Tags": ["tag:a"]}),
    );
    apply(&mut client, &json!({"PeersChanged": [other]}));
    assert_same(&client, &[other]);
}

#[test]
fn a_home_region_is_not_taken_away_by_a_record_that_differs_in_nothing_else() {
    let mut client = client(&[node(2)]);
    apply(
        &mut client,
        &json!({"PeersChanged": [with(node(2), json!({"HomeDERP": 0}))]}),
    );
    assert_same(&client, &[node(2)]);
}

#[test]
fn removing_and_changing_a_known_peer_at_once_can_lose_it() {
    // The unchanged record is compared before the removal and dropped as equal.
    let mut client = client(&[node(2)]);
    apply(
        &mut client,
        &json!({"PeersRemoved": [2], "PeersChanged": [node(2)]}),
    );
    assert_same(&client, &[]);
}

#[test]
fn online_and_last_seen_follow_their_maps() {
    let mut client = client(&[node(2), node(3)]);
    apply(
        &mut client,
        &json!({"OnlineChange": {"2": false, "3": true, "99": true},
        "PeersChangedPatch": [{"NodeID": 2, "LastSeen": "2026-08-01T00:00:01Z"}]}),
    );
    let offline = with(
        node(2),
        json!({"Online": false, "LastSeen": "2026-08-01T00:00:01Z"}),
    );
    assert_same(&client, &[offline, node(3)]);
    apply(&mut client, &json!({"PeerSeenChange": {"2": false}}));
    assert_same(&client, &[with(node(2), json!({"Online": false})), node(3)]);
    apply(
        &mut client,
        &json!({"PeerSeenChange": {"2": true}, "ControlTime": "2026-08-01T00:00:09Z"}),
    );
    let seen = with(
        node(2),
        json!({"Online": false, "LastSeen": "2026-08-01T00:00:09Z"}),
    );
    assert_same(&client, &[seen, node(3)]);
    // Back online: the old time stays, and says nothing.
    apply(&mut client, &json!({"OnlineChange": {"2": true}}));
    assert_same(&client, &[node(2), node(3)]);
}

#[test]
fn a_stale_disco_key_is_not_taken() {
    let offline = |seconds: u64| json!({"Online": false, "LastSeen": format!("2026-08-01T00:00:{seconds:02}Z")});
    let mut client = client(&[with(node(2), offline(10))]);
    let patch = |seconds| {
        let disco = json!({"NodeID": 2, "DiscoKey": key("discokey", 77)});
        json!({"PeersChangedPatch": [with(disco, offline(seconds))]})
    };
    apply(&mut client, &patch(10));
    assert_same(&client, &[with(node(2), offline(10))]);
    apply(&mut client, &patch(11));
    let fresh = with(node(2), json!({"DiscoKey": key("discokey", 77)}));
    assert_same(&client, &[with(fresh, offline(11))]);
}

#[test]
fn named_filters_are_merged() {
    let mut client = client(&[]);
    // What is in force: the parts one after the other, by name.
    let filters = |client: &ModelClient| client.state()["PacketFilter"].clone();
    apply(
        &mut client,
        &json!({"PacketFilters": {"extra": [rule("100.64.0.2")]}}),
    );
    assert_eq!(filters(&client), json!([rule("*"), rule("100.64.0.2")]));
    apply(&mut client, &json!({"PacketFilters": {"base": null}}));
    assert_eq!(filters(&client), json!([rule("100.64.0.2")]));
    apply(&mut client, &json!({"PacketFilter": []}));
    apply(
        &mut client,
        &json!({"PacketFilters": {"*": null, "new": [rule("10.0.0.1-10.0.0.9")]}}),
    );
    assert_eq!(filters(&client), json!([rule("10.0.0.1-10.0.0.9")]));
    apply(&mut client, &json!({"PacketFilter": [rule("cap:x")]}));
    assert_eq!(
        filters(&client),
        json!([rule("cap:x"), rule("10.0.0.1-10.0.0.9")])
    );
}

#[test]
fn scalars_stay_until_they_are_replaced() {
    let mut client = client(&[]);
    let before = client.state();
    apply(&mut client, &json!({"Domain": "", "OnlineChange": {}}));
    assert_eq!(client.state(), before);
    apply(
        &mut client,
        &json!({"DNSConfig": {}, "Domain": "new.example", "SSHPolicy": {"rules": []},
        "Health": ["x"], "DERPMap": {"HomeParams": {"RegionScore": {"900": 0.5}}}}),
    );
    let after = client.state();
    assert_eq!(after["Domain"], "new.example");
    assert_eq!(after["Health"], json!(["x"]));
    assert_eq!(
        (after.get("DNSConfig"), after.get("SSHPolicy")),
        (None, None)
    );
    assert_eq!(after["DERPMap"]["Regions"], before["DERPMap"]["Regions"]);
    apply(
        &mut client,
        &json!({"DisplayMessages": {"a": {"Title": "A"}, "b": {"Title": "B"}}}),
    );
    apply(&mut client, &json!({"DisplayMessages": {"a": null}}));
    assert_eq!(
        client.state()["DisplayMessages"],
        json!({"b": {"Title": "B"}})
    );
}

#[test]
fn profiles_are_merged_and_compared_only_when_used() {
    let mut client = client(&[]);
    let profile = |id: u64| json!({"ID": id, "LoginName": format!("user{id}@corp.example")});
    apply(
        &mut client,
        &json!({"UserProfiles": [profile(8)], "PeersChanged": [with(node(2), json!({"User": 8}))]}),
    );
    assert_eq!(client.state()["UserProfiles"]["8"], profile(8));
    apply(&mut client, &json!({"PeersRemoved": [2]}));
    assert_same(&client, &[]);
}

#[test]
fn what_is_said_in_two_ways_is_equal() {
    let plain = node(2);
    let wordy = with(
        node(2),
        json!({
        "HomeDERP": "absent", "DERP": "127.3.3.40:900", "Expired": false, "Tags": [], "CapMap": {},
        "KeyExpiry": "0001-01-01T00:00:00Z", "AllowedIPs": node(2)["Addresses"]}),
    );
    assert_same(&client(&[wordy]), std::slice::from_ref(&plain));
    let no_routes = with(plain.clone(), json!({"AllowedIPs": []}));
    assert_ne!(client(&[no_routes]).state(), client(&[plain]).state());
}

#[test]
fn a_keep_alive_changes_nothing() {
    let mut client = ModelClient::new(Rules::default());
    client.apply(br#"{"KeepAlive": true}"#).unwrap();
    apply(&mut client, &full(&[node(2)]));
    client
        .apply(br#"{"KeepAlive": true, "ControlTime": "2026-08-01T00:00:00Z"}"#)
        .unwrap();
    assert_eq!(client.keep_alives(), 2);
    assert_same(&client, &[node(2)]);
    let spoiled = client.clone().apply(br#"{"KeepAlive":true}"#).unwrap_err();
    assert_eq!(spoiled.rule, Rule::KeepAliveText);
    assert_eq!(
        refused(&client, &json!({"KeepAlive": true, "PeersRemoved": [2]})),
        Rule::KeepAliveWithContent
    );
}

#[test]
fn after_a_violation_the_stream_is_dead() {
    let mut client = client(&[]);
    client.apply(b"").unwrap_err();
    assert_eq!(
        client.apply(br#"{"PeersRemoved":[2]}"#).unwrap_err().rule,
        Rule::StreamIsDead
    );
}

#[test]
fn bytes_that_are_not_one_json_value_are_fatal() {
    let client = client(&[]);
    let refused = |bytes: &[u8]| client.clone().apply(bytes).unwrap_err().rule;
    assert_eq!(refused(b""), Rule::Empty);
    assert_eq!(refused(b"{"), Rule::NotOneJsonValue);
    assert_eq!(refused(b"{} {}"), Rule::NotOneJsonValue);
    assert_eq!(refused(b"{}x"), Rule::NotOneJsonValue);
    assert_eq!(refused(b"[]"), Rule::WrongType);
    assert_eq!(
        refused(br#"{"PeersRemoved":[2],"PeersRemoved":[3]}"#),
        Rule::DuplicateKey
    );
    client.clone().apply(b"{} \n").unwrap();
}

#[test]
fn a_first_message_must_be_whole() {
    let new = || ModelClient::new(Rules::default());
    assert_eq!(
        refused(&new(), &json!({"PeersChanged": [node(2)]})),
        Rule::FirstWithoutNode
    );
    for field in [
        "DERPMap",
        "DNSConfig",
        "Domain",
        "UserProfiles",
        "PacketFilters",
    ] {
        let partial = with(full(&[]), json!({field: "absent"}));
        assert_eq!(refused(&new(), &partial), Rule::FirstIncomplete, "{field}");
    }
    let mut lenient = ModelClient::new(Rules {
        complete_first: false,
        ..Rules::default()
    });
    apply(
        &mut lenient,
        &with(full(&[]), json!({"DERPMap": "absent", "Domain": "absent"})),
    );
}

#[test]
fn bad_nodes_are_refused() {
    let client = client(&[node(9)]);
    let cases = [
        (json!({"Name": "host-2.corp.example"}), Rule::BadName),
        (json!({"Name": "host-2."}), Rule::BadName),
        (json!({"Name": "Host.corp.example."}), Rule::BadName),
        (json!({"StableID": ""}), Rule::BadStableId),
        (json!({"ID": 0}), Rule::BadId),
        (json!({"ID": 1_u64 << 53}), Rule::BadId),
        (json!({"User": 8}), Rule::NoUserProfile),
        (json!({"Sharer": 8}), Rule::NoUserProfile),
        (json!({"ID": ME}), Rule::SelfAsPeer),
        (json!({"Key": key("nodekey", ME)}), Rule::SelfAsPeer),
        (json!({"Key": key("nodekey", 9)}), Rule::DuplicatePeer),
        (json!({"Key": key("nodekey", 0)}), Rule::BadKey),
        (json!({"Key": "nodekey:AB"}), Rule::BadKey),
        (
            json!({"Addresses": ["fd7a:115c:a1e0::2/128", "100.64.0.2/32"]}),
            Rule::BadAddresses,
        ),
        (json!({"Addresses": ["100.64.0.2/32"]}), Rule::BadAddresses),
        (
            json!({"Addresses": ["100.64.0.2/24", "fd7a:115c:a1e0::2/128"]}),
            Rule::BadAddresses,
        ),
        (json!({"AllowedIPs": ["10.0.0.1/8"]}), Rule::BadAddresses),
        (json!({"Endpoints": ["192.0.2.1"]}), Rule::BadEndpoint),
        (json!({"Endpoints": null}), Rule::Null),
        (json!({"Hostinfo": "absent"}), Rule::NoHostinfo),
        (
            json!({"LastSeen": "2026-08-01T00:00:00Z"}),
            Rule::OnlineWithLastSeen,
        ),
        (json!({"Expired": true}), Rule::ExpiredWithoutKeyExpiry),
        (json!({"DERP": "127.3.3.40:7"}), Rule::DerpMismatch),
        (json!({"Hostname": "x"}), Rule::UnknownField),
        (json!({"Hostinfo": {"Hostname": "a\"b"}}), Rule::Escape),
    ];
    for (change, rule) in cases {
        let message = json!({"PeersChanged": [with(node(2), change.clone())]});
        assert_eq!(refused(&client, &message), rule, "{change}");
    }
    let twice = json!({"PeersChanged": [node(2), node(2)]});
    assert_eq!(refused(&client, &twice), Rule::DuplicatePeer);
    assert_eq!(refused(&client, &json!({"Peers": []})), Rule::EmptyPeers);
    assert_eq!(
        refused(
            &client,
            &json!({"Node": with(node(ME), json!({"Machine": "absent"}))})
        ),
        Rule::BadKey
    );
    assert_eq!(refused(&client, &json!({"Node": node(2)})), Rule::BadId);
}

#[test]
fn what_only_the_rust_client_refuses_can_be_allowed() {
    let mut go = ModelClient::new(Rules {
        rust_client: false,
        ..Rules::default()
    });
    apply(&mut go, &full(&[node(2)]));
    apply(
        &mut go,
        &json!({"PeersChanged": [with(node(3), json!({
        "Endpoints": null, "Addresses": ["100.64.0.3/32"],
        "Hostinfo": {"Hostname": "a\"b"}}))]}),
    );
    apply(&mut go, &json!({"Peers": []}));
    assert_eq!(go.peer_count(), 2);
}

#[test]
fn bad_parts_of_other_kinds_are_refused() {
    let client = client(&[]);
    let region = |changes| with(full(&[])["DERPMap"]["Regions"]["900"].clone(), changes);
    let cases = [
        (json!({"PeersAdded": []}), Rule::UnknownField),
        (json!({"PeersRemoved": 2}), Rule::WrongType),
        (
            json!({"PeersChangedPatch": [{"NodeID": 2, "Tags": []}]}),
            Rule::UnknownField,
        ),
        (json!({"UserProfiles": [{"ID": 9}]}), Rule::BadUserProfile),
        (
            json!({"DERPMap": {"Regions": {"900": region(json!({"Nodes": []}))}}}),
            Rule::BadDerpMap,
        ),
        (
            json!({"DERPMap": {"Regions": {"901": region(json!({}))}}}),
            Rule::BadDerpMap,
        ),
        (
            json!({"DERPMap": {"Regions": {"900": region(json!({"RegionCode": ""}))}}}),
            Rule::BadDerpMap,
        ),
        (
            json!({"PacketFilter": [rule("10.0.0.1/8")]}),
            Rule::BadFilter,
        ),
        (
            json!({"PacketFilter": [{"SrcIPs": ["*"]}]}),
            Rule::BadFilter,
        ),
        (
            json!({"PacketFilter": [with(rule("*"), json!({"SrcBits": [8]}))]}),
            Rule::UnknownField,
        ),
        (json!({"Health": null}), Rule::Null),
    ];
    for (message, rule) in cases {
        assert_eq!(refused(&client, &message), rule, "{message}");
    }
}

proptest! {
    /// Whatever the order of small changes, the model ends where a full map of the result ends.
    #[test]
    fn deltas_lead_to_the_state_of_the_full_map(
        steps in prop::collection::vec((2..6_u64, 0..5_u8, 0..4_u64), 0..40),
    ) {
        let mut truth = std::collections::BTreeMap::<u64, Value>::new();
        let mut client = client(&[]);
        for (id, kind, number) in steps {
            let message = match (kind, truth.get_mut(&id)) {
                (0, Some(_)) => {
                    truth.remove(&id);
                    json!({"PeersRemoved": [id]})
                }
                (1, Some(peer)) => {
                    *peer = with(peer.clone(), json!({"HomeDERP": 900 + number}));
                    json!({"PeersChangedPatch": [{"NodeID": id, "DERPRegion": 900 + number}]})
                }
                (2, Some(peer)) => {
                    *peer = with(peer.clone(), json!({"Online": number == 0}));
                    json!({"OnlineChange": {id.to_string(): number == 0}})
                }
                _ => {
                    let endpoints: Vec<_> = (0..number).map(|n| format!("192.0.2.1:{n}")).collect();
                    let peer = with(node(id), json!({"Endpoints": endpoints}));
                    truth.insert(id, peer.clone());
                    json!({"PeersChanged": [peer]})
                }
            };
            apply(&mut client, &message);
        }
        let peers: Vec<_> = truth.into_values().collect();
        prop_assert_eq!(client.state(), self::client(&peers).state());
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(0..=u8::MAX, 0..64)) {
        let _ = ModelClient::new(Rules::default()).apply(&bytes);
    }
}
