//! OAuth clients: make, change, and let them have access tokens.
//!
//! A client belongs to the tailnet. Who made it is in the audit log and nowhere else: nothing that
//! becomes of that user becomes of the client.

use std::sync::Arc;

use bowline_model::credential::{Credential, Kind, OAuthClient};
use bowline_model::event::Event;
use bowline_model::id::KeyId;
use bowline_model::scope::{Access, Scopes};
use bowline_model::secret::{Minted, Presented, SecretKind};

use crate::core::actor::Actor;
use crate::core::engine::Engine;
use crate::core::failure::{Refusal, StoreFailure};
use crate::credential::access_token::{IssuedToken, NarrowedToken, TokenRefused};
use crate::credential::{WRITE_OAUTH_KEYS, check, check_description, check_need, grant, mint};
use crate::device::tag;

/// What an OAuth client is to be.
#[derive(Debug, Clone, Default)]
pub struct NewOAuthClient {
    /// What its access tokens may be given: one at least.
    pub scopes: Scopes,
    /// Tags of what it makes, as requested. Required with some scopes.
    pub tags: Vec<String>,
    /// At most 50 of letters, digits, space, `-`, `_`.
    pub description: String,
}

impl NewOAuthClient {
    fn check(&self) -> Result<(), Refusal> {
        check_description(&self.description)?;
        grant::check_scopes(&self.scopes)?;
        tag::check_count(&self.tags)
    }
}

impl Engine {
    /// Makes an OAuth client. It never expires.
    ///
    /// # Errors
    /// `NotPermitted` for scopes that the actor does not have; `Invalid` for tags that the actor may not
    /// assign, for a description that cannot be, and without scopes or required tags.
    pub async fn create_oauth_client(
        &self,
        actor: &Actor,
        new: NewOAuthClient,
    ) -> Result<(Minted, Arc<Credential>), Refusal> {
        new.check()?;
        self.write(actor, move |draft| {
            check_need(draft.actor(), &WRITE_OAUTH_KEYS)?;
            let tags = grant::permitted(draft.view(), draft.actor(), &new.scopes, &new.tags)?;
            let (id, minted) = mint(draft, SecretKind::Client)?;
            let credential = Credential {
                id,
                kind: Kind::Client(OAuthClient {
                    scopes: new.scopes.clone(),
                    tags,
                }),
                hash: Some(minted.hash()),
                user: None,
                description: new.description.clone(),
                created: draft.now(),
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

    /// Gives an OAuth client other scopes, tags and another description, all at once. Access tokens
    /// that were made of it before lose the scopes that it loses, and gain none.
    ///
    /// # Errors
    /// As [`Self::create_oauth_client`]; `NotFound`; `Invalid` for another kind of key, and for one that
    /// was revoked.
    pub async fn change_oauth_client(
        &self,
        actor: &Actor,
        id: KeyId,
        new: NewOAuthClient,
    ) -> Result<Arc<Credential>, Refusal> {
        new.check()?;
        self.write(actor, move |draft| {
            let old = draft
                .view()
                .credential(id)
                .cloned()
                .ok_or(Refusal::NotFound)?;
            check(draft.actor(), &old, Access::Write)?;
            grant::check_changeable(&old)?;
            let Kind::Client(client) = &old.kind else {
                return Err(Refusal::invalid("keyType is not that of this key"));
            };
            let tags = grant::permitted(draft.view(), draft.actor(), &new.scopes, &new.tags)?;
            let kind = OAuthClient {
                scopes: new.scopes.clone(),
                tags,
            };
            if *client == kind && old.description == new.description {
                return Ok(old);
            }
            let changed = Credential {
                kind: Kind::Client(kind),
                description: new.description.clone(),
                updated: Some(draft.now()),
                ..(*old).clone()
            };
            draft.audit(Event::CredentialChanged {
                old: Box::new((*old).clone()),
                new: Box::new(changed.clone()),
            });
            draft.put(changed.clone());
            Ok(Arc::new(changed))
        })
        .await
    }

    /// Makes an access token for whoever shows the secret of an OAuth client.
    ///
    /// # Errors
    /// How it is refused.
    pub async fn client_token(
        &self,
        secret: &str,
        wanted: NarrowedToken,
    ) -> Result<IssuedToken, TokenRefused> {
        let shown = Presented::parse(secret)
            .filter(|shown| shown.kind == SecretKind::Client)
            .ok_or(TokenRefused::Unauthenticated)?;
        let tailnet = self
            .0
            .directory
            .credential(shown.id)
            .ok_or(TokenRefused::Unauthenticated)?;
        let Some(view) = self.snapshot(tailnet) else {
            // Whether it is good is known when its tailnet is served.
            return Err(StoreFailure::WriterLost.into());
        };
        let is_good = view.credential(shown.id).is_some_and(|credential| {
            matches!(credential.kind, Kind::Client(_))
                && credential.is_presented_by(&shown)
                && credential.is_valid(self.now())
        });
        if !is_good {
            return Err(TokenRefused::Unauthenticated);
        }
        self.issue_access_token(tailnet, shown.id, wanted).await
    }
}
