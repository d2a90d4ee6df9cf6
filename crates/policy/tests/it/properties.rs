//! Properties of compiled policies, over random tailnets and changes.

use bowline_policy::{
    AttributeValue, Attributes, Compiled, Device, Owner, Policy, Role, Topology, TopologyChange,
    User, hujson,
};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A policy with every kind of rule, so that each change touches something.
const EVERYTHING: &str = r#"{
    "groups": {"group:a": ["u1@example.com", "u2@example.com"], "group:b": ["u3@example.com"]},
    "hosts": {"one": "100.64.0.1", "net": "10.1.0.0/16", "some": "100.64.0.0/29"},
    "ipsets": {"ipset:x": ["10.0.0.0/8", "remove 10.1.0.0/16", "add host:one"]},
    "tagOwners": {"tag:a": [], "tag:b": ["group:a"], "tag:c": ["tag:a"]},
    "postures": {"posture:new": ["node:tsVersion >= '1.50'"], "posture:mac": ["node:os == 'macos'"]},
    "grants": [
        {"src": ["group:a"], "dst": ["tag:a"], "ip": ["22", "tcp:80"]},
        {"src": ["u1@example.com", "u2@example.com"], "dst": ["tag:b"], "ip": ["443"]},
        {"src": ["autogroup:member"], "dst": ["autogroup:self"], "ip": ["*"],
         "app": {"tailscale.com/cap/drive": [{"access": "rw"}]}},
        {"src": ["group:b"], "dst": ["net"], "ip": ["*"], "via": ["tag:b"]},
        {"src": ["tag:a"], "dst": ["10.0.0.0/8"], "ip": ["*"]},
        {"src": ["autogroup:member"], "dst": ["autogroup:internet"], "ip": ["*"]},
        {"src": ["autogroup:member"], "dst": ["tag:c"], "ip": ["*"], "srcPosture": ["posture:new", "posture:mac"]},
        {"src": ["*"], "dst": ["tag:c"], "ip": ["7"], "srcPosture": ["posture:mac"]},
        {"src": ["group:dir@example.com"], "dst": ["ipset:x"], "ip": ["8"]},
        {"src": ["group:b"], "dst": ["some"], "app": {"tailscale.com/cap/relay": [{}]}},
        {"src": ["ipset:x", "some"], "dst": ["tag:b"], "ip": ["9"]},
        {"src": ["group:a"], "dst": ["tag:b"], "app": {"tailscale.com/cap/kubernetes": [{"recorder": ["tag:c"], "enforceRecorder": true}]}},
    ],
    "acls": [
        {"action": "accept", "src": ["*"], "dst": ["tag:c:53"], "proto": "udp"},
        {"action": "accept", "src": ["group:a"], "dst": ["autogroup:self:22", "u1@example.com:80"]},
        {"action": "accept", "src": ["u1@example.com"], "dst": ["one:*", "tag:b:1-10"]},
        {"action": "accept", "src": ["autogroup:admin"], "dst": ["*:*"]},
    ],
    "ssh": [
        {"action": "check", "src": ["autogroup:member"], "dst": ["autogroup:self"], "users": ["root", "autogroup:nonroot"]},
        {"action": "accept", "src": ["group:a"], "dst": ["tag:a"], "users": ["localpart:*@example.com", "root"]},
        {"action": "accept", "src": ["tag:a"], "dst": ["tag:b"], "users": ["ubuntu"], "recorder": ["tag:c"]},
    ],
    "nodeAttrs": [
        {"target": ["tag:a", "autogroup:admin"], "attr": ["funnel"]},
        {"target": ["some"], "attr": ["disable-ipv4"]},
    ],
    "autoApprovers": {"routes": {"10.0.0.0/8": ["tag:b"]}, "exitNode": ["group:a"]},
}"#;

const USERS: u64 = 4;

fn user(id: u64, role: Role) -> User {
    User {
        id,
        login: format!("U{id}@example.com"),
        role,
    }
}

fn device() -> impl Strategy<Value = Device> {
    let owner = prop_oneof![
        (1..=USERS).prop_map(Owner::User),
        proptest::collection::btree_set(0..3usize, 1..3).prop_map(|tags| Owner::Tags(
            tags.iter()
                .map(|tag| format!("tag:{}", ["a", "b", "c"][*tag]))
                .collect()
        )),
    ];
    let routes = proptest::collection::btree_set(0..6usize, 0..3).prop_map(|routes| {
        let all = [
            "10.1.0.0/16",
            "10.2.0.0/24",
            "192.168.0.0/24",
            "100.64.0.0/30",
            "0.0.0.0/0",
            "8.8.8.0/24",
        ];
        routes
            .iter()
            .map(|route| all[*route].parse().unwrap())
            .collect::<Vec<_>>()
    });
    let attributes = (any::<bool>(), any::<bool>()).prop_map(|(new, mac)| {
        let text = |text: &str| AttributeValue::String(text.to_owned());
        Attributes::from([
            (
                "node:tsVersion".to_owned(),
                text(if new { "1.60.0" } else { "1.40.0" }),
            ),
            (
                "node:os".to_owned(),
                text(if mac { "macos" } else { "linux" }),
            ),
        ])
    });
    // One in eight devices has another address than usual.
    let moved = prop_oneof![7 => Just(0u64), 1 => Just(100)];
    (
        1..12u64,
        owner,
        routes,
        attributes,
        any::<bool>(),
        0..20u64,
        moved,
    )
        .prop_map(
            |(id, owner, routes, attributes, online, joined, moved)| Device {
                id,
                name: format!("d{id}"),
                joined,
                owner,
                addresses: vec![
                    format!("100.64.0.{}", id + moved).parse().unwrap(),
                    format!("fd7a:115c:a1e0::{id}").parse().unwrap(),
                ],
                advertised: routes.clone(),
                routes,
                attributes,
                services: Vec::new(),
                online,
                slot: None,
            },
        )
}

fn change() -> impl Strategy<Value = TopologyChange> {
    let role = prop_oneof![
        Just(Role::Owner),
        Just(Role::Admin),
        Just(Role::Member),
        Just(Role::Shared)
    ];
    prop_oneof![
        6 => device().prop_map(|device| TopologyChange::Device(Box::new(device))),
        2 => (1..12u64).prop_map(TopologyChange::DeviceGone),
        1 => (1..=USERS, role).prop_map(|(id, role)| TopologyChange::User(user(id, role))),
        1 => proptest::collection::btree_set(1..=USERS, 0..3).prop_map(|members| TopologyChange::Group {
            name: "group:dir@example.com".to_owned(),
            members: members.iter().map(|id| format!("u{id}@example.com")).collect(),
        }),
        1 => any::<bool>().prop_map(TopologyChange::Https),
    ]
}

/// The tailnet after the changes, kept without any policy.
fn follow(topology: &mut Topology, change: &TopologyChange) {
    match change {
        TopologyChange::Device(device) => {
            topology.devices.retain(|known| known.id != device.id);
            topology.devices.push((**device).clone());
        }
        TopologyChange::DeviceGone(id) => topology.devices.retain(|known| known.id != *id),
        TopologyChange::User(user) => {
            topology.users.retain(|known| known.id != user.id);
            topology.users.push(user.clone());
        }
        TopologyChange::UserGone(id) => topology.users.retain(|known| known.id != *id),
        TopologyChange::Group { name, members } => {
            topology.groups.insert(name.clone(), members.clone());
        }
        TopologyChange::Service { name, addresses } => {
            topology.services.insert(name.clone(), addresses.clone());
        }
        TopologyChange::Https(enabled) => topology.https_enabled = *enabled,
    }
}

/// Everything that a policy says about one device, as text.
fn view(net: &Compiled, id: u64) -> BTreeMap<&'static str, String> {
    let others: BTreeSet<u64> = net.devices().map(|device| device.id).collect();
    let peers: Vec<u64> = others
        .iter()
        .copied()
        .filter(|peer| net.visible(id, *peer))
        .collect();
    let routes: Vec<_> = others
        .iter()
        .map(|peer| (peer, net.allowed_routes(id, *peer)))
        .collect();
    let ssh: Vec<_> = net
        .ssh_for(id)
        .unwrap()
        .iter()
        .map(|rule| rule.to_json(""))
        .collect();
    BTreeMap::from([
        (
            "filter",
            serde_json::to_string(&net.filters_for(id).unwrap()).unwrap(),
        ),
        ("peers", format!("{peers:?}")),
        ("routes", format!("{routes:?}")),
        ("primary", format!("{:?}", net.primary_routes(id))),
        ("approved", format!("{:?}", net.auto_approved_routes(id))),
        ("ssh", format!("{ssh:?}")),
        (
            "caps",
            format!("{:?} {}", net.caps_for(id), net.ipv4_disabled(id)),
        ),
    ])
}

fn views(net: &Compiled) -> BTreeMap<u64, BTreeMap<&'static str, String>> {
    net.devices()
        .map(|device| (device.id, view(net, device.id)))
        .collect()
}

fn policy() -> Arc<Policy> {
    Arc::new(Policy::parse(EVERYTHING).unwrap())
}

/// Few cases by default, as each compiles a policy many times; `PROPTEST_CASES` asks for more.
fn config() -> ProptestConfig {
    let usual = ProptestConfig::default();
    match std::env::var_os("PROPTEST_CASES") {
        Some(_) => usual,
        None => ProptestConfig { cases: 40, ..usual },
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn applying_changes_equals_compiling_from_scratch(changes in proptest::collection::vec(change(), 1..25)) {
        let policy = policy();
        let mut topology = Topology {
            users: (1..=USERS).map(|id| user(id, Role::Member)).collect(),
            ..Topology::default()
        };
        let mut net = Compiled::new(Arc::clone(&policy), &topology);
        for change in changes {
            // Fills the caches that the change must invalidate.
            let before = views(&net);
            let classes: BTreeMap<u64, u64> =
                net.devices().map(|device| (device.id, net.class_of(device.id).unwrap())).collect();
            let kept = net.clone();
            follow(&mut topology, &change);
            let impact = net.apply(change.clone());
            let after = views(&net);
            let fresh = views(&Compiled::new(Arc::clone(&policy), &topology));
            prop_assert_eq!(&after, &fresh, "after {:?}", change);
            prop_assert_eq!(views(&kept), before.clone(), "a copy changed with {:?}", change);
            for (id, view) in &after {
                let (Some(old), false) = (before.get(id), impact.devices.contains(id)) else { continue };
                let class = net.class_of(*id).unwrap();
                prop_assert_eq!(class, classes[id]);
                let filters = old["filter"] == view["filter"] || impact.filters.contains(&class);
                prop_assert!(filters, "filter of {} changed unsaid: {:?}", id, change);
                let peers = old["peers"] == view["peers"] || impact.visibility.contains(&class);
                prop_assert!(peers, "peers of {} changed unsaid: {:?}", id, change);
                let ssh = old["ssh"] == view["ssh"] || impact.ssh.contains(id);
                prop_assert!(ssh, "ssh of {} changed unsaid: {:?}", id, change);
                prop_assert!(old["primary"] == view["primary"] || impact.routes);
                prop_assert_eq!(&old["caps"], &view["caps"]);
            }
        }
    }

    #[test]
    fn visibility_is_mutual(devices in proptest::collection::vec(device(), 1..12)) {
        let topology = Topology {
            users: (1..=USERS).map(|id| user(id, Role::Member)).collect(),
            devices,
            ..Topology::default()
        };
        let net = Compiled::new(policy(), &topology);
        let ids: Vec<u64> = net.devices().map(|device| device.id).collect();
        for left in &ids {
            prop_assert!(!net.visible(*left, *left));
            for right in &ids {
                prop_assert_eq!(net.visible(*left, *right), net.visible(*right, *left));
            }
        }
    }

    /// The filter is read as clients read it, and must agree with the policy's own tests.
    #[test]
    fn packet_filters_allow_what_tests_accept_and_nothing_else(
        devices in proptest::collection::vec(device(), 2..12),
        port in prop_oneof![Just(22u16), Just(53), Just(80), Just(443), Just(7), Just(9), Just(1000)],
        protocol in prop_oneof![Just(6u8), Just(17)],
    ) {
        let topology = Topology {
            users: (1..=USERS).map(|id| user(id, Role::Member)).collect(),
            devices,
            ..Topology::default()
        };
        let net = Compiled::new(policy(), &topology);
        let ids: Vec<u64> = net.devices().map(|device| device.id).collect();
        for target in &ids {
            let filter = serde_json::to_value(net.filters_for(*target).unwrap()).unwrap();
            for source in &ids {
                let address = |id: u64| net.device(id).unwrap().addresses[0];
                let (src, dst) = (address(*source), address(*target));
                let on_wire = wire_allows(&filter, src, dst, protocol, port);
                let by_rules = net.allows_connection(src, dst, protocol, port);
                prop_assert_eq!(on_wire, by_rules, "{} -> {}:{}", src, dst, port);
                if on_wire && source != target {
                    prop_assert!(net.visible(*source, *target), "{} reaches {} unseen", source, target);
                }
                let name = |id: u64| net.device(id).unwrap().addresses[0].to_string();
                let verb = if on_wire { "accept" } else { "deny" };
                let proto = if protocol == 6 { "tcp" } else { "udp" };
                let test = format!(
                    r#"[{{"src": "{}", "{verb}": ["{}:{port}"], "proto": "{proto}"}}]"#,
                    name(*source), name(*target)
                );
                prop_assert_eq!(net.run_given_tests(&test), Ok(()));
            }
        }
    }

    /// A difference names all that changes for each pair, and nothing where nothing does.
    #[test]
    fn a_difference_is_what_filters_say(
        devices in proptest::collection::vec(device(), 2..10),
        rules in proptest::collection::vec((0..8usize, 0..8usize, 1..4u16), 0..4),
    ) {
        let selectors = ["tag:a", "tag:b", "u1@example.com", "group:a", "autogroup:member", "100.64.0.3", "some", "*"];
        let rules: Vec<String> = rules
            .iter()
            .map(|(src, dst, port)| format!(
                r#"{{"action": "accept", "src": ["{}"], "dst": ["{}:{port}-{}"]}}"#,
                selectors[*src], selectors[*dst], port + 1
            ))
            .collect();
        let text = |rules: &[String]| format!(
            r#"{{"groups": {{"group:a": ["u1@example.com", "u2@example.com"]}}, "hosts": {{"some": "100.64.0.0/29"}},
                "tagOwners": {{"tag:a": [], "tag:b": [], "tag:c": []}}, "acls": [{}]}}"#,
            rules.join(",")
        );
        let topology = Topology {
            users: (1..=USERS).map(|id| user(id, Role::Member)).collect(),
            devices: devices.into_iter().map(|device| Device { routes: Vec::new(), ..device }).collect(),
            ..Topology::default()
        };
        let half = rules.len() / 2;
        let old = Compiled::new(Arc::new(Policy::parse(&text(&rules[..half])).unwrap()), &topology);
        let new_policy = Arc::new(Policy::parse(&text(&rules[half..])).unwrap());
        let new = Compiled::new(Arc::clone(&new_policy), &topology);
        let diff = old.diff(&new_policy, &[]);
        let mut changed = false;
        for port in 1..6 {
            for source in old.devices() {
                for target in old.devices() {
                    let (src, dst) = (source.addresses[0], target.addresses[0]);
                    changed |= old.allows_connection(src, dst, 6, port)
                        != new.allows_connection(src, dst, 6, port);
                }
            }
        }
        prop_assert_eq!(changed, !diff.access.is_empty(), "{:#?}", diff.access);
    }

    #[test]
    fn formatting_is_stable_and_keeps_the_meaning(text in hujson_text()) {
        let once = hujson::format(&text).unwrap();
        prop_assert_eq!(&hujson::format(&once).unwrap(), &once, "from {:?}", text);
        let meaning = |text: &str| -> serde_json::Value {
            serde_json::from_str(&hujson::minimize(text).unwrap()).unwrap()
        };
        prop_assert_eq!(meaning(&text), meaning(&once));
    }

    #[test]
    fn parsing_never_panics(text in "[ \\[\\]{},:\"/*\\\\a-z0-9.\n-]{0,60}") {
        let _ = Policy::parse(&text);
        let _ = hujson::format(&text);
    }
}

/// HuJSON with white space, comments and trailing commas anywhere.
fn hujson_text() -> impl Strategy<Value = String> {
    let extra = proptest::collection::vec(
        prop_oneof![
            4 => Just(""),
            2 => Just(" "),
            2 => Just("\n"),
            1 => Just("\n\n\t"),
            1 => Just("// line\n"),
            1 => Just("/* block */"),
            1 => Just("/* two\n   lines */"),
            1 => Just("\r\n"),
        ],
        0..3,
    )
    .prop_map(|parts| parts.concat());
    let extra = extra.boxed();
    let scalar = prop_oneof![
        Just("null".to_owned()),
        Just("-1.5e3".to_owned()),
        Just("\"text\"".to_owned()),
        Just("\"\\u0041\\/\\n\"".to_owned()),
        Just("\"a much longer text that helps to get beyond the width of a line\"".to_owned()),
    ];
    let inner = scalar.prop_recursive(4, 40, 5, {
        let extra = extra.clone();
        move |value| {
            let padded = (extra.clone(), value, extra.clone())
                .prop_map(|(before, value, after)| before + &value + &after);
            let name = (extra.clone(), "[a-z]{1,12}", extra.clone())
                .prop_map(|(before, name, after)| format!("{before}\"{name}\"{after}:"));
            let member = (name, padded.clone()).prop_map(|(name, value)| name + &value);
            let tail = (any::<bool>(), extra.clone());
            prop_oneof![
                (proptest::collection::vec(padded, 0..5), tail.clone())
                    .prop_map(|(items, tail)| join('[', &items, &tail, ']')),
                (proptest::collection::vec(member, 0..5), tail)
                    .prop_map(|(items, tail)| join('{', &items, &tail, '}')),
            ]
        }
    });
    (extra.clone(), inner, extra).prop_map(|(before, value, after)| before + &value + &after)
}

fn join(open: char, items: &[String], (comma, extra): &(bool, String), close: char) -> String {
    let comma = if *comma && !items.is_empty() { "," } else { "" };
    format!("{open}{}{comma}{extra}{close}", items.join(","))
}

/// Whether a filter lets a packet through, as clients judge it.
fn wire_allows(
    filter: &serde_json::Value,
    src: std::net::IpAddr,
    dst: std::net::IpAddr,
    protocol: u8,
    port: u16,
) -> bool {
    filter.as_array().unwrap().iter().any(|rule| {
        let texts = |value: &serde_json::Value| -> Vec<String> {
            value
                .as_array()
                .into_iter()
                .flatten()
                .map(|text| text.as_str().unwrap().to_owned())
                .collect()
        };
        let protocols: Vec<u64> = rule["IPProto"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|number| number.as_u64().unwrap())
            .collect();
        let protocol_fits = protocols.is_empty() || protocols.contains(&u64::from(protocol));
        let source_fits = texts(&rule["SrcIPs"])
            .iter()
            .any(|text| wire_contains(text, src));
        protocol_fits
            && source_fits
            && rule["DstPorts"]
                .as_array()
                .into_iter()
                .flatten()
                .any(|entry| {
                    let bound = |name: &str| entry["Ports"][name].as_u64().unwrap();
                    wire_contains(entry["IP"].as_str().unwrap(), dst)
                        && (bound("First")..=bound("Last")).contains(&u64::from(port))
                })
    })
}

fn wire_contains(text: &str, address: std::net::IpAddr) -> bool {
    if text == "*" {
        return true;
    }
    if let Some((first, last)) = text.split_once('-') {
        let (first, last) = (first.parse().unwrap(), last.parse().unwrap());
        return address.is_ipv4() == std::net::IpAddr::is_ipv4(&first)
            && (first..=last).contains(&address);
    }
    match text.parse::<ipnet::IpNet>() {
        Ok(prefix) => prefix.contains(&address),
        Err(_) => text.parse() == Ok(address),
    }
}
