//! Random histories of a tailnet.

use std::collections::BTreeMap;

use bowline_model::device::{Attribute, AttributeValue, Device, Live};
use bowline_model::dns::{Dns, Resolver};
use bowline_model::policy_file::PolicyFile;
use bowline_model::user::{Role, Status, User};
use bowline_netmap::publication::Publication;
use bowline_netmap::snapshot::Snapshot;
use proptest::prelude::*;

use crate::records::{self, at, device, disco_key, hostinfo, id, node_key, tailnet, user, user_id};

/// Routes that devices serve.
const ROUTES: [&str; 4] = ["10.0.0.0/8", "192.168.1.0/24", "0.0.0.0/0", "::/0"];

/// One thing that happens. Numbers choose among what is there.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    Join(u8),
    Leave(u64),
    Rename(u64, u8),
    Endpoints(u64, u8),
    Home(u64, u8),
    Disco(u64, u8),
    Hostinfo(u64, u8),
    Routes(u64, u8, u8),
    Online(u64, bool),
    Seen(u64),
    Expire(u64, bool),
    Authorize(u64, bool),
    Owner(u64, u64),
    Tags(u64, bool),
    NodeKey(u64),
    Address(u64),
    RenameUser(u64, u8),
    Role(u64, u8),
    Standing(u64, u8),
    Dns(u8),
    Domain(u8),
    Suffix(u8),
    Policy(u8),
    Attribute(u64, u8),
    Ssh(u64, bool),
}

/// Policies that differ in everything that devices are told because of them.
pub(crate) const POLICIES: [&str; 8] = [
    r#"{"acls": [{"action": "accept", "src": ["*"], "dst": ["*:*"]}]}"#,
    r#"{"acls": []}"#,
    r#"{
        "tagOwners": {"tag:ci": []},
        "acls": [
            {"action": "accept", "src": ["autogroup:member"], "dst": ["autogroup:self:*"]},
            {"action": "accept", "src": ["user1@example.com"], "dst": ["tag:ci:22,80"]},
        ],
        "ssh": [{"action": "check", "src": ["autogroup:member"], "dst": ["autogroup:self"], "users": ["root"]}],
    }"#,
    r#"{
        "tagOwners": {"tag:ci": []},
        "acls": [
            {"action": "accept", "src": ["autogroup:member"], "dst": ["autogroup:self:*"]},
            {"action": "accept", "src": ["autogroup:admin"], "dst": ["10.0.0.0/8:443"]},
            {"action": "accept", "src": ["user1@example.com"], "dst": ["tag:ci:22,80"]},
        ],
        "ssh": [
            {"action": "accept", "src": ["user2@example.com"], "dst": ["tag:ci"], "users": ["autogroup:nonroot"]},
            {"action": "check", "src": ["autogroup:member"], "dst": ["autogroup:self"], "users": ["root"]},
        ],
        "nodeAttrs": [{"target": ["user3@example.com"], "attr": ["disable-ipv4", "funnel"]}],
    }"#,
    r#"{
        "tagOwners": {"tag:ci": []},
        "grants": [
            {"src": ["autogroup:member"], "dst": ["192.168.1.0/24"], "ip": ["tcp:443"], "via": ["tag:ci"]},
            {"src": ["tag:ci"], "dst": ["autogroup:member"], "app": {"example.com/cap": [{"a": 1}]}},
            {"src": ["autogroup:member"], "dst": ["autogroup:internet"], "ip": ["*"]},
        ],
        "nodeAttrs": [{"target": ["tag:ci"], "attr": ["custom:one"]}],
        "OneCGNATRoute": "mac-always",
    }"#,
    r#"{
        "postures": {"posture:good": ["custom:x == 1"]},
        "acls": [{"action": "accept", "src": ["*"], "dst": ["*:*"], "srcPosture": ["posture:good"]}],
        "derpMap": {"Regions": {"901": null, "910": {"RegionID": 910, "RegionCode": "p", "RegionName": "P", "Nodes": [{"Name": "910a", "RegionID": 910, "HostName": "relay.example.org"}]}}},
    }"#,
    r#"{
        "disableIPv4": true,
        "grants": [{"src": ["autogroup:admin"], "dst": ["*"], "ip": ["*"]}],
    }"#,
    r#"{
        "tagOwners": {"tag:ci": []},
        "acls": [
            {"action": "accept", "src": ["user2@example.com"], "dst": ["192.168.1.0/24:*", "user3@example.com:1-100"]},
            {"action": "accept", "src": ["10.0.0.0/8"], "dst": ["user1@example.com:80"]},
            {"action": "accept", "proto": "udp", "src": ["autogroup:tagged"], "dst": ["autogroup:member:53"]},
        ],
        "ssh": [{"action": "accept", "src": ["autogroup:member"], "dst": ["autogroup:self"], "users": ["localpart:*@example.com"]}],
    }"#,
];

fn step() -> impl Strategy<Value = Step> {
    let n = any::<u64>;
    prop_oneof![
        3 => (1u8..12).prop_map(Step::Join),
        3 => n().prop_map(Step::Leave),
        1 => (n(), any::<u8>()).prop_map(|(n, k)| Step::Rename(n, k)),
        2 => (n(), 0u8..4).prop_map(|(n, k)| Step::Endpoints(n, k)),
        1 => (n(), 0u8..3).prop_map(|(n, k)| Step::Home(n, k)),
        1 => (n(), 0u8..4).prop_map(|(n, k)| Step::Disco(n, k)),
        1 => (n(), any::<u8>()).prop_map(|(n, k)| Step::Hostinfo(n, k)),
        2 => (n(), 0u8..16, 0u8..16).prop_map(|(n, a, e)| Step::Routes(n, a, e)),
        3 => (n(), any::<bool>()).prop_map(|(n, k)| Step::Online(n, k)),
        1 => n().prop_map(Step::Seen),
        2 => (n(), any::<bool>()).prop_map(|(n, k)| Step::Expire(n, k)),
        2 => (n(), any::<bool>()).prop_map(|(n, k)| Step::Authorize(n, k)),
        1 => (n(), 1u64..5).prop_map(|(n, k)| Step::Owner(n, k)),
        1 => (n(), any::<bool>()).prop_map(|(n, k)| Step::Tags(n, k)),
        1 => n().prop_map(Step::NodeKey),
        1 => n().prop_map(Step::Address),
        1 => (1u64..5, 0u8..3).prop_map(|(n, k)| Step::RenameUser(n, k)),
        1 => (1u64..5, 0u8..4).prop_map(|(n, k)| Step::Role(n, k)),
        2 => (1u64..5, 0u8..4).prop_map(|(n, k)| Step::Standing(n, k)),
        1 => (0u8..6).prop_map(Step::Dns),
        1 => (0u8..3).prop_map(Step::Domain),
        1 => (0u8..3).prop_map(Step::Suffix),
        3 => (0u8..8).prop_map(Step::Policy),
        2 => (n(), 0u8..3).prop_map(|(n, k)| Step::Attribute(n, k)),
        1 => (n(), any::<bool>()).prop_map(|(n, k)| Step::Ssh(n, k)),
    ]
}

/// Steps in groups: a group is one publication.
#[derive(Debug, Clone)]
pub(crate) struct History {
    pub(crate) devices: u64,
    pub(crate) groups: Vec<Vec<Step>>,
}

/// Tailnets of a few devices, of about one chunk, and of several.
pub(crate) fn history() -> impl Strategy<Value = History> {
    let devices = prop_oneof![4 => 0u64..6, 2 => 60u64..68, 1 => 125u64..135];
    let groups = prop::collection::vec(prop::collection::vec(step(), 0..5), 1..10);
    (devices, groups).prop_map(|(devices, groups)| History { devices, groups })
}

/// A tailnet and the records that it should consist of.
pub(crate) struct World {
    pub(crate) snapshot: Snapshot,
    pub(crate) devices: BTreeMap<u64, (Device, Live)>,
    pub(crate) users: BTreeMap<u64, User>,
    pub(crate) policy: Option<PolicyFile>,
    newest: u64,
    clock: u64,
}

impl World {
    fn new(devices: u64) -> Self {
        let mut snapshot = records::snapshot(devices);
        snapshot.put_user(user(4));
        Self {
            snapshot,
            devices: (1..=devices)
                .map(|n| (n, (device(n), Live::default())))
                .collect(),
            users: (1..=4).map(|n| (n, user(n))).collect(),
            policy: None,
            newest: devices,
            clock: 100,
        }
    }

    /// The device that a number means.
    fn pick(&self, number: u64) -> Option<u64> {
        let count = u64::try_from(self.devices.len()).unwrap();
        let index = usize::try_from(number.checked_rem(count)?).unwrap();
        self.devices.keys().nth(index).copied()
    }

    fn record(&mut self, number: u64, change: impl FnOnce(&mut Device)) {
        if let Some(id) = self.pick(number) {
            let device = &mut self.devices.get_mut(&id).unwrap().0;
            change(device);
            self.snapshot.put_device(device.clone());
        }
    }

    fn live(&mut self, number: u64, change: impl FnOnce(&mut Live)) {
        if let Some(key) = self.pick(number) {
            let live = &mut self.devices.get_mut(&key).unwrap().1;
            change(live);
            self.snapshot.set_live(id(key), live.clone());
        }
    }

    fn user(&mut self, number: u64, change: impl FnOnce(&mut User)) {
        let user = self.users.get_mut(&number).unwrap();
        change(user);
        self.snapshot.put_user(user.clone());
    }

    fn apply(&mut self, step: &Step) {
        self.clock += 1;
        let now = at(self.clock);
        match *step {
            Step::Join(count) => {
                for _ in 0..count {
                    self.newest += 1;
                    let device = device(self.newest);
                    self.devices
                        .insert(self.newest, (device.clone(), Live::default()));
                    self.snapshot.put_device(device);
                }
            }
            Step::Leave(n) => {
                if let Some(key) = self.pick(n) {
                    self.devices.remove(&key);
                    self.snapshot.remove_device(id(key));
                }
            }
            Step::Rename(n, k) => {
                self.record(n, |device| device.name = format!("name{}-{k}", device.id));
            }
            // What a device says of where it is comes over its connection: it has been online.
            Step::Endpoints(n, k) => self.live(n, |live| {
                live.endpoints = (0..k)
                    .map(|k| format!("192.0.2.{k}:{}", 41_000 + n % 9).parse().unwrap())
                    .collect();
            }),
            // A region or a discovery key that was known once is never unknown again.
            Step::Home(n, k) => self.live(n, |live| live.home_derp = 900 + u32::from(k)),
            Step::Disco(n, k) => {
                self.live(n, |live| {
                    live.disco_key = Some(disco_key(u64::from(k)));
                    live.multiple_connections = k.is_multiple_of(3);
                });
            }
            Step::Hostinfo(n, k) => {
                self.record(n, |device| device.hostinfo = hostinfo(u64::from(k)));
            }
            Step::Routes(n, advertised, enabled) => self.record(n, |device| {
                let pick = |mask: u8| {
                    ROUTES
                        .iter()
                        .enumerate()
                        .filter(move |(bit, _)| mask >> bit & 1 == 1)
                        .map(|(_, route)| route.parse().unwrap())
                        .collect()
                };
                device.facts.advertised_routes = pick(advertised);
                device.enabled_routes = pick(enabled);
            }),
            Step::Online(n, online) => self.live(n, |live| {
                if live.online && !online {
                    live.last_seen = Some(now);
                }
                live.online = online;
            }),
            Step::Seen(n) => self.live(n, |live| {
                if live.last_seen.is_some() {
                    live.last_seen = Some(now);
                }
            }),
            Step::Expire(n, expired) => self.record(n, |device| {
                device.expired = expired;
                device.key_expiry = Some(if expired { now } else { at(1_000_000) });
            }),
            Step::Authorize(n, authorized) => {
                self.record(n, |device| device.authorized = authorized);
            }
            Step::Owner(n, user) => self.record(n, |device| device.user = Some(user_id(user))),
            Step::Tags(n, tagged) => self.record(n, |device| {
                device.tags = if tagged {
                    ["tag:ci".parse().unwrap()].into()
                } else {
                    [].into()
                };
            }),
            Step::NodeKey(n) => {
                let number = 1_000_000 + self.clock;
                self.record(n, |device| device.node_key = node_key(number));
            }
            Step::Address(n) => {
                let [.., a, b] = self.clock.to_be_bytes();
                self.record(n, |device| device.ipv4 = [100, 65, a, b].into());
            }
            Step::RenameUser(n, k) => {
                self.user(n, |user| user.display_name = format!("User {n}, {k}"));
            }
            Step::Role(n, k) => self.user(n, |user| {
                user.role = [Role::Owner, Role::Admin, Role::Member, Role::Auditor][usize::from(k)];
            }),
            // Most are active at the end.
            Step::Standing(n, k) => self.user(n, |user| {
                user.status = [Status::Active, Status::Suspended][usize::from(k % 2)];
                user.needs_approval = k == 2;
            }),
            Step::Dns(k) => self.snapshot.set_dns(Dns {
                nameservers: (0..k % 3)
                    .map(|k| Resolver {
                        address: format!("9.9.9.{k}"),
                        use_with_exit_node: k == 1,
                    })
                    .collect(),
                split: (0..k % 2)
                    .map(|_| {
                        (
                            "corp.example".to_owned(),
                            vec![Resolver {
                                address: "10.0.0.53".to_owned(),
                                use_with_exit_node: false,
                            }],
                        )
                    })
                    .collect(),
                search_paths: (0..k % 2).map(|_| "corp.example".to_owned()).collect(),
                magic_dns: k != 5,
                override_local_dns: k == 4,
            }),
            Step::Domain(k) => {
                let dns_name = self.snapshot.tailnet().dns_name.clone();
                self.snapshot.set_tailnet(bowline_model::tailnet::Tailnet {
                    name: format!("example{k}.com"),
                    dns_name,
                    ..tailnet()
                });
            }
            Step::Policy(k) => {
                let policy = PolicyFile {
                    text: Some(POLICIES[usize::from(k)].to_owned()),
                    updated: Some(now),
                };
                self.policy = Some(policy.clone());
                self.snapshot.set_policy(policy);
            }
            Step::Attribute(n, k) => self.record(n, |device| {
                let attribute = Attribute {
                    value: AttributeValue::Number(i64::from(k)),
                    expires: None,
                };
                device.attributes = if k == 0 {
                    [].into()
                } else {
                    [("custom:x".to_owned(), attribute)].into()
                };
            }),
            Step::Ssh(n, on) => self.record(n, |device| device.facts.ssh = on),
            Step::Suffix(k) => {
                let name = self.snapshot.tailnet().name.clone();
                self.snapshot.set_tailnet(bowline_model::tailnet::Tailnet {
                    name,
                    dns_name: format!("tail{k}.internal"),
                    ..tailnet()
                });
            }
        }
    }
}

impl World {
    /// Publishes the state of now, from which the next one is made.
    fn publish(&mut self) -> Publication {
        let publication = Publication::new(self.snapshot.clone());
        self.snapshot = (**publication.snapshot()).clone();
        publication
    }
}

impl History {
    /// Every publication, and the world at the end.
    pub(crate) fn play(&self) -> (Vec<Publication>, World) {
        let mut world = World::new(self.devices);
        let mut publications = vec![world.publish()];
        for group in &self.groups {
            for step in group {
                world.apply(step);
            }
            world.snapshot.revision += 1;
            publications.push(world.publish());
        }
        (publications, world)
    }
}
