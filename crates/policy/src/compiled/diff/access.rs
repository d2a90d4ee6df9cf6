//! Access that is gained and lost.

use super::{AccessChange, Direction};
use crate::Compiled;
use crate::program::{Allows, RawRule, touch};
use crate::range;
use crate::selector::{Autogroup, Selector};
use crate::set::{DeviceSet, Slot};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;

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
    pub(super) fn access_changes(&self, new: &Self) -> Vec<AccessChange> {
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
