//! Who may assign which tags.
//!
//! Source: `docs/protocol/api-behaviour.md`, section 4.4.

use std::collections::{BTreeSet, HashSet};

use bowline_model::id::KeyId;
use bowline_model::principal::{Principal, TrustCredential};
use bowline_model::scope::Scope;
use bowline_model::tag::Tag;
use bowline_netmap::snapshot::Snapshot;
use bowline_policy::TagAssigner;

use crate::core::actor::Actor;
use crate::core::failure::Refusal;

/// Text of a refusal, which names the tags that it is about. Official clients show it.
pub(crate) fn refused<T: AsRef<str>>(tags: &[T]) -> Refusal {
    let tags: Vec<&str> = tags.iter().map(AsRef::as_ref).collect();
    Refusal::Invalid(format!(
        "requested tags [{}] are invalid or not permitted",
        tags.join(" ")
    ))
}

/// The most tags of a device, an auth key or a login.
pub(crate) const TAGS_MAX: usize = 256;

/// Refuses a list of tags that is longer than any may be. To be asked before the list reaches the
/// writer.
pub(crate) fn check_count(texts: &[String]) -> Result<(), Refusal> {
    if texts.len() > TAGS_MAX {
        return Err(Refusal::invalid(format!(
            "at most {TAGS_MAX} tags are possible, not {}",
            texts.len()
        )));
    }
    Ok(())
}

/// The tags that an actor asks for, if the policy in force lets them assign every one. Upper case
/// and repetitions do not matter.
///
/// # Errors
/// `Invalid` naming those that are not tags or cannot be had, in the order given.
pub(crate) fn permitted(
    snapshot: &Snapshot,
    actor: &Actor,
    texts: &[String],
) -> Result<BTreeSet<Tag>, Refusal> {
    check_count(texts)?;
    if texts.is_empty() {
        return Ok(BTreeSet::new());
    }
    let own;
    let asking = match &actor.principal {
        Principal::User { id, .. } => TagAssigner::User(id.get()),
        Principal::OAuthClient(credential) | Principal::FederatedIdentity(credential) => {
            if credential.scopes.grant(Scope::ALL) && !credential.narrows_tags {
                TagAssigner::Unlimited
            } else {
                own = still_carried(snapshot, credential);
                TagAssigner::Tags(&own)
            }
        }
        Principal::Operator => TagAssigner::Unlimited,
        // What a device may have that asks by itself, or by an auth key, registration says.
        Principal::AuthKey { .. } | Principal::Device { .. } | Principal::System => {
            TagAssigner::Tags(&[])
        }
    };
    let tags: Vec<Option<Tag>> = texts.iter().map(|text| text.parse().ok()).collect();
    let names: Vec<String> = tags.iter().flatten().map(ToString::to_string).collect();
    // Which tags somebody may assign follows from the policy and the users, not from devices.
    let may_not = snapshot
        .compiled_for_people()
        .may_assign_tags(asking, &names);
    let may_not: HashSet<String> = may_not.err().unwrap_or_default().into_iter().collect();
    let mut seen = HashSet::new();
    let mut bad: Vec<&str> = Vec::new();
    for (text, tag) in texts.iter().zip(&tags) {
        let is_bad = tag
            .as_ref()
            .is_none_or(|tag| may_not.contains(tag.as_str()));
        if is_bad && seen.insert(text) {
            bad.push(text);
        }
    }
    if !bad.is_empty() {
        return Err(refused(&bad));
    }
    Ok(tags.into_iter().flatten().collect())
}

/// The tags that an access token of `parent` asks for, if it may give them: tags of the parent, and
/// those that they own. Parents with the scope `all` may give any that the policy declares.
///
/// # Errors
/// `Invalid` naming those that are not tags or cannot be had, in the order given.
pub(crate) fn carried(
    snapshot: &Snapshot,
    parent: KeyId,
    texts: &[String],
) -> Result<BTreeSet<Tag>, Refusal> {
    let mut bad: Vec<&str> = Vec::new();
    let mut tags = BTreeSet::new();
    for text in texts {
        match text.parse() {
            Ok(tag) if is_carried(snapshot, parent, &tag) => {
                tags.insert(tag);
            }
            _ if bad.contains(&text.as_str()) => {}
            _ => bad.push(text),
        }
    }
    if bad.is_empty() {
        Ok(tags)
    } else {
        Err(refused(&bad))
    }
}

/// Whether access tokens of a credential may have a tag.
fn is_carried(snapshot: &Snapshot, parent: KeyId, tag: &Tag) -> bool {
    let granted = snapshot
        .credential(parent)
        .and_then(|parent| parent.granted());
    let Some((scopes, tags)) = granted else {
        return false;
    };
    if tags.contains(tag) {
        return true;
    }
    let own: Vec<String> = tags.iter().map(ToString::to_string).collect();
    let parent = if scopes.grant(Scope::ALL) {
        TagAssigner::Unlimited
    } else {
        TagAssigner::Tags(&own)
    };
    let compiled = snapshot.compiled_for_people();
    compiled.may_assign_tags(parent, &[tag.to_string()]).is_ok()
}

/// The tags of a credential that acts, without those that its parent has lost since the token was made.
fn still_carried(snapshot: &Snapshot, credential: &TrustCredential) -> Vec<String> {
    let tags = credential.tags.iter();
    tags.filter(|tag| is_carried(snapshot, credential.id, tag))
        .map(ToString::to_string)
        .collect()
}

/// Tags as a client asks for them: each once, sorted, in lower case.
pub(crate) fn tag_texts(asked: &[String]) -> Vec<String> {
    let texts: BTreeSet<String> = asked.iter().map(|tag| tag.to_lowercase()).collect();
    texts.into_iter().collect()
}
