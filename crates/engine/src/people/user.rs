//! Making users.

use bowline_model::event::Event;
use bowline_model::id::UserId;
use bowline_model::text::is_hidden;
use bowline_model::user::{Role, Status, User, is_login_name};

use super::{acting, vouches};
use crate::core::actor::Actor;
use crate::core::engine::Engine;
use crate::core::failure::{Refusal, StoreFailure};

impl Engine {
    /// Makes a user. Where the tailnet asks for approval of users, one whom no person made waits for
    /// it.
    ///
    /// # Errors
    /// `NotPermitted` without the right, and for a role with rights that the actor lacks; `Invalid`
    /// for a login name that is none or is taken, or for a second owner.
    pub async fn create_user(
        &self,
        actor: &Actor,
        login: &str,
        name: Option<&str>,
        role: Role,
    ) -> Result<User, Refusal> {
        if !is_login_name(login) {
            return Err(Refusal::invalid(format!(
                "{login:?} is not a login name: expected something like ann@example.com"
            )));
        }
        if role == Role::Owner {
            return Err(Refusal::invalid("a tailnet has exactly one owner"));
        }
        let display = name
            .unwrap_or_else(|| login.split('@').next().unwrap_or(login))
            .trim()
            .to_owned();
        if display.is_empty() || display.chars().count() > 100 || display.contains(is_hidden) {
            return Err(Refusal::invalid("a display name has 1 to 100 characters"));
        }
        let login = login.to_owned();
        self.write(actor, move |draft| {
            acting::check_grant(draft.actor(), role)?;
            if draft.view().user_by_login(&login).is_some() {
                return Err(Refusal::invalid(format!(
                    "a user with the login name {login:?} exists already"
                )));
            }
            let user = User {
                id: UserId::new(draft.new_id()).ok_or(StoreFailure::Defect("ran out of ids"))?,
                login_name: login.clone(),
                display_name: display.clone(),
                role,
                status: Status::Active,
                needs_approval: draft.view().tailnet().settings.users_approval_on
                    && !vouches(draft.actor()),
                created: draft.now(),
            };
            draft.audit(Event::UserCreated {
                user: Box::new(user.clone()),
            });
            draft.put(user.clone());
            Ok(user)
        })
        .await
    }
}
