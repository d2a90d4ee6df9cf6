//! For any publications p <= n and any viewer: `full(p)` with `delta(p, n)` applied is `full(n)`;
//! and applying changes one by one is the same as building from rows.
//!
//! "The same" is the model's `state()`, which leaves two things out. `LastSeen` of a peer that is
//! online: a patch that says "online" cannot take it away, and no client looks at it then. Profiles
//! that no node refers to: clients keep what they were told, and ask for profiles by node.

use std::collections::BTreeSet;

use bowline_model::user::{Status, User};
use bowline_netmap::publication::Publication;
use bowline_netmap::snapshot::Snapshot;
use bowline_wire::map_request::Encoding;
use proptest::prelude::*;

use crate::history::history;
use crate::records::{advance, apply, client, decode, device, id, next, publication, user, viewer};

const BOTH: [Encoding; 2] = [Encoding::Plain, Encoding::Zstd];

/// Devices in a snapshot: all of a small one, and those about the borders of chunks of a large one.
fn viewers(snapshot: &Snapshot) -> Vec<u64> {
    let all: Vec<u64> = snapshot
        .devices()
        .map(|entry| entry.device.id.get())
        .collect();
    let last = all.len().saturating_sub(2);
    let index = |n: usize| n < 4 || (63..65).contains(&n) || n >= last;
    all.into_iter()
        .enumerate()
        .filter(|(n, _)| index(*n))
        .map(|(_, id)| id)
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, max_shrink_iters: 2000, ..ProptestConfig::default() })]

    #[test]
    fn a_full_map_with_its_delta_is_the_later_full_map(history in history(), p: prop::sample::Index, n: prop::sample::Index) {
        let (publications, _) = history.play();
        let (p, n) = (p.index(publications.len()), n.index(publications.len()));
        let (from, to) = (&publications[p.min(n)], &publications[p.max(n)]);
        for number in viewers(from.snapshot()) {
            for encoding in BOTH {
                let viewer = viewer(number, encoding);
                let mut client = client(viewer, from);
                if advance(&mut client, viewer, from, to).is_err() {
                    prop_assert!(to.snapshot().device(id(number)).is_none());
                    continue;
                }
                prop_assert_eq!(client.state(), self::client(viewer, to).state(), "viewer {}", number);
            }
        }
    }

    #[test]
    fn so_it_is_through_every_publication_between(history in history(), skip in 1usize..4) {
        let (publications, _) = history.play();
        for number in viewers(publications[0].snapshot()) {
            let viewer = viewer(number, Encoding::Zstd);
            let mut at = &publications[0];
            let mut client = client(viewer, at);
            for to in publications.iter().skip(1).step_by(skip) {
                if advance(&mut client, viewer, at, to).is_err() {
                    break;
                }
                at = to;
                prop_assert_eq!(client.state(), self::client(viewer, at).state(), "viewer {}", number);
            }
        }
    }

    #[test]
    fn applying_changes_one_by_one_equals_building_from_rows(history in history()) {
        let (publications, world) = history.play();
        let last = &publications[publications.len() - 1];
        let grown = &**last.snapshot();
        let mut built = Snapshot::new((**grown.tailnet()).clone(), grown.derp_map().clone());
        built.set_dns((**grown.dns()).clone());
        world.users.values().for_each(|user| built.put_user(user.clone()));
        world.policy.iter().for_each(|policy| built.set_policy(policy.clone()));
        for (device, live) in world.devices.values() {
            built.put_device(device.clone());
            built.set_live(device.id, live.clone());
        }
        prop_assert_eq!(grown.device_count(), world.devices.len());
        prop_assert_eq!(built.device_count(), world.devices.len());
        let mut machines = BTreeSet::new();
        for (device, live) in world.devices.values() {
            for snapshot in [grown, &built] {
                let entry = snapshot.device(device.id).unwrap();
                prop_assert_eq!((&*entry.device, &*entry.live), (device, live));
                for found in [
                    snapshot.device_by_node_key(&device.node_key),
                    snapshot.device_by_name(&device.name),
                    snapshot.device_by_ipv4(device.ipv4),
                    snapshot.devices_by_machine_key(device.machine_key).next(),
                ] {
                    prop_assert_eq!(found.map(|entry| entry.device.id), Some(device.id));
                }
            }
            machines.insert(device.machine_key);
        }
        let ids = |snapshot: &Snapshot| -> BTreeSet<_> { snapshot.devices().map(|entry| entry.device.id).collect() };
        prop_assert_eq!(ids(grown), ids(&built));
        // Nothing stays behind of who is gone.
        for number in 1..=history.devices {
            if !world.devices.contains_key(&number) {
                let gone = device(number);
                prop_assert!(grown.device_by_node_key(&gone.node_key).is_none());
                prop_assert!(grown.devices_by_machine_key(gone.machine_key).next().is_none());
            }
        }
        let built = Publication::new(built);
        for number in viewers(grown) {
            let viewer = viewer(number, Encoding::Plain);
            prop_assert_eq!(client(viewer, last).state(), client(viewer, &built).state());
        }
    }

    #[test]
    fn no_view_shows_what_the_policy_forbids(history in history()) {
        let (publications, _) = history.play();
        let publication = &publications[publications.len() - 1];
        let snapshot = publication.snapshot();
        for number in viewers(snapshot) {
            let client = client(viewer(number, Encoding::Plain), publication);
            let own = snapshot.device(id(number)).unwrap();
            for entry in snapshot.devices() {
                let peer = entry.device.id;
                let allowed = own.device.authorized && !own.device.expired
                    && entry.device.authorized
                    && snapshot.compiled().visible(number, peer.get());
                prop_assert_eq!(client.peer(peer.get()).is_some(), allowed, "{} of {}", peer, number);
            }
        }
    }
}

#[test]
fn of_ten_devices_that_join_in_one_commit_each_gets_the_nine_others() {
    let before = publication(3);
    let after = next(&before, |draft| {
        (4..=13).for_each(|n| draft.put_device(device(n)));
    });
    // One that was there, and one that came: its stream began at a state without the other nine.
    let joined = next(&before, |draft| draft.put_device(device(13)));
    for (number, from) in [(2, &before), (13, &joined)] {
        for encoding in BOTH {
            let viewer = viewer(number, encoding);
            let mut client = client(viewer, from);
            assert!(advance(&mut client, viewer, from, &after).unwrap());
            assert_eq!(client.peer_count(), 12);
            assert!(client.peer(number).is_none());
        }
    }
}

#[test]
fn a_slot_that_is_used_again_removes_the_one_and_adds_the_other() {
    let before = publication(70);
    let after = next(&before, |draft| {
        draft.remove_device(id(5));
        draft.put_device(device(71));
    });
    let viewer = viewer(66, Encoding::Plain);
    let mut client = client(viewer, &before);
    advance(&mut client, viewer, &before, &after).unwrap();
    assert!(client.peer(5).is_none() && client.peer(71).is_some());
    assert_eq!(client.state(), self::client(viewer, &after).state());
}

#[test]
fn nothing_that_a_viewer_sees_changed_is_no_message() {
    let before = publication(5);
    let own = next(&before, |draft| {
        let mut live = (*draft.device(id(2)).unwrap().live).clone();
        live.endpoints = vec!["192.0.2.1:41641".parse().unwrap()];
        draft.set_live(id(2), live);
    });
    let (one, two) = (viewer(1, Encoding::Zstd), viewer(2, Encoding::Zstd));
    let tell = |viewer, to| {
        bowline_netmap::delta::delta(viewer, &before, to, crate::records::at(1)).unwrap()
    };
    assert!(
        tell(two, &own).is_none(),
        "its own endpoints do not come back to it"
    );
    let message = tell(one, &own).unwrap();
    let json: serde_json::Value = serde_json::from_slice(&decode(&message, one.encoding)).unwrap();
    assert_eq!(
        json.as_object().unwrap().keys().collect::<Vec<_>>(),
        ["PeersChangedPatch"]
    );
    let seen = next(&before, |draft| {
        let mut device = device(2);
        device.seen = false;
        device.attributes.insert(
            "custom:x".to_owned(),
            bowline_model::device::Attribute {
                value: bowline_model::device::AttributeValue::Bool(true),
                expires: None,
            },
        );
        draft.put_device(device);
    });
    assert!(tell(one, &seen).is_none() && tell(two, &seen).is_none());
    // And a full map begins a new stream whatever was told before.
    let mut client = client(one, &before);
    apply(&mut client, &decode(&message, one.encoding));
    assert_eq!(client.state(), self::client(one, &own).state());
}

#[test]
fn a_restored_users_device_is_told_that_its_user_is_not_suspended_any_more() {
    let standing = |status| move |draft: &mut Snapshot| draft.put_user(User { status, ..user(2) });
    let before = publication(2);
    let suspended = next(&before, standing(Status::Suspended));
    let restored = next(&suspended, standing(Status::Active));
    for encoding in BOTH {
        let viewer = viewer(1, encoding);
        let mut client = client(viewer, &before);
        for (to, messages) in [(&suspended, 1), (&restored, 0)] {
            let from = if messages == 1 { &before } else { &suspended };
            advance(&mut client, viewer, from, to).unwrap();
            let state = client.state();
            let told = state["DisplayMessages"]
                .as_object()
                .map_or(0, serde_json::Map::len);
            assert_eq!(told, messages);
        }
    }
}

#[test]
fn when_a_device_was_seen_last_is_told_also_beside_a_new_key() {
    let before = publication(2);
    // Between two publications that the viewer gets, it came, got another key, and went.
    let after = next(&before, |draft| {
        let mut device = device(1);
        device.node_key = crate::records::node_key(77);
        draft.put_device(device);
        let gone = bowline_model::device::Live {
            last_seen: Some(crate::records::at(50)),
            ..bowline_model::device::Live::default()
        };
        draft.set_live(id(1), gone);
    });
    for encoding in BOTH {
        let viewer = viewer(2, encoding);
        let mut client = client(viewer, &before);
        advance(&mut client, viewer, &before, &after).unwrap();
        assert_eq!(client.state(), self::client(viewer, &after).state());
    }
}
