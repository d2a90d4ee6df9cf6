//! Policies that were pushed to the service, and what each node was sent.

use bowline_policy::{
    Attributes, Compiled, Device, Owner, Policy, Role, SshPolicyRule, Topology, User,
};
use ipnet::IpNet;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

/// Capabilities of nodes that no policy decides.
const UNDECIDED: &[&str] = &[
    "https://tailscale.com/cap/tailnet-lock",
    "store-appc-routes",
    "probe-udp-lifetime",
    "ssh-behavior-v1",
    "ssh-env-vars",
    "tailnet-display-name",
];

pub(super) fn check(record: &Value, topologies: &Value) -> Result<(), String> {
    let text = match &record["policy"] {
        Value::String(text) => text.clone(),
        policy => serde_json::to_string_pretty(policy).unwrap(),
    };
    let shape = &topologies[record["topology"].as_str().unwrap()];
    let expected = &record["expect"];
    let pushed = push(&text, &topology(record, shape));
    if expected["status"] != 200 {
        let message = expected["message"].as_str().unwrap_or_default();
        return match pushed {
            Ok(_) => Err(format!("accepted, expected {message:?}")),
            // The service's own fault: any message will do.
            Err(_) if expected["status"] == 500 => Ok(()),
            Err(got) if got == message => Ok(()),
            Err(got) => Err(format!(
                "message:\n  expected {message:?}\n  got      {got:?}"
            )),
        };
    }
    let mut net = pushed.map_err(|error| format!("refused: {error}"))?;
    let known = !notes(record).contains("routes-unknown");
    if known {
        approve(&mut net, record, shape)?;
    }
    let names: BTreeMap<&str, u64> = nodes(shape)
        .zip(1..)
        .map(|(node, id)| (name(node), id))
        .collect();
    let mut differences = Vec::new();
    for (node, expected) in expected["nodes"].as_object().into_iter().flatten() {
        let view = View {
            net: &net,
            names: &names,
            id: names[node.as_str()],
            record,
            shape,
        };
        if let Err(difference) = view.compare(expected, known) {
            differences.push(format!("{node}: {difference}"));
        }
    }
    if differences.is_empty() {
        Ok(())
    } else {
        Err(differences.join("\n  "))
    }
}

fn push(text: &str, topology: &Topology) -> Result<Compiled, String> {
    let policy = Policy::parse(text).map_err(|errors| errors[0].message.clone())?;
    policy
        .check_domains(["example.com"])
        .map_err(|error| error.message)?;
    let compiled = Compiled::new(Arc::new(policy), topology);
    compiled.run_tests().map_err(|error| error.message)?;
    Ok(compiled)
}

fn notes(record: &Value) -> HashSet<&str> {
    record["notes"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect()
}

fn nodes(shape: &Value) -> impl Iterator<Item = &Value> {
    shape["nodes"].as_array().unwrap().iter()
}

fn name(node: &Value) -> &str {
    node["name"].as_str().unwrap()
}

fn texts(value: &Value) -> Vec<String> {
    value
        .as_array()
        .into_iter()
        .flatten()
        .map(|text| text.as_str().unwrap().to_owned())
        .collect()
}

fn prefixes(value: &Value) -> Vec<IpNet> {
    texts(value)
        .iter()
        .map(|text| text.parse().unwrap())
        .collect()
}

fn topology(record: &Value, shape: &Value) -> Topology {
    let users = shape["users"].as_array().unwrap();
    let user_id =
        |name: &Value| 1 + users.iter().position(|user| user["name"] == *name).unwrap() as u64;
    Topology {
        users: users
            .iter()
            .map(|user| User {
                id: user_id(&user["name"]),
                login: user["login"].as_str().unwrap().to_owned(),
                role: Role::parse(user["role"].as_str().unwrap()).unwrap(),
            })
            .collect(),
        devices: nodes(shape)
            .zip(1..)
            .map(|(node, id)| Device {
                id,
                name: name(node).to_owned(),
                joined: id,
                owner: match &node["tags"] {
                    Value::Null => Owner::User(user_id(&node["user"])),
                    tags => Owner::Tags(texts(tags)),
                },
                addresses: texts(&record["addresses"][name(node)])
                    .iter()
                    .map(|text| text.parse().unwrap())
                    .collect(),
                advertised: prefixes(&node["advertised"]),
                routes: prefixes(&node["approved"]),
                attributes: Attributes::new(),
                services: Vec::new(),
                online: true,
                slot: None,
            })
            .collect(),
        ..Topology::default()
    }
}

/// Derives the approved routes, which must be those of the topology, and applies them.
fn approve(net: &mut Compiled, record: &Value, shape: &Value) -> Result<(), String> {
    let _ = record;
    for (node, id) in nodes(shape).zip(1..) {
        let derived = net.auto_approved_routes(id);
        let mut recorded = prefixes(&node["approved"]);
        recorded.sort_unstable();
        if derived != recorded {
            return Err(format!(
                "{}: approved routes:\n  expected {recorded:?}\n  got      {derived:?}",
                name(node)
            ));
        }
    }
    Ok(())
}

struct View<'a> {
    net: &'a Compiled,
    names: &'a BTreeMap<&'a str, u64>,
    id: u64,
    record: &'a Value,
    shape: &'a Value,
}

impl View<'_> {
    fn compare(&self, expected: &Value, routes_known: bool) -> Result<(), String> {
        let renumbered = notes(self.record).contains("renumbered");
        let filter = serde_json::to_value(self.net.filters_for(self.id).unwrap()).unwrap();
        let normal = |value: &Value| normal_filter(value, renumbered);
        same("filter", &normal(&expected["filter"]), &normal(&filter))?;
        let ssh: Vec<Value> = self
            .net
            .ssh_for(self.id)
            .unwrap()
            .iter()
            .map(ssh_rule)
            .collect();
        let normal = |value: &Value| normal_ssh(value, renumbered);
        same("ssh", &normal(&expected["ssh"]), &normal(&ssh.into()))?;
        let peers: Vec<&str> = self
            .names
            .iter()
            .filter(|(_, id)| self.net.visible(self.id, **id))
            .map(|(name, _)| *name)
            .collect();
        same("peers", &list(&expected["peers"]), &json!(peers))?;
        self.compare_addresses(expected, &peers)?;
        self.compare_caps(expected, &peers)?;
        if routes_known {
            self.compare_routes(expected, &peers)
        } else {
            Ok(())
        }
    }

    fn compare_routes(&self, expected: &Value, peers: &[&str]) -> Result<(), String> {
        let mut own = self.net.device(self.id).unwrap().routes.clone();
        own.sort_unstable();
        same("routes", &list(&expected["routes"]), &json!(own))?;
        let primary = self.net.primary_routes(self.id);
        same("primary", &list(&expected["primary"]), &json!(primary))?;
        let mut peer_routes = Map::new();
        for peer in peers {
            let routes = self.net.allowed_routes(self.id, self.names[peer]);
            if !routes.is_empty() {
                peer_routes.insert((*peer).to_owned(), json!(routes));
            }
        }
        same(
            "peer_routes",
            &object(&expected["peer_routes"]),
            &peer_routes.into(),
        )
    }

    fn compare_addresses(&self, expected: &Value, peers: &[&str]) -> Result<(), String> {
        let hidden = self.net.ipv4_disabled(self.id);
        let shown = |id: u64| -> Option<Value> {
            let hidden = hidden || self.net.ipv4_disabled(id);
            let device = self.net.device(id).unwrap();
            hidden.then(|| {
                device
                    .addresses
                    .iter()
                    .filter(|address| address.is_ipv6())
                    .map(ToString::to_string)
                    .collect()
            })
        };
        let own = shown(self.id).unwrap_or(Value::Null);
        same("addresses", &expected["addresses"], &own)?;
        let of_peers: Map<String, Value> = peers
            .iter()
            .filter_map(|peer| Some(((*peer).to_owned(), shown(self.names[peer])?)))
            .collect();
        same(
            "peer_addresses",
            &object(&expected["peer_addresses"]),
            &of_peers.into(),
        )
    }

    fn compare_caps(&self, expected: &Value, peers: &[&str]) -> Result<(), String> {
        let of_peers: Map<String, Value> = peers
            .iter()
            .map(|peer| {
                (
                    (*peer).to_owned(),
                    json!(self.net.peer_caps(self.names[peer])),
                )
            })
            .filter(|(_, caps)| caps.as_object().is_some_and(|caps| !caps.is_empty()))
            .collect();
        same(
            "peer_caps",
            &object(&expected["peer_caps"]),
            &of_peers.into(),
        )?;
        if expected["caps"].is_null() {
            return Ok(());
        }
        let mut got = self.baseline();
        for (name, values) in self.net.caps_for(self.id).unwrap() {
            got.insert(name, json!(values));
        }
        let mut wanted = expected["caps"].as_object().unwrap().clone();
        for name in UNDECIDED {
            wanted.remove(*name);
        }
        if self.net.is_tagged(self.id) {
            wanted.remove("https://tailscale.com/cap/is-owner");
        }
        same("caps", &wanted.into(), &got.into())
    }

    /// What nodes have without any policy, but for what is left undecided.
    fn baseline(&self) -> Map<String, Value> {
        let mut caps = Map::new();
        let mut put = |name: &str, value: Value| {
            caps.insert(name.to_owned(), value);
        };
        put("https://tailscale.com/cap/file-sharing", Value::Null);
        put("https://tailscale.com/cap/ssh", Value::Null);
        if self.record["recorded"].as_str().unwrap() >= "2026-04-14" {
            let setting = &self.record["tailnet"]["settings"]["devices_auto_updates_on"];
            put(
                "default-auto-update",
                json!([setting.as_bool().unwrap_or(false)]),
            );
        }
        let node = nodes(self.shape)
            .find(|node| self.names[name(node)] == self.id)
            .unwrap();
        let users = self.shape["users"].as_array().unwrap();
        let role = users
            .iter()
            .find(|user| user["name"] == node["user"])
            .map(|user| &user["role"]);
        if let Some(role) = role.and_then(Value::as_str) {
            if role == "owner" {
                put("https://tailscale.com/cap/is-owner", Value::Null);
            }
            if role == "owner" || role == "admin" {
                put("https://tailscale.com/cap/is-admin", Value::Null);
            }
        }
        caps
    }
}

fn list(value: &Value) -> Value {
    if value.is_null() {
        json!([])
    } else {
        value.clone()
    }
}

fn object(value: &Value) -> Value {
    if value.is_null() {
        json!({})
    } else {
        value.clone()
    }
}

/// A rule as it was recorded: the host is `unused`.
fn ssh_rule(rule: &SshPolicyRule) -> Value {
    rule.to_json("https://unused")
}

fn sorted(value: &Value) -> Value {
    let mut list: Vec<Value> = value.as_array().cloned().unwrap_or_default();
    list.sort_by_key(ToString::to_string);
    list.into()
}

/// `null`, absent and empty are the same; order counts unless the record was renumbered.
fn normal_filter(value: &Value, renumbered: bool) -> Value {
    let order = |value: &Value| {
        if renumbered {
            sorted(value)
        } else {
            list(value)
        }
    };
    let rules = value.as_array().cloned().unwrap_or_default();
    let rule = |rule: &Value| {
        let grants = rule["CapGrant"].as_array().cloned().unwrap_or_default();
        let grants: Vec<Value> = grants
            .iter()
            .map(|grant| json!({ "Dsts": order(&grant["Dsts"]), "CapMap": grant["CapMap"] }))
            .collect();
        json!({
            "SrcIPs": order(&rule["SrcIPs"]),
            "DstPorts": order(&rule["DstPorts"]),
            "IPProto": list(&rule["IPProto"]),
            "CapGrant": grants,
        })
    };
    rules.iter().map(rule).collect()
}

fn normal_ssh(value: &Value, renumbered: bool) -> Value {
    let mut rules = value.as_array().cloned().unwrap_or_default();
    for rule in &mut rules {
        if renumbered {
            rule["principals"] = sorted(&rule["principals"]);
        }
        if let Some(url) = rule["action"].get_mut("holdAndDelegate") {
            let text = url.as_str().unwrap();
            let path = text
                .split_once("/machine/")
                .map(|(_, path)| path.to_owned());
            *url = json!(path);
        }
    }
    rules.into()
}

fn same(what: &str, expected: &Value, got: &Value) -> Result<(), String> {
    if expected == got {
        return Ok(());
    }
    // Rule by rule, so that the difference is seen and not the netmap.
    if let (Some(expected), Some(got)) = (expected.as_array(), got.as_array())
        && expected.iter().chain(got).any(Value::is_object)
    {
        let count = expected.len().max(got.len());
        let lines: BTreeSet<String> = (0..count)
            .filter(|index| expected.get(*index) != got.get(*index))
            .map(|index| {
                let show =
                    |list: &[Value]| list.get(index).map_or("nothing".into(), Value::to_string);
                format!(
                    "rule {index}:\n  expected {}\n  got      {}",
                    show(expected),
                    show(got)
                )
            })
            .collect();
        let lines: Vec<String> = lines.into_iter().collect();
        return Err(format!("{what} {}", lines.join("\n  ")));
    }
    Err(format!("{what}:\n  expected {expected}\n  got      {got}"))
}
