//! Single connections: which rules let one end reach the other.

use super::membership::{Standing, is_identity};
use super::{Compiled, user_of};
use crate::budget::Budget;
use crate::hujson::quote;
use crate::port;
use crate::program::{Allows, AtomId, RawRule, RuleId, touch};
use crate::range;
use crate::section::postures::Attributes;
use crate::selector::{Autogroup, Selector};
use crate::set::{DeviceSet, Slot};
use crate::topology::{Owner, UserId};
use ipnet::IpNet;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

/// One end of a connection: a device, one address of it, an address that is no device's, or an
/// identity without devices.
#[derive(Debug, Clone)]
pub(crate) struct Subject {
    pub(crate) standing: Standing,
    pub(crate) user: Option<UserId>,
    pub(crate) slot: Option<Slot>,
    pub(crate) address: Option<IpAddr>,
}

/// What keeps a test from running.
pub(super) type Wrong = String;

impl Compiled {
    /// The rules about ports that have a subject as source.
    pub(crate) fn rules_from(&self, source: &Subject, budget: &Budget) -> Vec<RuleId> {
        let program = &self.program;
        let atoms = source.standing.atoms.iter();
        let mut sources: Vec<_> = atoms
            .filter_map(|(atom, _)| program.sources_of_atom.get(*atom as usize))
            .flatten()
            .copied()
            .collect();
        sources.sort_unstable();
        sources.dedup();
        let _ = budget.elements(sources.len().saturating_mul(4), 0);
        sources.retain(|id| {
            program.source(*id).is_some_and(|def| {
                budget.allows(def.atoms.len()) && program.part(def, &source.standing).touch
            })
        });
        let mut rules: Vec<RuleId> = sources
            .into_iter()
            .filter_map(|id| program.rules_of_source.get(id as usize))
            .flatten()
            .copied()
            .filter(|rule| {
                let rule = program.rule(*rule);
                rule.is_some_and(|rule| matches!(rule.allows, Allows::Ports(_)))
            })
            .collect();
        let _ = budget.elements(rules.len().saturating_mul(4), 0);
        rules.sort_unstable();
        rules
    }

    /// Whether a rule that has `source` as source lets it connect.
    pub(crate) fn allows(
        &self,
        rule: &RawRule,
        source: &Subject,
        target: &Subject,
        protocols: &[u8],
        port: u16,
    ) -> bool {
        let Allows::Ports(protocol) = rule.allows else {
            return false;
        };
        let suits = |wanted: &u8| match protocol {
            None => port::UNSPECIFIED.contains(wanted),
            Some(number) => number == *wanted,
        };
        if !protocols.iter().any(suits) {
            return false;
        }
        let portless = protocols.iter().all(|protocol| !port::has_ports(*protocol));
        rule.entries.iter().any(|entry| {
            self.reaches(rule, entry.atom, source, target)
                && (portless || entry.ports.iter().any(|ports| ports.contains(port)))
        })
    }

    /// Whether a subject is the destination that one selector of a rule names.
    pub(crate) fn reaches(
        &self,
        rule: &RawRule,
        atom: AtomId,
        source: &Subject,
        target: &Subject,
    ) -> bool {
        if rule.own_devices {
            return target.user.is_some() && source.user == target.user;
        }
        let through_routers = !rule.via.is_empty();
        let identity = self.program.atom(atom).is_some_and(is_identity);
        target.standing.flags(atom) & touch::OWN != 0 && !(through_routers && identity)
    }

    /// The subjects that a test's source names. Devices of one class stand for each other.
    pub(crate) fn subjects(
        &self,
        text: &str,
        attributes: Option<&Attributes>,
        budget: &Budget,
    ) -> Result<Vec<Subject>, Wrong> {
        if text.is_empty() {
            return Err("test has no src".to_owned());
        }
        let mut subjects = match self.policy.names.selector(text)? {
            Selector::Prefix(prefix) if prefix.prefix_len() == prefix.max_prefix_len() => {
                let _ = budget.elements(self.routes.len(), 0);
                vec![self.address_subject(prefix.addr(), false)]
            }
            Selector::User(login) => {
                if self.user_of_login(&login).is_none() {
                    return Err(format!("user not found: {}", quote(text)));
                }
                self.identity_subjects(&Selector::User(login), budget)
            }
            selector if is_identity(&selector) => self.identity_subjects(&selector, budget),
            _ => return Err(format!("invalid src {}", quote(text))),
        };
        if let Some(attributes) = attributes {
            for subject in &mut subjects {
                if !budget.allows(self.program.posture_steps) {
                    break;
                }
                let owner = subject
                    .user
                    .map_or_else(|| Owner::Tags(Vec::new()), Owner::User);
                subject.standing.postures = self.postures_of(&owner, attributes);
            }
        }
        Ok(subjects)
    }

    pub(crate) fn device_subject(&self, slot: Slot) -> Option<Subject> {
        let state = self.state(slot)?;
        let atoms = state.standing.atoms.iter();
        // Only the device itself is meant, not what lies behind it.
        let own = atoms
            .map(|(atom, flags)| (*atom, flags & touch::OWN))
            .filter(|(_, flags)| *flags != 0)
            .collect();
        Some(Subject {
            standing: Standing {
                atoms: own,
                ..state.standing.clone()
            },
            user: user_of(&state.device.owner),
            slot: Some(slot),
            address: None,
        })
    }

    /// The devices of an identity, one for each class, or the bare identity if it has none.
    pub(super) fn identity_subjects(&self, selector: &Selector, budget: &Budget) -> Vec<Subject> {
        // For a selector that no rule has, each device is asked.
        let count = self.devices.len();
        let is_known = self.program.index.contains_key(selector);
        let _ = budget.elements(if is_known { count / 64 } else { count }, 0);
        let devices = self.identity_devices(selector);
        let mut classes = BTreeSet::new();
        let subjects: Vec<Subject> = devices
            .iter()
            .take_while(|_| budget.allows(1))
            .filter(|slot| {
                self.state(*slot)
                    .is_some_and(|state| classes.insert(state.class))
            })
            .take_while(|slot| {
                let atoms = self
                    .state(*slot)
                    .map_or(0, |state| state.standing.atoms.len());
                budget.elements(4 + atoms, 8).is_ok()
            })
            .filter_map(|slot| self.device_subject(slot))
            .collect();
        if !subjects.is_empty() {
            return subjects;
        }
        let mut atoms: Vec<(AtomId, u8)> = Vec::new();
        let mut user = None;
        match selector {
            Selector::User(login) => {
                let known = self.user_of_login(login);
                user = known.map(|user| user.id);
                let role = known.map(|user| user.role).unwrap_or_default();
                self.user_atoms(login, role, &mut atoms);
            }
            Selector::Tag(tag) => {
                self.identity_atoms(&Owner::Tags(vec![tag.clone()]), &mut atoms);
            }
            _ => {}
        }
        atoms.extend(
            self.program
                .index
                .get(selector)
                .map(|atom| (*atom, touch::OWN)),
        );
        let everything = self.program.matchers.everything.iter();
        atoms.extend(everything.map(|atom| (*atom, touch::OWN)));
        let owner = user.map_or_else(|| Owner::Tags(Vec::new()), Owner::User);
        vec![self.virtual_subject(atoms, &owner, user, None)]
    }

    pub(super) fn virtual_subject(
        &self,
        mut atoms: Vec<(AtomId, u8)>,
        owner: &Owner,
        user: Option<UserId>,
        address: Option<IpAddr>,
    ) -> Subject {
        atoms.sort_unstable();
        atoms.dedup_by_key(|(atom, _)| *atom);
        let standing = Standing {
            atoms: atoms.into(),
            postures: self.postures_of(owner, &Attributes::new()),
            subnets: Arc::from([]),
            exit: false,
            covers: false,
        };
        Subject {
            standing,
            user,
            slot: None,
            address,
        }
    }

    pub(super) fn identity_devices(&self, selector: &Selector) -> DeviceSet {
        if let Some(atom) = self
            .program
            .index
            .get(selector)
            .and_then(|id| self.atom_state(*id))
        {
            return atom.touch.difference(&atom.routed);
        }
        // The policy's rules do not use the selector, so that no set is kept for it.
        let matches = |owner: &Owner| match (selector, owner) {
            (Selector::Tag(tag), Owner::Tags(tags)) => tags.contains(tag),
            (Selector::Auto(Autogroup::Tagged), Owner::Tags(_)) => true,
            (_, Owner::Tags(_)) => false,
            (_, Owner::User(id)) => self.users.get(id).is_some_and(|user| {
                let login = user.login.to_lowercase();
                match selector {
                    Selector::User(wanted) => *wanted == login,
                    Selector::Group(name) => {
                        let defined = self.policy.names.groups.get(name);
                        defined.is_some_and(|members| members.contains(&login))
                            || self
                                .groups
                                .get(name)
                                .is_some_and(|group| group.contains(&login))
                    }
                    Selector::Domain(domain) => login
                        .rsplit_once('@')
                        .is_some_and(|(_, own)| own.eq_ignore_ascii_case(domain)),
                    Selector::Auto(Autogroup::Member) => user.role != crate::selector::Role::Shared,
                    Selector::Auto(Autogroup::Role(role)) => role.includes(user.role),
                    _ => false,
                }
            }),
        };
        let slots = self.devices.iter().zip(0..);
        slots
            .filter(|(state, _)| {
                state
                    .as_ref()
                    .is_some_and(|state| matches(&state.device.owner))
            })
            .map(|(_, slot)| slot)
            .collect()
    }

    /// An address: a device's, or one that may lie behind a router or on the internet.
    pub(crate) fn address_subject(&self, address: IpAddr, destination: bool) -> Subject {
        let device = self
            .addresses
            .get(&address)
            .and_then(|slot| self.device_subject(*slot));
        if let Some(mut subject) = device {
            let family = if address.is_ipv4() {
                touch::V4
            } else {
                touch::V6
            };
            let atoms = subject.standing.atoms.iter();
            let atoms = atoms.filter(|(_, flags)| flags & family != 0).copied();
            subject.standing.atoms = atoms.collect();
            subject.address = Some(address);
            return subject;
        }
        let mut atoms = Vec::new();
        self.address_atoms(address, &mut atoms);
        let host = IpNet::from(address);
        let routed = self.routes.keys().any(|route| route.contains(&host));
        if destination || routed || range::in_tailnet(host) {
            let everything = self.program.matchers.everything.iter();
            atoms.extend(everything.map(|atom| (*atom, touch::OWN)));
        }
        if destination && range::internet().contains(address) {
            atoms.extend(
                self.program
                    .matchers
                    .internet
                    .map(|atom| (atom, touch::OWN)),
            );
        }
        let services = self
            .services
            .iter()
            .filter(|(_, list)| list.contains(&address));
        for (name, _) in services {
            atoms.extend(
                self.program
                    .matchers
                    .services
                    .get(name)
                    .map(|atom| (*atom, touch::OWN)),
            );
        }
        self.virtual_subject(atoms, &Owner::Tags(Vec::new()), None, Some(address))
    }
}
