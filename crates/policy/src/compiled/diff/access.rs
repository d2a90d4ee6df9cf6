//! Access that is gained and lost.

use super::{AccessChange, Direction};
use crate::Compiled;
use crate::budget::Budget;
use crate::compiled::membership::DeviceState;
use crate::program::{Allows, RawRule, RuleId, SourceId, touch};
use crate::range;
use crate::selector::{Autogroup, Selector};
use crate::set::{DeviceSet, Slot};
use ipnet::IpNet;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;

/// Who may be a source: devices, addresses behind routers, or each user's own devices.
#[derive(Clone, Default, Hash)]
struct Sources {
    devices: DeviceSet,
    texts: BTreeSet<Arc<str>>,
    own: bool,
}

impl Sources {
    /// Steps of adding or taking away.
    fn steps(&self) -> usize {
        4 + 4 * self.texts.len()
    }

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

    /// A number for sources that are the same.
    fn print(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.hash(&mut hasher);
        hasher.finish()
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

/// Something that is open on a device.
struct Opening {
    what: What,
    sources: Arc<Sources>,
    /// The other policy has no such rule here.
    changed: bool,
}

/// Everything that is open on one device, by place.
type Open = BTreeMap<Through, Vec<Opening>>;

/// Rules on a device: the rule's number, and one for the way in which it reaches the device.
type RulePrint = (u64, u64);

/// One of the two policies.
struct Side<'a> {
    net: &'a Compiled,
    /// A number for each raw rule that is the same in two policies if the rule is.
    prints: Vec<u64>,
    sources: Vec<Arc<Sources>>,
    own: Arc<Sources>,
    budget: &'a Budget,
}

type AccessChanges = HashMap<(Direction, Through, u64), (Sources, BTreeMap<What, DeviceSet>)>;

impl Compiled {
    pub(super) fn access_changes(&self, new: &Self, budget: &Budget) -> Vec<AccessChange> {
        let mut changes: AccessChanges = HashMap::new();
        let (mine, theirs) = (Side::new(self, budget), Side::new(new, budget));
        for (slot, members) in self.groups_with(new) {
            if !budget.allows(8) {
                break;
            }
            // Most devices have the same rules with the same sources before and after.
            let (old_rules, new_rules) = (mine.prints_on(slot), theirs.prints_on(slot));
            if old_rules == new_rules {
                continue;
            }
            let (before, after) = (mine.open(slot, &new_rules), theirs.open(slot, &old_rules));
            let places: BTreeSet<&Through> = before.keys().chain(after.keys()).collect();
            for place in places {
                let old = before.get(place).map(Vec::as_slice).unwrap_or_default();
                let new = after.get(place).map(Vec::as_slice).unwrap_or_default();
                compare(old, new, budget, |direction, what, sources| {
                    let key = (direction, place.clone(), sources.print());
                    let change = changes
                        .entry(key)
                        .or_insert_with(|| (sources, BTreeMap::new()));
                    change.1.entry(what).or_default().union(&members);
                });
            }
        }
        let mut list = Vec::new();
        for ((direction, through, _), (sources, by_what)) in changes {
            // Things that the same destinations have are one entry.
            let mut by_target: Vec<(DeviceSet, Vec<What>)> = Vec::new();
            for (what, targets) in by_what {
                if !budget.allows(1 + by_target.len()) {
                    return list;
                }
                match by_target.iter_mut().find(|(known, _)| *known == targets) {
                    Some((_, whats)) => whats.push(what),
                    None => by_target.push((targets, vec![what])),
                }
            }
            let mut src = self.describe(new, &sources.devices, budget);
            src.selectors
                .extend(sources.texts.iter().map(ToString::to_string));
            if sources.own {
                src.selectors.push("own devices".to_owned());
            }
            for (targets, whats) in by_target {
                let mut src = src.clone();
                if sources.own {
                    src.count += self.owners_devices(&targets).len();
                }
                list.push(AccessChange {
                    direction,
                    src,
                    dst: self.describe(new, &targets, budget),
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
}

impl Compiled {
    /// The devices of those users who have one of these.
    fn owners_devices(&self, devices: &DeviceSet) -> DeviceSet {
        let states = devices.iter().filter_map(|slot| self.state(slot));
        let users: BTreeSet<_> = states
            .filter_map(|state| super::user_of(&state.device.owner))
            .collect();
        let mut all = DeviceSet::default();
        for devices in users.into_iter().filter_map(|user| self.devices_of(user)) {
            all.union(devices);
        }
        all
    }
}

impl<'a> Side<'a> {
    fn new(net: &'a Compiled, budget: &'a Budget) -> Self {
        let sources: Vec<Arc<Sources>> = (0..)
            .take(net.sources.len())
            .take_while(|id| {
                let atoms = net.program.source(*id).map_or(0, |def| def.atoms.len());
                budget.elements(4 + 4 * atoms + net.routes.len(), 0).is_ok()
                    && budget.allows_bytes(100 + 64 * atoms)
            })
            .map(|id| Arc::new(sources_of(net, id)))
            .collect();
        let source_prints: Vec<u64> = sources.iter().map(|sources| sources.print()).collect();
        let print = |rule: &RawRule| {
            let mut hasher = DefaultHasher::new();
            if !budget.allows(4 + 2 * rule.entries.len()) {
                return 0;
            }
            source_prints.get(rule.source as usize).hash(&mut hasher);
            rule.own_devices.hash(&mut hasher);
            rule.companion_of.is_some().hash(&mut hasher);
            match &rule.allows {
                Allows::Ports(protocol) => protocol.hash(&mut hasher),
                Allows::Capabilities(capabilities) => capabilities.hash(&mut hasher),
            }
            for entry in &rule.entries {
                net.program.atom(entry.atom).hash(&mut hasher);
                entry.ports.hash(&mut hasher);
            }
            for atom in &rule.via {
                net.program.atom(*atom).hash(&mut hasher);
            }
            hasher.finish()
        };
        let prints = net.program.rules.iter().map(print).collect();
        let own = Arc::new(Sources {
            own: true,
            ..Sources::default()
        });
        Self {
            net,
            prints,
            sources,
            own,
            budget,
        }
    }

    /// The rules that have a class as destination.
    fn incoming(&self, class: &crate::compiled::class::Class) -> Vec<RuleId> {
        let rules = class.key.atoms().iter().filter_map(|(atom, _)| {
            let rules = self.net.program.rules_of_entry.get(*atom as usize)?;
            Some(rules.len())
        });
        let steps = 4 * rules.sum::<usize>();
        if self.budget.allows(steps) {
            self.net.incoming_rules(class)
        } else {
            Vec::new()
        }
    }

    /// The rules that concern a device.
    fn prints_on(&self, slot: Slot) -> BTreeSet<RulePrint> {
        let Some(state) = self.net.state(slot) else {
            return BTreeSet::new();
        };
        let Some(class) = self.net.class(state.class) else {
            return BTreeSet::new();
        };
        let own = class
            .key
            .user
            .map(|_| self.net.program.own_rules.iter().copied());
        let rules = self
            .incoming(class)
            .into_iter()
            .chain(own.into_iter().flatten());
        rules.filter_map(|id| self.print_on(id, state)).collect()
    }

    fn print_on(&self, id: RuleId, state: &DeviceState) -> Option<RulePrint> {
        let rule = self.net.program.rule(id)?;
        if self
            .budget
            .elements(4 + 2 * rule.entries.len(), 64)
            .is_err()
        {
            return None;
        }
        // A rule may reach the device by another of its destinations than before.
        let mut hasher = DefaultHasher::new();
        for (at, entry) in rule.entries.iter().enumerate() {
            (at, state.standing.flags(entry.atom)).hash(&mut hasher);
        }
        Some((self.prints.get(id as usize).copied()?, hasher.finish()))
    }

    /// What is open on a device and through it. `others` are the rules of the other policy there.
    fn open(&self, slot: Slot, others: &BTreeSet<RulePrint>) -> Open {
        let net = self.net;
        let mut open = Open::new();
        let Some(state) = net.state(slot) else {
            return open;
        };
        let Some(class) = net.class(state.class) else {
            return open;
        };
        let is_changed = |id| {
            self.print_on(id, state)
                .is_none_or(|print| !others.contains(&print))
        };
        if let Some(devices) = class.key.user.and_then(|user| net.devices_of(user)) {
            for id in &net.program.own_rules {
                let Some(rule) = net.program.rule(*id) else {
                    continue;
                };
                if !self.budget.allows(8 + rule.entries.len()) {
                    break;
                }
                let applies = net.source_state(rule.source).is_some_and(|source| {
                    !devices.intersection(&source.own).is_empty() && rule.companion_of.is_none()
                });
                for entry in rule.entries.iter().filter(|_| applies) {
                    put(
                        &mut open,
                        None,
                        rule,
                        &entry.ports,
                        &self.own,
                        is_changed(*id),
                    );
                }
            }
        }
        for id in self.incoming(class) {
            let Some(rule) = net.program.rule(id) else {
                continue;
            };
            let Some(sources) = self.sources.get(rule.source as usize) else {
                continue;
            };
            if rule.companion_of.is_some() {
                continue;
            }
            let changed = is_changed(id);
            for entry in &rule.entries {
                let openings = 4 * entry.ports.len().max(1);
                if self.budget.elements(1 + openings, 64).is_err() {
                    return open;
                }
                let flags = state.standing.flags(entry.atom);
                if flags & touch::OWN != 0 && rule.via.is_empty() {
                    put(&mut open, None, rule, &entry.ports, sources, changed);
                }
                if flags & touch::ROUTED != 0 {
                    let through = match net.program.atom(entry.atom) {
                        Some(Selector::Prefix(prefix)) => range::show(*prefix),
                        Some(Selector::Auto(Autogroup::Internet)) => {
                            "autogroup:internet".to_owned()
                        }
                        _ => "*".to_owned(),
                    };
                    put(
                        &mut open,
                        Some(through),
                        rule,
                        &entry.ports,
                        sources,
                        changed,
                    );
                }
            }
        }
        open
    }
}

fn sources_of(net: &Compiled, id: SourceId) -> Sources {
    let Some(state) = net.source_state(id) else {
        return Sources::default();
    };
    let mut texts: BTreeSet<Arc<str>> = BTreeSet::new();
    let atoms = net.program.source(id).map(|source| source.atoms.as_slice());
    // Prefixes of the tailnet are the devices in them.
    let outside =
        |prefix: &IpNet| (!range::in_tailnet(*prefix)).then(|| Arc::from(range::show(*prefix)));
    for selector in atoms
        .unwrap_or_default()
        .iter()
        .filter_map(|atom| net.program.atom(*atom))
    {
        match selector {
            Selector::Prefix(prefix) => texts.extend(outside(prefix)),
            Selector::Everything => texts.extend(net.routes.keys().filter_map(outside)),
            Selector::Auto(Autogroup::DangerAll) => {
                texts.insert(Arc::from("autogroup:danger-all"));
            }
            _ => {}
        }
    }
    Sources {
        devices: state.own.clone(),
        texts,
        own: false,
    }
}

fn put(
    open: &mut Open,
    through: Through,
    rule: &RawRule,
    ports: &[crate::PortRange],
    sources: &Arc<Sources>,
    changed: bool,
) {
    let list = open.entry(through).or_default();
    let mut push = |what| {
        list.push(Opening {
            what,
            sources: Arc::clone(sources),
            changed,
        });
    };
    match &rule.allows {
        Allows::Capabilities(capabilities) => {
            for (name, values) in capabilities.iter() {
                let text = match values {
                    None => name.to_string(),
                    Some(values) => format!("{name} [{}]", values.join(",")),
                };
                push(What::Capability(text.into()));
            }
        }
        Allows::Ports(protocol) => {
            let one = protocol.as_ref().map(std::slice::from_ref);
            for protocol in one.unwrap_or(crate::port::UNSPECIFIED) {
                for range in ports {
                    push(if crate::port::has_ports(*protocol) {
                        What::Ports(*protocol, range.first, range.last)
                    } else {
                        What::Ports(*protocol, 0, u16::MAX)
                    });
                }
            }
        }
    }
}

/// Calls `note` for each thing whose sources differ. Ports are cut where ranges begin and end.
fn compare(
    before: &[Opening],
    after: &[Opening],
    budget: &Budget,
    mut note: impl FnMut(Direction, What, Sources),
) {
    // Going through all openings once, with what fits taken together.
    let steps: usize = (before.iter().chain(after))
        .map(|opening| 1 + opening.sources.steps())
        .sum();
    let both = || before.iter().chain(after);
    let changed: BTreeSet<&What> = both()
        .filter(|opening| opening.changed)
        .map(|opening| &opening.what)
        .collect();
    let mut pieces: BTreeSet<What> = BTreeSet::new();
    for what in changed {
        if !budget.allows(2 * steps) {
            return;
        }
        // What stays open as a whole for all that could lose or gain it, needs no closer look.
        let (old, new) = (all_sources(before, what), all_sources(after, what));
        let part = |list: &[Opening]| {
            let mut part = Sources::default();
            for opening in list
                .iter()
                .filter(|opening| opening.changed && opening.what == *what)
            {
                part.add(&opening.sources);
            }
            part
        };
        if part(before).without(&new).is_empty() && part(after).without(&old).is_empty() {
            continue;
        }
        let What::Ports(protocol, first, last) = what else {
            pieces.insert(what.clone());
            continue;
        };
        let mut cuts = BTreeSet::from([u32::from(*first), u32::from(*last) + 1]);
        for opening in both() {
            if let What::Ports(number, start, end) = &opening.what
                && number == protocol
            {
                cuts.extend([u32::from(*start), u32::from(*end) + 1]);
            }
        }
        let inside: Vec<u32> = cuts
            .range(u32::from(*first)..=u32::from(*last) + 1)
            .copied()
            .collect();
        for pair in inside.windows(2) {
            if let [start, next] = pair
                && let (Ok(start), Ok(end)) = (u16::try_from(*start), u16::try_from(next - 1))
            {
                pieces.insert(What::Ports(*protocol, start, end));
            }
        }
    }
    for piece in pieces {
        if !budget.allows(steps) {
            return;
        }
        let (old, new) = (all_sources(before, &piece), all_sources(after, &piece));
        for (direction, rest) in [
            (Direction::Gained, new.without(&old)),
            (Direction::Lost, old.without(&new)),
        ] {
            if !rest.is_empty() {
                note(direction, piece.clone(), rest);
            }
        }
    }
}

/// Everyone for whom the whole of something is open.
fn all_sources(list: &[Opening], what: &What) -> Sources {
    let mut all = Sources::default();
    for opening in list.iter().filter(|opening| covers(&opening.what, what)) {
        all.add(&opening.sources);
    }
    all
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
