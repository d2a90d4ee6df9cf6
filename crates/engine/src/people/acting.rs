//! Acting for somebody else: auth keys made for another user, logins confirmed as another user, SSH
//! sessions confirmed, devices given back to a user. Whatever makes something act as a user asks
//! here, inside the draft, where roles are current.

use bowline_model::device::Device;
use bowline_model::id::UserId;
use bowline_model::principal::Principal;
use bowline_model::right::Right;
use bowline_model::scope::Scope;
use bowline_model::user::{Role, Status, User};
use bowline_netmap::snapshot::Snapshot;

use crate::core::actor::Actor;
use crate::core::failure::Refusal;

/// Whether somebody of the role `own` may act as a user of the role `other`, who is not themselves:
/// with a rank that is not below theirs. The owner acts for anyone, administrators for anyone but
/// the owner; other roles that may change users act for members only.
pub fn may_act_for(own: Role, other: Role) -> bool {
    match own {
        Role::Owner => true,
        Role::Admin => other != Role::Owner,
        Role::NetworkAdmin | Role::ItAdmin | Role::BillingAdmin | Role::Auditor | Role::Member => {
            other == Role::Member && own.has(Right::WriteUsers)
        }
    }
}

/// The user who lets a device in, or makes the key that does.
pub(crate) fn maker(actor: &Actor) -> Option<UserId> {
    match &actor.principal {
        Principal::User { id, .. } => Some(*id),
        Principal::OAuthClient(_)
        | Principal::FederatedIdentity(_)
        | Principal::AuthKey { .. }
        | Principal::Device { .. }
        | Principal::Operator
        | Principal::System => None,
    }
}

/// Whether an actor may act as a user: themselves, or one whose rank is not above theirs. The
/// operator of the server may act as anyone. Who has no rank acts for nobody: what an OAuth client
/// was given says nothing of people.
///
/// # Errors
/// `NotFound` for a user who is not there; `NotPermitted`.
pub(crate) fn check(view: &Snapshot, actor: &Actor, user: UserId) -> Result<(), Refusal> {
    let other = view.user(user).ok_or(Refusal::NotFound)?.role;
    let may = match &actor.principal {
        Principal::User { id, role, .. } => *id == user || may_act_for(*role, other),
        Principal::Operator => true,
        Principal::OAuthClient(_)
        | Principal::FederatedIdentity(_)
        | Principal::AuthKey { .. }
        | Principal::Device { .. }
        | Principal::System => false,
    };
    if may {
        Ok(())
    } else {
        Err(Refusal::NotPermitted)
    }
}

/// The user that an actor acts as: the one they named; else themselves; the operator stands for the
/// owner of the tailnet.
///
/// # Errors
/// As [`check`].
pub(crate) fn user_for(
    view: &Snapshot,
    actor: &Actor,
    named: Option<UserId>,
) -> Result<UserId, Refusal> {
    let own = match &actor.principal {
        Principal::User { id, .. } => Some(*id),
        Principal::Operator => {
            let owner = view.users().find(|user| user.role == Role::Owner);
            Some(owner.ok_or(Refusal::NotFound)?.id)
        }
        Principal::OAuthClient(_)
        | Principal::FederatedIdentity(_)
        | Principal::AuthKey { .. }
        | Principal::Device { .. }
        | Principal::System => None,
    };
    let user = named.or(own).ok_or(Refusal::NotPermitted)?;
    check(view, actor, user)?;
    let named = view.user(user);
    if named.is_some_and(|user| user.status == Status::Suspended) {
        return Err(Refusal::invalid(
            "the user is suspended: restore them before anything is made for them",
        ));
    }
    Ok(user)
}

/// Whether an actor may change a user: their role, and whether they may act at all. Nobody changes
/// themselves, and nobody a user who has rights that they lack. What an OAuth client was given says
/// nothing of people, so it may change everybody: what it may give, [`check_grant`] says.
///
/// # Errors
/// `NotPermitted`.
pub(crate) fn check_change(actor: &Actor, user: &User) -> Result<(), Refusal> {
    let may = match &actor.principal {
        Principal::User { id, role, .. } => *id != user.id && role.covers(user.role),
        Principal::OAuthClient(_) | Principal::FederatedIdentity(_) | Principal::Operator => true,
        Principal::AuthKey { .. } | Principal::Device { .. } | Principal::System => false,
    };
    if may {
        Ok(())
    } else {
        Err(Refusal::NotPermitted)
    }
}

/// Whether an actor may give somebody a role: one that has no right which they lack themselves. The
/// owner's is given by the owner alone, who loses it by that, and by the operator: a tailnet whose
/// owner has left would stay without one otherwise. An OAuth client gives a role where its own scopes
/// grant all that the role could give to a client: whoever may make clients gives nothing by one that
/// they do not have.
///
/// # Errors
/// `NotPermitted`.
pub(crate) fn check_grant(actor: &Actor, role: Role) -> Result<(), Refusal> {
    let may = match &actor.principal {
        Principal::User { role: own, .. } => own.covers(role),
        Principal::Operator => true,
        Principal::OAuthClient(own) | Principal::FederatedIdentity(own) => {
            role != Role::Owner
                && Scope::every().all(|scope| !role.may_grant(scope) || own.scopes.grant(scope))
        }
        Principal::AuthKey { .. } | Principal::Device { .. } | Principal::System => false,
    };
    if may {
        Ok(())
    } else {
        Err(Refusal::NotPermitted)
    }
}

/// Whose something is that an actor makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Owner {
    /// A user's.
    User(UserId),
    /// The tailnet's: no user made it, and it stays when its maker is gone.
    Tailnet,
}

/// Whose something is that an actor makes: the named user's, else the actor's own, as
/// [`user_for`] has it; what an OAuth client or a federated identity makes is the tailnet's.
///
/// # Errors
/// As [`check`].
pub(crate) fn owner_for(
    view: &Snapshot,
    actor: &Actor,
    named: Option<UserId>,
) -> Result<Owner, Refusal> {
    match &actor.principal {
        Principal::OAuthClient(_) | Principal::FederatedIdentity(_) if named.is_none() => {
            Ok(Owner::Tailnet)
        }
        Principal::User { .. }
        | Principal::OAuthClient(_)
        | Principal::FederatedIdentity(_)
        | Principal::AuthKey { .. }
        | Principal::Device { .. }
        | Principal::Operator
        | Principal::System => user_for(view, actor, named).map(Owner::User),
    }
}

/// Whether an actor may confirm an SSH session that comes from this device: the user whose session
/// it is; the owner and administrators, where they may act as that user and did not let the device
/// in themselves; the operator of the server.
///
/// A confirmation is somebody's word that the person at the source is who the device says. Whoever
/// made the device that user's could give that word about themselves.
///
/// # Errors
/// `NotPermitted`.
pub(crate) fn check_session(
    view: &Snapshot,
    actor: &Actor,
    source: &Device,
) -> Result<(), Refusal> {
    let user = source.user.filter(|_| !source.is_tagged());
    let may_confirm = match &actor.principal {
        Principal::User { id, .. } if user == Some(*id) => true,
        Principal::User { id, role, .. } => {
            matches!(role, Role::Owner | Role::Admin)
                && source.registered_by != Some(*id)
                && match user {
                    Some(user) => check(view, actor, user).is_ok(),
                    // Of a tagged device: it acts for its tags, and no rank is above theirs.
                    None => true,
                }
        }
        Principal::Operator => true,
        // Only a person can say who sits in front of a device.
        Principal::OAuthClient(_)
        | Principal::FederatedIdentity(_)
        | Principal::AuthKey { .. }
        | Principal::Device { .. }
        | Principal::System => false,
    };
    if may_confirm {
        Ok(())
    } else {
        Err(Refusal::NotPermitted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_acts_for_a_rank_above_theirs() {
        use Role::{Admin, Auditor, BillingAdmin, ItAdmin, Member, NetworkAdmin, Owner};
        let all = [
            Owner,
            Admin,
            NetworkAdmin,
            ItAdmin,
            BillingAdmin,
            Auditor,
            Member,
        ];
        for own in all {
            let may: Vec<Role> = all
                .into_iter()
                .filter(|other| may_act_for(own, *other))
                .collect();
            let expected: &[Role] = match own {
                Owner => &all,
                Admin => &all[1..],
                ItAdmin => &[Member],
                NetworkAdmin | BillingAdmin | Auditor | Member => &[],
            };
            assert_eq!(may, expected, "{own:?}");
        }
    }
}
