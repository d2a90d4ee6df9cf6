//! Questions about single connections: the policy's own tests, and previews.

use super::membership::{Standing, is_identity};
use super::{Compiled, user_of};
use crate::diagnostic::{Diagnostic, Failure, Place};
use crate::hujson::quote;
use crate::port;
use crate::program::{Allows, AtomId, Origin, RawRule, RuleId, touch};
use crate::range;
use crate::section::postures::Attributes;
use crate::section::tests::{AccessTest, SshTest};
use crate::selector::{Autogroup, Selector};
use crate::set::{DeviceSet, Slot};
use crate::topology::{Owner, UserId};
use ipnet::IpNet;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
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

/// What a preview is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PreviewTarget {
    /// Rules whose sources include the user with this login.
    User(String),
    /// Rules whose destinations include this address and port.
    IpPort(IpAddr, u16),
}

/// A rule that a preview found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Match {
    /// The rule's sources as written.
    pub users: Vec<String>,
    /// The rule's destinations with their ports.
    pub ports: Vec<String>,
    /// Line of the rule's opening brace, from 1.
    pub line_number: usize,
    /// The rule's `via` tags.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub via: Vec<String>,
    /// The rule's postures.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub postures: Vec<String>,
}

/// What keeps a test from running.
type Wrong = String;

impl Compiled {
    /// Runs the policy's `tests` and `sshTests`.
    ///
    /// # Errors
    /// The message for the API, with one failure for each test that failed.
    pub fn run_tests(&self) -> Result<(), Diagnostic> {
        let mut failures = self.failing_tests(&self.policy.tests);
        let mut place = None;
        let mut note = |test: Place| {
            place.get_or_insert(test);
        };
        for (test, _) in &failures {
            note(*test);
        }
        for test in &self.policy.ssh_tests {
            if let Some(failure) = self.ssh_test_failure(test) {
                note(test.place);
                failures.push((test.place, failure));
            }
        }
        tests_failed(place, failures)
    }

    /// Runs tests that are not the policy's own: a HuJSON array like its `tests`.
    ///
    /// # Errors
    /// A syntax error, or the failed tests.
    pub fn run_given_tests(&self, text: &str) -> Result<(), Diagnostic> {
        let document = crate::hujson::Value::parse(text.as_bytes())?;
        let lines = crate::hujson::LineIndex::new(text.as_bytes());
        let parts = crate::decode::Part::new(&document, &lines).list()?;
        let tests: Result<Vec<AccessTest>, Diagnostic> = parts
            .into_iter()
            .map(crate::section::tests::read_access)
            .collect();
        let failures = self.failing_tests(&tests?);
        tests_failed(failures.first().map(|(place, _)| *place), failures)
    }

    fn failing_tests(&self, tests: &[AccessTest]) -> Vec<(Place, Failure)> {
        let failing = tests.iter().filter_map(|test| {
            let errors = self.test_errors(test).unwrap_or_else(|error| vec![error]);
            let failure = Failure {
                user: test.src.clone(),
                errors,
                warnings: Vec::new(),
            };
            (!failure.errors.is_empty()).then_some((test.place, failure))
        });
        failing.collect()
    }

    fn test_errors(&self, test: &AccessTest) -> Result<Vec<String>, Wrong> {
        let sources = self.subjects(&test.src, test.attributes.as_ref())?;
        if test.accept.is_empty() && test.deny.is_empty() {
            return Err("test has neither accept nor deny".to_owned());
        }
        let protocols = match test.protocol.as_str() {
            "" => vec![6, 17],
            name => vec![port::parse_protocol(name)?],
        };
        let mut errors = Vec::new();
        let wanted = test.accept.iter().map(|dst| (dst, true));
        for (dst, accept) in wanted.chain(test.deny.iter().map(|dst| (dst, false))) {
            let protocol = match test.protocol.as_str() {
                "" => String::new(),
                name => format!(" (protocol {})", quote(name)),
            };
            let address = format!("address {}{protocol}", quote(dst));
            match self.judge(&sources, dst, &protocols, accept) {
                Ok(true) => {}
                Ok(false) if accept => errors.push(format!("{address}: want: Accept, got: Drop")),
                Ok(false) => errors.push(format!("{address}: want: Drop, got: Accept")),
                Err(wrong) => errors.push(format!("{address}: {wrong}")),
            }
        }
        Ok(errors)
    }

    /// Whether all pairs of addresses are allowed, or none is.
    fn judge(
        &self,
        sources: &[Subject],
        dst: &str,
        protocols: &[u8],
        accept: bool,
    ) -> Result<bool, Wrong> {
        let (host, port) = port::split_host_port(dst)?;
        let portless = protocols.iter().all(|protocol| !port::has_ports(*protocol));
        let port: u16 = match port.parse() {
            Ok(port) if port > 0 || portless => port,
            _ => return Err(format!("invalid port {}: must be one number", quote(port))),
        };
        let targets = self.destination_subjects(host)?;
        for source in sources {
            let rules = self.rules_from(source);
            for target in &targets {
                let allowed = rules.iter().any(|rule| {
                    self.program
                        .rule(*rule)
                        .is_some_and(|rule| self.allows(rule, source, target, protocols, port))
                });
                if allowed != accept {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// The rules about ports that have a subject as source.
    pub(crate) fn rules_from(&self, source: &Subject) -> Vec<RuleId> {
        let program = &self.program;
        let atoms = source.standing.atoms.iter();
        let mut sources: Vec<_> = atoms
            .filter_map(|(atom, _)| program.sources_of_atom.get(*atom as usize))
            .flatten()
            .copied()
            .collect();
        sources.sort_unstable();
        sources.dedup();
        sources.retain(|id| {
            program
                .source(*id)
                .is_some_and(|def| program.part(def, &source.standing).touch)
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
    ) -> Result<Vec<Subject>, Wrong> {
        if text.is_empty() {
            return Err("test has no src".to_owned());
        }
        let mut subjects = match self.policy.names.selector(text)? {
            Selector::Prefix(prefix) if prefix.prefix_len() == prefix.max_prefix_len() => {
                vec![self.address_subject(prefix.addr(), false)]
            }
            Selector::User(login) => {
                if self.user_of_login(&login).is_none() {
                    return Err(format!("user not found: {}", quote(text)));
                }
                self.identity_subjects(&Selector::User(login))
            }
            selector if is_identity(&selector) => self.identity_subjects(&selector),
            _ => return Err(format!("invalid src {}", quote(text))),
        };
        if let Some(attributes) = attributes {
            for subject in &mut subjects {
                let owner = subject
                    .user
                    .map_or_else(|| Owner::Tags(Vec::new()), Owner::User);
                subject.standing.postures = self.postures_of(&owner, attributes);
            }
        }
        Ok(subjects)
    }

    fn destination_subjects(&self, host: &str) -> Result<Vec<Subject>, Wrong> {
        let selector = self.policy.names.selector(host)?;
        match selector {
            Selector::Prefix(prefix)
                if prefix.prefix_len() == prefix.max_prefix_len() && !host.contains('/') =>
            {
                Ok(vec![self.address_subject(prefix.addr(), true)])
            }
            Selector::Service(ref name) => {
                let addresses = self
                    .services
                    .get(name)
                    .ok_or_else(|| format!("service not found: {}", quote(host)))?;
                Ok(addresses
                    .iter()
                    .map(|address| self.address_subject(*address, true))
                    .collect())
            }
            Selector::User(ref login) if self.user_of_login(login).is_none() => {
                Err(format!("user not found: {}", quote(host)))
            }
            Selector::User(_) | Selector::Group(_) | Selector::Tag(_) => {
                Ok(self.identity_subjects(&selector))
            }
            _ => Err(format!("invalid destination {}", quote(host))),
        }
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
    fn identity_subjects(&self, selector: &Selector) -> Vec<Subject> {
        let devices = self.identity_devices(selector);
        let mut classes = BTreeSet::new();
        let subjects: Vec<Subject> = devices
            .iter()
            .filter(|slot| {
                self.state(*slot)
                    .is_some_and(|state| classes.insert(state.class))
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

    fn virtual_subject(
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

    fn identity_devices(&self, selector: &Selector) -> DeviceSet {
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

    fn ssh_test_failure(&self, test: &SshTest) -> Option<Failure> {
        let errors = self
            .ssh_test_errors(test)
            .unwrap_or_else(|error| vec![error]);
        let failure = Failure {
            user: test.src.clone(),
            errors,
            warnings: Vec::new(),
        };
        (!failure.errors.is_empty()).then_some(failure)
    }

    fn ssh_test_errors(&self, test: &SshTest) -> Result<Vec<String>, Wrong> {
        if test.accept.is_empty() && test.check.is_empty() && test.deny.is_empty() {
            return Err("test has none of accept, check and deny".to_owned());
        }
        if test.dst.is_empty() {
            return Err("test has no dst".to_owned());
        }
        let sources = self.ssh_devices(&test.src)?;
        let wanted = [
            ("accept", &test.accept),
            ("check", &test.check),
            ("deny", &test.deny),
        ];
        let mut errors = Vec::new();
        for dst in &test.dst {
            let targets = self.ssh_devices(dst)?;
            for (want, user) in wanted
                .iter()
                .flat_map(|(want, users)| users.iter().map(move |user| (*want, user)))
            {
                if user.is_empty() {
                    return Err("ssh user \"\" is not valid".to_owned());
                }
                for (source, target) in sources
                    .iter()
                    .flat_map(|source| targets.iter().map(move |to| (source, to)))
                {
                    let got = match self.ssh_decision_of(*source, *target, user) {
                        super::SshDecision::Accept => "accept",
                        super::SshDecision::Check(_) => "check",
                        super::SshDecision::Deny => "deny",
                    };
                    if got != want {
                        errors.push(format!(
                            "src {} at {}, dst {} at {}, ssh user {}: want: {} got: {}",
                            quote(&test.src),
                            quote(&self.first_address(*source)),
                            quote(dst),
                            quote(&self.first_address(*target)),
                            quote(user),
                            quote(want),
                            quote(got),
                        ));
                    }
                }
            }
        }
        Ok(errors)
    }

    fn first_address(&self, slot: Slot) -> String {
        let state = self.state(slot);
        state
            .and_then(|state| state.strings.first())
            .map(ToString::to_string)
            .unwrap_or_default()
    }

    /// The devices that a selector of an SSH test names. There must be some.
    fn ssh_devices(&self, text: &str) -> Result<Vec<Slot>, Wrong> {
        let selector = self.policy.names.selector(text)?;
        let devices: Vec<Slot> = match &selector {
            Selector::Prefix(prefix) => self
                .addresses
                .get(&prefix.addr())
                .copied()
                .into_iter()
                .collect(),
            selector => self.identity_devices(selector).iter().collect(),
        };
        if devices.is_empty() {
            return Err(format!("no device for {}", quote(text)));
        }
        Ok(devices)
    }

    /// The rules that concern a user or an address, in file order.
    pub fn preview(&self, target: &PreviewTarget) -> Vec<Match> {
        let mut origins: BTreeSet<Origin> = BTreeSet::new();
        match target {
            PreviewTarget::User(login) => {
                let selector = Selector::User(login.to_lowercase());
                let mut subjects = self.identity_subjects(&selector);
                // Rules may name the user although no device does.
                if subjects.iter().all(|subject| subject.slot.is_some()) {
                    let mut atoms = Vec::new();
                    let known = self.user_of_login(login);
                    let role = known.map(|user| user.role).unwrap_or_default();
                    self.user_atoms(login, role, &mut atoms);
                    let owner = Owner::Tags(Vec::new());
                    subjects.push(self.virtual_subject(atoms, &owner, None, None));
                }
                for subject in &mut subjects {
                    // Conditions are shown, not judged.
                    subject.standing.postures =
                        self.program.postures.iter().map(|_| true).collect();
                }
                for rule in &self.program.rules {
                    let Some(source) = self.program.source(rule.source) else {
                        continue;
                    };
                    let included = rule.companion_of.is_none()
                        && subjects
                            .iter()
                            .any(|subject| self.program.part(source, &subject.standing).own);
                    if included {
                        origins.insert(rule.origin);
                    }
                }
            }
            PreviewTarget::IpPort(address, port) => {
                let subject = self.address_subject(*address, true);
                for rule in &self.program.rules {
                    let Allows::Ports(_) = rule.allows else {
                        continue;
                    };
                    let own = rule.own_devices && subject.user.is_some();
                    let included = rule.entries.iter().any(|entry| {
                        let reached = own || subject.standing.flags(entry.atom) & touch::OWN != 0;
                        reached && entry.ports.iter().any(|ports| ports.contains(*port))
                    });
                    if included {
                        origins.insert(rule.origin);
                    }
                }
            }
        }
        let mut matches: Vec<Match> = origins
            .into_iter()
            .filter_map(|origin| self.show_rule(origin))
            .collect();
        matches.sort_by_key(|found| found.line_number);
        matches
    }

    /// The texts of a rule.
    pub(crate) fn show_rule(&self, origin: Origin) -> Option<Match> {
        let texts = |targets: &[crate::section::Target]| -> Vec<String> {
            targets.iter().map(|target| target.text.clone()).collect()
        };
        match origin {
            Origin::Implied => Some(Match {
                users: vec!["*".to_owned()],
                ports: vec!["*:*".to_owned()],
                line_number: 0,
                via: Vec::new(),
                postures: Vec::new(),
            }),
            Origin::Acl(index) => {
                let acl = self.policy.acls.as_ref()?.get(index)?;
                Some(Match {
                    users: texts(&acl.src),
                    ports: acl.dst_texts.clone(),
                    line_number: acl.place.line,
                    via: Vec::new(),
                    postures: self.policy.postures_of(acl.postures.as_ref()).to_vec(),
                })
            }
            Origin::Grant(index) => {
                let grant = self.policy.grants.as_ref()?.get(index)?;
                let ports = grant.dst.iter().flat_map(|target| {
                    let with = grant
                        .ip_texts
                        .iter()
                        .map(|ip| format!("{}:{ip}", target.text));
                    let bare = grant.ip_texts.is_empty().then(|| target.text.clone());
                    with.chain(bare).collect::<Vec<_>>()
                });
                Some(Match {
                    users: texts(&grant.src),
                    ports: ports.collect(),
                    line_number: grant.place.line,
                    via: texts(&grant.via),
                    postures: self.policy.postures_of(grant.postures.as_ref()).to_vec(),
                })
            }
        }
    }

    /// The assertions of all postures, by name, as previews show them.
    pub fn posture_assertions(&self) -> BTreeMap<String, Vec<String>> {
        let postures = self.program.postures.iter();
        postures
            .map(|(name, posture)| {
                let texts = posture
                    .assertions
                    .iter()
                    .map(|assertion| assertion.text.clone());
                (name.clone(), texts.collect())
            })
            .collect()
    }
}

fn tests_failed(place: Option<Place>, failures: Vec<(Place, Failure)>) -> Result<(), Diagnostic> {
    if failures.is_empty() {
        return Ok(());
    }
    Err(Diagnostic {
        message: "test(s) failed".to_owned(),
        place: place.unwrap_or_default(),
        failures: failures.into_iter().map(|(_, failure)| failure).collect(),
    })
}
