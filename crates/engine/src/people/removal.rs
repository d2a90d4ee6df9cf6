//! The end of users.

use bowline_model::credential::{Credential, Kind};
use bowline_model::device::Device;
use bowline_model::event::Event;
use bowline_model::id::UserId;
use bowline_model::user::User;

use super::to_take_away;
use crate::core::actor::Actor;
use crate::core::engine::Engine;
use crate::core::failure::Refusal;

impl Engine {
    /// Deletes a user with their devices, and revokes their API access tokens and auth keys, in one
    /// change. What belongs to tags or to the tailnet stays, also where they made it: tagged devices,
    /// OAuth clients, federated identities.
    ///
    /// # Errors
    /// `NotPermitted` for oneself and for a user who has rights that the actor lacks; `Invalid` for
    /// the owner; `NotFound`.
    pub async fn delete_user(&self, actor: &Actor, id: UserId) -> Result<(), Refusal> {
        self.write(actor, move |draft| {
            let user = to_take_away(draft, id)?;
            let devices: Vec<_> = draft.view().devices_of(id).cloned().collect();
            for entry in devices {
                draft.audit(Event::DeviceDeleted {
                    device: Box::new((*entry.device).clone()),
                });
                draft.remove::<Device>(entry.device.id);
            }
            let now = draft.now();
            let theirs = |credential: &Credential| {
                credential.user == Some(id)
                    && credential.revoked.is_none()
                    && match credential.kind {
                        Kind::Auth(_) | Kind::Api => true,
                        Kind::Client(_) | Kind::Federated(_) | Kind::Scim => false,
                    }
            };
            let credentials = draft.view().credentials();
            let credentials: Vec<_> = credentials.filter(|it| theirs(it)).cloned().collect();
            draft.audit(Event::UserDeleted {
                user: Box::new((*user).clone()),
                keys: credentials.iter().map(|credential| credential.id).collect(),
            });
            for credential in credentials {
                draft.put(Credential {
                    revoked: Some(now),
                    ..(*credential).clone()
                });
            }
            draft.remove::<User>(id);
            Ok(())
        })
        .await
    }
}
