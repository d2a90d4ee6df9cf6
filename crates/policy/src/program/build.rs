//! From a policy to its program.

use super::{
    Allows, AtomId, Entry, Matchers, Origin, Owners, Ownership, Program, RawRule, SourceDef,
    SourceId, SshProgram,
};
use crate::policy::Policy;
use crate::port::PortRange;
use crate::range;
use crate::section::Target;
use crate::section::grants::Capabilities;
use crate::section::postures::Posture;
use crate::selector::{Autogroup, Selector, tag_name};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

struct Builder<'a> {
    policy: &'a Policy,
    program: Program,
    source_index: HashMap<SourceDef, SourceId>,
    posture_index: BTreeMap<&'a str, usize>,
}

impl Program {
    pub(crate) fn new(policy: &Policy) -> Self {
        let postures: Vec<(String, Posture)> = policy
            .postures
            .iter()
            .map(|(name, posture)| (name.clone(), posture.clone()))
            .collect();
        let program = Self {
            atoms: Vec::new(),
            index: HashMap::new(),
            matchers: Matchers::default(),
            sources: Vec::new(),
            literals: Vec::new(),
            rules: Vec::new(),
            rules_of_source: Vec::new(),
            rules_of_entry: Vec::new(),
            sources_of_atom: Vec::new(),
            reached: Vec::new(),
            steering: Vec::new(),
            reaching: Vec::new(),
            reaching_atoms: Vec::new(),
            own_rules: Vec::new(),
            network_atoms: Vec::new(),
            network_postures: vec![false; postures.len()],
            postures,
            ssh: Vec::new(),
            node_attrs: Vec::new(),
            ownership: Ownership::default(),
        };
        let posture_index = policy
            .postures
            .keys()
            .enumerate()
            .map(|(at, name)| (name.as_str(), at))
            .collect();
        let mut builder = Builder {
            policy,
            program,
            source_index: HashMap::new(),
            posture_index,
        };
        builder.access_rules();
        builder.mark_network();
        builder.ssh_rules();
        builder.other_sections();
        builder.match_atoms();
        builder.connect();
        builder.program
    }
}

/// The number of what is added to a list next.
fn next_id(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

impl Builder<'_> {
    fn atom(&mut self, selector: &Selector) -> AtomId {
        if let Some(id) = self.program.index.get(selector) {
            return *id;
        }
        let id = next_id(self.program.atoms.len());
        self.program.atoms.push(selector.clone());
        self.program.index.insert(selector.clone(), id);
        self.program.rules_of_entry.push(Vec::new());
        self.program.sources_of_atom.push(Vec::new());
        id
    }

    /// The atoms of a selector: an IP set is one for each of its prefixes.
    fn atoms(&mut self, selector: &Selector) -> Vec<AtomId> {
        match selector {
            Selector::IpSet(name) => {
                let prefixes = self.policy.ipsets.get(name).map(range::Ranges::prefixes);
                let prefixes = prefixes.unwrap_or_default().into_iter();
                prefixes
                    .map(|prefix| self.atom(&Selector::Prefix(prefix)))
                    .collect()
            }
            selector => vec![self.atom(selector)],
        }
    }

    fn source(&mut self, targets: &[Target], postures: Option<&Vec<String>>) -> SourceId {
        let mut atoms: Vec<AtomId> = targets
            .iter()
            .flat_map(|target| self.atoms(&target.selector))
            .collect();
        atoms.sort_unstable();
        atoms.dedup();
        let names = self.policy.postures_of(postures);
        let mut indexes: Vec<usize> = names
            .iter()
            .filter_map(|name| self.posture_index.get(name.as_str()).copied())
            .collect();
        indexes.sort_unstable();
        indexes.dedup();
        self.intern(SourceDef {
            atoms,
            postures: indexes,
        })
    }

    fn intern(&mut self, def: SourceDef) -> SourceId {
        if let Some(id) = self.source_index.get(&def) {
            return *id;
        }
        let id = next_id(self.program.sources.len());
        let mut literals = HashSet::new();
        for atom in &def.atoms {
            if let Some(Selector::Prefix(prefix)) = self.program.atoms.get(*atom as usize)
                && prefix.prefix_len() == prefix.max_prefix_len()
            {
                literals.insert(prefix.addr());
            }
            if let Some(list) = self.program.sources_of_atom.get_mut(*atom as usize) {
                list.push(id);
            }
        }
        self.program.literals.push(literals);
        self.program.rules_of_source.push(Vec::new());
        self.program.sources.push(def.clone());
        self.source_index.insert(def, id);
        id
    }

    fn push(&mut self, rule: RawRule) {
        if rule.entries.is_empty() {
            return;
        }
        let id = next_id(self.program.rules.len());
        if let Some(list) = self.program.rules_of_source.get_mut(rule.source as usize) {
            list.push(id);
        }
        if rule.own_devices {
            self.program.own_rules.push(id);
        } else {
            for entry in &rule.entries {
                if let Some(list) = self.program.rules_of_entry.get_mut(entry.atom as usize)
                    && list.last() != Some(&id)
                {
                    list.push(id);
                }
            }
        }
        self.program.rules.push(rule);
    }

    fn entries(&mut self, selector: &Selector, ports: &Arc<[PortRange]>) -> Vec<Entry> {
        let atoms = self.atoms(selector);
        atoms
            .into_iter()
            .map(|atom| Entry {
                atom,
                ports: Arc::clone(ports),
            })
            .collect()
    }

    /// All grants in file order, then all `acls` in file order, wherever they stand.
    fn access_rules(&mut self) {
        let policy = self.policy;
        if policy.allows_everything() {
            let everything = [Target {
                selector: Selector::Everything,
                text: "*".to_owned(),
                place: crate::diagnostic::Place::default(),
            }];
            let source = self.source(&everything, None);
            let entries = self.entries(&Selector::Everything, &Arc::from([PortRange::ALL]));
            self.push(RawRule {
                origin: Origin::Implied,
                source,
                allows: Allows::Ports(None),
                entries,
                via: Vec::new(),
                own_devices: false,
                recorders: Vec::new(),
                companion_of: None,
            });
        }
        for index in 0..policy.grants.as_ref().map_or(0, Vec::len) {
            self.grant(index);
        }
        for index in 0..policy.acls.as_ref().map_or(0, Vec::len) {
            self.acl(index);
        }
    }

    /// The order of destinations is the service's: `*`, then users, then all others; and
    /// `autogroup:self` last unless all destinations are autogroups.
    fn acl(&mut self, index: usize) {
        let policy = self.policy;
        let Some(acl) = policy.acls.as_ref().and_then(|acls| acls.get(index)) else {
            return;
        };
        let source = self.source(&acl.src, acl.postures.as_ref());
        let rule = |entries, own_devices| RawRule {
            origin: Origin::Acl(index),
            source,
            allows: Allows::Ports(acl.protocol),
            entries,
            via: Vec::new(),
            own_devices,
            recorders: Vec::new(),
            companion_of: None,
        };
        // Destinations of one text are taken together.
        let mut merged: Vec<(&Target, Vec<PortRange>)> = Vec::new();
        let mut seen: HashMap<&str, usize> = HashMap::new();
        for (target, ports) in &acl.dst {
            let at = *seen.entry(&target.text).or_insert(merged.len());
            match merged.get_mut(at) {
                Some((_, all)) => all.extend(ports),
                None => merged.push((target, ports.clone())),
            }
        }
        let is_self = |target: &Target| target.selector == Selector::Auto(Autogroup::SelfDevices);
        let only_autogroups = merged
            .iter()
            .all(|(target, _)| matches!(target.selector, Selector::Auto(_)));
        let self_at = merged.iter().position(|(target, _)| is_self(target));
        let self_first = only_autogroups && self_at == Some(0);
        let rank = |target: &Target| match target.selector {
            Selector::Everything => 0,
            Selector::User(_) => 1,
            _ => 2,
        };
        let own = self_at.and_then(|at| merged.get(at)).map(|(_, ports)| {
            let ports: Arc<[PortRange]> = ports.as_slice().into();
            self.entries(&Selector::Auto(Autogroup::SelfDevices), &ports)
        });
        if self_first && let Some(own) = own.clone() {
            self.push(rule(own, true));
        }
        let mut others: Vec<_> = merged
            .iter()
            .filter(|(target, _)| !is_self(target))
            .collect();
        others.sort_by_key(|(target, _)| rank(target));
        let entries = others
            .into_iter()
            .flat_map(|(target, ports)| self.entries(&target.selector, &ports.as_slice().into()))
            .collect();
        self.push(rule(entries, false));
        if !self_first && let Some(own) = own {
            self.push(rule(own, true));
        }
    }

    fn grant(&mut self, index: usize) {
        let policy = self.policy;
        let Some(grant) = policy.grants.as_ref().and_then(|grants| grants.get(index)) else {
            return;
        };
        // Sources that resolve to nothing still make rules about capabilities; none at all do not.
        if grant.src.is_empty() {
            return;
        }
        let source = self.source(&grant.src, grant.postures.as_ref());
        let own_selector = Selector::Auto(Autogroup::SelfDevices);
        let via: Vec<AtomId> = grant
            .via
            .iter()
            .map(|target| self.atom(&target.selector))
            .collect();
        for own_devices in [false, true] {
            let targets: Vec<&Target> = grant
                .dst
                .iter()
                .filter(|target| (target.selector == own_selector) == own_devices)
                .collect();
            if targets.is_empty() {
                continue;
            }
            let rule = |allows, entries| RawRule {
                origin: Origin::Grant(index),
                source,
                allows,
                entries,
                via: via.clone(),
                own_devices,
                recorders: Vec::new(),
                companion_of: None,
            };
            for (protocol, ranges) in &grant.ip {
                let ports: Arc<[PortRange]> = ranges.as_slice().into();
                let entries = targets
                    .iter()
                    .flat_map(|target| self.entries(&target.selector, &ports))
                    .collect();
                self.push(rule(Allows::Ports(*protocol), entries));
            }
            if grant.app.is_empty() {
                continue;
            }
            let no_ports: Arc<[PortRange]> = Arc::from([]);
            let entries: Vec<Entry> = targets
                .iter()
                .flat_map(|target| self.entries(&target.selector, &no_ports))
                .collect();
            let recorders = self.recorders(&grant.app);
            let capabilities = Allows::Capabilities(Arc::clone(&grant.app));
            self.push(RawRule {
                recorders,
                ..rule(capabilities, entries)
            });
            for (name, companion) in COMPANIONS {
                if !grant.app.iter().any(|(known, _)| **known == **name) {
                    continue;
                }
                let capability: Capabilities = Arc::from([(Arc::from(*companion), None)]);
                let allows = Allows::Capabilities(capability);
                if own_devices {
                    let entries = self.entries(&own_selector, &no_ports);
                    self.push(RawRule {
                        companion_of: Some(source),
                        ..rule(allows, entries)
                    });
                    continue;
                }
                // The directions change places; postures stay with the original source.
                let mut atoms: Vec<AtomId> = targets
                    .iter()
                    .flat_map(|target| self.atoms(&target.selector))
                    .collect();
                atoms.sort_unstable();
                atoms.dedup();
                let reversed = self.intern(SourceDef {
                    atoms,
                    postures: Vec::new(),
                });
                let entries = grant
                    .src
                    .iter()
                    .flat_map(|target| self.entries(&target.selector, &no_ports))
                    .collect();
                self.push(RawRule {
                    source: reversed,
                    companion_of: Some(source),
                    ..rule(allows, entries)
                });
            }
        }
    }

    /// The tags of recorders in the values of capabilities that have them.
    fn recorders(&mut self, app: &Capabilities) -> Vec<AtomId> {
        let mut atoms = Vec::new();
        for (_, values) in app.iter().filter(|(name, _)| **name == *KUBERNETES) {
            for tag in values
                .iter()
                .flatten()
                .flat_map(|value| recorder_tags(value))
            {
                atoms.push(self.atom(&Selector::Tag(tag_name(&tag))));
            }
        }
        atoms
    }

    /// Notes what the access rules depend on, before other sections add selectors.
    fn mark_network(&mut self) {
        self.program.network_atoms = vec![true; self.program.atoms.len()];
        for def in &self.program.sources {
            for posture in &def.postures {
                if let Some(mark) = self.program.network_postures.get_mut(*posture) {
                    *mark = true;
                }
            }
        }
    }

    fn ssh_rules(&mut self) {
        let policy = self.policy;
        let own = Selector::Auto(Autogroup::SelfDevices);
        for rule in &policy.ssh {
            let source = self.source(&rule.src, rule.postures.as_ref());
            let own_devices = rule.dst.iter().any(|target| target.selector == own);
            let others = rule.dst.iter().filter(|target| target.selector != own);
            let dst = others.map(|target| self.atom(&target.selector)).collect();
            let recorders = rule
                .recorders
                .iter()
                .map(|target| self.atom(&target.selector))
                .collect();
            let rule = rule.clone();
            self.program.ssh.push(SshProgram {
                rule,
                source,
                dst,
                own_devices,
                recorders,
            });
        }
    }

    fn other_sections(&mut self) {
        let policy = self.policy;
        for entry in &policy.node_attrs {
            let atoms = entry
                .target
                .iter()
                .flat_map(|target| self.atoms(&target.selector));
            let atoms = atoms.collect();
            self.program.node_attrs.push(atoms);
        }
        let approvers = &policy.auto_approvers;
        let routes = approvers.routes.iter().flat_map(|(_, list)| list);
        let services = approvers.services.iter().flat_map(|(_, list)| list);
        for target in routes.chain(services).chain(&approvers.exit_node) {
            self.atom(&target.selector);
        }
        self.ownership();
        self.program
            .network_atoms
            .resize(self.program.atoms.len(), false);
    }

    fn ownership(&mut self) {
        let policy = self.policy;
        let numbers: HashMap<&str, u32> = policy
            .tag_owners
            .keys()
            .map(String::as_str)
            .zip(0..)
            .collect();
        let mut tags = Vec::with_capacity(numbers.len());
        for (name, targets) in &policy.tag_owners {
            let mut owners = Owners::default();
            for target in targets {
                let atom = self.atom(&target.selector);
                match &target.selector {
                    Selector::Tag(tag) => owners.tags.extend(numbers.get(tag.as_str())),
                    _ => owners.users.push(atom),
                }
            }
            tags.push((name.clone(), owners));
        }
        self.program.ownership = Ownership::new(tags);
    }

    /// Notes who reaches what. Companions say nothing that their originals do not.
    fn connect(&mut self) {
        let program = &mut self.program;
        program.reached = vec![Vec::new(); program.sources.len()];
        program.steering = vec![Vec::new(); program.sources.len()];
        program.reaching = vec![Vec::new(); program.atoms.len()];
        for (rule, id) in program.rules.iter().zip(0..) {
            if rule.own_devices || rule.companion_of.is_some() {
                continue;
            }
            if !rule.via.is_empty() {
                if let Some(list) = program.steering.get_mut(rule.source as usize) {
                    list.push(id);
                }
                continue;
            }
            for entry in &rule.entries {
                if let Some(list) = program.reached.get_mut(rule.source as usize) {
                    list.push(entry.atom);
                }
                if let Some(list) = program.reaching.get_mut(entry.atom as usize) {
                    list.push(rule.source);
                }
            }
        }
        for list in program.reached.iter_mut().chain(&mut program.reaching) {
            list.sort_unstable();
            list.dedup();
        }
        program.reaching_atoms = program
            .reaching
            .iter()
            .map(|sources| {
                let sources = sources
                    .iter()
                    .filter_map(|source| program.sources.get(*source as usize));
                let mut atoms: Vec<AtomId> = sources
                    .flat_map(|source| source.atoms.iter().copied())
                    .collect();
                atoms.sort_unstable();
                atoms.dedup();
                atoms
            })
            .collect();
    }

    fn match_atoms(&mut self) {
        let matchers = &mut self.program.matchers;
        for (selector, id) in self.program.atoms.iter().zip(0..) {
            match selector {
                Selector::Everything => matchers.everything.push(id),
                Selector::User(login) => matchers.logins.entry(login.clone()).or_default().push(id),
                Selector::Domain(domain) => {
                    matchers.domains.insert(domain.to_lowercase(), id);
                }
                Selector::Group(name) => match self.policy.names.groups.get(name) {
                    Some(members) => {
                        for login in members {
                            let list = matchers.logins.entry(login.clone()).or_default();
                            if list.last() != Some(&id) {
                                list.push(id);
                            }
                        }
                    }
                    None => {
                        matchers.directory_groups.insert(name.clone(), id);
                    }
                },
                Selector::Tag(tag) => {
                    matchers.tags.insert(tag.clone(), id);
                }
                Selector::Service(name) => {
                    matchers.services.insert(name.clone(), id);
                }
                Selector::Prefix(prefix) if prefix.prefix_len() == prefix.max_prefix_len() => {
                    matchers.addresses.insert(prefix.addr(), id);
                }
                Selector::Prefix(prefix) => matchers.prefixes.push((*prefix, id)),
                Selector::Auto(Autogroup::Member) => matchers.member = Some(id),
                Selector::Auto(Autogroup::Tagged) => matchers.tagged = Some(id),
                Selector::Auto(Autogroup::Shared) => matchers.shared = Some(id),
                Selector::Auto(Autogroup::Internet) => matchers.internet = Some(id),
                Selector::Auto(Autogroup::DangerAll) => matchers.danger_all = Some(id),
                Selector::Auto(Autogroup::Role(role)) => matchers.roles.push((*role, id)),
                Selector::Auto(Autogroup::SelfDevices | Autogroup::NonRoot)
                | Selector::IpSet(_) => {}
            }
        }
        matchers.everything.extend(matchers.danger_all);
    }
}

/// Capabilities that need another one in the opposite direction.
const COMPANIONS: &[(&str, &str)] = &[
    ("tailscale.com/cap/drive", "tailscale.com/cap/drive-sharer"),
    ("tailscale.com/cap/relay", "tailscale.com/cap/relay-target"),
];

/// The capability whose values may name recorders.
pub(crate) const KUBERNETES: &str = "tailscale.com/cap/kubernetes";

/// The tags in a value's `recorder`.
pub(crate) fn recorder_tags(value: &str) -> Vec<String> {
    let parsed: Option<serde_json::Value> = serde_json::from_str(value).ok();
    let tags = parsed
        .as_ref()
        .and_then(|value| value.get("recorder")?.as_array());
    let tags = tags
        .into_iter()
        .flatten()
        .filter_map(serde_json::Value::as_str);
    tags.map(str::to_owned).collect()
}
