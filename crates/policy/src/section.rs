//! The sections of the policy file: how each is read and checked.

pub(crate) mod acls;
pub(crate) mod attr_config;
pub(crate) mod auto_approvers;
pub(crate) mod derp_map;
pub(crate) mod grants;
pub(crate) mod groups;
pub(crate) mod hosts;
pub(crate) mod ipsets;
pub(crate) mod node_attrs;
pub(crate) mod postures;
pub(crate) mod settings;
pub(crate) mod ssh;
pub(crate) mod tag_owners;
pub(crate) mod tests;

use crate::decode::Text;
use crate::diagnostic::{Diagnostic, Place};
use crate::hujson::quote;
use crate::selector::{Autogroup, Names, Selector};

/// A selector in a rule, with its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) selector: Selector,
    pub(crate) text: String,
    pub(crate) place: Place,
}

impl Target {
    fn new(text: &Text, selector: Selector) -> Self {
        Self {
            selector,
            text: text.text.clone(),
            place: text.place,
        }
    }
}

/// An error at a text's place.
fn refuse<T>(text: &Text, message: impl Into<String>) -> Result<T, Diagnostic> {
    Err(Diagnostic::new(text.place, message))
}

/// Reads the sources of an `acls` rule or a grant.
fn sources(names: &Names, texts: &[Text]) -> Result<Vec<Target>, Diagnostic> {
    texts
        .iter()
        .map(|text| {
            let selector = names.selector(&text.text);
            let selector = selector.or_else(|message| refuse(text, format!("src={message}")))?;
            match selector {
                Selector::Service(_)
                | Selector::Auto(
                    Autogroup::SelfDevices | Autogroup::Internet | Autogroup::NonRoot,
                ) => refuse(
                    text,
                    format!("{} not valid on the src side of a rule", quote(&text.text)),
                ),
                selector => Ok(Target::new(text, selector)),
            }
        })
        .collect()
}

/// Reads one destination of an `acls` rule or a grant; `host` is its text without ports.
fn destination(names: &Names, text: &Text, host: &str) -> Result<Target, Diagnostic> {
    let selector = names
        .selector(host)
        .or_else(|message| refuse(text, format!("dst={}: {message}", quote(host))))?;
    match selector {
        Selector::Auto(Autogroup::DangerAll) => {
            refuse(text, "cannot use autogroup:danger-all as a dst")
        }
        Selector::Auto(Autogroup::Shared | Autogroup::NonRoot) => refuse(
            text,
            format!("{} not valid on the dst side of a rule", quote(host)),
        ),
        Selector::Service(_) if host.len() == "svc:".len() => {
            refuse(text, format!("{} is not a valid service name", quote(host)))
        }
        selector => Ok(Target {
            selector,
            text: host.to_owned(),
            place: text.place,
        }),
    }
}

/// `autogroup:self` needs sources that are people. `acls` also let `*` stand for them.
fn check_self<'a>(
    place: Place,
    sources: &[Target],
    mut destinations: impl Iterator<Item = &'a Target>,
    everything: bool,
) -> Result<(), Diagnostic> {
    let own = Selector::Auto(Autogroup::SelfDevices);
    if destinations.all(|target| target.selector != own) {
        return Ok(());
    }
    let person = |target: &Target| match &target.selector {
        Selector::Everything => everything,
        Selector::User(_) | Selector::Domain(_) | Selector::Group(_) => true,
        Selector::Auto(group) => matches!(group, Autogroup::Member | Autogroup::Role(_)),
        _ => false,
    };
    if sources.iter().all(person) {
        return Ok(());
    }
    let message = "autogroup:self can only be used with users, groups, or supported autogroups";
    Err(Diagnostic::new(place, message))
}

/// Reads who may own a tag or approve routes: users, groups, tags and roles.
fn owners(names: &Names, texts: &[Text], context: &str) -> Result<Vec<Target>, Diagnostic> {
    texts
        .iter()
        .map(|text| {
            let selector = names
                .selector(&text.text)
                .or_else(|message| refuse(text, format!("{context}{message}")))?;
            match selector {
                Selector::User(_)
                | Selector::Domain(_)
                | Selector::Group(_)
                | Selector::Tag(_)
                | Selector::Auto(Autogroup::Member | Autogroup::Tagged | Autogroup::Role(_)) => {
                    Ok(Target::new(text, selector))
                }
                _ => refuse(
                    text,
                    format!("{context}invalid owner {}", quote(&text.text)),
                ),
            }
        })
        .collect()
}

/// Checks names of postures.
pub(crate) fn posture_names(
    names: &[Text],
    postures: &postures::Postures,
) -> Result<Vec<String>, Diagnostic> {
    names
        .iter()
        .map(|text| {
            if postures.contains_key(&text.text) {
                Ok(text.text.clone())
            } else {
                refuse(text, format!("posture not found: {}", quote(&text.text)))
            }
        })
        .collect()
}
