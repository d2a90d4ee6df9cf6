//! A policy's rules in the form that is applied to a tailnet: interned selectors and sources, raw
//! rules in the order in which they are sent.

mod build;
mod ownership;
mod prefixes;

pub(crate) use build::{KUBERNETES, recorder_tags};
pub(crate) use ownership::{Owners, Ownership};
pub(crate) use prefixes::Prefixes;

use crate::port::PortRange;
use crate::section::grants::Capabilities;
use crate::section::postures::Posture;
use crate::section::ssh::SshRule;
use crate::selector::{Role, Selector};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

pub(crate) type AtomId = u32;
pub(crate) type SourceId = u32;
pub(crate) type RuleId = u32;

/// How a device or a route touches a selector.
pub(crate) mod touch {
    /// Its IPv4 addresses are in the selector.
    pub(crate) const V4: u8 = 1;
    /// Its IPv6 addresses are in the selector.
    pub(crate) const V6: u8 = 2;
    /// Some address is: the device itself is in the selector.
    pub(crate) const OWN: u8 = V4 | V6;
    /// One of its approved subnet routes overlaps the selector.
    pub(crate) const ROUTE: u8 = 4;
    /// It is an approved exit node, and the selector is the internet.
    pub(crate) const EXIT: u8 = 8;
    /// Through it, not on it.
    pub(crate) const ROUTED: u8 = ROUTE | EXIT;
}

/// Where a rule stands in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Origin {
    /// The rule that holds where the file has none.
    Implied,
    Grant(usize),
    Acl(usize),
}

/// A destination of a raw rule.
#[derive(Debug, Clone)]
pub(crate) struct Destination {
    pub(crate) atom: AtomId,
    /// Empty in rules about capabilities.
    pub(crate) ports: Arc<[PortRange]>,
}

/// What a raw rule allows.
#[derive(Debug, Clone)]
pub(crate) enum Allows {
    Ports(Option<u8>),
    Capabilities(Capabilities),
}

/// A rule for the whole tailnet, before it is narrowed to one node.
#[derive(Debug, Clone)]
pub(crate) struct RawRule {
    pub(crate) origin: Origin,
    pub(crate) source: SourceId,
    pub(crate) allows: Allows,
    pub(crate) entries: Vec<Destination>,
    /// Tags of routers; the rule concerns only what goes through them.
    pub(crate) via: Vec<AtomId>,
    /// The destination is `autogroup:self`; `entries` has its ports alone.
    pub(crate) own_devices: bool,
    /// Tags of recorders in its capabilities.
    pub(crate) recorders: Vec<AtomId>,
    /// In the opposite direction of a capability that needs it: on devices of this source only.
    pub(crate) companion_of: Option<SourceId>,
}

/// The sources of a rule.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct SourceDef {
    pub(crate) atoms: Vec<AtomId>,
    /// Indexes of postures, one of which must hold. Empty: no condition.
    pub(crate) postures: Vec<usize>,
}

/// An SSH rule with its selectors looked up.
#[derive(Debug, Clone)]
pub(crate) struct SshProgram {
    pub(crate) rule: SshRule,
    pub(crate) source: SourceId,
    pub(crate) dst: Vec<AtomId>,
    pub(crate) own_devices: bool,
    pub(crate) recorders: Vec<AtomId>,
}

/// Selectors of all sections by what they match.
#[derive(Debug, Default)]
pub(crate) struct Matchers {
    pub(crate) everything: Vec<AtomId>,
    pub(crate) danger_all: Option<AtomId>,
    pub(crate) internet: Option<AtomId>,
    pub(crate) member: Option<AtomId>,
    pub(crate) tagged: Option<AtomId>,
    pub(crate) shared: Option<AtomId>,
    pub(crate) roles: Vec<(Role, AtomId)>,
    /// Logins, in lower case, to the selectors of the user and of the file's groups.
    pub(crate) logins: HashMap<String, Vec<AtomId>>,
    pub(crate) domains: HashMap<String, AtomId>,
    pub(crate) directory_groups: HashMap<String, AtomId>,
    pub(crate) tags: HashMap<String, AtomId>,
    pub(crate) services: HashMap<String, AtomId>,
    /// Single addresses.
    pub(crate) addresses: BTreeMap<IpAddr, AtomId>,
    /// Wider prefixes.
    pub(crate) prefixes: Prefixes,
}

/// A policy's rules, ready to be applied.
#[derive(Debug)]
pub(crate) struct Program {
    pub(crate) atoms: Vec<Selector>,
    pub(crate) index: HashMap<Selector, AtomId>,
    pub(crate) matchers: Matchers,
    pub(crate) sources: Vec<SourceDef>,
    /// Single addresses that a source names: a device's own address is not counted twice.
    pub(crate) literals: Vec<HashSet<IpAddr>>,
    pub(crate) rules: Vec<RawRule>,
    pub(crate) rules_of_source: Vec<Vec<RuleId>>,
    pub(crate) rules_of_entry: Vec<Vec<RuleId>>,
    pub(crate) sources_of_atom: Vec<Vec<SourceId>>,
    /// Selectors that a source reaches by rules without `via`, ascending, by source.
    pub(crate) reached: Vec<Vec<AtomId>>,
    /// Rules with `via`, by source.
    pub(crate) steering: Vec<Vec<RuleId>>,
    /// Sources that reach a selector by rules without `via`, ascending, by selector.
    pub(crate) reaching: Vec<Vec<SourceId>>,
    /// Raw rules for `autogroup:self`.
    pub(crate) own_rules: Vec<RuleId>,
    /// Whether an atom is in the sources of such a rule, by atom.
    pub(crate) own_atoms: Vec<bool>,
    /// Whether an atom decides anything about the network, by atom.
    pub(crate) network_atoms: Vec<bool>,
    pub(crate) postures: Vec<(String, Posture)>,
    /// Steps that looking at all postures takes for one device.
    pub(crate) posture_steps: usize,
    /// Whether a posture decides anything about the network, by posture.
    pub(crate) network_postures: Vec<bool>,
    pub(crate) ssh: Vec<SshProgram>,
    pub(crate) node_attrs: Vec<Vec<AtomId>>,
    /// Targets of the attribute that hides IPv4 addresses, ascending.
    pub(crate) without_ipv4: Vec<AtomId>,
    /// Who approves subnet routes: numbers of [`Program::route_approvers`] by prefix.
    pub(crate) approved_prefixes: Prefixes,
    /// Selectors, ascending.
    pub(crate) route_approvers: Vec<Vec<AtomId>>,
    /// Selectors of those whose exit nodes are approved, ascending.
    pub(crate) exit_approvers: Vec<AtomId>,
    /// Which tags own which.
    pub(crate) ownership: Ownership,
}

impl RawRule {
    /// Whether the rule exists only on the nodes that it concerns: others are not even merged
    /// with it.
    pub(crate) const fn is_local(&self) -> bool {
        self.own_devices || !self.via.is_empty()
    }
}

impl Program {
    pub(crate) fn atom(&self, id: AtomId) -> Option<&Selector> {
        self.atoms.get(id as usize)
    }

    pub(crate) fn rule(&self, id: RuleId) -> Option<&RawRule> {
        self.rules.get(id as usize)
    }

    pub(crate) fn source(&self, id: SourceId) -> Option<&SourceDef> {
        self.sources.get(id as usize)
    }
}
