//! What a proposed policy would change, by groups of devices.

use super::{Compiled, SshDecision, user_of};
use crate::program::{Allows, RawRule, touch};
use crate::range;
use crate::section::ssh::SshUser;
use crate::selector::{Autogroup, Selector};
use crate::set::{DeviceSet, Slot};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::net::IpAddr;
use std::sync::Arc;

/// What changes from one policy to another on the same tailnet.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Direction {
    /// The new policy has it, the old one does not.
    Gained,
    /// The old policy has it, the new one does not.
    Lost,
}

/// Some devices gain or lose access to others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SshChange {
    /// Won or lost.
    pub direction: Direction,
    /// `accept` or `check`.
    pub action: &'static str,
    /// The sources.
    pub src: Described,
    /// The destinations.
    pub dst: Described,
    /// Names that may be asked for; `*` is any but root, `localpart:*@…` the source's own.
    pub users: Vec<String>,
}

/// A route's approval changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RouteChange {
    /// Won or lost. A lost one stays approved on devices that have it.
    pub direction: Direction,
    /// The route.
    pub route: String,
    /// Devices that advertise it.
    pub devices: Described,
}

/// Some devices gain or lose an attribute.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AttributeChange {
    /// Won or lost.
    pub direction: Direction,
    /// Its name.
    pub attribute: String,
    /// The devices.
    pub devices: Described,
}

/// A connection that is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Connection {
    /// Where it comes from.
    pub src: IpAddr,
    /// Where it goes to.
    pub dst: IpAddr,
    /// Protocol number.
    pub protocol: u8,
    /// Port at the destination.
    pub port: u16,
}

/// A set of devices in words.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Described {
    /// Selectors that together are the set, if it can be said so; `own devices` are those of each
    /// destination's user.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub selectors: Vec<String>,
    /// Names of devices that the selectors do not cover, the first few.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<String>,
    /// How many devices are in the set.
    pub count: usize,
}

const NAMES: usize = 20;

/// Who may be a source: devices, addresses behind routers, or each user's own devices.
#[derive(Clone, Default, PartialEq, Eq)]
struct Sources {
    devices: DeviceSet,
    texts: BTreeSet<Arc<str>>,
    own: bool,
}

impl Sources {
    fn add(&mut self, other: &Self) {
        self.devices.union(&other.devices);
        self.texts.extend(other.texts.iter().cloned());
        self.own |= other.own;
    }

    fn without(&self, other: &Self) -> Self {
        Self {
            devices: self.devices.difference(&other.devices),
            texts: self.texts.difference(&other.texts).cloned().collect(),
            own: self.own && !other.own,
        }
    }

    fn is_empty(&self) -> bool {
        self.devices.is_empty() && self.texts.is_empty() && !self.own
    }

    /// A key for sources that are the same.
    fn key(&self) -> (Vec<Slot>, Vec<Arc<str>>, bool) {
        (
            self.devices.iter().collect(),
            self.texts.iter().cloned().collect(),
            self.own,
        )
    }
}

/// What can be reached on or through a device.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum What {
    /// A protocol and the first port of a stretch, with the last one.
    Ports(u8, u16, u16),
    Capability(Arc<str>),
}

/// Where: the device itself, or what is behind it.
type Through = Option<String>;

/// Everything that is open on one device: the sources by place and thing.
type Open = BTreeMap<Through, Vec<(What, Sources)>>;

type Changes =
    HashMap<(Direction, Through, (Vec<Slot>, Vec<Arc<str>>, bool)), BTreeMap<What, DeviceSet>>;

impl Compiled {
    /// Compares this policy with a proposed one on the same tailnet. `connections` are open ones,
    /// of which those are named that the proposed policy would cut.
    ///
    /// The cost follows the number of classes of devices, not of pairs.
    pub fn diff(&self, proposed: &Arc<crate::Policy>, connections: &[Connection]) -> Diff {
        let new = self.with_policy(proposed);
        let mut diff = Diff {
            access: self.access_changes(&new),
            ssh: self.ssh_changes(&new),
            approvals: self.approval_changes(&new),
            attributes: self.attribute_changes(&new),
            cut: Vec::new(),
        };
        let open = |net: &Self, connection: &Connection| {
            let Connection {
                src,
                dst,
                protocol,
                port,
            } = *connection;
            net.allows_connection(src, dst, protocol, port)
        };
        diff.cut = connections
            .iter()
            .filter(|connection| open(self, connection) && !open(&new, connection))
            .copied()
            .collect();
        diff
    }

    /// The same tailnet under another policy. Devices keep their indexes.
    pub fn with_policy(&self, policy: &Arc<crate::Policy>) -> Self {
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
        let mut fresh = Self::new(Arc::clone(policy), &topology);
        fresh.devices = self.devices.iter().map(|_| None).collect();
        fresh.free = self.free.clone();
        fresh.slots = self.slots.clone();
        let devices: Vec<_> = self.devices().cloned().map(Box::new).collect();
        fresh.apply_all(devices.into_iter().map(crate::Change::Device));
        fresh
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

    fn access_changes(&self, new: &Self) -> Vec<AccessChange> {
        let mut changes: Changes = HashMap::new();
        let (mine, theirs) = (self.rule_prints(), new.rule_prints());
        for (slot, members) in self.groups_with(new) {
            // Most devices have the same rules with the same sources before and after.
            if self.prints_on(slot, &mine) == new.prints_on(slot, &theirs) {
                continue;
            }
            let (before, after) = (self.open(slot), new.open(slot));
            let places: BTreeSet<&Through> = before.keys().chain(after.keys()).collect();
            for place in places {
                let list = |open: &Open| open.get(place).cloned().unwrap_or_default();
                compare(&list(&before), &list(&after), |direction, what, sources| {
                    let key = (direction, place.clone(), sources.key());
                    let by_what = changes.entry(key).or_default();
                    by_what.entry(what).or_default().union(&members);
                });
            }
        }
        let mut list = Vec::new();
        for ((direction, through, (devices, texts, own)), by_what) in changes {
            // Things that the same destinations have are one entry.
            let mut by_target: Vec<(DeviceSet, Vec<What>)> = Vec::new();
            for (what, targets) in by_what {
                match by_target.iter_mut().find(|(known, _)| *known == targets) {
                    Some((_, whats)) => whats.push(what),
                    None => by_target.push((targets, vec![what])),
                }
            }
            let mut src = self.describe(new, &devices.iter().copied().collect());
            src.selectors.extend(texts.iter().map(ToString::to_string));
            if own {
                src.selectors.push("own devices".to_owned());
            }
            for (targets, whats) in by_target {
                list.push(AccessChange {
                    direction,
                    src: src.clone(),
                    dst: self.describe(new, &targets),
                    through: through.clone(),
                    what: show_whats(&whats),
                });
            }
        }
        list.sort_by(|left, right| {
            let key = |change: &AccessChange| {
                (
                    change.direction,
                    change.src.clone(),
                    change.dst.clone(),
                    change.through.clone(),
                )
            };
            key(left).cmp(&key(right))
        });
        list
    }

    /// A number for each raw rule that is the same in two policies if the rule is.
    fn rule_prints(&self) -> Vec<u64> {
        let program = &self.program;
        let sources: Vec<u64> = (0..)
            .take(self.sources.len())
            .map(|source| {
                let mut hasher = DefaultHasher::new();
                let state = self.source_state(source);
                state
                    .into_iter()
                    .flat_map(|state| state.own.iter())
                    .for_each(|slot| slot.hash(&mut hasher));
                let atoms = program
                    .source(source)
                    .into_iter()
                    .flat_map(|source| &source.atoms);
                for selector in atoms.filter_map(|atom| program.atom(*atom)) {
                    if matches!(selector, Selector::Prefix(_) | Selector::Everything) {
                        selector.hash(&mut hasher);
                    }
                }
                hasher.finish()
            })
            .collect();
        let print = |rule: &RawRule| {
            let mut hasher = DefaultHasher::new();
            sources.get(rule.source as usize).hash(&mut hasher);
            rule.own_devices.hash(&mut hasher);
            rule.companion_of.is_some().hash(&mut hasher);
            match &rule.allows {
                Allows::Ports(protocol) => protocol.hash(&mut hasher),
                Allows::Capabilities(capabilities) => capabilities.hash(&mut hasher),
            }
            for entry in &rule.entries {
                program.atom(entry.atom).hash(&mut hasher);
                entry.ports.hash(&mut hasher);
            }
            for atom in &rule.via {
                program.atom(*atom).hash(&mut hasher);
            }
            hasher.finish()
        };
        program.rules.iter().map(print).collect()
    }

    /// The numbers of the rules that concern a device, sorted.
    fn prints_on(&self, slot: Slot, prints: &[u64]) -> Vec<(u64, u64)> {
        let class = self.state(slot).and_then(|state| self.class(state.class));
        let Some(class) = class else {
            return Vec::new();
        };
        let incoming = self.incoming_rules(class);
        let own = class
            .key
            .user
            .map(|_| self.program.own_rules.iter().copied());
        let rules = incoming.into_iter().chain(own.into_iter().flatten());
        // A rule may reach the device by another of its destinations than before.
        let reached = |rule: &RawRule| {
            let mut hasher = DefaultHasher::new();
            for (at, entry) in rule.entries.iter().enumerate() {
                let flags = class
                    .key
                    .atoms()
                    .iter()
                    .find(|(atom, _)| *atom == entry.atom);
                (at, flags.map(|(_, flags)| *flags)).hash(&mut hasher);
            }
            hasher.finish()
        };
        let mut list: Vec<(u64, u64)> = rules
            .filter_map(|id| {
                let rule = self.program.rule(id)?;
                Some((prints.get(id as usize).copied()?, reached(rule)))
            })
            .collect();
        list.sort_unstable();
        list.dedup();
        list
    }

    /// What is open on a device and through it.
    fn open(&self, slot: Slot) -> Open {
        let mut open = Open::new();
        let Some(state) = self.state(slot) else {
            return open;
        };
        let Some(class) = self.class(state.class) else {
            return open;
        };
        let own_rules = class
            .key
            .user
            .and_then(|user| self.devices_of(user))
            .map(|devices| {
                let rules = self
                    .program
                    .own_rules
                    .iter()
                    .filter_map(|rule| self.program.rule(*rule));
                let applies = |rule: &&RawRule| {
                    self.source_state(rule.source)
                        .is_some_and(|source| !devices.intersection(&source.own).is_empty())
                };
                rules.filter(applies).collect::<Vec<_>>()
            });
        for rule in own_rules
            .into_iter()
            .flatten()
            .filter(|rule| rule.companion_of.is_none())
        {
            let sources = Sources {
                own: true,
                ..Sources::default()
            };
            for entry in &rule.entries {
                put(&mut open, None, rule, &entry.ports, &sources);
            }
        }
        for rule in self.incoming_rules(class) {
            let Some(rule) = self
                .program
                .rule(rule)
                .filter(|rule| rule.companion_of.is_none())
            else {
                continue;
            };
            let sources = self.sources_of(rule);
            for entry in &rule.entries {
                let flags = state.standing.flags(entry.atom);
                if flags & touch::OWN != 0 && rule.via.is_empty() {
                    put(&mut open, None, rule, &entry.ports, &sources);
                }
                if flags & touch::ROUTED != 0 {
                    let through = match self.program.atom(entry.atom) {
                        Some(Selector::Prefix(prefix)) => range::show(*prefix),
                        Some(Selector::Auto(Autogroup::Internet)) => {
                            "autogroup:internet".to_owned()
                        }
                        _ => "*".to_owned(),
                    };
                    put(&mut open, Some(through), rule, &entry.ports, &sources);
                }
            }
        }
        open
    }

    fn sources_of(&self, rule: &RawRule) -> Sources {
        let Some(state) = self.source_state(rule.source) else {
            return Sources::default();
        };
        let atoms = self
            .program
            .source(rule.source)
            .map(|source| source.atoms.as_slice());
        let texts =
            atoms
                .unwrap_or_default()
                .iter()
                .filter_map(|atom| match self.program.atom(*atom) {
                    // Prefixes of the tailnet are the devices in them.
                    Some(Selector::Prefix(prefix)) if !range::in_tailnet(*prefix) => {
                        Some(Arc::from(range::show(*prefix)))
                    }
                    _ => None,
                });
        Sources {
            devices: state.own.clone(),
            texts: texts.collect(),
            own: false,
        }
    }

    fn ssh_changes(&self, new: &Self) -> Vec<SshChange> {
        type Key = (Direction, &'static str, String, Vec<Slot>);
        let mut changes: BTreeMap<Key, DeviceSet> = BTreeMap::new();
        let slots = self
            .devices
            .iter()
            .zip(0..)
            .filter(|(state, _)| state.is_some());
        for slot in slots.map(|(_, slot)| slot) {
            let (before, after) = (self.logins_on(slot), new.logins_on(slot));
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
                        let key = (direction, key.0, key.1.clone(), rest.iter().collect());
                        changes.entry(key).or_default().insert(slot);
                    }
                }
            }
        }
        let mut list: Vec<SshChange> = Vec::new();
        for ((direction, action, user, sources), targets) in changes {
            let src = self.describe(new, &sources.into_iter().collect());
            let dst = self.describe(new, &targets);
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
                    action,
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
    fn logins_on(&self, slot: Slot) -> BTreeMap<(&'static str, String), DeviceSet> {
        let mut logins: BTreeMap<(&'static str, String), DeviceSet> = BTreeMap::new();
        let Some(state) = self.state(slot) else {
            return logins;
        };
        for program in &self.program.ssh {
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

    fn approval_changes(&self, new: &Self) -> Vec<RouteChange> {
        let mut changes: BTreeMap<(Direction, ipnet::IpNet), DeviceSet> = BTreeMap::new();
        for (slot, state) in self
            .devices
            .iter()
            .zip(0..)
            .filter_map(|(state, slot)| Some((slot, state.as_ref()?)))
        {
            let id = state.device.id;
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
                devices: self.describe(new, &devices),
            });
        changes.collect()
    }

    fn attribute_changes(&self, new: &Self) -> Vec<AttributeChange> {
        let mut changes: BTreeMap<(Direction, String), DeviceSet> = BTreeMap::new();
        for (slot, state) in self
            .devices
            .iter()
            .zip(0..)
            .filter_map(|(state, slot)| Some((slot, state.as_ref()?)))
        {
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
                devices: self.describe(new, &devices),
            });
        changes.collect()
    }

    /// Says what a set is, in selectors of either policy where that is possible.
    fn describe(&self, new: &Self, set: &DeviceSet) -> Described {
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

fn put(
    open: &mut Open,
    through: Through,
    rule: &RawRule,
    ports: &[crate::PortRange],
    sources: &Sources,
) {
    let list = open.entry(through).or_default();
    match &rule.allows {
        Allows::Capabilities(capabilities) => {
            for (name, values) in capabilities.iter() {
                let text = match values {
                    None => name.to_string(),
                    Some(values) => format!("{name} [{}]", values.join(",")),
                };
                list.push((What::Capability(text.into()), sources.clone()));
            }
        }
        Allows::Ports(protocol) => {
            let one = protocol.as_ref().map(std::slice::from_ref);
            for protocol in one.unwrap_or(crate::port::UNSPECIFIED) {
                for range in ports {
                    let what = if crate::port::has_ports(*protocol) {
                        What::Ports(*protocol, range.first, range.last)
                    } else {
                        What::Ports(*protocol, 0, u16::MAX)
                    };
                    list.push((what, sources.clone()));
                }
            }
        }
    }
}

/// Calls `note` for each thing whose sources differ. Ports are cut where ranges begin and end.
fn compare(
    before: &[(What, Sources)],
    after: &[(What, Sources)],
    mut note: impl FnMut(Direction, What, &Sources),
) {
    // What stands on both sides as it is, is most of it, and changes nothing by itself; but it
    // counts when the rest is weighed.
    let by_what = |list: &'_ [(What, Sources)]| {
        let mut map: BTreeMap<What, Vec<Sources>> = BTreeMap::new();
        for (what, sources) in list {
            map.entry(what.clone()).or_default().push(sources.clone());
        }
        map
    };
    let (old, new) = (by_what(before), by_what(after));
    let changed: BTreeSet<&What> = old
        .iter()
        .filter(|(what, sources)| new.get(*what) != Some(*sources))
        .chain(
            new.iter()
                .filter(|(what, sources)| old.get(*what) != Some(*sources)),
        )
        .map(|(what, _)| what)
        .collect();
    let mut pieces: BTreeSet<What> = BTreeSet::new();
    for what in changed {
        match what {
            What::Capability(_) => {
                pieces.insert(what.clone());
            }
            What::Ports(protocol, first, last) => {
                let mut cuts: BTreeSet<u32> =
                    BTreeSet::from([u32::from(*first), u32::from(*last) + 1]);
                for (other, _) in before.iter().chain(after) {
                    if let What::Ports(number, start, end) = other
                        && number == protocol
                    {
                        cuts.extend([u32::from(*start), u32::from(*end) + 1]);
                    }
                }
                let inside = cuts.range(u32::from(*first)..=u32::from(*last) + 1);
                let inside: Vec<u32> = inside.copied().collect();
                for pair in inside.windows(2) {
                    if let [start, next] = pair
                        && let (Ok(start), Ok(end)) =
                            (u16::try_from(*start), u16::try_from(next - 1))
                    {
                        pieces.insert(What::Ports(*protocol, start, end));
                    }
                }
            }
        }
    }
    for piece in pieces {
        let sources = |list: &[(What, Sources)]| {
            let mut all = Sources::default();
            for (_, sources) in list.iter().filter(|(what, _)| covers(what, &piece)) {
                all.add(sources);
            }
            all
        };
        let (old, new) = (sources(before), sources(after));
        for (direction, rest) in [
            (Direction::Gained, new.without(&old)),
            (Direction::Lost, old.without(&new)),
        ] {
            if !rest.is_empty() {
                note(direction, piece.clone(), &rest);
            }
        }
    }
}

fn covers(what: &What, piece: &What) -> bool {
    match (what, piece) {
        (What::Ports(protocol, first, last), What::Ports(other, start, end)) => {
            protocol == other && first <= start && end <= last
        }
        (what, piece) => what == piece,
    }
}

/// Things in words: neighbouring stretches of ports are joined.
fn show_whats(whats: &[What]) -> Vec<String> {
    let mut shown = Vec::new();
    let mut stretch: Option<(u8, u16, u16)> = None;
    let flush = |stretch: Option<(u8, u16, u16)>, shown: &mut Vec<String>| {
        if let Some((protocol, first, last)) = stretch {
            let name = crate::port::show_protocol(protocol);
            shown.push(match (first, last) {
                _ if !crate::port::has_ports(protocol) => name,
                (0, u16::MAX) => format!("{name}:*"),
                (first, last) if first == last => format!("{name}:{first}"),
                (first, last) => format!("{name}:{first}-{last}"),
            });
        }
    };
    for what in whats {
        match what {
            What::Capability(name) => shown.push(name.to_string()),
            What::Ports(protocol, first, last) => match &mut stretch {
                Some((known, _, end))
                    if known == protocol && end.checked_add(1) == Some(*first) =>
                {
                    *end = *last;
                }
                _ => flush(stretch.replace((*protocol, *first, *last)), &mut shown),
            },
        }
    }
    flush(stretch, &mut shown);
    shown
}

impl SshDecision {
    /// Whether a session may begin, perhaps after confirmation.
    pub const fn is_allowed(self) -> bool {
        !matches!(self, Self::Deny)
    }
}
