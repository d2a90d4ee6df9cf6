//! Previews: the rules that concern a user or an address.

use super::Compiled;
use crate::budget::{Budget, Exhausted};
use crate::program::{Allows, Origin, touch};
use crate::selector::Selector;
use crate::topology::Owner;
use schemars::JsonSchema;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// What a preview is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PreviewTarget {
    /// Rules whose sources include the user with this login.
    User(String),
    /// Rules whose destinations include this address and port.
    IpPort(IpAddr, u16),
}

/// A rule that a preview found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "PolicyMatch")]
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

impl Compiled {
    /// The rules that concern a user or an address, in file order.
    ///
    /// # Errors
    /// The budget does not suffice.
    pub fn preview_within(
        &self,
        target: &PreviewTarget,
        budget: &Budget,
    ) -> Result<Vec<Match>, Exhausted> {
        let found = self.preview_budgeted(target, budget);
        budget.check().map(|()| found)
    }

    /// The rules that concern a user or an address, in file order. Takes whatever it takes.
    pub fn preview(&self, target: &PreviewTarget) -> Vec<Match> {
        self.preview_budgeted(target, &Budget::unlimited())
    }

    fn preview_budgeted(&self, target: &PreviewTarget, budget: &Budget) -> Vec<Match> {
        let mut origins: BTreeSet<Origin> = BTreeSet::new();
        match target {
            PreviewTarget::User(login) => {
                let selector = Selector::User(login.to_lowercase());
                let mut subjects = self.identity_subjects(&selector, budget);
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
                    let steps = subjects.len().saturating_mul(1 + source.atoms.len());
                    if !budget.allows(1 + steps) {
                        break;
                    }
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
                    if !budget.allows(1 + 2 * rule.entries.len()) {
                        break;
                    }
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
            .take_while(|origin| {
                // Twice: as texts, and as the answer.
                let size = self.shown_size(*origin);
                budget.elements(1, size.saturating_mul(2)).is_ok()
            })
            .filter_map(|origin| self.show_rule(origin))
            .collect();
        matches.sort_by_key(|found| found.line_number);
        matches
    }

    /// Memory of the texts of a rule, in bytes.
    pub(super) fn shown_size(&self, origin: Origin) -> usize {
        let texts = |targets: &[crate::section::Target]| -> usize {
            targets.iter().map(|target| 32 + target.text.len()).sum()
        };
        let own = |own: Option<&Vec<String>>| -> usize {
            let names = self.policy.postures_of(own).iter();
            names.map(|name| 32 + name.len()).sum()
        };
        match origin {
            Origin::Implied => 0,
            Origin::Acl(index) => {
                let acl = self.policy.acls.as_ref().and_then(|acls| acls.get(index));
                acl.map_or(0, |acl| {
                    let ports = acl.dst_texts.iter().map(|text| 32 + text.len());
                    texts(&acl.src) + ports.sum::<usize>() + own(acl.postures.as_ref())
                })
            }
            Origin::Grant(index) => {
                let grants = self.policy.grants.as_ref();
                grants
                    .and_then(|grants| grants.get(index))
                    .map_or(0, |grant| {
                        // Each destination with each entry of `ip`.
                        let ip: usize = grant.ip_texts.iter().map(String::len).sum();
                        let entries = grant.ip_texts.len().max(1);
                        let pairs = texts(&grant.dst)
                            .saturating_mul(entries)
                            .saturating_add(ip.saturating_mul(grant.dst.len()));
                        pairs + texts(&grant.src) + texts(&grant.via) + own(grant.postures.as_ref())
                    })
            }
        }
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
