//! The policy file: replace it, reset it, judge a proposed one.
//!
//! Source: `docs/protocol/policy-language.md`, section 14; `docs/protocol/api-behaviour.md`, section 5.7.

use std::sync::Arc;

use bowline_model::event::{Event, TailnetRef};
use bowline_model::policy_file::{PolicyFile, PolicyRef};
use bowline_model::requirement::Denied;
use bowline_model::user::Role;
use bowline_netmap::snapshot::Snapshot;
use bowline_policy::{
    Budget, Compiled, DEFAULT_POLICY, Diagnostic, Exhausted, Failure, Policy, Warning, hujson,
};

use crate::core::actor::Actor;
use crate::core::draft::Draft;
use crate::core::engine::Engine;
use crate::core::failure::StoreFailure;
use crate::device::approval::approve_all_routes;
use crate::logs::retention::clear_up_after;

/// `If-Match` for a tailnet that still has its untouched default.
const UNTOUCHED: &str = "ts-default";

/// Domains where everybody can have an address, so that having one says nothing of who they work
/// for: `user:*@gmail.com` must not be the members of a tailnet.
const PUBLIC_MAIL: [&str; 30] = [
    "126.com",
    "163.com",
    "aol.com",
    "duck.com",
    "fastmail.com",
    "gmail.com",
    "gmx.at",
    "gmx.ch",
    "gmx.com",
    "gmx.de",
    "gmx.net",
    "googlemail.com",
    "hey.com",
    "hotmail.com",
    "icloud.com",
    "live.com",
    "mac.com",
    "mail.com",
    "mail.ru",
    "me.com",
    "msn.com",
    "outlook.com",
    "pm.me",
    "proton.me",
    "protonmail.com",
    "qq.com",
    "web.de",
    "yahoo.com",
    "yandex.ru",
    "zoho.com",
];

/// Which policy file must be in force for another to take its place, or for the caller to be sent
/// it. Source: RFC 9110, section 13.1; of what official clients send: `docs/protocol/api-behaviour.md`, 5.7.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Expected {
    /// `If-Match`: one of these. `None`: whatever it is.
    matches: Option<Tags>,
    /// `If-None-Match`: none of these.
    differs: Option<Tags>,
}

/// The tags of a condition.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Tags {
    /// `*`: every file, and there is always one.
    Every,
    /// These, without quotes.
    List(Vec<Tag>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Tag {
    text: String,
    is_weak: bool,
}

impl Tags {
    /// Reads the lines of a header; `None` where there are none. Official clients send a tag with
    /// quotes, older ones without.
    fn parse<'a>(lines: impl Iterator<Item = &'a str>) -> Option<Self> {
        let lines: Vec<&str> = lines.collect();
        if lines.is_empty() {
            return None;
        }
        let mut tags = Vec::new();
        for line in lines {
            if line.trim() == "*" {
                return Some(Self::Every);
            }
            let mut rest = line.trim();
            while !rest.is_empty() {
                let (is_weak, from) = match rest.strip_prefix("W/") {
                    Some(rest) => (true, rest),
                    None => (false, rest),
                };
                let (text, after) = match from.strip_prefix('"') {
                    // A comma between quotes is of the tag.
                    Some(quoted) => quoted.split_once('"').unwrap_or(("", "")),
                    None => from.split_at(from.find(',').unwrap_or(from.len())),
                };
                let text = text.trim().to_owned();
                if !text.is_empty() {
                    tags.push(Tag { text, is_weak });
                }
                rest = after.trim_start().trim_start_matches(',').trim_start();
            }
        }
        Some(Self::List(tags))
    }

    /// Whether a file has one of them. A weak tag says only that a file means the same, which is
    /// not enough to replace it.
    fn have(&self, file: &PolicyFile, weak_counts: bool) -> bool {
        let Self::List(tags) = self else { return true };
        let mut etag_of_file = None;
        tags.iter()
            .filter(|tag| weak_counts || !tag.is_weak)
            .any(|tag| {
                if tag.text == UNTOUCHED {
                    return file.text.is_none();
                }
                let etag_of_file = etag_of_file.get_or_insert_with(|| etag(text(file)));
                *etag_of_file == tag.text
            })
    }
}

impl Expected {
    /// Reads the lines of `If-Match` and `If-None-Match`; `None` without either.
    pub fn parse<'a>(
        matches: impl Iterator<Item = &'a str>,
        differs: impl Iterator<Item = &'a str>,
    ) -> Option<Self> {
        let expected = Self {
            matches: Tags::parse(matches),
            differs: Tags::parse(differs),
        };
        (expected != Self::default()).then_some(expected)
    }

    /// One with this `ETag`, without quotes.
    pub fn etag(text: &str) -> Self {
        let text = text.to_owned();
        let is_weak = false;
        Self {
            matches: Some(Tags::List(vec![Tag { text, is_weak }])),
            differs: None,
        }
    }

    /// Whether a file may be replaced.
    pub fn holds(&self, file: &PolicyFile) -> bool {
        let is_one = |tags: &Tags| tags.have(file, false);
        self.matches.as_ref().is_none_or(is_one) && !self.is_known(file)
    }

    /// Whether the caller has a file already, by what they say with `If-None-Match`.
    pub fn is_known(&self, file: &PolicyFile) -> bool {
        self.differs
            .as_ref()
            .is_some_and(|tags| tags.have(file, true))
    }
}

/// Why a policy file was not set. Nothing has changed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum PolicyRefused {
    /// The actor may not change it, or is nobody any more.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// Another policy file is in force than the caller knows. Clients match on the text.
    #[error("precondition failed, invalid old hash")]
    Outdated,
    /// It is not for this tailnet, or one of its tests fails.
    #[error("{0}")]
    Wrong(Box<Diagnostic>),
    /// It could not be stored.
    #[error(transparent)]
    Store(#[from] StoreFailure),
}

impl From<Diagnostic> for PolicyRefused {
    fn from(diagnostic: Diagnostic) -> Self {
        Self::Wrong(Box::new(diagnostic))
    }
}

/// The text of a policy file, which is the default until somebody sets one.
pub fn text(file: &PolicyFile) -> &str {
    file.text.as_deref().unwrap_or(DEFAULT_POLICY)
}

/// The `ETag` of a policy file, without quotes: the SHA-256 of the text in canonical layout, in
/// lower-case hexadecimal. `gitops-pusher` computes the same of its file.
pub fn etag(text: &str) -> String {
    // Only what was parsed is ever stored; a text of a newer version may be no HuJSON to this one.
    let formatted = hujson::format(text).unwrap_or_else(|_| text.to_owned());
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, formatted.as_bytes());
    data_encoding::HEXLOWER.encode(hash.as_ref())
}

/// The domains that are a tailnet's own: that of its organisation name, and that of its owner.
///
/// Not those of its other users. The real service refuses `user:*@example.org` in a tailnet of
/// example.com with an administrator from example.org (recordings `ssh-b4`, `ssh-d1`): to invite
/// somebody must not open the policy to everybody who has an address beside theirs. The owner's
/// counts because an organisation name may be any word here. Where people can get an address just
/// so, the domain is nobody's own.
fn domains(snapshot: &Snapshot) -> Vec<String> {
    let owners = snapshot.users().filter(|user| user.role == Role::Owner);
    let logins = owners.map(|user| user.login_name.as_str());
    let mut domains: Vec<String> = logins
        .chain([snapshot.tailnet().name.as_str()])
        .map(|name| name.rsplit('@').next().unwrap_or(name).to_lowercase())
        // "github" and "passkey" stand behind the @ of many login names and are not domains.
        .filter(|domain| domain.contains('.') && !PUBLIC_MAIL.contains(&domain.as_str()))
        .collect();
    domains.dedup();
    domains
}

/// Whether a policy could be a tailnet's: it speaks of no other's domains.
///
/// # Errors
/// The service's text for the first domain that is not the tailnet's.
pub fn check_domains(snapshot: &Snapshot, policy: &Policy) -> Result<(), Diagnostic> {
    let domains = domains(snapshot);
    policy.check_domains(domains.iter().map(String::as_str))
}

/// Whether a policy could be put into force on a tailnet as it is: its domains, then its tests.
/// Returns what it would be there.
///
/// # Errors
/// What is wrong, with the failed tests, or that the budget does not suffice.
pub fn judge(
    snapshot: &Snapshot,
    policy: &Arc<Policy>,
    budget: &Budget,
) -> Result<Compiled, Diagnostic> {
    check_domains(snapshot, policy)?;
    let compiled = snapshot.compiled().with_policy_within(policy, budget)?;
    compiled.run_tests_within(budget)?;
    Ok(compiled)
}

/// What is odd about a policy on its tailnet and does not keep it out: first what its text says
/// twice or in vain, then who and what the tailnet does not have.
pub fn oddities(compiled: &Compiled) -> Vec<Failure> {
    let mut all: Vec<Failure> = compiled.policy().warnings().iter().map(oddity).collect();
    all.extend(compiled.unknown_members());
    all.extend(compiled.unsynced_groups());
    all
}

/// Those among them that the policy API tells whether or not it is asked for details.
pub fn plain_oddities(compiled: &Compiled) -> Vec<Failure> {
    let warnings = compiled.policy().warnings().iter();
    let mut all: Vec<Failure> = warnings
        .filter(|warning| warning.is_repetition)
        .map(oddity)
        .collect();
    all.extend(compiled.unsynced_groups());
    all
}

fn oddity(warning: &Warning) -> Failure {
    Failure {
        user: format!("line {}", warning.place.line),
        warnings: vec![warning.message.clone()],
        place: warning.place,
        ..Failure::default()
    }
}

impl Engine {
    /// Puts a policy into force, or with `None` the default again. Its tests run first, and routes
    /// that it approves are enabled, all in one step. The text that is in force already changes
    /// nothing. Returns the file as it is then.
    ///
    /// # Errors
    /// `Outdated` where another file than the expected one is in force; `Wrong` with what is wrong
    /// on this tailnet.
    pub async fn set_policy_file(
        &self,
        actor: &Actor,
        policy: Option<Arc<Policy>>,
        expected: Option<Expected>,
    ) -> Result<Arc<PolicyFile>, PolicyRefused> {
        let is_reset = policy.is_none();
        let policy = match policy {
            Some(policy) => policy,
            None => Arc::new(
                Policy::parse(DEFAULT_POLICY)
                    .map_err(|_| StoreFailure::Defect("the default policy is wrong"))?,
            ),
        };
        self.write(actor, move |draft| {
            beside_others(|| replace(draft, &policy, is_reset, expected.as_ref()))
        })
        .await
    }
}

/// The one step in which a policy file takes another's place.
fn replace(
    draft: &mut Draft<'_>,
    policy: &Arc<Policy>,
    is_reset: bool,
    expected: Option<&Expected>,
) -> Result<Arc<PolicyFile>, PolicyRefused> {
    let old = draft.view().policy().clone();
    if expected.is_some_and(|expected| !expected.holds(&old)) {
        return Err(PolicyRefused::Outdated);
    }
    check_domains(draft.view(), policy)?;
    let new = if is_reset {
        PolicyFile {
            text: None,
            updated: None,
        }
    } else {
        PolicyFile {
            text: Some(policy.text().to_owned()),
            updated: Some(draft.now()),
        }
    };
    if new.text == old.text {
        draft.view().compiled().run_tests()?;
        return Ok(old);
    }
    let tailnet = TailnetRef::of(draft.view().tailnet());
    draft.audit(Event::PolicyFile {
        tailnet,
        old: PolicyRef::of(text(&old)),
        new: PolicyRef::of(policy.text()),
    });
    if old.text.is_none() {
        // No change has kept the default yet.
        draft.keep_text(text(&old));
    }
    draft.keep_text(policy.text());
    clear_up_after(draft);
    // In the draft first, so that the tests, the routes and the publication share one
    // compilation. A refusal leaves no trace of it.
    draft.put_parsed_policy(new, policy.clone());
    // It was within its budget on the tailnet as it was; what is beyond any budget is not put into
    // force, where it would allow nothing.
    if draft.view().policy_fault().is_some() {
        return Err(Diagnostic::from(Exhausted::Steps).into());
    }
    draft.view().compiled().run_tests()?;
    approve_all_routes(draft);
    Ok(draft.view().policy().clone())
}

/// Runs work that can take long, such as applying a large policy, so that other tasks of the
/// runtime go on meanwhile.
fn beside_others<T>(work: impl FnOnce() -> T) -> T {
    let has_others = tokio::runtime::Handle::try_current().is_ok_and(|runtime| {
        runtime.runtime_flavor() == tokio::runtime::RuntimeFlavor::MultiThread
    });
    if has_others {
        tokio::task::block_in_place(work)
    } else {
        work()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_are_read_as_http_has_them_and_as_clients_send_them() {
        let none = std::iter::empty;
        let file = |text: Option<&str>| PolicyFile {
            text: text.map(str::to_owned),
            updated: None,
        };
        let (set, untouched) = (file(Some("{}")), file(None));
        let tag = etag("{}");
        let if_match = |lines: &[&str]| Expected::parse(lines.iter().copied(), none()).unwrap();
        let if_none = |lines: &[&str]| Expected::parse(none(), lines.iter().copied()).unwrap();
        assert_eq!(Expected::parse(none(), none()), None);
        assert_eq!(if_match(&[&tag]), Expected::etag(&tag));
        for line in [
            tag.clone(),
            format!("\"{tag}\""),
            format!(" \"{tag}\" "),
            format!("\"x\", \"{tag}\""),
            format!("\"a,b\",\"{tag}\""),
            format!("W/\"y\" , {tag}"),
            "*".to_owned(),
        ] {
            assert!(if_match(&[&line]).holds(&set), "{line}");
            assert!(if_none(&[&line]).is_known(&set), "{line}");
            assert!(!if_none(&[&line]).holds(&set), "{line}");
        }
        assert!(
            if_match(&["\"x\"", &format!("\"{tag}\"")]).holds(&set),
            "two lines"
        );
        let weak = format!("W/\"{tag}\"");
        assert!(!if_match(&[&weak]).holds(&set), "weak tags do not replace");
        assert!(
            if_none(&[&weak]).is_known(&set),
            "and are enough to know it"
        );
        // A text that is not a tag of ours matches nothing.
        for line in ["", "\"\"", "\"", "\"abc", ",", "\"abc\""] {
            assert!(!if_match(&[line]).holds(&set), "{line}");
            assert!(!if_none(&[line]).is_known(&set), "{line}");
        }
        for line in ["\"ts-default\"", "ts-default", " \"ts-default\" "] {
            assert!(if_match(&[line]).holds(&untouched) && !if_match(&[line]).holds(&set));
        }
    }

    #[test]
    fn texts_that_differ_in_layout_share_an_etag() {
        // The hash of "{}" and a newline.
        let known = "ca3d163bab055381827226140568f3bef7eaac187cebd76878e0b63e9e442356";
        for text in ["{}", "{ }\n", "\n\n{}"] {
            assert_eq!(etag(text), known, "{text:?}");
        }
        assert_ne!(etag("{} // why\n"), known);
        assert_eq!(etag("no policy").len(), 64);
    }

    #[test]
    fn the_default_policy_is_in_canonical_layout() {
        assert_eq!(hujson::format(DEFAULT_POLICY).unwrap(), DEFAULT_POLICY);
        assert!(Policy::parse(DEFAULT_POLICY).is_ok());
    }

    #[test]
    fn public_mail_domains_are_sorted_and_in_lower_case() {
        assert!(PUBLIC_MAIL.is_sorted());
        assert!(PUBLIC_MAIL.iter().all(|name| *name == name.to_lowercase()));
    }
}
