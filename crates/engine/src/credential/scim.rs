//! SCIM keys: what a directory provisions users and groups with. A tailnet has one that is good at
//! most, and it does not expire.
//!
//! Source: `docs/protocol/api-behaviour.md`, section 2.1.

use std::sync::Arc;

use bowline_model::credential::{Credential, Kind};
use bowline_model::event::{CredentialRef, Event};
use bowline_model::secret::{Minted, SecretKind};

use crate::core::actor::Actor;
use crate::core::engine::Engine;
use crate::core::failure::Refusal;
use crate::credential::{WRITE_SCIM_KEYS, check_description, check_need, mint};

impl Engine {
    /// The SCIM key of a tailnet that was not revoked. A list, since there may be none.
    ///
    /// # Errors
    /// When the actor may not see it.
    pub fn scim_keys(&self, actor: &Actor) -> Result<Vec<Arc<Credential>>, Refusal> {
        actor.check()?;
        let view = self.snapshot(actor.tailnet).ok_or(Refusal::NotFound)?;
        let keys = view.credentials().filter(|it| is_good(it)).cloned();
        Ok(keys.collect())
    }

    /// Makes the SCIM key of a tailnet. The one that it had before is revoked in the same change, so that
    /// there is never a moment with two, nor one without any.
    ///
    /// # Errors
    /// `NotPermitted`; `Invalid` for a description that cannot be.
    pub async fn create_scim_key(
        &self,
        actor: &Actor,
        description: &str,
    ) -> Result<(Minted, Arc<Credential>), Refusal> {
        check_description(description)?;
        let description = description.to_owned();
        self.write(actor, move |draft| {
            check_need(draft.actor(), &WRITE_SCIM_KEYS)?;
            let now = draft.now();
            let former: Vec<_> = draft
                .view()
                .credentials()
                .filter(|it| is_good(it))
                .cloned()
                .collect();
            for credential in former {
                draft.audit(Event::CredentialRevoked {
                    credential: CredentialRef::of(&credential),
                    at: now,
                });
                draft.put(Credential {
                    revoked: Some(now),
                    ..(*credential).clone()
                });
            }
            let (id, minted) = mint(draft, SecretKind::Scim)?;
            let credential = Credential {
                id,
                kind: Kind::Scim,
                hash: Some(minted.hash()),
                user: None,
                description: description.clone(),
                created: now,
                updated: None,
                expires: None,
                expired: None,
                expiry_told: None,
                revoked: None,
            };
            draft.audit(Event::CredentialCreated {
                credential: Box::new(credential.clone()),
            });
            draft.put(credential.clone());
            Ok((minted, Arc::new(credential)))
        })
        .await
    }
}

/// Whether a credential is a SCIM key that was not revoked.
fn is_good(credential: &Credential) -> bool {
    matches!(credential.kind, Kind::Scim) && credential.revoked.is_none()
}
