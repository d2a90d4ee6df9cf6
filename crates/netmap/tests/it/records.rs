//! Records to build snapshots from, and clients to look at them with.

use std::sync::Arc;

use bowline_model::device::{Device, HostFacts};
use bowline_model::id::{DeviceId, TailnetId, UserId};
use bowline_model::key::{DiscoKey, MachineKey, NodeKey};
use bowline_model::record::RawJson;
use bowline_model::tailnet::{Settings, Tailnet};
use bowline_model::user::{Role, Status, User};
use bowline_modelclient::{ModelClient, Rules};
use bowline_netmap::delta::{self, Gone};
use bowline_netmap::full;
use bowline_netmap::message::Message;
use bowline_netmap::publication::Publication;
use bowline_netmap::snapshot::Snapshot;
use bowline_netmap::viewer::Viewer;
use bowline_netmap::{DerpMap, Region, Relay};
use bowline_wire::map_request::Encoding;
use jiff::{SignedDuration, Timestamp};

pub(crate) const PIN: &str =
    "sha256-raw:00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

pub(crate) fn at(seconds: u64) -> Timestamp {
    let start: Timestamp = "2026-11-01T00:00:00Z".parse().unwrap();
    start + SignedDuration::from_secs(i64::try_from(seconds).unwrap())
}

/// Different for each kind and number, and as hard to compress as a real key.
fn key(kind: u8, number: u64) -> [u8; 32] {
    let mut state = number.wrapping_mul(251).wrapping_add(u64::from(kind));
    std::array::from_fn(|_| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        state.to_be_bytes()[0]
    })
}

pub(crate) fn node_key(number: u64) -> NodeKey {
    NodeKey::from_bytes(key(1, number)).unwrap()
}

pub(crate) fn machine_key(number: u64) -> MachineKey {
    MachineKey::from_bytes(key(2, number)).unwrap()
}

pub(crate) fn disco_key(number: u64) -> DiscoKey {
    DiscoKey::from_bytes(key(3, number)).unwrap()
}

pub(crate) fn id(number: u64) -> DeviceId {
    DeviceId::new(number).unwrap()
}

pub(crate) fn user_id(number: u64) -> UserId {
    UserId::new(number).unwrap()
}

pub(crate) fn tailnet() -> Tailnet {
    Tailnet {
        id: TailnetId::new(1).unwrap(),
        name: "example.com".to_owned(),
        dns_name: "tail1.internal".to_owned(),
        created: at(0),
        settings: Settings::default(),
    }
}

pub(crate) fn user(number: u64) -> User {
    User {
        id: user_id(number),
        login_name: format!("user{number}@example.com"),
        display_name: format!("User {number}"),
        role: Role::Member,
        status: Status::Active,
        needs_approval: false,
        created: at(0),
    }
}

pub(crate) fn hostinfo(number: u64) -> RawJson {
    let json = format!(
        r#"{{"OS":"linux","Hostname":"host{number}","BackendLogID":"log-{number}-private","PushDeviceToken":"push-private","WoLMACs":["00:11:22:33:44:55"],"Services":[{{"Proto":"peerapi4","Port":{}}},{{"Proto":"tcp","Port":22,"Description":"sshd-private"}}]}}"#,
        1000 + number % 1000,
    );
    RawJson::of(&serde_json::from_str::<serde_json::Value>(&json).unwrap()).unwrap()
}

/// Device `number`, of user 1 to 3.
pub(crate) fn device(number: u64) -> Device {
    let [.., a, b] = number.to_be_bytes();
    Device {
        id: id(number),
        user: Some(user_id(number % 3 + 1)),
        tags: [].into(),
        machine_key: machine_key(number),
        node_key: node_key(number),
        lock_key: String::new(),
        name: format!("host{number}"),
        name_given: false,
        ipv4: [100, 64, a, b].into(),
        ipv6: [
            0xfd7a,
            0x115c,
            0xa1e0,
            1,
            1,
            1,
            1,
            u16::from_be_bytes([a, b]),
        ]
        .into(),
        created: at(1),
        key_expiry: Some(at(1_000_000)),
        key_expiry_disabled: false,
        key_expiry_disabled_for_tags: false,
        expired: false,
        expiry_told: None,
        key_ended: false,
        authorized: true,
        ephemeral: false,
        auth_key: None,
        registered_by: None,
        seen: true,
        replaced_key: None,
        capability_version: 113,
        hostinfo: hostinfo(number),
        facts: HostFacts {
            hostname: format!("host{number}"),
            ..HostFacts::default()
        },
        enabled_routes: Vec::new(),
        attributes: [].into(),
        refused_tags: Vec::new(),
        ended_attributes: [].into(),
    }
}

pub(crate) fn region(number: u32, relays: &[&str]) -> Region {
    Region {
        id: number,
        code: format!("r{number}"),
        name: format!("Region {number}"),
        nodes: relays
            .iter()
            .enumerate()
            .map(|(index, cert)| Relay {
                name: format!("{number}{index}"),
                region_id: number,
                host_name: "relay.example.com".to_owned(),
                cert_name: (*cert).to_owned(),
                ipv4: String::new(),
                ipv6: String::new(),
                stun_port: 3478,
                derp_port: 443,
                insecure_for_tests: !cert.is_empty(),
                ..Relay::default()
            })
            .collect(),
        ..Region::default()
    }
}

pub(crate) fn derp_map(regions: impl IntoIterator<Item = Region>) -> Arc<DerpMap> {
    Arc::new(DerpMap {
        omit_default_regions: true,
        regions: regions
            .into_iter()
            .map(|region| (region.id, region))
            .collect(),
    })
}

/// Three users and the devices 1 to `devices`.
pub(crate) fn snapshot(devices: u64) -> Snapshot {
    snapshot_with(devices, derp_map([region(900, &[PIN])]))
}

/// The same on a server with these relays.
pub(crate) fn snapshot_with(devices: u64, relays: Arc<DerpMap>) -> Snapshot {
    let mut snapshot = Snapshot::new(tailnet(), relays);
    for number in 1..=3 {
        snapshot.put_user(user(number));
    }
    for number in 1..=devices {
        snapshot.put_device(device(number));
    }
    snapshot
}

/// The same, published.
pub(crate) fn publication(devices: u64) -> Publication {
    Publication::new(snapshot(devices))
}

/// A changed copy as the next publication.
pub(crate) fn next(publication: &Publication, change: impl FnOnce(&mut Snapshot)) -> Publication {
    let mut next = (**publication.snapshot()).clone();
    next.revision += 1;
    change(&mut next);
    Publication::new(next)
}

pub(crate) fn viewer(number: u64, encoding: Encoding) -> Viewer {
    Viewer {
        device: id(number),
        version: 141,
        encoding,
        log_upload: false,
    }
}

/// The JSON of a message: what a client has after decompression.
pub(crate) fn decode(message: &Message, encoding: Encoding) -> Vec<u8> {
    let payload = message.payload();
    assert_eq!(payload.len(), message.payload_length());
    assert!(
        !payload.is_empty(),
        "a message of no bytes is fatal to clients"
    );
    match encoding {
        Encoding::Plain => payload,
        Encoding::Zstd => zstd::stream::decode_all(&payload[..]).unwrap(),
    }
}

/// A client that has got the full map.
pub(crate) fn client(viewer: Viewer, publication: &Publication) -> ModelClient {
    let message = full::full(viewer, publication, at(5)).expect("the viewer is there");
    let mut client = ModelClient::new(Rules {
        both_addresses: false,
        ..Rules::default()
    });
    apply(&mut client, &decode(&message, viewer.encoding));
    client
}

pub(crate) fn apply(client: &mut ModelClient, json: &[u8]) {
    if let Err(violation) = client.apply(json) {
        panic!("{violation}\nin {}", String::from_utf8_lossy(json));
    }
}

/// Takes a client from one snapshot to another; whether it was told anything.
pub(crate) fn advance(
    client: &mut ModelClient,
    viewer: Viewer,
    from: &Publication,
    to: &Publication,
) -> Result<bool, Gone> {
    let message = delta::delta(viewer, from, to, at(6))?;
    let Some(message) = message else {
        return Ok(false);
    };
    let json = decode(&message, viewer.encoding);
    check_delta(&json);
    apply(client, &json);
    Ok(true)
}

/// What the model does not look at: the order of the peers, and that each peer is told of once.
fn check_delta(json: &[u8]) {
    let value: serde_json::Value = serde_json::from_slice(json).unwrap();
    let mut all = Vec::new();
    let changed: Vec<u64> = value["PeersChanged"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|peer| peer["ID"].as_u64().unwrap())
        .collect();
    for (field, id) in [
        ("PeersChanged", "/ID"),
        ("PeersChangedPatch", "/NodeID"),
        ("PeersRemoved", ""),
    ] {
        let ids: Vec<u64> = value[field]
            .as_array()
            .into_iter()
            .flatten()
            .map(|peer| peer.pointer(id).unwrap().as_u64().unwrap())
            .collect();
        assert!(ids.is_sorted(), "{field} is not sorted by id: {ids:?}");
        // A device that went offline and changed otherwise too is told in both ways: clients apply
        // patches last (`node::went_offline`).
        let is_twice = |id: &u64| field == "PeersChangedPatch" && changed.contains(id);
        all.extend(ids.into_iter().filter(|id| !is_twice(id)));
    }
    let told = all.len();
    all.sort_unstable();
    all.dedup();
    assert_eq!(told, all.len(), "a peer is in two lists");
}
