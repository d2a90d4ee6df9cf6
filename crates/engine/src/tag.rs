//! Who may assign which tags.
//!
//! Source: `api-behaviour` facts, section 4.4.

use std::collections::BTreeSet;

use bowline_model::tag::Tag;
use bowline_netmap::snapshot::Snapshot;
use bowline_policy::Principal as Asking;

use crate::actor::{Actor, Principal};
use crate::failure::Refusal;

/// Text of a refusal, which names the tags that it is about. Official clients show it.
pub(crate) fn refused<T: AsRef<str>>(tags: &[T]) -> Refusal {
    let tags: Vec<&str> = tags.iter().map(AsRef::as_ref).collect();
    Refusal::Invalid(format!(
        "requested tags [{}] are invalid or not permitted",
        tags.join(" ")
    ))
}

/// The tags that an actor asks for, if the policy in force lets them assign every one. Upper case
/// and repetitions do not matter.
///
/// # Errors
/// `Invalid` naming those that are no tags, or not to be had, in the order given.
pub(crate) fn permitted(
    snapshot: &Snapshot,
    actor: &Actor,
    texts: &[String],
) -> Result<BTreeSet<Tag>, Refusal> {
    if texts.is_empty() {
        return Ok(BTreeSet::new());
    }
    let asking = match &actor.principal {
        Principal::User { id, .. } => Asking::User(id.get()),
        Principal::Operator => Asking::Unlimited,
    };
    let tags: Vec<Option<Tag>> = texts.iter().map(|text| text.parse().ok()).collect();
    let names: Vec<String> = tags.iter().flatten().map(ToString::to_string).collect();
    let may_not = match snapshot.compiled().may_assign_tags(asking, &names) {
        Ok(()) => Vec::new(),
        Err(refused) => refused,
    };
    let mut bad: Vec<&str> = Vec::new();
    for (text, tag) in texts.iter().zip(&tags) {
        let is_bad = tag
            .as_ref()
            .is_none_or(|tag| may_not.iter().any(|name| name == tag.as_str()));
        if is_bad && !bad.contains(&text.as_str()) {
            bad.push(text);
        }
    }
    if !bad.is_empty() {
        return Err(refused(&bad));
    }
    Ok(tags.into_iter().flatten().collect())
}
