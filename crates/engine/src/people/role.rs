//! The roles of users.

use std::sync::Arc;

use bowline_model::event::{Event, UserRef};
use bowline_model::id::UserId;
use bowline_model::user::{Role, User};

use super::{ONE_OWNER, acting, owner, to_change};
use crate::core::actor::Actor;
use crate::core::draft::Draft;
use crate::core::engine::Engine;
use crate::core::failure::{Refusal, StoreFailure};

impl Engine {
    /// Gives a user another role. It counts at once: for their credentials, their devices, and
    /// changes of theirs that wait. Where the role is `owner`, the owner becomes an administrator by
    /// it. The role that they have changes nothing.
    ///
    /// # Errors
    /// `NotPermitted` for the actor's own role, for a user who has rights that the actor lacks, for a
    /// role with such rights, and for `owner` where the actor is neither the owner nor the operator;
    /// `Invalid` for another role of the owner, and for an owner who may not act; `NotFound`.
    pub async fn set_user_role(
        &self,
        actor: &Actor,
        id: UserId,
        role: Role,
    ) -> Result<(), Refusal> {
        self.write(actor, move |draft| {
            let user = to_change(draft, id)?;
            acting::check_grant(draft.actor(), role)?;
            if user.role == role {
                return Ok(());
            }
            if user.role == Role::Owner {
                return Err(Refusal::invalid(ONE_OWNER));
            }
            if role == Role::Owner {
                return hand_over(draft, &user);
            }
            set(draft, &user, role);
            Ok(())
        })
        .await
    }
}

fn set(draft: &mut Draft<'_>, user: &Arc<User>, role: Role) {
    draft.audit(Event::UserRole {
        user: UserRef::of(user),
        old: user.role,
        new: role,
    });
    draft.put(User {
        role,
        ..(**user).clone()
    });
}

/// Makes a user the owner in the place of the one who is.
fn hand_over(draft: &mut Draft<'_>, heir: &Arc<User>) -> Result<(), Refusal> {
    let owner = owner(draft.view()).cloned();
    let owner = owner.ok_or(StoreFailure::Defect("a tailnet has no owner"))?;
    if let Some(hold) = heir.hold() {
        return Err(Refusal::invalid(format!(
            "{} {hold} and cannot be the owner",
            heir.login_name
        )));
    }
    set(draft, heir, Role::Owner);
    set(draft, &owner, Role::Admin);
    Ok(())
}
