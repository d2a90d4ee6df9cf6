//! Why a connection is allowed or denied.

use super::access::Subject;
use super::{Compiled, user_of};
use crate::budget::{Budget, Exhausted};
use crate::hujson::quote;
use crate::port;
use crate::program::{Allows, Origin, RawRule, touch};
use crate::section::Target;
use crate::selector::Selector;
use crate::set::Slot;
use crate::topology::Owner;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::net::IpAddr;

/// A question: may `src` connect to `dst`?
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// A device's name or address, a login, a tag, a group or a host of the policy.
    pub src: String,
    /// The same, with one port: `HOST:PORT`.
    pub dst: String,
    /// Protocol by name or number; `None` is TCP.
    pub protocol: Option<String>,
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "PolicyExplanation")]
pub struct Explanation {
    /// Every source may connect to every destination.
    pub allowed: bool,
    /// One entry for each pair of devices that differ to the policy; devices of one class stand
    /// for each other.
    pub pairs: Vec<Pair>,
    /// There were more pairs than are shown.
    pub truncated: bool,
}

/// What the policy says about two ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "PolicyPair")]
pub struct Pair {
    /// The source.
    pub src: End,
    /// The destination.
    pub dst: End,
    /// The source may connect.
    pub allowed: bool,
    /// Rules that allow it; if there are none, those that come close and what they lack.
    pub rules: Vec<Reason>,
}

/// One end of a connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "PolicyEnd")]
pub struct End {
    /// The device's name, or the text that was asked for.
    pub name: String,
    /// Addresses that are meant.
    pub addresses: Vec<String>,
    /// Login of the device's user, if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The device's tags.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
}

/// A rule's part in the answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "PolicyReason")]
pub struct Reason {
    /// `acls`, `grants`, or `implied` for the rule that holds where the file has neither.
    #[schemars(schema_with = "sections")]
    pub section: Cow<'static, str>,
    /// Line of the rule's opening brace, from 1.
    pub line: usize,
    /// The selectors that include the source.
    pub src: Vec<Named>,
    /// The selectors that include the destination.
    pub dst: Vec<Named>,
    /// What the rule says.
    #[serde(flatten)]
    pub verdict: Verdict,
}

/// A selector of a rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "PolicySelector")]
pub struct Named {
    /// As written, destinations with their ports.
    pub text: String,
    /// Line in the file.
    pub line: usize,
    /// Members of the group or prefixes of the IP set, the first few.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub members: Vec<String>,
    /// How many there are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub member_count: Option<usize>,
}

/// What a rule says about a connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(
    tag = "verdict",
    rename_all = "camelCase",
    rename_all_fields = "camelCase"
)]
#[schemars(rename = "PolicyRuleVerdict")]
pub enum Verdict {
    /// It allows it.
    Allows,
    /// The source is in none of its sources.
    SourceNotIncluded,
    /// The destination is in none of its destinations.
    DestinationNotIncluded,
    /// Everything fits but the port.
    PortNotIncluded,
    /// Everything fits but the protocol.
    ProtocolNotIncluded,
    /// Everything fits but the source's posture.
    PostureFailed {
        /// Each posture of the rule, with the first of its assertions that does not hold.
        postures: Vec<FailedPosture>,
    },
}

/// A posture that does not hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "PolicyFailedPosture")]
pub struct FailedPosture {
    /// `posture:name`
    pub name: String,
    /// Line of its definition.
    pub line: usize,
    /// The assertion.
    pub assertion: String,
}

fn sections(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "enum": ["acls", "grants", "implied"]})
}

/// Pairs that an answer shows at most.
const PAIRS: usize = 100;
/// Rules that come close, shown at most.
const NEAR: usize = 10;
/// Rules that allow one pair, shown at most.
const ALLOWING: usize = 100;
/// Members of a group shown at most.
const MEMBERS: usize = 20;

/// Why there is no explanation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unanswered {
    /// The question makes no sense, for this reason.
    #[error("{0}")]
    Senseless(String),
    /// The budget does not suffice.
    #[error(transparent)]
    Exhausted(#[from] Exhausted),
}

/// One connection that is asked about.
#[derive(Clone, Copy)]
struct Asked<'a> {
    source: &'a Subject,
    target: &'a Subject,
    protocol: u8,
    port: u16,
}

/// The texts of a rule as the file has it.
struct Written<'a> {
    section: &'static str,
    line: usize,
    src: Vec<&'a Target>,
    /// Destinations with the text that is shown for each.
    dst: Vec<(&'a Target, String)>,
}

impl Compiled {
    /// Answers why a connection is allowed or denied. Takes whatever it takes.
    ///
    /// # Errors
    /// What about the question makes no sense.
    pub fn explain(&self, question: &Question) -> Result<Explanation, String> {
        self.explain_budgeted(question, &Budget::unlimited())
    }

    /// Answers why a connection is allowed or denied, within a budget.
    ///
    /// # Errors
    /// The budget does not suffice, or the question makes no sense.
    pub fn explain_within(
        &self,
        question: &Question,
        budget: &Budget,
    ) -> Result<Explanation, Unanswered> {
        let answer = self.explain_budgeted(question, budget);
        budget.check()?;
        answer.map_err(Unanswered::Senseless)
    }

    fn explain_budgeted(
        &self,
        question: &Question,
        budget: &Budget,
    ) -> Result<Explanation, String> {
        let (host, port) = port::split_host_port(&question.dst)?;
        let protocol = match &question.protocol {
            None => 6,
            Some(text) => port::parse_protocol(text)?,
        };
        let number = match port.parse::<u16>() {
            Ok(number) => number,
            Err(_) if port == "*" && !port::has_ports(protocol) => 0,
            Err(_) => return Err(format!("invalid port {}: give one number", quote(port))),
        };
        let sources = self.ends(&question.src, false, budget)?;
        let targets = self.ends(host, true, budget)?;
        // What is denied is what the question is about.
        let (mut denied, mut pairs) = (Vec::new(), Vec::new());
        let mut count = 0;
        let mut allowed = true;
        for source in &sources {
            for target in &targets {
                if !budget.allows(1) {
                    break;
                }
                let asked = Asked {
                    source,
                    target,
                    protocol,
                    port: number,
                };
                let pair = self.explain_pair(&asked, question, host, budget);
                allowed &= pair.allowed;
                count += 1;
                let list = if pair.allowed {
                    &mut pairs
                } else {
                    &mut denied
                };
                if list.len() < PAIRS {
                    list.push(pair);
                }
            }
        }
        let truncated = count > PAIRS;
        denied.append(&mut pairs);
        let mut pairs = denied;
        pairs.truncate(PAIRS);
        Ok(Explanation {
            allowed,
            pairs,
            truncated,
        })
    }

    /// Whether the policy lets one address connect to another, as far as rules go.
    pub fn allows_connection(
        &self,
        source: IpAddr,
        target: IpAddr,
        protocol: u8,
        port: u16,
    ) -> bool {
        self.connects(source, target, protocol, port, &Budget::unlimited())
    }

    pub(super) fn connects(
        &self,
        source: IpAddr,
        target: IpAddr,
        protocol: u8,
        port: u16,
        budget: &Budget,
    ) -> bool {
        let _ = budget.elements(100 + 2 * self.routes.len(), 0);
        let source = self.address_subject(source, false);
        let target = self.address_subject(target, true);
        self.rules_from(&source, budget)
            .iter()
            .filter_map(|rule| self.program.rule(*rule))
            .take_while(|rule| budget.allows(1 + 2 * rule.entries.len()))
            .any(|rule| self.allows(rule, &source, &target, &[protocol], port))
    }

    fn ends(&self, text: &str, destination: bool, budget: &Budget) -> Result<Vec<Subject>, String> {
        let _ = budget.elements(self.devices.len() + self.routes.len(), 0);
        let named = self.devices.iter().zip(0..).find(|(state, _)| {
            state
                .as_ref()
                .is_some_and(|state| state.device.name == text)
        });
        if let Some((_, slot)) = named {
            return Ok(self.device_subject(slot).into_iter().collect());
        }
        let selector = self.policy.names.selector(text).map_err(|error| {
            // A word that could be a name was meant as one.
            let is_word = !text.is_empty() && !text.contains([':', '/', '@', '*']);
            if is_word {
                format!(
                    "there is no device, user, tag, group or host {}",
                    quote(text)
                )
            } else {
                error
            }
        });
        match selector? {
            Selector::Prefix(prefix) if prefix.prefix_len() == prefix.max_prefix_len() => {
                Ok(vec![self.address_subject(prefix.addr(), destination)])
            }
            Selector::User(_) | Selector::Group(_) | Selector::Tag(_) | Selector::Auto(_) => {
                self.subjects(text, None, budget)
            }
            _ => Err(format!(
                "{} is not one device, address, user, group or tag",
                quote(text)
            )),
        }
    }

    fn explain_pair(
        &self,
        asked: &Asked<'_>,
        question: &Question,
        host: &str,
        budget: &Budget,
    ) -> Pair {
        let (source, target) = (asked.source, asked.target);
        let mut allowing = Vec::new();
        let mut near: Vec<(usize, Reason)> = Vec::new();
        let mut seen: Option<Origin> = None;
        for rule in &self.program.rules {
            if !matches!(rule.allows, Allows::Ports(_)) {
                continue;
            }
            let atoms = self
                .program
                .source(rule.source)
                .map_or(0, |def| def.atoms.len());
            if !budget.allows(2 + atoms + 2 * rule.entries.len()) {
                break;
            }
            let verdict = self.verdict(rule, asked);
            let rank = match &verdict {
                Verdict::Allows => 0,
                Verdict::PostureFailed { .. } => 1,
                Verdict::PortNotIncluded => 2,
                Verdict::ProtocolNotIncluded => 3,
                Verdict::SourceNotIncluded => 4,
                Verdict::DestinationNotIncluded => 5,
            };
            let reason = || {
                // The rule's texts are gone through, and what fits is kept.
                let size = self.shown_size(rule.origin);
                let _ = budget.elements(size / 4, 0);
                let _ = budget.bytes(size);
                self.reason(rule, source, target, verdict.clone())
            };
            if rank == 0 {
                // One rule of the file may be several raw ones.
                let is_new = seen.replace(rule.origin) != Some(rule.origin);
                if allowing.is_empty() || (is_new && allowing.len() < ALLOWING) {
                    allowing.push(reason());
                }
            } else if allowing.is_empty() && near.len() < 10 * NEAR {
                let reason = reason();
                // A rule that has neither end does not come close.
                if rank < 4 || !reason.src.is_empty() || !reason.dst.is_empty() {
                    near.push((rank, reason));
                }
            }
        }
        near.sort_by_key(|(rank, _)| *rank);
        near.dedup_by(|left, right| left.1 == right.1);
        near.truncate(NEAR);
        let allowed = !allowing.is_empty();
        let rules = if allowed {
            allowing
        } else {
            near.into_iter().map(|(_, reason)| reason).collect()
        };
        Pair {
            src: self.end(source, &question.src),
            dst: self.end(target, host),
            allowed,
            rules,
        }
    }

    fn verdict(&self, rule: &RawRule, asked: &Asked<'_>) -> Verdict {
        let Asked {
            source,
            target,
            protocol,
            port,
        } = *asked;
        let Some(def) = self.program.source(rule.source) else {
            return Verdict::SourceNotIncluded;
        };
        let is_source = |atom: &u32| source.standing.flags(*atom) & touch::OWN != 0;
        if !def.atoms.iter().any(is_source) {
            return Verdict::SourceNotIncluded;
        }
        let reached: Vec<_> = rule
            .entries
            .iter()
            .filter(|entry| self.reaches(rule, entry.atom, source, target))
            .collect();
        if reached.is_empty() {
            return Verdict::DestinationNotIncluded;
        }
        if let Allows::Ports(Some(number)) = rule.allows
            && number != protocol
        {
            return Verdict::ProtocolNotIncluded;
        }
        if matches!(rule.allows, Allows::Ports(None)) && !port::UNSPECIFIED.contains(&protocol) {
            return Verdict::ProtocolNotIncluded;
        }
        let fits = |ports: &crate::port::PortRange| ports.contains(port);
        if port::has_ports(protocol) && !reached.iter().any(|entry| entry.ports.iter().any(fits)) {
            return Verdict::PortNotIncluded;
        }
        if !source.standing.passes(&def.postures) {
            return Verdict::PostureFailed {
                postures: self.failed_postures(&def.postures, source),
            };
        }
        Verdict::Allows
    }

    fn failed_postures(&self, postures: &[usize], source: &Subject) -> Vec<FailedPosture> {
        let attributes = source
            .slot
            .and_then(|slot| self.state(slot))
            .map(|state| state.device.attributes.clone())
            .unwrap_or_default();
        postures
            .iter()
            .filter_map(|posture| self.program.postures.get(*posture))
            .filter_map(|(name, posture)| {
                let assertion = posture.failure(&attributes)?;
                Some(FailedPosture {
                    name: name.clone(),
                    line: posture.place.line,
                    assertion: assertion.text.clone(),
                })
            })
            .collect()
    }

    fn reason(
        &self,
        rule: &RawRule,
        source: &Subject,
        target: &Subject,
        verdict: Verdict,
    ) -> Reason {
        let Some(written) = self.written(rule.origin) else {
            let everything = || Named {
                text: "*".to_owned(),
                line: 0,
                members: Vec::new(),
                member_count: None,
            };
            return Reason {
                section: "implied".into(),
                line: 0,
                src: vec![everything()],
                dst: vec![everything()],
                verdict,
            };
        };
        let src = written.src.iter().filter(|named| self.is_in(named, source));
        let dst = written.dst.iter().filter(|(named, _)| {
            let own = named.selector == Selector::Auto(crate::selector::Autogroup::SelfDevices);
            if own {
                return target.user.is_some() && target.user == source.user;
            }
            self.is_in(named, target)
        });
        Reason {
            section: written.section.into(),
            line: written.line,
            src: src
                .map(|named| self.named(named, named.text.clone()))
                .collect(),
            dst: dst
                .map(|(named, text)| self.named(named, text.clone()))
                .collect(),
            verdict,
        }
    }

    fn written(&self, origin: Origin) -> Option<Written<'_>> {
        match origin {
            Origin::Implied => None,
            Origin::Acl(index) => {
                let acl = self.policy.acls.as_ref()?.get(index)?;
                let dst = acl.dst.iter().zip(&acl.dst_texts);
                Some(Written {
                    section: "acls",
                    line: acl.place.line,
                    src: acl.src.iter().collect(),
                    dst: dst
                        .map(|((target, _), text)| (target, text.clone()))
                        .collect(),
                })
            }
            Origin::Grant(index) => {
                let grant = self.policy.grants.as_ref()?.get(index)?;
                let ports = grant.ip_texts.join(", ");
                let show = |target: &Target| format!("{} ({ports})", target.text);
                Some(Written {
                    section: "grants",
                    line: grant.place.line,
                    src: grant.src.iter().collect(),
                    dst: grant
                        .dst
                        .iter()
                        .map(|target| (target, show(target)))
                        .collect(),
                })
            }
        }
    }

    /// Whether a selector includes one end of the connection.
    fn is_in(&self, named: &Target, subject: &Subject) -> bool {
        if let Selector::IpSet(name) = &named.selector {
            let Some(ranges) = self.policy.ipsets.get(name) else {
                return false;
            };
            let state = subject.slot.and_then(|slot| self.state(slot));
            let own = state
                .map(|state| state.device.addresses.clone())
                .unwrap_or_default();
            let addresses = subject.address.map_or(own, |address| vec![address]);
            return addresses.iter().any(|address| ranges.contains(*address));
        }
        self.program
            .index
            .get(&named.selector)
            .is_some_and(|atom| subject.standing.flags(*atom) & touch::OWN != 0)
    }

    fn named(&self, target: &Target, text: String) -> Named {
        fn first(members: impl Iterator<Item = String>) -> Vec<String> {
            members.take(MEMBERS).collect()
        }
        let (members, count): (Vec<String>, usize) = match &target.selector {
            Selector::Group(name) => match self.policy.names.groups.get(name) {
                Some(members) => (first(members.iter().cloned()), members.len()),
                None => self.groups.get(name).map_or((Vec::new(), 0), |group| {
                    (first(group.iter().cloned()), group.len())
                }),
            },
            Selector::IpSet(name) => match self.policy.ipsets.get(name) {
                Some(ranges) => {
                    let shown = ranges.prefixes().map(crate::range::show);
                    (first(shown), ranges.prefixes().count())
                }
                None => (Vec::new(), 0),
            },
            Selector::Prefix(prefix) => {
                let shown = crate::range::show(*prefix);
                if shown == target.text {
                    (Vec::new(), 0)
                } else {
                    (vec![shown], 1)
                }
            }
            Selector::Tag(_) => {
                let atom = self.program.index.get(&target.selector);
                let set = atom
                    .and_then(|atom| self.atom_state(*atom))
                    .map(|atom| &atom.touch);
                let slots = set.into_iter().flat_map(crate::set::DeviceSet::iter);
                let states = slots.filter_map(|slot| self.state(slot));
                (
                    first(states.map(|state| state.device.name.clone())),
                    set.map_or(0, crate::set::DeviceSet::len),
                )
            }
            _ => (Vec::new(), 0),
        };
        let member_count = (!members.is_empty()).then_some(count);
        Named {
            text,
            line: target.place.line,
            members,
            member_count,
        }
    }

    fn end(&self, subject: &Subject, asked: &str) -> End {
        let state = subject.slot.and_then(|slot: Slot| self.state(slot));
        let Some(state) = state else {
            let addresses = subject.address.iter().map(ToString::to_string).collect();
            return End {
                name: asked.to_owned(),
                addresses,
                user: None,
                tags: Vec::new(),
            };
        };
        let device = &state.device;
        let user = user_of(&device.owner).and_then(|id| self.users.get(&id));
        let own = state.strings.iter().map(ToString::to_string).collect();
        End {
            name: device.name.clone(),
            addresses: subject
                .address
                .map_or(own, |address| vec![address.to_string()]),
            user: user.map(|user| user.login.clone()),
            tags: match &device.owner {
                Owner::Tags(tags) => tags.clone(),
                Owner::User(_) => Vec::new(),
            },
        }
    }
}
