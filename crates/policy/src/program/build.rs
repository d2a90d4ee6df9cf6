//! From a policy to its program.

use super::{
    Allows, AtomId, Destination, Matchers, Origin, Owners, Ownership, Prefixes, Program, RawRule,
    RuleId, SourceDef, SourceId, SshProgram,
};
use crate::budget::Budget;
use crate::policy::Policy;
use crate::port::PortRange;
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
    /// The atoms of IP sets that were asked for.
    set_atoms: HashMap<&'a str, Arc<[AtomId]>>,
    budget: &'a Budget,
}

/// Estimated memory of a selector beside its text, of a source, and of one that a device is in.
const ATOM: usize = 250;
const SOURCE: usize = 900;

impl Program {
    /// Where the budget does not suffice, the program is not whole.
    pub(crate) fn new(policy: &Policy, budget: &Budget) -> Self {
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
            own_rules: Vec::new(),
            own_atoms: Vec::new(),
            network_atoms: Vec::new(),
            network_postures: vec![false; postures.len()],
            posture_steps: postures.iter().map(|(_, posture)| posture.steps()).sum(),
            postures,
            ssh: Vec::new(),
            node_attrs: Vec::new(),
            without_ipv4: Vec::new(),
            approved_prefixes: Prefixes::default(),
            route_approvers: Vec::new(),
            exit_approvers: Vec::new(),
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
            set_atoms: HashMap::new(),
            budget,
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

impl<'a> Builder<'a> {
    fn atom(&mut self, selector: &Selector) -> AtomId {
        if let Some(id) = self.program.index.get(selector) {
            return *id;
        }
        let length = match selector {
            Selector::User(text)
            | Selector::Domain(text)
            | Selector::Group(text)
            | Selector::Tag(text)
            | Selector::IpSet(text)
            | Selector::Service(text) => text.len(),
            _ => 0,
        };
        // Counted only: the work ends between two rules.
        let _ = self.budget.elements(1, ATOM + 2 * length);
        let id = next_id(self.program.atoms.len());
        self.program.atoms.push(selector.clone());
        self.program.index.insert(selector.clone(), id);
        self.program.rules_of_entry.push(Vec::new());
        self.program.sources_of_atom.push(Vec::new());
        id
    }

    /// The atoms of a selector: an IP set is one for each of its prefixes.
    fn atoms(&mut self, selector: &Selector) -> Arc<[AtomId]> {
        let Selector::IpSet(name) = selector else {
            return Arc::from([self.atom(selector)]);
        };
        if let Some(atoms) = self.set_atoms.get(name.as_str()) {
            return Arc::clone(atoms);
        }
        let policy: &'a Policy = self.policy;
        let Some((name, ranges)) = policy.ipsets.get_key_value(name) else {
            return Arc::from([]);
        };
        let mut atoms = Vec::new();
        for prefix in ranges.prefixes() {
            if !self.budget.allows(1) {
                break;
            }
            atoms.push(self.atom(&Selector::Prefix(prefix)));
        }
        let atoms: Arc<[AtomId]> = atoms.into();
        self.set_atoms.insert(name, Arc::clone(&atoms));
        atoms
    }

    /// The atoms of several selectors, ascending, each once.
    fn atoms_of<'t>(&mut self, targets: impl IntoIterator<Item = &'t Target>) -> Vec<AtomId> {
        let mut all = Vec::new();
        for target in targets {
            let atoms = self.atoms(&target.selector);
            if self
                .budget
                .elements(atoms.len(), size_of::<AtomId>())
                .is_err()
            {
                break;
            }
            all.extend_from_slice(&atoms);
        }
        all.sort_unstable();
        all.dedup();
        all
    }

    fn source(&mut self, targets: &[Target], postures: Option<&Vec<String>>) -> SourceId {
        let atoms = self.atoms_of(targets);
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
        // The definition is kept twice, and known to its selectors.
        let _ = self
            .budget
            .elements(def.atoms.len() + 1, 3 * size_of::<AtomId>());
        let _ = self.budget.bytes(SOURCE);
        let mut literals = HashSet::new();
        for atom in &def.atoms {
            if let Some(Selector::Prefix(prefix)) = self.program.atoms.get(*atom as usize)
                && prefix.prefix_len() == prefix.max_prefix_len()
            {
                let _ = self.budget.bytes(2 * size_of::<std::net::IpAddr>());
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
        let _ = self
            .budget
            .elements(rule.entries.len() + 1, size_of::<RuleId>());
        let size = size_of::<RawRule>() + rule.via.len().saturating_mul(size_of::<AtomId>());
        let _ = self.budget.bytes(size + 2 * size_of::<RuleId>());
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

    fn entries(&mut self, selector: &Selector, ports: &Arc<[PortRange]>) -> Vec<Destination> {
        let atoms = self.atoms(selector);
        if self
            .budget
            .elements(atoms.len(), size_of::<Destination>())
            .is_err()
        {
            return Vec::new();
        }
        let entry = |atom: &AtomId| Destination {
            atom: *atom,
            ports: Arc::clone(ports),
        };
        atoms.iter().map(entry).collect()
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
            if !self.budget.allows(1) {
                return;
            }
            self.grant(index);
        }
        for index in 0..policy.acls.as_ref().map_or(0, Vec::len) {
            if !self.budget.allows(1) {
                return;
            }
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
            let entries: Vec<Destination> = targets
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
                let atoms = self.atoms_of(targets.iter().copied());
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
            let size = size_of::<SshProgram>() + rule.src.len().saturating_mul(size_of::<Target>());
            if self.budget.elements(1 + rule.src.len(), 0).is_err()
                || !self.budget.allows_bytes(size)
            {
                return;
            }
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
            let atoms = self.atoms_of(&entry.target);
            let apps = entry.app.iter().map(|(name, _)| name);
            if entry
                .attributes
                .iter()
                .chain(apps)
                .any(|name| name == "disable-ipv4")
            {
                self.program.without_ipv4.extend_from_slice(&atoms);
            }
            self.program.node_attrs.push(atoms);
        }
        self.program.without_ipv4.sort_unstable();
        self.program.without_ipv4.dedup();
        let approvers = &policy.auto_approvers;
        for target in approvers.services.iter().flat_map(|(_, list)| list) {
            self.atom(&target.selector);
        }
        // One prefix may be written in several ways.
        let mut routes: BTreeMap<ipnet::IpNet, Vec<AtomId>> = BTreeMap::new();
        for (prefix, targets) in &approvers.routes {
            let atoms = self.atoms_of(targets);
            routes.entry(*prefix).or_default().extend(atoms);
        }
        for ((prefix, mut atoms), number) in routes.into_iter().zip(0..) {
            atoms.sort_unstable();
            self.program.approved_prefixes.insert(prefix, number);
            self.program.route_approvers.push(atoms);
        }
        self.program.exit_approvers = self.atoms_of(&approvers.exit_node);
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
                let _ = self.budget.elements(1, size_of::<AtomId>());
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
        program.own_atoms = vec![false; program.atoms.len()];
        let mut own_sources: HashSet<SourceId> = HashSet::new();
        let own = program.own_rules.iter();
        for rule in own.filter_map(|rule| program.rules.get(*rule as usize)) {
            let source = program.sources.get(rule.source as usize);
            if !own_sources.insert(rule.source) {
                continue;
            }
            for atom in source.iter().flat_map(|source| &source.atoms) {
                if let Some(mark) = program.own_atoms.get_mut(*atom as usize) {
                    *mark = true;
                }
            }
        }
        for (rule, id) in program.rules.iter().zip(0..) {
            let size = size_of::<AtomId>() + size_of::<SourceId>();
            if self.budget.elements(rule.entries.len(), size).is_err() {
                return;
            }
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
                            let _ = self.budget.elements(1, 80 + login.len());
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
                Selector::Prefix(prefix) => matchers.prefixes.insert(*prefix, id),
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
