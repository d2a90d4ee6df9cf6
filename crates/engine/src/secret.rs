//! Secrets that somebody found: whose they are, and what they are still good for.
//!
//! Nobody needs to send one for that. What is asked with is what its text names and its hash, which is
//! good for nothing else.

use std::sync::Arc;

use bowline_model::access_token::AccessToken;
use bowline_model::credential::Credential;
use bowline_model::id::{UserId, WebhookId};
use bowline_model::requirement::Need;
use bowline_model::right::Right;
use bowline_model::scope::Scope;
use bowline_model::secret::{Presented, SecretKind};
use bowline_model::webhook::WebhookEndpoint;
use bowline_netmap::snapshot::Snapshot;
use jiff::Timestamp;

use crate::core::actor::Actor;
use crate::core::engine::Engine;
use crate::core::failure::Refusal;
use crate::credential::{self, check_need};

/// What each kind of secret needs to be told what it is: what it needs to be seen.
pub const IDENTIFY_SECRETS: &[Need] = &[
    credential::READ_KEYS[0],
    credential::READ_KEYS[1],
    credential::READ_KEYS[2],
    credential::READ_KEYS[3],
    credential::READ_SCIM_KEYS,
    READ_WEBHOOKS,
];

const READ_WEBHOOKS: Need = Need {
    scopes: &[Scope::WEBHOOKS_READ],
    right: Right::ReadWebhooks,
};

/// A secret that was found, as far as this server knows it.
#[derive(Debug, Clone, PartialEq)]
pub struct Identified {
    /// What the id in its text names.
    pub subject: Subject,
    /// Whether it is that one's secret. If not, it was cut, changed or made up.
    pub matches: bool,
    /// What that one is good for now.
    pub state: State,
}

/// What a secret belongs to.
#[derive(Debug, Clone, PartialEq)]
pub enum Subject {
    /// An auth key, API access token, OAuth client or SCIM key.
    Credential(Arc<Credential>),
    /// An access token of an OAuth client or a federated identity.
    AccessToken(Box<AccessToken>),
    /// A webhook endpoint.
    Webhook(Arc<WebhookEndpoint>),
}

/// What a secret is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It is good.
    Valid,
    /// Its user is suspended or waits for approval. It is good again when they may act.
    Held,
    /// The secret of a webhook endpoint was replaced by another one, and signs beside that until then.
    Replaced(Timestamp),
    /// It was a one-off auth key, and was used.
    Used,
    /// Its time is over.
    Expired,
    /// Somebody revoked it, or what it was made from.
    Revoked,
}

impl Engine {
    /// Tells what a secret is that somebody found.
    ///
    /// # Errors
    /// `NotFound` where the actor's tailnet has nothing with the id in its text, or not any more, and for
    /// what the actor may not know of; `NotPermitted` without what its kind needs to be seen.
    pub async fn identify_secret(
        &self,
        actor: &Actor,
        presented: Presented,
    ) -> Result<Identified, Refusal> {
        actor.check()?;
        if presented.kind == SecretKind::Webhook {
            return self.identify_webhook(actor, presented).await;
        }
        match self.credential(actor, presented.id) {
            Ok(credential) => self.identify_credential(actor, credential, &presented),
            Err(Refusal::NotFound) => self.identify_token(actor, presented).await,
            Err(refused) => Err(refused),
        }
    }

    fn identify_credential(
        &self,
        actor: &Actor,
        credential: Arc<Credential>,
        presented: &Presented,
    ) -> Result<Identified, Refusal> {
        let view = self.snapshot(actor.tailnet).ok_or(Refusal::NotFound)?;
        Ok(Identified {
            matches: credential.is_presented_by(presented),
            state: state(&view, &credential, self.now()),
            subject: Subject::Credential(credential),
        })
    }

    async fn identify_token(
        &self,
        actor: &Actor,
        presented: Presented,
    ) -> Result<Identified, Refusal> {
        let token = self.access_token(actor, presented.id).await?;
        let view = self.snapshot(actor.tailnet).ok_or(Refusal::NotFound)?;
        let now = self.now();
        let own = if token.revoked.is_some() {
            State::Revoked
        } else if token.is_valid(now) {
            State::Valid
        } else {
            State::Expired
        };
        let state = match (own, view.credential(token.parent)) {
            (State::Valid, Some(parent)) => state(&view, parent, now),
            (State::Valid, None) => State::Revoked,
            (own, _) => own,
        };
        Ok(Identified {
            matches: token.is_presented_by(&presented),
            state,
            subject: Subject::AccessToken(Box::new(token)),
        })
    }

    async fn identify_webhook(
        &self,
        actor: &Actor,
        presented: Presented,
    ) -> Result<Identified, Refusal> {
        check_need(actor, &READ_WEBHOOKS)?;
        let id = WebhookId::new(presented.id.get()).ok_or(Refusal::NotFound)?;
        let endpoint = self.webhook(actor, id)?;
        let former = match endpoint.former_until {
            Some(until) if endpoint.hash != presented.hash => self
                .is_former_secret(actor, id, presented.hash)
                .await?
                .then_some(until),
            _ => None,
        };
        Ok(Identified {
            matches: former.is_some() || endpoint.hash == presented.hash,
            state: former.map_or(State::Valid, State::Replaced),
            subject: Subject::Webhook(endpoint),
        })
    }
}

/// What a credential is good for.
fn state(view: &Snapshot, credential: &Credential, now: Timestamp) -> State {
    let is_held = |user: UserId| view.user(user).is_some_and(|user| !user.is_active());
    if credential.revoked.is_some() {
        State::Revoked
    } else if credential.is_expired(now) {
        State::Expired
    } else if credential.is_used_up() {
        State::Used
    } else if credential.user.is_some_and(is_held) {
        State::Held
    } else {
        State::Valid
    }
}
