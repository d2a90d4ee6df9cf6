//! Whether users may act: approval, suspension and restoration.
//!
//! A user who may not act keeps everything, and nothing of it is good: their API access tokens and
//! auth keys are refused, and their devices are to everybody as if they were not there. That follows
//! from the user's record (`Actor::presenting`, registration, `Entry::is_shown`), so that it begins
//! and ends with one change, and nothing has to be undone.

use std::sync::Arc;

use bowline_model::event::{Event, UserRef};
use bowline_model::id::UserId;
use bowline_model::user::{Status, User};

use super::{to_change, to_take_away};
use crate::core::actor::Actor;
use crate::core::draft::Draft;
use crate::core::engine::Engine;
use crate::core::failure::Refusal;

impl Engine {
    /// Approves a user who waits for it. One who does not is left as they are.
    ///
    /// # Errors
    /// `NotPermitted` for oneself and for a user who has rights that the actor lacks; `NotFound`.
    pub async fn approve_user(&self, actor: &Actor, id: UserId) -> Result<(), Refusal> {
        self.write(actor, move |draft| {
            let user = to_change(draft, id)?;
            if user.needs_approval {
                approve(draft, &user);
            }
            Ok(())
        })
        .await
    }

    /// Suspends a user: at once they may not act, their devices lose every connection, and their
    /// tokens and auth keys are refused, until they are restored. Twice is the same as once. Tagged
    /// devices, and what belongs to the tailnet, go on.
    ///
    /// # Errors
    /// `NotPermitted` for oneself and for a user who has rights that the actor lacks; `Invalid` for
    /// the owner; `NotFound`.
    pub async fn suspend_user(&self, actor: &Actor, id: UserId) -> Result<(), Refusal> {
        self.write(actor, move |draft| {
            let user = to_take_away(draft, id)?;
            if user.status == Status::Suspended {
                return Ok(());
            }
            draft.audit(Event::UserSuspended {
                user: UserRef::of(&user),
            });
            draft.put(User {
                status: Status::Suspended,
                ..(*user).clone()
            });
            Ok(())
        })
        .await
    }

    /// Ends the suspension of a user: what they had is good again. One who waited for approval before
    /// goes on waiting. A user who is not suspended is left as they are.
    ///
    /// # Errors
    /// `NotPermitted` for oneself and for a user who has rights that the actor lacks; `NotFound`.
    pub async fn restore_user(&self, actor: &Actor, id: UserId) -> Result<(), Refusal> {
        self.write(actor, move |draft| {
            let user = to_change(draft, id)?;
            if user.status == Status::Active {
                return Ok(());
            }
            draft.audit(Event::UserRestored {
                user: UserRef::of(&user),
            });
            draft.put(User {
                status: Status::Active,
                ..(*user).clone()
            });
            Ok(())
        })
        .await
    }
}

fn approve(draft: &mut Draft<'_>, user: &Arc<User>) {
    draft.audit(Event::UserApproved {
        user: UserRef::of(user),
    });
    draft.put(User {
        needs_approval: false,
        ..(**user).clone()
    });
}

/// Approves everybody who waits: the tailnet asks for no approval any more.
pub(crate) fn approve_all(draft: &mut Draft<'_>) {
    let users = draft.view().users();
    let waiting: Vec<_> = users.filter(|user| user.needs_approval).cloned().collect();
    for user in &waiting {
        approve(draft, user);
    }
}
