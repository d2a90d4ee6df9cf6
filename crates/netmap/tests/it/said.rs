//! What one device says never costs another its map: whatever JSON a device sends, and whatever an
//! older server stored, each viewer's full map and delta has the clients' own types.

use bowline_model::device::{Device, Live};
use bowline_model::record::RawJson;
use bowline_wire::map_request::{Encoding, MapRequest};
use bowline_wire::register::RegisterRequest;
use proptest::prelude::*;

use crate::records::{advance, client, device, id, next, publication, viewer};

/// Names that mean something in host info, NetInfo, services and places, in several spellings.
const NAMES: &[&str] = &[
    "IPNVersion",
    "FrontendLogID",
    "OS",
    "os",
    "O\u{17f}",
    "OSVersion",
    "Container",
    "Env",
    "Distro",
    "App",
    "Desktop",
    "Hostname",
    "HOSTNAME",
    "ShieldsUp",
    "ShareeNode",
    "WireIngress",
    "IngressEnabled",
    "RoutableIPs",
    "RoutableIps",
    "RequestTags",
    "WoLMACs",
    "Services",
    "NetInfo",
    "sshHostKeys",
    "SSHHostKeys",
    "Userspace",
    "AppConnector",
    "PeerRelay",
    "ExitNodeID",
    "Location",
    "TPM",
    "StateEncrypted",
    "PreferredDERP",
    "DERPLatency",
    "UPnP",
    "Proto",
    "Port",
    "Description",
    "Country",
    "City",
    "Latitude",
    "Priority",
    "Model",
    "FirmwareVersion",
    "900-v4",
    "Future",
    "a b",
    "x\\u0041",
    "a\\\"b",
    "",
];

/// JSON texts of single values: those that fit somewhere, and those that fit nowhere.
const VALUES: &[&str] = &[
    "null",
    "true",
    "false",
    "0",
    "1",
    "-1",
    "-0",
    "5",
    "900",
    "65535",
    "65536",
    "2147483647",
    "2147483648",
    "4294967296",
    "9223372036854775807",
    "9223372036854775808",
    "18446744073709551616",
    "1.0",
    "1.5",
    "1e2",
    "1e306",
    "1e400",
    "-5e-324",
    r#""""#,
    r#""linux""#,
    r#""true""#,
    r#""5""#,
    r#""a\u0000\n\u202e\"\\b""#,
    r#""\ud83d\ude00""#,
    r#""peerapi4""#,
    r#""peerapi-dns-proxy""#,
    r#""tcp""#,
    r#""10.0.0.0/8""#,
    r#""10.0.0.1/8""#,
    r#""::/0""#,
    r#""tag:ci""#,
    r#""ssh-ed25519 AAAA""#,
    r#""ssh-rsa A\nother ssh-rsa B""#,
    r#""192.0.2.1:41641""#,
    "[]",
    "{}",
];

fn json() -> impl Strategy<Value = String> {
    let long = (1usize..5000).prop_map(|length| format!("\"{}\"", "x".repeat(length)));
    let leaf = prop_oneof![12 => prop::sample::select(VALUES).prop_map(str::to_owned), 1 => long];
    leaf.prop_recursive(4, 40, 8, |inner| {
        let list = prop::collection::vec(inner.clone(), 0..5);
        let repeated = (inner.clone(), 1usize..100).prop_map(|(one, count)| vec![one; count]);
        prop_oneof![
            2 => members(inner),
            1 => prop_oneof![4 => list, 1 => repeated].prop_map(|list| format!("[{}]", list.join(","))),
        ]
    })
}

fn members(value: impl Strategy<Value = String>) -> impl Strategy<Value = String> {
    let member = (prop::sample::select(NAMES), value);
    prop::collection::vec(member, 0..8).prop_map(|members| {
        let members: Vec<String> = members
            .into_iter()
            .map(|(name, value)| format!("\"{name}\":{value}"))
            .collect();
        format!("{{{}}}", members.join(","))
    })
}

/// Every peer, and the device itself, gets a full map with `said` in it, a delta to it, and one back.
fn everybody_reads(change: impl Fn(&mut Device, &mut Live)) {
    let before = publication(3);
    let after = next(&before, |draft| {
        let (mut said, mut live) = (device(2), Live::default());
        change(&mut said, &mut live);
        draft.put_device(said);
        draft.set_live(id(2), live);
    });
    // As it is told while it says more.
    let online = next(&after, |draft| {
        let mut live = (*draft.device(id(2)).unwrap().live).clone();
        live.online = true;
        draft.set_live(id(2), live);
    });
    for number in 1..=3 {
        for version in [113, 142] {
            let mut viewer = viewer(number, Encoding::Plain);
            viewer.version = version;
            let mut told = client(viewer, &before);
            for (from, to) in [(&before, &after), (&after, &online), (&online, &before)] {
                advance(&mut told, viewer, from, to).unwrap();
                let whole = client(viewer, to);
                // What is no longer said, a client may go on knowing: its home, when it was seen.
                if to.snapshot().revision > from.snapshot().revision {
                    assert_eq!(told.state(), whole.state(), "viewer {number}");
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn whatever_a_device_reports_its_peers_read_their_maps(
        hostinfo in prop_oneof![4 => members(json()), 1 => json()],
        net_info in prop_oneof![3 => members(json()), 1 => json()],
        endpoints in json(),
        version in prop::sample::select(VALUES),
    ) {
        let key = "01".repeat(32);
        let host = hostinfo.strip_suffix('}').map_or(hostinfo.clone(), |open| {
            let comma = if open == "{" { "" } else { "," };
            format!("{open}{comma}\"NetInfo\":{net_info}}}")
        });
        for host in [host, hostinfo] {
            let body = format!(r#"{{"Version":{version},"NodeKey":"nodekey:{key}","DiscoKey":"discokey:{key}","Endpoints":{endpoints},"Hostinfo":{host}}}"#);
            if let Ok(request) = RegisterRequest::parse(body.as_bytes())
                && let Ok(host) = &request.hostinfo
            {
                everybody_reads(|device, _| {
                    device.hostinfo = host.json.clone();
                    device.facts = host.facts.clone();
                    device.capability_version = request.version;
                });
            }
            let body = body.replace(&format!(r#""Endpoints":{endpoints},"#), "");
            if let Ok(request) = MapRequest::parse(body.as_bytes())
                && let Some(Ok(host)) = &request.hostinfo
            {
                everybody_reads(|device, live| {
                    device.hostinfo = host.json.clone();
                    device.facts = host.facts.clone();
                    device.capability_version = request.version;
                    live.disco_key = request.disco_key;
                    live.home_derp = host.net_info.as_ref().map_or(0, |net| net.preferred_derp);
                });
            }
        }
    }

    #[test]
    fn whatever_an_older_server_stored_peers_read_their_maps(
        hostinfo in json(),
        home_derp: u32,
        capability_version: u32,
        endpoints in prop::collection::vec(any::<std::net::SocketAddr>(), 0..100),
        refused_tags in prop::collection::vec(any::<String>(), 0..3),
    ) {
        // What no server could have stored.
        prop_assume!(serde_json::from_str::<serde_json::Value>(&hostinfo).is_ok());
        let row: Box<serde_json::value::RawValue> = serde_json::from_str(&hostinfo).unwrap();
        let row = RawJson::of(&row).unwrap();
        everybody_reads(|device, live| {
            device.hostinfo = row.clone();
            device.capability_version = capability_version;
            device.refused_tags = refused_tags.clone();
            device.facts.shortened = refused_tags.iter().cloned().collect();
            live.home_derp = home_derp;
            live.endpoints = endpoints.clone();
        });
    }
}

#[test]
fn the_host_info_that_cut_peers_off_reaches_nobody() {
    for hostinfo in [
        r#"{"Hostname":"evil","OS":5}"#,
        r#"{"Services":[{"Proto":"peerapi4","Port":70000}]}"#,
        r#"{"sshHostKeys":{"a":1}}"#,
        r#"{"ShareeNode":"yes"}"#,
        r#"{"Location":[1,2]}"#,
        r#"{"Location":{"Priority":9223372036854775808}}"#,
    ] {
        let row: serde_json::Value = serde_json::from_str(hostinfo).unwrap();
        everybody_reads(|device, _| device.hostinfo = RawJson::of(&row).unwrap());
    }
}

#[test]
fn a_devices_own_user_is_told_what_is_wrong_for_as_long_as_it_is() {
    let before = publication(2);
    let wrong = next(&before, |draft| {
        let mut said = device(1);
        said.facts.shortened.insert("Services".to_owned());
        said.refused_tags = vec!["tag:typo\n\"".to_owned()];
        draft.put_device(said);
        let live = Live {
            endpoints_shortened: true,
            ..Live::default()
        };
        draft.set_live(id(1), live);
    });
    let half = next(&wrong, |draft| {
        let mut said = (*draft.device(id(1)).unwrap().device).clone();
        said.refused_tags.clear();
        draft.put_device(said);
    });
    let well = next(&half, |draft| {
        draft.put_device(device(1));
        draft.set_live(id(1), Live::default());
    });
    for version in [113, 116, 117, 142] {
        let mut own = viewer(1, Encoding::Plain);
        own.version = version;
        let mut told = client(own, &before);
        let (mut other, peer) = (
            client(viewer(2, Encoding::Plain), &before),
            viewer(2, Encoding::Plain),
        );
        for (from, to, names) in [
            (&before, &wrong, &["tag:typo", "Services, Endpoints"][..]),
            (&wrong, &half, &["Services, Endpoints"]),
            (&half, &well, &[]),
        ] {
            assert!(advance(&mut told, own, from, to).unwrap());
            assert_eq!(told.state(), client(own, to).state());
            let state = told.state();
            let kept = if version < 117 {
                &state["Health"]
            } else {
                &state["DisplayMessages"]
            };
            for name in ["tag:typo", "Services, Endpoints"] {
                let is_said = kept.to_string().contains(name);
                assert_eq!(is_said, names.contains(&name), "{version}: {kept}");
            }
            advance(&mut other, peer, from, to).unwrap();
            assert!(other.state()["DisplayMessages"].to_string().len() <= 2);
        }
    }
}
