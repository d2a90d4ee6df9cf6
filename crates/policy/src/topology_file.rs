//! Topologies for checking policies without a server: read from a file, or guessed from a policy.

use crate::policy::Policy;
use crate::section::Target;
use crate::section::postures::{AttributeValue, Attributes};
use crate::selector::{Role, Selector, tag_name};
use crate::topology::{Device, Owner, Topology, User, UserId};
use ipnet::IpNet;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A topology file. HuJSON: comments and trailing commas are fine.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[derive(Default)]
struct File {
    users: Vec<FileUser>,
    devices: Vec<FileDevice>,
    groups: BTreeMap<String, Vec<String>>,
    services: BTreeMap<String, Vec<IpAddr>>,
    https_enabled: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileUser {
    login: String,
    #[serde(default)]
    role: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct FileDevice {
    name: String,
    user: Option<String>,
    #[serde(default)]
    tags: Vec<String>,
    #[serde(default)]
    addresses: Vec<IpAddr>,
    #[serde(default)]
    advertised: Vec<IpNet>,
    #[serde(default)]
    routes: Vec<IpNet>,
    #[serde(default)]
    attributes: BTreeMap<String, serde_json::Value>,
    #[serde(default)]
    services: Vec<String>,
}

impl Topology {
    /// Reads a topology file:
    ///
    /// ```json
    /// {
    ///     "users": [{"login": "alice@example.com", "role": "admin"}],
    ///     "devices": [
    ///         {"name": "laptop", "user": "alice@example.com", "attributes": {"node:os": "macos"}},
    ///         {"name": "router", "tags": ["tag:router"], "routes": ["10.0.0.0/8"]}
    ///     ],
    ///     "groups": {"group:sales@example.com": ["alice@example.com"]}
    /// }
    /// ```
    ///
    /// Devices joined in the order of the file. Those without `addresses` get some.
    ///
    /// # Errors
    /// What is wrong with the file.
    pub fn parse(text: &str) -> Result<Self, String> {
        let plain = crate::hujson::standardize(text).map_err(|error| error.to_string())?;
        let file: File = serde_json::from_str(&plain).map_err(|error| error.to_string())?;
        let mut users = Vec::with_capacity(file.users.len());
        for (user, id) in file.users.into_iter().zip(1..) {
            let role = user.role.unwrap_or_else(|| "member".to_owned());
            let role = Role::parse(&role).ok_or_else(|| format!("unknown role {role:?}"))?;
            users.push(User {
                id,
                login: user.login,
                role,
            });
        }
        let mut devices = Vec::with_capacity(file.devices.len());
        for (device, id) in file.devices.into_iter().zip(1..) {
            devices.push(from_file(device, id, &users)?);
        }
        Ok(Self {
            users,
            devices,
            groups: file.groups,
            services: file.services,
            https_enabled: file.https_enabled,
        })
    }

    /// A tailnet in which every user and every tag that a policy names has one device, so that
    /// its tests can run without any other knowledge.
    pub fn implied_by(policy: &Policy) -> Self {
        Self::implied_by_all([policy])
    }

    /// The same for several policies, so that they can be compared.
    pub fn implied_by_all<'a>(policies: impl IntoIterator<Item = &'a Policy>) -> Self {
        let mut logins = BTreeSet::new();
        let mut tags = BTreeSet::new();
        for policy in policies {
            add_logins(policy, &mut logins);
            tags.extend(policy.tags().map(ToOwned::to_owned));
        }
        let users: Vec<User> = logins
            .into_iter()
            .zip(1..)
            .map(|(login, id)| User {
                id,
                login,
                role: Role::Member,
            })
            .collect();
        let people = users
            .iter()
            .map(|user| (user.login.clone(), Owner::User(user.id)));
        let tags = tags.into_iter().map(|tag| {
            let owner = Owner::Tags(vec![tag.clone()]);
            (tag, owner)
        });
        let devices = people
            .chain(tags)
            .zip(1..)
            .map(|((name, owner), id)| blank(name, owner, id));
        Self {
            devices: devices.collect(),
            users,
            ..Self::default()
        }
    }
}

fn add_logins(policy: &Policy, logins: &mut BTreeSet<String>) {
    logins.extend(policy.names.groups.values().flatten().cloned());
    logins.extend(targets(policy).filter_map(|target| match &target.selector {
        Selector::User(login) => Some(login.clone()),
        _ => None,
    }));
    for test in &policy.tests {
        let dsts = test.accept.iter().chain(&test.deny);
        let hosts = dsts
            .filter_map(|dst| dst.rsplit_once(':'))
            .map(|(host, _)| host);
        logins.extend(hosts.chain([test.src.as_str()]).filter_map(login));
    }
    for test in &policy.ssh_tests {
        let texts = test.dst.iter().chain([&test.src]);
        logins.extend(texts.filter_map(|text| login(text)));
    }
}

/// The text as login, if it is one.
fn login(text: &str) -> Option<String> {
    (text.contains('@') && !text.contains(':')).then(|| text.to_lowercase())
}

fn targets(policy: &Policy) -> impl Iterator<Item = &Target> {
    let acls = policy.acls.iter().flatten();
    let acls = acls.flat_map(|acl| {
        acl.src
            .iter()
            .chain(acl.dst.iter().map(|(target, _)| target))
    });
    let grants = policy.grants.iter().flatten();
    let grants = grants.flat_map(|grant| grant.src.iter().chain(&grant.dst));
    let ssh = policy
        .ssh
        .iter()
        .flat_map(|rule| rule.src.iter().chain(&rule.dst));
    acls.chain(grants)
        .chain(ssh)
        .chain(policy.tag_owners.values().flatten())
}

fn from_file(file: FileDevice, id: u64, users: &[User]) -> Result<Device, String> {
    let owner = match (file.user, file.tags.is_empty()) {
        (Some(login), true) => Owner::User(user_id(&login, users)?),
        (None, false) => Owner::Tags(file.tags.iter().map(|tag| tag_name(tag)).collect()),
        _ => {
            return Err(format!(
                "device {:?} needs either a user or tags",
                file.name
            ));
        }
    };
    let mut attributes = Attributes::new();
    for (name, value) in file.attributes {
        let value = match value {
            serde_json::Value::String(text) => AttributeValue::String(text),
            serde_json::Value::Bool(value) => AttributeValue::Bool(value),
            serde_json::Value::Number(number) => {
                AttributeValue::Number(number.as_f64().unwrap_or_default())
            }
            _ => {
                return Err(format!(
                    "attribute {name:?} is not a string, number or boolean"
                ));
            }
        };
        attributes.insert(name, value);
    }
    let mut device = blank(file.name, owner, id);
    if !file.addresses.is_empty() {
        device.addresses = file.addresses;
        device.addresses.sort_by_key(IpAddr::is_ipv6);
    }
    device.advertised.clone_from(&file.routes);
    device.advertised.extend(file.advertised);
    device.routes = file.routes;
    device.attributes = attributes;
    device.services = file.services;
    Ok(device)
}

fn user_id(login: &str, users: &[User]) -> Result<UserId, String> {
    let user = users
        .iter()
        .find(|user| user.login.eq_ignore_ascii_case(login));
    user.map(|user| user.id)
        .ok_or_else(|| format!("no user {login:?} among the users"))
}

/// A device with addresses that follow from its number.
fn blank(name: String, owner: Owner, id: u64) -> Device {
    let number = u32::try_from(id).unwrap_or_default();
    let v4 = Ipv4Addr::from(u32::from(Ipv4Addr::new(100, 64, 0, 0)) + number);
    let v6 = Ipv6Addr::from((0xfd7a_115c_a1e0_u128 << 80) + u128::from(id));
    Device {
        id,
        name,
        joined: id,
        owner,
        addresses: vec![v4.into(), v6.into()],
        advertised: Vec::new(),
        routes: Vec::new(),
        attributes: Attributes::new(),
        services: Vec::new(),
        online: true,
        slot: None,
    }
}

#[cfg(test)]
mod tests {
    use crate::{Compiled, Policy, Topology};
    use std::sync::Arc;

    const POLICY: &str = r#"{
        "groups": {"group:dev": ["alice@example.com"]},
        "tagOwners": {"tag:web": []},
        "acls": [{"action": "accept", "src": ["group:dev"], "dst": ["tag:web:443"]}],
        "tests": [
            {"src": "alice@example.com", "accept": ["tag:web:443"], "deny": ["bob@example.com:1"]},
        ],
    }"#;

    #[test]
    fn a_policy_implies_a_tailnet_that_its_tests_can_run_on() {
        let policy = Arc::new(Policy::parse(POLICY).unwrap());
        let topology = Topology::implied_by(&policy);
        let names: Vec<&str> = topology
            .devices
            .iter()
            .map(|device| device.name.as_str())
            .collect();
        assert_eq!(names, ["alice@example.com", "bob@example.com", "tag:web"]);
        assert_eq!(Compiled::new(policy, &topology).run_tests(), Ok(()));
    }

    #[test]
    fn a_file_may_leave_out_what_does_not_matter() {
        let topology = Topology::parse(
            r#"{
                // people
                "users": [{"login": "alice@example.com"}],
                "devices": [{"name": "a", "user": "Alice@example.com"}, {"name": "b", "tags": ["tag:web"]}],
            }"#,
        )
        .unwrap();
        assert_eq!(topology.devices[1].addresses[0].to_string(), "100.64.0.2");
        let policy = Arc::new(Policy::parse(POLICY).unwrap());
        let net = Compiled::new(policy, &topology);
        // Bob is not there, and so the test cannot run.
        let error = net.run_tests().unwrap_err();
        assert_eq!(error.failures[0].errors.len(), 1);
    }

    #[test]
    fn a_broken_file_is_refused_with_a_reason() {
        for (text, reason) in [
            ("{", "unexpected EOF"),
            (r#"{"device": []}"#, "unknown field"),
            (r#"{"devices": [{"name": "a"}]}"#, "either a user or tags"),
            (r#"{"devices": [{"name": "a", "user": "x@y"}]}"#, "no user"),
            (
                r#"{"users": [{"login": "a@b", "role": "king"}]}"#,
                "unknown role",
            ),
        ] {
            let error = Topology::parse(text).unwrap_err();
            assert!(error.contains(reason), "{error}");
        }
    }
}
