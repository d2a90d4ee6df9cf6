//! Classes: devices that stand in the same sets.

use super::membership::Standing;
use super::{Compiled, Impact, Touched, user_of};
use crate::budget::Budget;
use crate::program::{Allows, AtomId, RawRule, RuleId, SourceId, touch};
use crate::set::{DeviceSet, Slot};
use crate::topology::{Device, DeviceId, UserId};
use ipnet::IpNet;
use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};

/// Number of a class. Never used for another one.
pub type ClassId = u64;

/// What devices of one class have in common.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct ClassKey {
    /// Selectors of access rules, and how they are touched.
    atoms: Vec<(AtomId, u8)>,
    /// The postures of access rules that hold.
    postures: Vec<bool>,
    /// The user, where `autogroup:self` has rules for them.
    pub(super) user: Option<UserId>,
    pub(super) subnets: Arc<[IpNet]>,
    pub(super) exit: bool,
    /// Its subnets have other devices in them, whose addresses are in its filter.
    covers: Option<Slot>,
}

/// A class of devices.
#[derive(Debug, Clone)]
pub(super) struct Class {
    pub(super) key: Arc<ClassKey>,
    members: DeviceSet,
    pub(super) rules: Arc<ClassRules>,
}

/// The sources that a class is part of. They follow from its key alone.
#[derive(Debug, Default)]
pub(super) struct ClassRules {
    /// Those that its devices touch, ascending.
    pub(super) sources: Vec<SourceId>,
    /// Those among them that its devices are in themselves, ascending.
    own: Vec<SourceId>,
}

impl ClassRules {
    pub(super) fn is_in(&self, source: SourceId) -> bool {
        self.own.binary_search(&source).is_ok()
    }
}

impl ClassKey {
    fn flags(&self, atom: AtomId) -> u8 {
        let found = self.atoms.binary_search_by_key(&atom, |(known, _)| *known);
        found
            .ok()
            .and_then(|at| self.atoms.get(at))
            .map_or(0, |(_, flags)| *flags)
    }

    /// The selectors of access rules that the class touches, ascending, and how.
    pub(super) fn atoms(&self) -> &[(AtomId, u8)] {
        &self.atoms
    }
}

impl Compiled {
    /// The class of a device.
    pub fn class_of(&self, device: DeviceId) -> Option<ClassId> {
        self.state_of(device).map(|(_, state)| state.class)
    }

    /// All classes, ascending.
    pub fn classes(&self) -> impl Iterator<Item = ClassId> + '_ {
        self.classes.keys().copied()
    }

    /// The devices of a class.
    pub fn members(&self, class: ClassId) -> Option<&DeviceSet> {
        self.classes.get(&class).map(|class| &class.members)
    }

    /// The devices that devices of a class see. A device is in its own class's set if others of
    /// the class see it; it is never its own peer.
    pub fn visible_to(&self, class: ClassId) -> Option<DeviceSet> {
        let class = self.classes.get(&class)?;
        let mut set = DeviceSet::default();
        self.each_visible(class, |part| {
            set.union(part);
            false
        });
        Some(set)
    }

    /// Whether two devices are peers. The same in both directions.
    pub fn visible(&self, viewer: DeviceId, peer: DeviceId) -> bool {
        let (Some((_, state)), Some(slot)) = (self.state_of(viewer), self.slots.get(&peer)) else {
            return false;
        };
        viewer != peer
            && self
                .class(state.class)
                .is_some_and(|class| self.each_visible(class, |part| part.contains(*slot)))
    }

    pub(super) fn class(&self, id: ClassId) -> Option<&Class> {
        self.classes.get(&id).map(|class| &**class)
    }

    pub(super) fn class_key(&self, slot: Slot, device: &Device, standing: &Standing) -> ClassKey {
        let program = &self.program;
        let network = |atom: &AtomId| program.network_atoms.get(*atom as usize) == Some(&true);
        let atoms: Vec<(AtomId, u8)> = standing
            .atoms
            .iter()
            .filter(|(atom, _)| network(atom))
            .copied()
            .collect();
        let postures = standing.postures.iter().zip(&program.network_postures);
        let is_own = |atom: &AtomId| program.own_atoms.get(*atom as usize) == Some(&true);
        let user = user_of(&device.owner).filter(|_| {
            let mut own = standing.atoms.iter();
            own.any(|(atom, flags)| flags & touch::OWN != 0 && is_own(atom))
        });
        ClassKey {
            atoms,
            postures: postures.map(|(holds, counts)| *holds && *counts).collect(),
            user,
            subnets: Arc::clone(&standing.subnets),
            exit: standing.exit,
            covers: standing.covers.then_some(slot),
        }
    }

    /// Moves a device from one class to another; neither needs to exist.
    pub(super) fn move_between_classes(
        &mut self,
        slot: Slot,
        old: Option<ClassId>,
        key: Option<ClassKey>,
        budget: &Budget,
    ) -> ClassId {
        let new = key.map(|key| match self.class_index.get(&key) {
            Some(id) => *id,
            None => self.add_class(key, budget),
        });
        if old == new {
            return new.unwrap_or_default();
        }
        if let Some(id) = old
            && let Some(class) = self.classes.get_mut(&id)
        {
            let class = Arc::make_mut(class);
            class.members.remove(slot);
            if class.members.is_empty() {
                let key = Arc::clone(&class.key);
                self.class_index.remove(&key);
                self.classes.remove(&id);
            }
        }
        if let Some(id) = new
            && let Some(class) = self.classes.get_mut(&id)
        {
            Arc::make_mut(class).members.insert(slot);
        }
        new.unwrap_or_default()
    }

    fn add_class(&mut self, key: ClassKey, budget: &Budget) -> ClassId {
        let id = self.next_class;
        self.next_class += 1;
        let key = Arc::new(key);
        let size = 500 + 2 * key.atoms.len() * size_of::<(AtomId, u8)>() + key.postures.len();
        let _ = budget.elements(1, size);
        let rules = Arc::new(self.class_rules(&key, budget));
        let class = Class {
            key: Arc::clone(&key),
            members: DeviceSet::default(),
            rules,
        };
        self.class_index.insert(key, id);
        self.classes.insert(id, Arc::new(class));
        id
    }

    fn class_rules(&self, key: &ClassKey, budget: &Budget) -> ClassRules {
        let program = &self.program;
        let standing = Standing {
            atoms: key.atoms.as_slice().into(),
            postures: key.postures.as_slice().into(),
            subnets: Arc::clone(&key.subnets),
            exit: key.exit,
            covers: key.covers.is_some(),
        };
        let mut rules = ClassRules::default();
        let mut candidates: Vec<SourceId> = key
            .atoms
            .iter()
            .filter_map(|(atom, _)| program.sources_of_atom.get(*atom as usize))
            .flatten()
            .copied()
            .collect();
        candidates.sort_unstable();
        candidates.dedup();
        for id in candidates {
            let Some(def) = program.source(id) else {
                continue;
            };
            if budget
                .elements(def.atoms.len(), 0)
                .and_then(|()| budget.bytes(2 * size_of::<SourceId>()))
                .is_err()
            {
                break;
            }
            let part = program.part(def, &standing);
            if part.touch {
                rules.sources.push(id);
            }
            if part.own {
                rules.own.push(id);
            }
        }
        rules
    }

    /// Goes through the sets that together are what a class sees, until `stop` says so.
    fn each_visible(&self, class: &Class, mut stop: impl FnMut(&DeviceSet) -> bool) -> bool {
        let mut sources = class
            .rules
            .sources
            .iter()
            .filter_map(|source| self.source_reach(*source));
        let mut atoms = class
            .key
            .atoms
            .iter()
            .filter_map(|(atom, _)| self.atom_reaching(*atom));
        if sources.any(|set| stop(&set)) || atoms.any(|set| stop(&set)) {
            return true;
        }
        if class.key.subnets.iter().next().is_some() || class.key.exit {
            let rules = self.incoming_rules(class);
            let mut sources = rules
                .iter()
                .filter_map(|rule| self.program.rule(*rule))
                .filter(|rule| !rule.via.is_empty())
                .filter_map(|rule| self.source_state(rule.source));
            if sources.any(|source| stop(&source.touch)) {
                return true;
            }
        }
        let Some(devices) = class.key.user.and_then(|user| self.devices_of(user)) else {
            return false;
        };
        self.program
            .own_rules
            .iter()
            .filter_map(|rule| self.program.rule(*rule))
            .any(|rule| {
                if class.rules.is_in(rule.source) {
                    return stop(devices);
                }
                let source = self.source_state(rule.source);
                source.is_some_and(|source| stop(&devices.intersection(&source.own)))
            })
    }

    /// The devices that a source reaches. Kept with the source, as many classes share it.
    fn source_reach(&self, id: SourceId) -> Option<Arc<DeviceSet>> {
        let source = self.source_state(id)?;
        let compute = || {
            let mut set = DeviceSet::default();
            let reached = self.program.reached.get(id as usize).into_iter().flatten();
            for atom in reached.filter_map(|atom| self.atom_state(*atom)) {
                set.union(&atom.touch);
            }
            let steering = self.program.steering.get(id as usize).into_iter().flatten();
            for rule in steering.filter_map(|rule| self.program.rule(*rule)) {
                let routers = self.routers_of(rule);
                for atom in rule
                    .entries
                    .iter()
                    .filter_map(|entry| self.atom_state(entry.atom))
                {
                    set.union(&routers.intersection(&atom.routed));
                }
            }
            Arc::new(set)
        };
        Some(Arc::clone(source.reach.get_or_init(compute)))
    }

    /// The devices that reach a selector by rules without `via`.
    fn atom_reaching(&self, id: AtomId) -> Option<Arc<DeviceSet>> {
        let atom = self.atom_state(id)?;
        let compute = || {
            let mut set = DeviceSet::default();
            let sources = self.program.reaching.get(id as usize).into_iter().flatten();
            for source in sources.filter_map(|source| self.source_state(*source)) {
                set.union(&source.touch);
            }
            Arc::new(set)
        };
        Some(Arc::clone(atom.reaching.get_or_init(compute)))
    }

    /// The raw rules that have a class as destination, ascending; not those for
    /// `autogroup:self`.
    pub(super) fn incoming_rules(&self, class: &Class) -> Vec<RuleId> {
        let program = &self.program;
        let mut rules: Vec<RuleId> = Vec::new();
        for (atom, flags) in &class.key.atoms {
            for id in program
                .rules_of_entry
                .get(*atom as usize)
                .into_iter()
                .flatten()
            {
                let Some(rule) = program.rule(*id) else {
                    continue;
                };
                let companion = rule
                    .companion_of
                    .is_none_or(|source| class.rules.is_in(source));
                let routed = rule.via.is_empty()
                    || (flags & touch::ROUTED != 0
                        && rule
                            .via
                            .iter()
                            .any(|tag| class.key.flags(*tag) & touch::OWN != 0));
                if companion && routed {
                    rules.push(*id);
                }
            }
        }
        rules.sort_unstable();
        rules.dedup();
        rules
    }

    /// The devices with one of a rule's `via` tags.
    pub(super) fn routers_of(&self, rule: &RawRule) -> DeviceSet {
        let mut routers = DeviceSet::default();
        for atom in rule.via.iter().filter_map(|atom| self.atom_state(*atom)) {
            routers.union(&atom.touch);
        }
        routers
    }

    /// From what was touched to the classes that may have changed. Forgets what they computed.
    pub(super) fn impact(
        &mut self,
        touched: &Touched<'_>,
        moved: &BTreeSet<RuleId>,
        keys: &BTreeSet<(u128, Option<u8>)>,
    ) -> Impact {
        let program = Arc::clone(&self.program);
        // Classes that see, or are sent, something else because of a set at the rule's other end.
        let mut viewers = Marks::new(program.sources.len());
        let mut seen = Marks::new(program.atoms.len());
        let mut filtered = Marks::new(program.atoms.len());
        for atom in &touched.atoms {
            let rules = program
                .rules_of_entry
                .get(*atom as usize)
                .into_iter()
                .flatten();
            for rule in rules.filter_map(|rule| program.rule(*rule)) {
                viewers.mark(rule.source);
            }
        }
        // Routers that get or lose a tag of `via` change what its sources see.
        for rule in program
            .steering
            .iter()
            .flatten()
            .filter_map(|rule| program.rule(*rule))
        {
            if rule.via.iter().any(|atom| touched.atoms.contains(atom)) {
                viewers.mark(rule.source);
            }
        }
        let mark_entries = |source: SourceId, marks: &mut Marks| {
            let rules = program
                .rules_of_source
                .get(source as usize)
                .into_iter()
                .flatten();
            for rule in rules.filter_map(|rule| program.rule(*rule)) {
                rule.entries.iter().for_each(|entry| marks.mark(entry.atom));
            }
        };
        touched
            .sources
            .iter()
            .for_each(|source| mark_entries(*source, &mut seen));
        touched
            .wires
            .iter()
            .for_each(|source| mark_entries(*source, &mut filtered));
        for rule in moved.iter().filter_map(|rule| program.rule(*rule)) {
            rule.entries
                .iter()
                .for_each(|entry| filtered.mark(entry.atom));
        }
        for rule in program
            .rules
            .iter()
            .filter(|rule| !rule.recorders.is_empty())
        {
            if rule
                .recorders
                .iter()
                .any(|atom| touched.atoms.contains(atom))
            {
                rule.entries
                    .iter()
                    .for_each(|entry| filtered.mark(entry.atom));
            }
        }
        if touched.services {
            touched.atoms.iter().for_each(|atom| filtered.mark(*atom));
        }
        for (source, state) in self
            .sources
            .iter_mut()
            .zip(0..)
            .map(|(state, id)| (id, state))
        {
            if viewers.has(source) {
                Arc::make_mut(state).reach = OnceLock::new();
            }
        }
        for (atom, state) in self
            .atoms
            .iter_mut()
            .zip(0..)
            .map(|(state, id)| (id, state))
        {
            if seen.has(atom) {
                Arc::make_mut(state).reaching = OnceLock::new();
            }
        }
        let mut users = touched.users.clone();
        if !keys.is_empty() {
            users.extend(self.users_with_keys(keys));
        }
        let mut impact = Impact {
            routes: touched.routes,
            ..Impact::default()
        };
        impact.devices.extend(touched.gone.iter().copied());
        impact.devices.extend(
            touched
                .devices
                .iter()
                .filter_map(|slot| self.state(*slot))
                .map(|state| state.device.id),
        );
        let has_via = program.steering.iter().any(|rules| !rules.is_empty());
        for (id, class) in &self.classes {
            let of_user = class.key.user.is_some_and(|user| users.contains(&user));
            let hit = |marks: &Marks| class.key.atoms.iter().any(|(atom, _)| marks.has(*atom));
            if of_user
                || class
                    .rules
                    .sources
                    .iter()
                    .any(|source| viewers.has(*source))
                || hit(&seen)
            {
                impact.visibility.insert(*id);
            }
            let covers_touched = class.key.covers.is_some()
                && (!touched.devices.is_empty() || !touched.gone.is_empty());
            let replaced = !keys.is_empty()
                && has_via
                && self.incoming_rules(class).iter().filter_map(|rule| program.rule(*rule)).any(
                    |rule| {
                        let print = self.fingerprint(rule.source);
                        rule.is_local()
                            && matches!(rule.allows, Allows::Ports(protocol) if keys.contains(&(print, protocol)))
                    },
                );
            if of_user || hit(&filtered) || covers_touched || replaced {
                impact.filters.insert(*id);
            }
        }
        self.ssh_impact(touched, &mut impact);
        impact
    }

    /// Users whose own rules share a place with rules of these kinds.
    fn users_with_keys(&self, keys: &BTreeSet<(u128, Option<u8>)>) -> BTreeSet<UserId> {
        let users = keys
            .iter()
            .filter_map(|(print, _)| self.users_by_print.get(print));
        users.flat_map(|users| users.iter().copied()).collect()
    }

    /// Notes what the own devices of these users look like as sources.
    pub(super) fn refresh_prints(&mut self, touched: &Touched<'_>) {
        let own = self.program.own_rules.iter();
        let own = own.filter_map(|rule| self.program.rule(*rule));
        let sources: BTreeSet<SourceId> = own
            .filter(|rule| matches!(rule.allows, Allows::Ports(_)))
            .map(|rule| rule.source)
            .collect();
        for user in touched.users.iter().filter(|_| !sources.is_empty()) {
            let devices = self.devices_of(*user).cloned().unwrap_or_default();
            let steps = sources.len().saturating_mul(2 + devices.len());
            let size = sources.len().saturating_mul(PRINT);
            if !touched.budget.allows(steps) || !touched.budget.allows_bytes(size) {
                return;
            }
            let prints: BTreeSet<u128> = sources
                .iter()
                .filter_map(|source| self.source_state(*source))
                .map(|source| {
                    self.fingerprint_of(devices.iter().filter(|slot| source.own.contains(*slot)))
                })
                .collect();
            let old = self.own_prints.insert(*user, Arc::new(prints.clone()));
            for print in old.iter().flat_map(|old| old.difference(&prints)) {
                if let Some(users) = self.users_by_print.get_mut(print) {
                    users.remove(user);
                    if users.is_empty() {
                        self.users_by_print.remove(print);
                    }
                }
            }
            for print in prints {
                self.users_by_print.entry(print).or_default().insert(*user);
            }
        }
    }
}

/// Estimated memory of what one user's devices look like to one rule, in bytes.
const PRINT: usize = 150;

/// Marks on numbered things.
struct Marks(Vec<bool>);

impl Marks {
    fn new(count: usize) -> Self {
        Self(vec![false; count])
    }

    fn mark(&mut self, id: u32) {
        if let Some(mark) = self.0.get_mut(id as usize) {
            *mark = true;
        }
    }

    fn has(&self, id: u32) -> bool {
        self.0.get(id as usize) == Some(&true)
    }
}

/// Whether a device that stands so is a destination of one of a rule's selectors.
pub(super) fn concerns(rule: &RawRule, atom: AtomId, standing: &Standing) -> bool {
    let flags = standing.flags(atom);
    if rule.via.is_empty() {
        return flags != 0;
    }
    flags & touch::ROUTED != 0
        && rule
            .via
            .iter()
            .any(|tag| standing.flags(*tag) & touch::OWN != 0)
}
