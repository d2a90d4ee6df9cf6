//! Users: who they are, what they may do, and acting for other users.

pub mod acting;
pub mod removal;
pub mod role;
pub mod standing;
pub mod user;

use std::sync::Arc;

use bowline_model::id::UserId;
use bowline_model::user::{Role, User};
use bowline_netmap::snapshot::Snapshot;

use crate::core::actor::Actor;
use crate::core::draft::Draft;
use crate::core::failure::Refusal;

/// What is said where somebody would take the owner away from a tailnet.
const ONE_OWNER: &str = "a tailnet has exactly one owner: make another user the owner first, which makes this one an administrator";

/// A user whom the actor of a draft may change.
///
/// # Errors
/// `NotFound`; `NotPermitted` as [`acting::check_change`] says.
fn to_change(draft: &Draft<'_>, id: UserId) -> Result<Arc<User>, Refusal> {
    let user = draft.view().user(id).cloned().ok_or(Refusal::NotFound)?;
    acting::check_change(draft.actor(), &user)?;
    Ok(user)
}

/// The same, where the change would leave a tailnet without an owner if it were theirs.
fn to_take_away(draft: &Draft<'_>, id: UserId) -> Result<Arc<User>, Refusal> {
    let user = to_change(draft, id)?;
    if user.role == Role::Owner {
        return Err(Refusal::invalid(ONE_OWNER));
    }
    Ok(user)
}

/// The owner of a tailnet.
fn owner(view: &Snapshot) -> Option<&Arc<User>> {
    view.users().find(|user| user.role == Role::Owner)
}

/// Whether somebody vouches for a user by making them: a person does, and the operator. Whatever
/// provisions users by itself knows nobody.
fn vouches(actor: &Actor) -> bool {
    use bowline_model::principal::Principal;
    match &actor.principal {
        Principal::User { .. } | Principal::Operator => true,
        Principal::OAuthClient(_)
        | Principal::FederatedIdentity(_)
        | Principal::AuthKey { .. }
        | Principal::Device { .. }
        | Principal::System => false,
    }
}
