//! What a view shows to whom.

use bowline_model::device::Live;
use bowline_modelclient::{ModelClient, Rules};
use bowline_netmap::full;
use bowline_netmap::publication::Publication;
use bowline_netmap::viewer::Viewer;
use bowline_wire::map_request::Encoding;
use proptest::prelude::*;
use serde_json::Value;

use crate::history::history;
use crate::records::{
    PIN, advance, apply, at, client, decode, derp_map, device, id, machine_key, next, node_key,
    publication, region, snapshot, snapshot_with, user_id, viewer,
};

fn text(viewer: Viewer, publication: &Publication) -> String {
    let message = full::full(viewer, publication, at(5)).unwrap();
    String::from_utf8(decode(&message, viewer.encoding)).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn views_show_exactly_what_may_be_shown(history in history()) {
        let (publications, world) = history.play();
        let publication = &publications[publications.len() - 1];
        let snapshot = publication.snapshot();
        for entry in snapshot.devices().take(4).chain(snapshot.devices().skip(63).take(3)) {
            let number = entry.device.id.get();
            let client = client(viewer(number, Encoding::Zstd), publication);
            let shown: Vec<u64> = client.peers().map(|(id, _)| id).collect();
            let sees = entry.device.authorized && !entry.device.expired;
            let expected: Vec<u64> = world.devices.iter()
                .filter(|(id, (device, _))| sees && **id != number && device.authorized
                    && snapshot.compiled().visible(number, **id))
                .map(|(id, _)| *id)
                .collect();
            prop_assert_eq!(shown, expected);
            let state = client.state();
            let filter = state["PacketFilter"].as_array().unwrap();
            prop_assert!(filter.is_empty() || sees, "whoever sees nobody accepts nothing");
            let allowed = snapshot.compiled().filters_for(number).filter(|_| sees).unwrap_or_default();
            prop_assert_eq!(&state["PacketFilter"], &serde_json::to_value(allowed).unwrap());
            let peers = state["Peers"].to_string();
            for private in ["private", "00:11:22", "mkey:"] {
                prop_assert!(!peers.contains(private), "{} in {}", private, peers);
            }
        }
    }
}

#[test]
fn a_device_that_waits_for_approval_and_its_owner_are_shown_to_nobody() {
    let snapshot = next(&publication(2), |draft| {
        let mut waiting = device(3);
        waiting.authorized = false;
        draft.put_device(waiting);
    });
    // Device 3 is the only one of user 1.
    assert_eq!(device(3).user, Some(user_id(1)));
    let map = text(viewer(1, Encoding::Plain), &snapshot);
    assert!(!map.contains("host3") && !map.contains("user1@"), "{map}");
    let own = text(viewer(3, Encoding::Plain), &snapshot);
    assert!(own.contains("host3") && own.contains("user1@"));
    assert!(!own.contains("host1") && !own.contains("user2@"), "{own}");
}

#[test]
fn who_loses_its_key_loses_its_peers_and_who_renews_it_gets_them_back() {
    let before = publication(66);
    let expired = next(&before, |draft| {
        let mut device = device(2);
        device.expired = true;
        device.key_expiry = Some(at(3));
        draft.put_device(device);
    });
    let renewed = next(&expired, |draft| draft.put_device(device(2)));
    let viewer = viewer(2, Encoding::Zstd);
    let mut client = client(viewer, &before);
    assert_eq!(client.peer_count(), 65);
    advance(&mut client, viewer, &before, &expired).unwrap();
    assert_eq!(client.peer_count(), 0);
    advance(&mut client, viewer, &expired, &renewed).unwrap();
    assert_eq!(client.state(), self::client(viewer, &renewed).state());
}

#[test]
fn a_rename_of_its_owner_reaches_also_who_sees_nobody() {
    let before = next(&publication(2), |draft| {
        let mut waiting = device(2);
        waiting.authorized = false;
        draft.put_device(waiting);
    });
    let after = next(&before, |draft| {
        let mut user = crate::records::user(3);
        user.display_name = "Ann".to_owned();
        draft.put_user(user);
    });
    assert_eq!(device(2).user, Some(user_id(3)));
    let viewer = viewer(2, Encoding::Plain);
    let mut client = client(viewer, &before);
    assert!(advance(&mut client, viewer, &before, &after).unwrap());
    assert_eq!(client.state(), self::client(viewer, &after).state());
}

#[test]
fn a_deleted_device_is_told_that_its_key_has_expired() {
    let before = publication(3);
    for encoding in [Encoding::Plain, Encoding::Zstd] {
        let viewer = viewer(2, encoding);
        let mut client = client(viewer, &before);
        let message = full::farewell(viewer, before.snapshot(), at(1000)).unwrap();
        apply(&mut client, &decode(&message, encoding));
        let node = client.node().unwrap();
        assert_eq!(node["Expired"], true);
        assert!(node["KeyExpiry"].as_str().unwrap() < "2026");
    }
}

#[test]
fn a_node_that_nobody_knows_is_told_the_same_in_one_complete_map() {
    for (version, encoding) in [(113, Encoding::Plain), (141, Encoding::Zstd)] {
        let map = derp_map([region(900, &[PIN])]);
        let message = full::stranger(
            node_key(7),
            machine_key(7),
            (version, encoding),
            &map,
            at(1000),
        );
        let mut client = ModelClient::new(Rules::default());
        apply(&mut client, &decode(&message, encoding));
        let node = client.node().unwrap();
        assert_eq!(node["Expired"], true);
        assert_eq!(node["Key"], node_key(7).to_string());
        assert_eq!(client.peer_count(), 0);
    }
}

#[test]
fn the_derp_map_is_one_that_the_clients_version_can_use() {
    let relays = [
        region(900, &[PIN]),
        region(901, &[]),
        region(902, &["relay.example.com"]),
    ];
    let snapshot = snapshot_with(1, derp_map(relays));
    let publication = Publication::new(snapshot);
    let relay = |version, region: &str| -> Option<Value> {
        let viewer = Viewer {
            version,
            ..viewer(1, Encoding::Plain)
        };
        let map: Value = serde_json::from_str(&text(viewer, &publication)).unwrap();
        map["DERPMap"]["Regions"]
            .get(region)
            .map(|region| region["Nodes"][0].clone())
    };
    for (version, cert) in [
        (113, Value::Null),
        (114, Value::Null),
        (115, PIN.into()),
        (141, PIN.into()),
    ] {
        let pinned = relay(version, "900").unwrap();
        assert_eq!(pinned["CertName"], cert, "{version}");
        assert_eq!(
            pinned["InsecureForTests"], true,
            "{version}: a self-signed one is not verified by name"
        );
        assert_eq!(
            relay(version, "902").unwrap()["CertName"],
            "relay.example.com",
            "{version}"
        );
        assert_eq!(
            relay(version, "901"),
            None,
            "a region without relays makes clients fail"
        );
    }
}

#[test]
fn a_subnet_route_goes_to_who_is_online_and_an_exit_route_to_everybody_who_offers_it() {
    let routes = ["10.0.0.0/8", "0.0.0.0/0", "::/0"].map(|route| route.parse().unwrap());
    let mut before = snapshot(3);
    for number in [1, 2] {
        let mut router = device(number);
        router.facts.advertised_routes = routes.to_vec();
        router.enabled_routes = routes.to_vec();
        before.put_device(router);
        before.set_live(
            id(number),
            Live {
                online: true,
                ..Live::default()
            },
        );
    }
    let before = Publication::new(before);
    let after = next(&before, |draft| {
        draft.set_live(
            id(1),
            Live {
                online: false,
                last_seen: Some(at(9)),
                ..Live::default()
            },
        );
    });
    let viewer = viewer(3, Encoding::Plain);
    let mut client = client(viewer, &before);
    let has = |client: &ModelClient, peer, route: &str| {
        client.peer(peer).unwrap()["AllowedIPs"]
            .as_array()
            .unwrap()
            .contains(&route.into())
    };
    assert!(has(&client, 1, "10.0.0.0/8") && !has(&client, 2, "10.0.0.0/8"));
    assert!(has(&client, 1, "0.0.0.0/0") && has(&client, 2, "0.0.0.0/0"));
    advance(&mut client, viewer, &before, &after).unwrap();
    assert!(!has(&client, 1, "10.0.0.0/8") && has(&client, 2, "10.0.0.0/8"));
    let back = next(&after, |draft| {
        draft.set_live(
            id(1),
            Live {
                online: true,
                ..Live::default()
            },
        );
    });
    advance(&mut client, viewer, &after, &back).unwrap();
    assert!(
        has(&client, 1, "10.0.0.0/8") && !has(&client, 2, "10.0.0.0/8"),
        "who joined first has it back"
    );
}
