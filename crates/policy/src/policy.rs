//! A policy: parsed and checked, not yet applied to a tailnet.

use crate::budget::Budget;
use crate::decode::{Part, Reading, Text};
use crate::diagnostic::{Diagnostic, Place, Warning};
use crate::range::Ranges;
use crate::section::acls::{self, Acl};
use crate::section::attr_config::{self, AttributeConfig};
use crate::section::auto_approvers::{self, AutoApprovers};
use crate::section::derp_map;
use crate::section::grants::{self, Grant};
use crate::section::groups;
use crate::section::hosts;
use crate::section::ipsets;
use crate::section::node_attrs::{self, NodeAttrs};
use crate::section::postures::{self, Postures};
use crate::section::settings::{self, PolicySettings};
use crate::section::ssh::{self, SshRule, SshUser};
use crate::section::tag_owners;
use crate::section::tests::{self, AccessTest, SshTest};
use crate::section::{Target, posture_names};
use crate::selector::{Names, Selector, tag_name};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A policy file, parsed and checked.
#[derive(Debug, Clone)]
pub struct Policy {
    text: Arc<str>,
    pub(crate) names: Arc<Names>,
    pub(crate) ipsets: BTreeMap<String, Ranges>,
    pub(crate) tag_owners: BTreeMap<String, Vec<Target>>,
    pub(crate) postures: Postures,
    pub(crate) default_posture: Vec<String>,
    /// `None` where neither `acls` nor `grants` is in the file: everything is allowed then.
    pub(crate) acls: Option<Vec<Acl>>,
    pub(crate) grants: Option<Vec<Grant>>,
    pub(crate) auto_approvers: AutoApprovers,
    pub(crate) ssh: Vec<SshRule>,
    pub(crate) node_attrs: Vec<NodeAttrs>,
    pub(crate) attr_config: Vec<AttributeConfig>,
    pub(crate) tests: Vec<AccessTest>,
    pub(crate) ssh_tests: Vec<SshTest>,
    pub(crate) settings: PolicySettings,
    warnings: Vec<Warning>,
}

/// Errors of one file that are told at most.
const ERRORS_MAX: usize = 1000;

/// Estimated memory of a value in a tree of [`crate::hujson`], in bytes.
const TREE_VALUE: usize = 200;

const SECTIONS: &[&str] = &[
    "grants",
    "acls",
    "ssh",
    "groups",
    "hosts",
    "ipsets",
    "tagOwners",
    "autoApprovers",
    "nodeAttrs",
    "attrConfig",
    "postures",
    "defaultSrcPosture",
    "tests",
    "sshTests",
    "derpMap",
    "disableIPv4",
    "OneCGNATRoute",
    "randomizeClientPort",
    "nodeVisibility",
];

/// The sections as they stand in the file; they refer to each other, so that all must be known
/// before one is checked.
#[derive(Default)]
struct Sections<'a>(Vec<(&'static str, Part<'a>)>);

impl<'a> Sections<'a> {
    /// The section of this name: the last one, if it is repeated.
    fn get(&self, name: &str) -> Option<Part<'a>> {
        self.0
            .iter()
            .rev()
            .find(|(known, _)| *known == name)
            .map(|(_, part)| *part)
    }

    fn read<T: Default>(
        &self,
        name: &str,
        read: impl FnOnce(Part<'a>) -> Result<T, Diagnostic>,
    ) -> Result<T, Diagnostic> {
        self.get(name).map_or_else(|| Ok(T::default()), read)
    }

    fn rules<T>(
        &self,
        name: &str,
        read: impl Fn(Part<'a>) -> Result<T, Diagnostic>,
        errors: &mut Vec<Diagnostic>,
    ) -> Option<Vec<T>> {
        let section = self.get(name)?;
        let list = match section.list() {
            Ok(list) => list,
            Err(error) => {
                errors.push(error);
                return None;
            }
        };
        let mut rules = Vec::new();
        for part in list {
            let taken = section.budget().elements(1, size_of::<T>());
            match taken.map_err(Diagnostic::from).and_then(|()| read(part)) {
                Ok(rule) => rules.push(rule),
                Err(error) => {
                    let is_last = error.exhausted.is_some() || errors.len() >= ERRORS_MAX;
                    errors.push(error);
                    if is_last {
                        break;
                    }
                }
            }
        }
        Some(rules)
    }
}

impl Policy {
    /// Parses and checks a policy file.
    ///
    /// # Errors
    /// At least one diagnostic. The first is the one whose message the policy API answers; the
    /// others are what else could be found.
    pub fn parse(text: &str) -> Result<Self, Vec<Diagnostic>> {
        Self::parse_within(text, &Budget::default())
    }

    /// The same with a budget that is shared with the work that follows.
    ///
    /// # Errors
    /// As [`parse`](Self::parse); where the budget did not suffice the first diagnostic says so.
    pub fn parse_within(text: &str, budget: &Budget) -> Result<Self, Vec<Diagnostic>> {
        let one = |error: Diagnostic| vec![error];
        let reading = Reading::new(text, budget).map_err(one)?;
        let values = reading.values();
        // A file that is accepted is formatted for its ETag, as a tree.
        let tree = values
            .saturating_mul(TREE_VALUE)
            .saturating_add(text.len().saturating_mul(3));
        budget.bytes(tree).map_err(Diagnostic::from).map_err(one)?;
        budget.give_back(tree);
        budget
            .bytes(text.len())
            .map_err(Diagnostic::from)
            .map_err(one)?;
        let mut sections = Sections::default();
        let mut read = || {
            reading.root().members(SECTIONS, |name, part| {
                sections.0.retain(|(known, _)| *known != name);
                sections.0.push((name, part));
                Ok(())
            })
        };
        read().map_err(one)?;
        let outcome = read_sections(text, &sections, budget);
        // Where the work was given up, what was found so far is not the point.
        budget.check().map_err(Diagnostic::from).map_err(one)?;
        let mut policy = outcome?;
        drop(sections);
        policy.warnings = reading.finish(text);
        policy
            .warnings
            .sort_by_key(|warning| (warning.place.line, warning.place.column));
        Ok(policy)
    }

    /// What is odd about the file itself, in its order: what is written twice, and what has no
    /// effect. Not more than a hundred.
    pub fn warnings(&self) -> &[Warning] {
        &self.warnings
    }

    /// The file as it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Settings of the whole tailnet that stand in the file.
    pub const fn settings(&self) -> &PolicySettings {
        &self.settings
    }

    /// Whether the IPv4 address of any device can be hidden.
    pub fn hides_ipv4(&self) -> bool {
        let entries = &self.node_attrs;
        self.settings.disable_ipv4
            || entries
                .iter()
                .any(|entry| entry.attributes.iter().any(|name| name == "disable-ipv4"))
    }

    /// Types of custom attributes.
    pub fn attribute_config(&self) -> &[AttributeConfig] {
        &self.attr_config
    }

    /// The tags that the file declares, sorted.
    pub fn tags(&self) -> impl Iterator<Item = &str> {
        self.tag_owners.keys().map(String::as_str)
    }

    /// How many `tests` and `sshTests` the file has.
    pub fn test_count(&self) -> usize {
        self.tests.len() + self.ssh_tests.len()
    }

    /// The same policy with other tests than the file's own: a HuJSON array like `tests`, or an
    /// object with `tests` and `sshTests`. Places of failures are places in `text`.
    ///
    /// # Errors
    /// What is wrong with the tests.
    pub fn with_tests(&self, text: &str) -> Result<Self, Diagnostic> {
        let budget = Budget::default();
        let reading = Reading::new(text, &budget)?;
        let given = tests::read_given(reading.root(), &self.names)?;
        Ok(Self {
            tests: given.access,
            ssh_tests: given.ssh,
            ..self.clone()
        })
    }

    /// Checks that each domain in `user:*@domain` and `localpart:*@domain` is one of the
    /// tailnet's, spelled exactly so.
    ///
    /// # Errors
    /// The service's text for the first that is not.
    pub fn check_domains<'a>(
        &self,
        domains: impl IntoIterator<Item = &'a str> + Clone,
    ) -> Result<(), Diagnostic> {
        let foreign = |place: Place, section: &str, domain: &str| {
            if domains.clone().into_iter().any(|known| known == domain) {
                return Ok(());
            }
            Err(Diagnostic::new(
                place,
                format!(
                    "{section}{domain} is not associated with this Tailnet and cannot be used in \
                     user:*@<domain> expressions"
                ),
            ))
        };
        let check = |target: &Target, section: &str| match &target.selector {
            Selector::Domain(domain) => foreign(target.place, section, domain),
            _ => Ok(()),
        };
        for grant in self.grants.iter().flatten() {
            let mut targets = grant.src.iter().chain(&grant.dst);
            targets.try_for_each(|target| check(target, "[grants] "))?;
        }
        for acl in self.acls.iter().flatten() {
            let mut targets = acl
                .src
                .iter()
                .chain(acl.dst.iter().map(|(target, _)| target));
            targets.try_for_each(|target| check(target, "[acls] "))?;
        }
        for rule in &self.ssh {
            rule.src
                .iter()
                .try_for_each(|target| check(target, "[ssh] "))?;
            for user in &rule.users {
                if let SshUser::Localpart(domain, place) = user {
                    foreign(*place, "", domain)?;
                }
            }
        }
        Ok(())
    }

    /// The rules that hold where the file has neither `acls` nor `grants`.
    pub(crate) const fn allows_everything(&self) -> bool {
        self.acls.is_none() && self.grants.is_none()
    }

    /// The postures that hold for a rule: its own, or else the default ones.
    pub(crate) fn postures_of<'a>(&'a self, own: Option<&'a Vec<String>>) -> &'a [String] {
        own.unwrap_or(&self.default_posture)
    }
}

fn read_sections(
    text: &str,
    sections: &Sections<'_>,
    budget: &Budget,
) -> Result<Policy, Vec<Diagnostic>> {
    let mut errors = Vec::new();
    // What other sections refer to comes first. An error here would bring others in its train.
    let (names, ipsets, owner_texts, postures) =
        read_names(sections, budget).map_err(|error| vec![error])?;
    let mut keep = |error: Diagnostic| errors.push(error);
    let tag_owners = tag_owners::check(&owner_texts, &names).map_err(&mut keep);
    let default_posture = sections
        .read("defaultSrcPosture", |part| {
            posture_names(&part.texts()?, &postures)
        })
        .map_err(&mut keep);
    let acls = sections.rules(
        "acls",
        |part| acls::read(part, &names, &postures),
        &mut errors,
    );
    let grants = sections.rules(
        "grants",
        |part| grants::read(part, &names, &postures),
        &mut errors,
    );
    let auto_approvers = sections
        .read("autoApprovers", |part| auto_approvers::read(part, &names))
        .map_err(|error| errors.push(error));
    let ssh = sections.rules(
        "ssh",
        |part| ssh::read(part, &names, &postures),
        &mut errors,
    );
    let node_attrs = sections.rules(
        "nodeAttrs",
        |part| node_attrs::read(part, &names),
        &mut errors,
    );
    let mut keep = |error: Diagnostic| errors.push(error);
    let attr_config = sections
        .read("attrConfig", |part| attr_config::read(part, &names))
        .map_err(&mut keep);
    let settings = read_settings(sections).map_err(&mut keep);
    let tests = sections.rules("tests", tests::read_access, &mut errors);
    let ssh_tests = sections.rules(
        "sshTests",
        |part| tests::read_ssh(part, &names),
        &mut errors,
    );
    let (Ok(tag_owners), Ok(default_posture), Ok(auto_approvers), Ok(attr_config), Ok(settings)) = (
        tag_owners,
        default_posture,
        auto_approvers,
        attr_config,
        settings,
    ) else {
        return Err(errors);
    };
    if !errors.is_empty() {
        return Err(errors);
    }
    Ok(Policy {
        text: text.into(),
        names: Arc::new(names),
        ipsets,
        tag_owners,
        postures,
        default_posture,
        acls,
        grants,
        auto_approvers,
        ssh: ssh.unwrap_or_default(),
        node_attrs: node_attrs.unwrap_or_default(),
        attr_config,
        tests: tests.unwrap_or_default(),
        ssh_tests: ssh_tests.unwrap_or_default(),
        settings,
        warnings: Vec::new(),
    })
}

type NameSections = (
    Names,
    BTreeMap<String, Ranges>,
    Vec<(Text, Vec<Text>)>,
    Postures,
);

fn read_names(sections: &Sections<'_>, budget: &Budget) -> Result<NameSections, Diagnostic> {
    let group_list = sections.read("groups", groups::read)?;
    let groups = groups::check(&group_list)?;
    let hosts = sections.read("hosts", hosts::read)?;
    let sets = sections.read("ipsets", ipsets::read)?;
    let owner_texts = sections.read("tagOwners", tag_owners::read)?;
    let names = Names {
        groups,
        hosts,
        tags: owner_texts
            .iter()
            .map(|(tag, _)| tag_name(&tag.text))
            .collect(),
        ipsets: sets.iter().map(|(name, _)| name.text.clone()).collect(),
    };
    let ipsets = ipsets::resolve(&sets, &names, budget)?;
    let postures = sections.read("postures", postures::read)?;
    Ok((names, ipsets, owner_texts, postures))
}

fn read_settings(sections: &Sections<'_>) -> Result<PolicySettings, Diagnostic> {
    if let Some(part) = sections.get("nodeVisibility") {
        // Ignoring it would show devices that the file means to hide.
        return Err(Diagnostic::new(
            part.place(),
            "nodeVisibility is not supported",
        ));
    }
    Ok(PolicySettings {
        derp_map: sections.read("derpMap", |part| derp_map::read(part).map(Some))?,
        disable_ipv4: sections.read("disableIPv4", Part::bool)?,
        one_cgnat_route: sections.read("OneCGNATRoute", settings::one_cgnat_route)?,
        randomize_client_port: sections.read("randomizeClientPort", Part::bool)?,
    })
}
