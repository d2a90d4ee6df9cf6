//! What may be given to an OAuth client or a federated identity: nobody grants what they do not have.
//!
//! Source: `docs/protocol/api-behaviour.md`, sections 2.3, 4.1 and 4.4.

use std::collections::BTreeSet;

use bowline_model::credential::Credential;
use bowline_model::principal::Principal;
use bowline_model::scope::Scopes;
use bowline_model::tag::Tag;
use bowline_netmap::snapshot::Snapshot;

use crate::core::actor::Actor;
use crate::core::failure::Refusal;
use crate::device::tag;

/// The most scopes that one credential may list: more than there are.
const SCOPES_MAX: usize = 100;

/// Refuses scopes that no credential may have. To be asked before they reach the writer.
///
/// # Errors
/// `Invalid`.
pub(crate) fn check_scopes(scopes: &Scopes) -> Result<(), Refusal> {
    let count = scopes.as_slice().len();
    if count == 0 {
        return Err(Refusal::invalid("scopes must have at least one scope"));
    }
    if count > SCOPES_MAX {
        return Err(Refusal::invalid(format!(
            "at most {SCOPES_MAX} scopes are possible, not {count}"
        )));
    }
    Ok(())
}

/// The tags of a credential that an actor gives these scopes and tags, if they may: a user scopes of
/// which their role has all rights, and tags that they may assign; a trust credential scopes that it
/// has, and tags as for everything else that it makes.
///
/// # Errors
/// `NotPermitted` for scopes that are not the actor's to give; `Invalid` for tags that are not, and
/// where scopes need tags and there are none.
pub(crate) fn permitted(
    view: &Snapshot,
    actor: &Actor,
    scopes: &Scopes,
    tags: &[String],
) -> Result<BTreeSet<Tag>, Refusal> {
    let mut wanted = scopes.as_slice().iter();
    let may = match &actor.principal {
        Principal::User {
            role, scopes: own, ..
        } => wanted.all(|scope| own.grant(*scope) && role.may_grant(*scope)),
        Principal::OAuthClient(own) | Principal::FederatedIdentity(own) => {
            own.scopes.grant_all(scopes.as_slice())
        }
        Principal::Operator => true,
        Principal::AuthKey { .. } | Principal::Device { .. } | Principal::System => false,
    };
    if !may {
        return Err(Refusal::NotPermitted);
    }
    let tags = tag::permitted(view, actor, tags)?;
    if tags.is_empty() && scopes.need_tags() {
        return Err(Refusal::invalid(
            "tags are required with the scopes devices:core and auth_keys",
        ));
    }
    Ok(tags)
}

/// Whether a credential is one whose scopes and tags can be changed.
///
/// # Errors
/// `Invalid` for other kinds, and for one that has ended.
pub(crate) fn check_changeable(credential: &Credential) -> Result<(), Refusal> {
    if credential.granted().is_none() {
        return Err(Refusal::invalid(
            "only OAuth clients and federated identities can be changed",
        ));
    }
    if credential.revoked.is_some() {
        return Err(Refusal::invalid("a revoked key cannot be changed"));
    }
    Ok(())
}
