//! What a proposed policy would change, by groups of devices.

mod access;

use super::{Compiled, SshDecision, user_of};
use crate::budget::{Budget, Exhausted};
use crate::program::touch;
use crate::section::ssh::SshUser;
use crate::selector::{Autogroup, Selector};
use crate::set::{DeviceSet, Slot};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

/// What changes from one policy to another on the same tailnet.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "PolicyDiff")]
pub struct Diff {
    /// Access to ports and capabilities.
    pub access: Vec<AccessChange>,
    /// SSH logins.
    pub ssh: Vec<SshChange>,
    /// Routes that would be approved by themselves, or no more.
    pub approvals: Vec<RouteChange>,
    /// Node attributes.
    pub attributes: Vec<AttributeChange>,
    /// Of the open connections that were given, those that would be cut.
    pub cut: Vec<Connection>,
}

/// Whether something is won or lost.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "PolicyDirection")]
pub enum Direction {
    /// The new policy has it, the old one does not.
    Gained,
    /// The old policy has it, the new one does not.
    Lost,
}

/// Some devices gain or lose access to others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "PolicyAccessChange")]
pub struct AccessChange {
    /// Won or lost.
    pub direction: Direction,
    /// The sources.
    pub src: Described,
    /// The destinations: devices, or routers if `through` is set.
    pub dst: Described,
    /// Prefix, `*` or `autogroup:internet` that is reached through the destinations.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub through: Option<String>,
    /// `tcp:22`, `udp:1-1024`, `tcp:*`, `icmp`, or the name of a capability.
    pub what: Vec<String>,
}

/// Some devices gain or lose a login.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "PolicySshChange")]
pub struct SshChange {
    /// Won or lost.
    pub direction: Direction,
    /// `accept` or `check`.
    #[schemars(schema_with = "actions")]
    pub action: Cow<'static, str>,
    /// The sources.
    pub src: Described,
    /// The destinations.
    pub dst: Described,
    /// Names that may be asked for; `*` is any but root, `localpart:*@…` the source's own.
    pub users: Vec<String>,
}

/// A route's approval changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "PolicyRouteChange")]
pub struct RouteChange {
    /// Won or lost. A lost one stays approved on devices that have it.
    pub direction: Direction,
    /// The route.
    pub route: String,
    /// Devices that advertise it.
    pub devices: Described,
}

/// Some devices gain or lose an attribute.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "PolicyAttributeChange")]
pub struct AttributeChange {
    /// Won or lost.
    pub direction: Direction,
    /// Its name.
    pub attribute: String,
    /// The devices.
    pub devices: Described,
}

/// A connection that is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "PolicyConnection")]
pub struct Connection {
    /// Where it comes from.
    pub src: IpAddr,
    /// Where it goes to.
    pub dst: IpAddr,
    /// Protocol number; TCP where it is left out.
    #[serde(default = "tcp")]
    pub protocol: u8,
    /// Port at the destination.
    pub port: u16,
}

/// A set of devices in words.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "PolicyDevices")]
pub struct Described {
    /// Selectors that together are the set, if it can be said so; `own devices` are those of each
    /// destination's user.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub selectors: Vec<String>,
    /// Names of devices that the selectors do not cover, the first few.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<String>,
    /// How many devices are in the set.
    pub count: usize,
}

fn actions(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "enum": ["accept", "check"]})
}

const NAMES: usize = 20;

const fn tcp() -> u8 {
    6
}

impl Compiled {
    /// Compares this policy with a proposed one on the same tailnet. `connections` are open ones,
    /// of which those are named that the proposed policy would cut.
    ///
    /// The cost follows the number of classes of devices, not of pairs.
    pub fn diff(&self, proposed: &Arc<crate::Policy>, connections: &[Connection]) -> Diff {
        self.diff_budgeted(proposed, connections, &Budget::unlimited())
    }

    /// The same within a budget.
    ///
    /// # Errors
    /// The budget does not suffice.
    pub fn diff_within(
        &self,
        proposed: &Arc<crate::Policy>,
        connections: &[Connection],
        budget: &Budget,
    ) -> Result<Diff, Exhausted> {
        let diff = self.diff_budgeted(proposed, connections, budget);
        budget.check().map(|()| diff)
    }

    fn diff_budgeted(
        &self,
        proposed: &Arc<crate::Policy>,
        connections: &[Connection],
        budget: &Budget,
    ) -> Diff {
        let new = self.under(proposed, budget);
        let mut diff = Diff {
            access: self.access_changes(&new, budget),
            ssh: self.ssh_changes(&new, budget),
            approvals: self.approval_changes(&new, budget),
            attributes: self.attribute_changes(&new, budget),
            cut: Vec::new(),
        };
        let open = |net: &Self, connection: &Connection| {
            let Connection {
                src,
                dst,
                protocol,
                port,
            } = *connection;
            net.connects(src, dst, protocol, port, budget)
        };
        diff.cut = connections
            .iter()
            .take_while(|_| budget.allows(1))
            .filter(|connection| open(self, connection) && !open(&new, connection))
            .copied()
            .collect();
        diff
    }

    /// The same tailnet under another policy. Devices keep their indexes. Takes whatever it takes.
    pub fn with_policy(&self, policy: &Arc<crate::Policy>) -> Self {
        self.under(policy, &Budget::unlimited())
    }

    /// The same within a budget.
    ///
    /// # Errors
    /// The budget does not suffice.
    pub fn with_policy_within(
        &self,
        policy: &Arc<crate::Policy>,
        budget: &Budget,
    ) -> Result<Self, Exhausted> {
        let compiled = self.under(policy, budget);
        budget.check().map(|()| compiled)
    }

    fn under(&self, policy: &Arc<crate::Policy>, budget: &Budget) -> Self {
        let mut topology = crate::Topology {
            users: self.users.values().map(|user| (**user).clone()).collect(),
            https_enabled: self.https_enabled,
            ..crate::Topology::default()
        };
        for (name, members) in &self.groups {
            topology
                .groups
                .insert(name.clone(), members.iter().cloned().collect());
        }
        for (name, addresses) in &self.services {
            topology.services.insert(name.clone(), addresses.to_vec());
        }
        topology.devices = self.devices().cloned().collect();
        Self::build(Arc::clone(policy), &topology, budget, Some(self))
    }

    /// Devices that are the same to both policies.
    fn groups_with(&self, new: &Self) -> Vec<(Slot, DeviceSet)> {
        let mut groups: BTreeMap<_, DeviceSet> = BTreeMap::new();
        for (state, slot) in self.devices.iter().zip(0..) {
            let (Some(old), Some(new)) = (state, new.state(slot)) else {
                continue;
            };
            groups
                .entry((old.class, new.class))
                .or_default()
                .insert(slot);
        }
        let first = |set: DeviceSet| set.iter().next().map(|slot| (slot, set.clone()));
        groups.into_values().filter_map(first).collect()
    }

    fn ssh_changes(&self, new: &Self, budget: &Budget) -> Vec<SshChange> {
        type Key = (Direction, &'static str, String, Vec<Slot>);
        let mut changes: BTreeMap<Key, DeviceSet> = BTreeMap::new();
        let slots = self
            .devices
            .iter()
            .zip(0..)
            .filter(|(state, _)| state.is_some());
        for slot in slots.map(|(_, slot)| slot) {
            let (before, after) = (self.logins_on(slot, budget), new.logins_on(slot, budget));
            let keys: BTreeSet<_> = before.keys().chain(after.keys()).collect();
            for key in keys {
                let set =
                    |logins: &BTreeMap<_, DeviceSet>| logins.get(key).cloned().unwrap_or_default();
                let (old, new) = (set(&before), set(&after));
                for (direction, rest) in [
                    (Direction::Gained, new.difference(&old)),
                    (Direction::Lost, old.difference(&new)),
                ] {
                    if !rest.is_empty() {
                        // The sources are a part of the key.
                        let sources = rest.len().saturating_mul(size_of::<Slot>());
                        if budget.elements(1, 200 + sources).is_err() {
                            return Vec::new();
                        }
                        let key = (direction, key.0, key.1.clone(), rest.iter().collect());
                        changes.entry(key).or_default().insert(slot);
                    }
                }
            }
        }
        let mut list: Vec<SshChange> = Vec::new();
        for ((direction, action, user, sources), targets) in changes {
            let src = self.describe(new, &sources.into_iter().collect(), budget);
            let dst = self.describe(new, &targets, budget);
            if !budget.allows(8 * list.len()) {
                return list;
            }
            let known = list.iter_mut().find(|change| {
                change.direction == direction
                    && change.action == action
                    && change.src == src
                    && change.dst == dst
            });
            match known {
                Some(change) => change.users.push(user),
                None => list.push(SshChange {
                    direction,
                    action: action.into(),
                    src,
                    dst,
                    users: vec![user],
                }),
            }
        }
        list
    }

    /// Who may log in on a device, by action and name. Rules for `autogroup:self` name the user's
    /// devices here.
    fn logins_on(
        &self,
        slot: Slot,
        budget: &Budget,
    ) -> BTreeMap<(&'static str, String), DeviceSet> {
        let mut logins: BTreeMap<(&'static str, String), DeviceSet> = BTreeMap::new();
        let Some(state) = self.state(slot) else {
            return logins;
        };
        for program in &self.program.ssh {
            let steps = 8 + program.dst.len() + 8 * program.rule.users.len();
            if !budget.allows(steps) {
                break;
            }
            let Some(source) = self.source_state(program.source) else {
                continue;
            };
            let named = program
                .dst
                .iter()
                .any(|atom| state.standing.flags(*atom) & touch::OWN != 0);
            let own = user_of(&state.device.owner).filter(|_| program.own_devices);
            let sources = match own.and_then(|user| self.devices_of(user)) {
                _ if named => source.named.clone(),
                Some(devices) => devices.intersection(&source.named),
                None => continue,
            };
            if sources.is_empty() {
                continue;
            }
            let action = if program.rule.check {
                "check"
            } else {
                "accept"
            };
            for user in &program.rule.users {
                let name = match user {
                    SshUser::Root => "root".to_owned(),
                    SshUser::NonRoot => "*".to_owned(),
                    SshUser::Localpart(domain, _) => format!("localpart:*@{domain}"),
                    SshUser::Name(name) => name.clone(),
                };
                logins.entry((action, name)).or_default().union(&sources);
            }
        }
        logins
    }

    fn approval_changes(&self, new: &Self, budget: &Budget) -> Vec<RouteChange> {
        let mut changes: BTreeMap<(Direction, ipnet::IpNet), DeviceSet> = BTreeMap::new();
        for (slot, state) in self
            .devices
            .iter()
            .zip(0..)
            .filter_map(|(state, slot)| Some((slot, state.as_ref()?)))
        {
            let id = state.device.id;
            let routes = state.device.advertised.len();
            let atoms = state.standing.atoms.len();
            if !budget.allows(1 + routes.saturating_mul(8 + routes + 8 * atoms)) {
                break;
            }
            let (before, after) = (self.auto_approved_routes(id), new.auto_approved_routes(id));
            for route in after.iter().filter(|route| !before.contains(route)) {
                changes
                    .entry((Direction::Gained, *route))
                    .or_default()
                    .insert(slot);
            }
            for route in before.iter().filter(|route| !after.contains(route)) {
                changes
                    .entry((Direction::Lost, *route))
                    .or_default()
                    .insert(slot);
            }
        }
        let changes = changes
            .into_iter()
            .map(|((direction, route), devices)| RouteChange {
                direction,
                route: route.to_string(),
                devices: self.describe(new, &devices, budget),
            });
        changes.collect()
    }

    fn attribute_changes(&self, new: &Self, budget: &Budget) -> Vec<AttributeChange> {
        let steps = self.attribute_steps() + new.attribute_steps();
        let mut changes: BTreeMap<(Direction, String), DeviceSet> = BTreeMap::new();
        for (slot, state) in self
            .devices
            .iter()
            .zip(0..)
            .filter_map(|(state, slot)| Some((slot, state.as_ref()?)))
        {
            if !budget.allows(1 + steps) {
                break;
            }
            let id = state.device.id;
            let before = self.caps_for(id).unwrap_or_default();
            let after = new.caps_for(id).unwrap_or_default();
            let mut note = |direction, from: &super::CapabilityMap, to: &super::CapabilityMap| {
                for (name, value) in from {
                    if to.get(name) != Some(value) {
                        changes
                            .entry((direction, name.clone()))
                            .or_default()
                            .insert(slot);
                    }
                }
            };
            note(Direction::Gained, &after, &before);
            note(Direction::Lost, &before, &after);
        }
        let changes = changes
            .into_iter()
            .map(|((direction, attribute), devices)| AttributeChange {
                direction,
                attribute,
                devices: self.describe(new, &devices, budget),
            });
        changes.collect()
    }

    /// Says what a set is, in selectors of either policy where that is possible.
    fn describe(&self, new: &Self, set: &DeviceSet, budget: &Budget) -> Described {
        // Each selector's devices are held against the set's.
        let selectors = self.program.index.len() + new.program.index.len();
        let chunks = 2 + self.devices.len() / 1024;
        if !budget.allows(selectors.saturating_mul(chunks)) {
            return Described {
                selectors: Vec::new(),
                devices: Vec::new(),
                count: set.len(),
            };
        }
        let mut rest = set.clone();
        let mut selectors = Vec::new();
        let mut candidates: Vec<(usize, String, DeviceSet)> = Vec::new();
        for net in [new, self] {
            for (selector, id) in net
                .program
                .index
                .iter()
                .map(|(selector, id)| (selector, *id))
            {
                let Some(text) = selector_text(selector) else {
                    continue;
                };
                let Some(atom) = net.atom_state(id) else {
                    continue;
                };
                let own = atom.touch.difference(&atom.routed);
                if !own.is_empty() && own.difference(set).is_empty() {
                    candidates.push((own.len(), text, own));
                }
            }
        }
        candidates.sort_by(|left, right| right.0.cmp(&left.0).then_with(|| left.1.cmp(&right.1)));
        for (_, text, own) in candidates {
            if rest.is_empty() || selectors.len() == NAMES {
                break;
            }
            let left = rest.difference(&own);
            if left != rest {
                rest = left;
                selectors.push(text);
            }
        }
        let states = rest.iter().filter_map(|slot| self.state(slot));
        let mut devices: Vec<String> = states.map(|state| state.device.name.clone()).collect();
        devices.sort_unstable();
        devices.truncate(NAMES);
        Described {
            selectors,
            devices,
            count: set.len(),
        }
    }
}

/// The text of a selector that names devices well.
fn selector_text(selector: &Selector) -> Option<String> {
    match selector {
        Selector::Everything => Some("*".to_owned()),
        Selector::User(text) | Selector::Group(text) | Selector::Tag(text) => Some(text.clone()),
        Selector::Auto(Autogroup::Member) => Some("autogroup:member".to_owned()),
        Selector::Auto(Autogroup::Tagged) => Some("autogroup:tagged".to_owned()),
        _ => None,
    }
}

impl SshDecision {
    /// Whether a session may begin, perhaps after confirmation.
    pub const fn is_allowed(self) -> bool {
        !matches!(self, Self::Deny)
    }
}
