//! Classes: devices that stand in the same sets.

use super::membership::Standing;
use super::{Compiled, Impact, Touched, user_of};
use crate::program::{Allows, AtomId, RawRule, RuleId, SourceId, touch};
use crate::set::{DeviceSet, Slot};
use crate::topology::{Device, DeviceId, UserId};
use ipnet::IpNet;
use std::collections::{BTreeMap, BTreeSet};
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
    visible: Arc<OnceLock<Arc<DeviceSet>>>,
}

/// The rules that concern a class. They follow from its key alone.
#[derive(Debug, Default)]
pub(super) struct ClassRules {
    /// Sources that the class is part of.
    pub(super) sources: Vec<SourceId>,
    /// Sources of `autogroup:self` rules that its devices are in.
    pub(super) own_sources: Vec<SourceId>,
    /// Rules that have it as source, companions excepted.
    pub(super) outgoing: Vec<RuleId>,
    /// Rules that have it as destination.
    pub(super) incoming: Vec<RuleId>,
    /// Those among them that exist on its devices only: rules with `via`.
    pub(super) local: Vec<RuleId>,
    /// Selectors that it reaches by rules without `via`, ascending.
    pub(super) reached: Vec<AtomId>,
    /// Selectors that reach it by rules without `via`, ascending.
    pub(super) reaching: Vec<AtomId>,
    /// Rules with `via` that have it as source.
    pub(super) steering: Vec<RuleId>,
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
    pub fn visible_to(&self, class: ClassId) -> Option<Arc<DeviceSet>> {
        let class = self.classes.get(&class)?;
        Some(Arc::clone(class.visible.get_or_init(|| Arc::new(self.compute_visible(class)))))
    }

    /// Whether two devices are peers. The same in both directions.
    pub fn visible(&self, viewer: DeviceId, peer: DeviceId) -> bool {
        let (Some((_, state)), Some(slot)) = (self.state_of(viewer), self.slots.get(&peer)) else {
            return false;
        };
        viewer != peer && self.visible_to(state.class).is_some_and(|set| set.contains(*slot))
    }

    pub(super) fn class(&self, id: ClassId) -> Option<&Class> {
        self.classes.get(&id).map(|class| &**class)
    }

    pub(super) fn class_key(&self, slot: Slot, device: &Device, standing: &Standing) -> ClassKey {
        let program = &self.program;
        let network = |atom: &AtomId| program.network_atoms.get(*atom as usize) == Some(&true);
        let atoms: Vec<(AtomId, u8)> =
            standing.atoms.iter().filter(|(atom, _)| network(atom)).copied().collect();
        let postures = standing.postures.iter().zip(&program.network_postures);
        let user = user_of(&device.owner).filter(|_| {
            program.own_rules.iter().any(|rule| {
                let source = program.rule(*rule).and_then(|rule| program.source(rule.source));
                source.is_some_and(|source| {
                    source.atoms.iter().any(|atom| standing.flags(*atom) & touch::OWN != 0)
                })
            })
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
    ) -> ClassId {
        let new = key.map(|key| match self.class_index.get(&key) {
            Some(id) => *id,
            None => self.add_class(key),
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

    fn add_class(&mut self, key: ClassKey) -> ClassId {
        let id = self.next_class;
        self.next_class += 1;
        let key = Arc::new(key);
        let rules = Arc::new(self.class_rules(&key));
        let class = Class {
            key: Arc::clone(&key),
            members: DeviceSet::default(),
            rules,
            visible: Arc::default(),
        };
        self.class_index.insert(key, id);
        self.classes.insert(id, Arc::new(class));
        id
    }

    fn class_rules(&self, key: &ClassKey) -> ClassRules {
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
        let mut own = BTreeSet::new();
        for id in candidates {
            let Some(def) = program.source(id) else { continue };
            let part = program.part(def, &standing);
            if part.own {
                own.insert(id);
            }
            if !part.touch {
                continue;
            }
            rules.sources.push(id);
            for rule in program.rules_of_source.get(id as usize).into_iter().flatten() {
                let Some(raw) = program.rule(*rule) else { continue };
                if raw.own_devices {
                    if part.own {
                        rules.own_sources.push(id);
                    }
                } else if raw.companion_of.is_none() {
                    rules.outgoing.push(*rule);
                }
            }
        }
        let mut incoming: BTreeSet<RuleId> = BTreeSet::new();
        for (atom, _) in &key.atoms {
            incoming.extend(program.rules_of_entry.get(*atom as usize).into_iter().flatten());
        }
        incoming.retain(|rule| {
            program.rule(*rule).is_some_and(|rule| {
                rule.companion_of.is_none_or(|source| own.contains(&source))
                    && rule.entries.iter().any(|entry| concerns(rule, entry.atom, &standing))
            })
        });
        rules.incoming = incoming.into_iter().collect();
        let local = |rule: &RuleId| program.rule(*rule).is_some_and(RawRule::is_local);
        rules.local = rules.incoming.iter().copied().filter(local).collect();
        rules.outgoing.sort_unstable();
        rules.own_sources.dedup();
        rules.steering = (rules.outgoing.iter().copied())
            .filter(|rule| program.rule(*rule).is_some_and(|rule| !rule.via.is_empty()))
            .collect();
        let plain = |list: &[RuleId]| -> Vec<&RawRule> {
            let rules = list.iter().filter_map(|rule| program.rule(*rule));
            rules.filter(|rule| rule.via.is_empty() && rule.companion_of.is_none()).collect()
        };
        let reached: BTreeSet<AtomId> = plain(&rules.outgoing)
            .iter()
            .flat_map(|rule| rule.entries.iter().map(|entry| entry.atom))
            .collect();
        let reaching: BTreeSet<AtomId> = plain(&rules.incoming)
            .iter()
            .filter_map(|rule| program.source(rule.source))
            .flat_map(|source| source.atoms.iter().copied())
            .collect();
        rules.reached = reached.into_iter().collect();
        rules.reaching = reaching.into_iter().collect();
        rules
    }

    fn compute_visible(&self, class: &Class) -> DeviceSet {
        let mut set = DeviceSet::default();
        // Many rules name the same selectors; each is taken once.
        let mut seen = BTreeSet::new();
        for rule in class.rules.outgoing.iter().filter_map(|rule| self.program.rule(*rule)) {
            if rule.via.is_empty() {
                for entry in &rule.entries {
                    if seen.insert(entry.atom)
                        && let Some(atom) = self.atom_state(entry.atom)
                    {
                        set.union(&atom.touch);
                    }
                }
                continue;
            }
            let routers = self.routers_of(rule);
            for atom in rule.entries.iter().filter_map(|entry| self.atom_state(entry.atom)) {
                set.union(&routers.intersection(&atom.routed));
            }
        }
        let incoming = class.rules.incoming.iter().filter_map(|rule| self.program.rule(*rule));
        let incoming = incoming.filter(|rule| rule.companion_of.is_none());
        let sources: BTreeSet<SourceId> = incoming.map(|rule| rule.source).collect();
        for source in sources.into_iter().filter_map(|source| self.source_state(source)) {
            set.union(&source.touch);
        }
        if let Some(devices) = class.key.user.and_then(|user| self.devices_of(user)) {
            for rule in self.program.own_rules.iter().filter_map(|rule| self.program.rule(*rule)) {
                if class.rules.own_sources.contains(&rule.source) {
                    set.union(devices);
                } else if let Some(source) = self.source_state(rule.source) {
                    set.union(&devices.intersection(&source.own));
                }
            }
        }
        set
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
        touched: &Touched,
        moved: &BTreeSet<RuleId>,
        keys: &BTreeSet<(u128, Option<u8>)>,
    ) -> Impact {
        let program = Arc::clone(&self.program);
        // Classes that see, or are sent, something else because of a set at the rule's other end.
        let mut viewers: BTreeSet<SourceId> = BTreeSet::new();
        let mut seen: BTreeSet<AtomId> = BTreeSet::new();
        let mut filtered: BTreeSet<AtomId> = BTreeSet::new();
        for atom in &touched.atoms {
            let rules = program.rules_of_entry.get(*atom as usize).into_iter().flatten();
            viewers.extend(rules.filter_map(|rule| program.rule(*rule)).map(|rule| rule.source));
        }
        // Routers that get or lose a tag of `via` change what its sources see.
        for rule in program.rules.iter().filter(|rule| !rule.via.is_empty()) {
            if rule.via.iter().any(|atom| touched.atoms.contains(atom)) {
                viewers.insert(rule.source);
            }
        }
        let entries_of = |source: &SourceId| {
            let rules = program.rules_of_source.get(*source as usize).into_iter().flatten();
            let rules = rules.filter_map(|rule| program.rule(*rule));
            rules.flat_map(|rule| rule.entries.iter().map(|entry| entry.atom))
        };
        touched.sources.iter().for_each(|source| seen.extend(entries_of(source)));
        touched.wires.iter().for_each(|source| filtered.extend(entries_of(source)));
        for rule in moved.iter().filter_map(|rule| program.rule(*rule)) {
            filtered.extend(rule.entries.iter().map(|entry| entry.atom));
        }
        if touched.services {
            filtered.extend(touched.atoms.iter().copied());
        }
        let mut users = touched.users.clone();
        if !keys.is_empty() {
            users.extend(self.users_with_keys(keys));
        }
        let mut impact = Impact { routes: touched.routes, ..Impact::default() };
        impact.devices.extend(touched.gone.iter().copied());
        impact.devices.extend(
            touched.devices.iter().filter_map(|slot| self.state(*slot)).map(|state| state.device.id),
        );
        for (id, class) in &self.classes {
            let of_user = class.key.user.is_some_and(|user| users.contains(&user));
            let hit = |atoms: &BTreeSet<AtomId>| {
                class.key.atoms.iter().any(|(atom, _)| atoms.contains(atom))
            };
            if of_user
                || class.rules.sources.iter().any(|source| viewers.contains(source))
                || hit(&seen)
            {
                impact.visibility.insert(*id);
            }
            let covers_touched =
                class.key.covers.is_some() && (!touched.devices.is_empty() || !touched.gone.is_empty());
            let replaced = !keys.is_empty()
                && class.rules.local.iter().filter_map(|rule| program.rule(*rule)).any(|rule| {
                    let print = self.fingerprint(rule.source);
                    matches!(rule.allows, Allows::Ports(protocol) if keys.contains(&(print, protocol)))
                });
            if of_user || hit(&filtered) || covers_touched || replaced {
                impact.filters.insert(*id);
            }
        }
        for id in &impact.visibility {
            if let Some(class) = self.classes.get_mut(id) {
                Arc::make_mut(class).visible = Arc::default();
            }
        }
        self.ssh_impact(touched, &mut impact);
        impact
    }

    /// Users whose own rules share a place with rules of these kinds.
    fn users_with_keys(&self, keys: &BTreeSet<(u128, Option<u8>)>) -> BTreeSet<UserId> {
        let own: BTreeMap<SourceId, Vec<Option<u8>>> = self.own_port_rules();
        let affected = |devices: &DeviceSet| {
            own.iter().any(|(source, protocols)| {
                let Some(source) = self.source_state(*source) else { return false };
                let print = self.fingerprint_of(&devices.intersection(&source.own));
                protocols.iter().any(|protocol| keys.contains(&(print, *protocol)))
            })
        };
        if own.is_empty() {
            return BTreeSet::new();
        }
        let users = self.user_devices.iter().filter(|(_, devices)| affected(devices));
        users.map(|(user, _)| *user).collect()
    }

    /// Sources and protocols of the rules about ports for `autogroup:self`.
    fn own_port_rules(&self) -> BTreeMap<SourceId, Vec<Option<u8>>> {
        let mut own: BTreeMap<SourceId, Vec<Option<u8>>> = BTreeMap::new();
        for rule in self.program.own_rules.iter().filter_map(|rule| self.program.rule(*rule)) {
            if let Allows::Ports(protocol) = rule.allows {
                own.entry(rule.source).or_default().push(protocol);
            }
        }
        own
    }
}

/// Whether a device that stands so is a destination of one of a rule's selectors.
pub(super) fn concerns(rule: &RawRule, atom: AtomId, standing: &Standing) -> bool {
    let flags = standing.flags(atom);
    if rule.via.is_empty() {
        return flags != 0;
    }
    flags & touch::ROUTED != 0
        && rule.via.iter().any(|tag| standing.flags(*tag) & touch::OWN != 0)
}
