//! Access tokens: made from an OAuth client or a federated identity, good for an hour.
//!
//! They are cold records: a busy pipeline makes thousands, and none is worth a place in every draft.
//! So that checking one costs what checking an API access token costs, the process remembers those that
//! it made or has read once; the database is asked for a token that nobody showed since the start.
//! Whatever is remembered, a token is good only while its parent is, which the snapshot says.

use std::sync::{Arc, Mutex, PoisonError};

use bowline_model::access_token::{AccessToken, LIFETIME_SECONDS};
use bowline_model::event::Event;
use bowline_model::id::{KeyId, TailnetId};
use bowline_model::principal::{Principal, TrustCredential};
use bowline_model::record::Body;
use bowline_model::requirement::Denied;
use bowline_model::scope::{Access, Scope, Scopes};
use bowline_model::secret::{Minted, Presented, SecretKind};
use bowline_netmap::snapshot::Snapshot;
use bowline_store::Owner;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::Semaphore;

use crate::core::actor::Actor;
use crate::core::draft::Draft;
use crate::core::engine::Engine;
use crate::core::failure::{Refusal, StoreFailure};
use crate::device::tag;

/// How many tokens are remembered. With scopes and tags of usual length that is some 40 MB; a token
/// that has no place any more is read again when it is shown.
const REMEMBERED_MAX: usize = 100_000;
/// How many unknown tokens are looked for in the database at once.
const LOOKUPS: usize = 4;

/// What a new access token is to have, where that is less than what it is made from has.
#[derive(Debug, Clone, Default)]
pub struct NarrowedToken {
    /// Its scopes. Empty: all that its parent has.
    pub scopes: Vec<Scope>,
    /// Tags that it may give, as requested. Empty: those of its parent. They count only where the
    /// scopes give tags at all ([`Scopes::give_tags`]).
    pub tags: Vec<String>,
}

/// An access token that was just made.
#[derive(Debug)]
pub struct IssuedToken {
    /// Its secret, shown once.
    pub minted: Minted,
    /// Its record.
    pub token: AccessToken,
}

/// Why no access token was made.
#[derive(Debug, Clone, thiserror::Error)]
pub enum TokenRefused {
    /// What it would be made from is not good: unknown, revoked, or another secret was shown.
    #[error("API token invalid")]
    Unauthenticated,
    /// Scopes that its parent does not have.
    #[error("requested scopes [{0}] are not granted to this client")]
    Scopes(Scopes),
    /// Tags that its parent may not give.
    #[error("{0}")]
    Tags(String),
    /// It could not be stored.
    #[error(transparent)]
    Store(#[from] StoreFailure),
}

impl From<Denied> for TokenRefused {
    fn from(denied: Denied) -> Self {
        match denied {
            Denied::Forbidden | Denied::NotFound | Denied::Unauthenticated => Self::Unauthenticated,
        }
    }
}

/// The access tokens that this process knows.
pub(crate) struct KnownTokens {
    tokens: papaya::HashMap<KeyId, Arc<Known>>,
    /// Held while one is added or taken away: how often one was taken away.
    removals: Mutex<u64>,
    lookups: Semaphore,
}

struct Known {
    tailnet: TailnetId,
    token: AccessToken,
    /// The hand-over by which this process had the database when it learned of the token: after the
    /// next one it may have been revoked.
    epoch: u64,
}

impl Default for KnownTokens {
    fn default() -> Self {
        Self {
            tokens: papaya::HashMap::new(),
            removals: Mutex::default(),
            lookups: Semaphore::new(LOOKUPS),
        }
    }
}

impl KnownTokens {
    fn get(&self, id: KeyId, epoch: u64) -> Option<Arc<Known>> {
        let known = self.tokens.pin().get(&id).cloned()?;
        (known.epoch == epoch).then_some(known)
    }

    fn removals(&self) -> u64 {
        *self.removals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers a token, unless one was taken away since `removals` was asked: it may be that one.
    fn add(&self, known: Known, removals: u64, now: Timestamp) {
        let current = self.removals.lock().unwrap_or_else(PoisonError::into_inner);
        if *current != removals {
            return;
        }
        let tokens = self.tokens.pin();
        if tokens.len() >= REMEMBERED_MAX {
            tokens.retain(|_, known| now < known.token.expires);
        }
        if tokens.len() >= REMEMBERED_MAX {
            // Ids grow, so the oldest have the smallest; they end first.
            let mut ids: Vec<KeyId> = tokens.keys().copied().collect();
            ids.sort_unstable();
            for id in &ids[..ids.len() / 4] {
                tokens.remove(id);
            }
        }
        tokens.insert(known.token.id, Arc::new(known));
    }

    fn remove(&self, id: KeyId) {
        let mut removals = self.removals.lock().unwrap_or_else(PoisonError::into_inner);
        *removals += 1;
        self.tokens.pin().remove(&id);
    }
}

impl Engine {
    pub(crate) fn known_tokens(&self) -> Arc<KnownTokens> {
        self.0.memory.get(KnownTokens::default)
    }

    /// Makes an access token from an OAuth client or a federated identity of a tailnet. The caller has
    /// seen that it is that one who asks; whether it is still good is looked at again in the draft.
    ///
    /// # Errors
    /// How it is refused.
    pub(crate) async fn issue_access_token(
        &self,
        tailnet: TailnetId,
        parent: KeyId,
        wanted: NarrowedToken,
    ) -> Result<IssuedToken, TokenRefused> {
        tag::check_count(&wanted.tags)
            .map_err(|refusal| TokenRefused::Tags(refusal.to_string()))?;
        let actor = self
            .snapshot(tailnet)
            .and_then(|view| Actor::trusted_itself(&view, view.credential(parent)?, self.now()))
            .ok_or(TokenRefused::Unauthenticated)?;
        let known = self.known_tokens();
        let (removals, epoch) = (known.removals(), *self.0.read_epoch.borrow());
        let issued = self
            .write(&actor, move |draft| issue(draft, &wanted))
            .await?;
        let remembered = Known {
            tailnet,
            token: issued.token.clone(),
            epoch,
        };
        known.add(remembered, removals, self.now());
        Ok(issued)
    }

    /// Who presents this access token, where the process knows it.
    pub(crate) fn by_known_token(&self, presented: &Presented) -> Option<Actor> {
        let known = self
            .known_tokens()
            .get(presented.id, *self.0.read_epoch.borrow())?;
        if !known.token.is_presented_by(presented) {
            return None;
        }
        let view = self.snapshot(known.tailnet)?;
        Actor::by_access_token(&view, &known.token, self.now())
    }

    /// Who presents this access token, which [`Engine::authenticate`] does not know: it is looked for
    /// in the database, and remembered. `None` where it is not good.
    ///
    /// # Errors
    /// When the database cannot be read, or the token's tailnet is out of order.
    pub async fn authenticate_stored(&self, text: &str) -> Result<Option<Actor>, StoreFailure> {
        let presented = Presented::parse(text).filter(|shown| shown.kind == SecretKind::Api);
        let Some(presented) = presented else {
            return Ok(None);
        };
        let known = self.known_tokens();
        let epoch = *self.0.read_epoch.borrow();
        if self.0.directory.credential(presented.id).is_some()
            || known.get(presented.id, epoch).is_some()
        {
            return Ok(None);
        }
        let Ok(_turn) = known.lookups.acquire().await else {
            return Err(self.gone());
        };
        let removals = known.removals();
        let found = self.stored_token(presented.id).await?;
        let Some((tailnet, token)) = found.filter(|(_, token)| token.is_presented_by(&presented))
        else {
            return Ok(None);
        };
        let Some(view) = self.snapshot(tailnet) else {
            return Err(StoreFailure::WriterLost);
        };
        let now = self.now();
        let actor = Actor::by_access_token(&view, &token, now);
        let remembered = Known {
            tailnet,
            token,
            epoch,
        };
        known.add(remembered, removals, now);
        Ok(actor)
    }

    /// An access token that the actor may see, revoked or not: its own, and those that it has the scope
    /// for which the token's parent needs. Expired ones are gone.
    ///
    /// # Errors
    /// `NotFound`; `NotPermitted`; when the database cannot be read.
    pub async fn access_token(&self, actor: &Actor, id: KeyId) -> Result<AccessToken, Refusal> {
        actor.check()?;
        let (view, body) = self.token_of(actor, id).await?;
        check(&view, actor, &body.record, Access::Read)?;
        Ok(body.record)
    }

    /// The access tokens that are good and that the actor may see, of the first thousand that have not
    /// expired, by id: a busy pipeline makes many, and each is good for an hour only.
    ///
    /// # Errors
    /// When the actor is not good any more, or the database cannot be read.
    pub async fn access_tokens(&self, actor: &Actor) -> Result<Vec<AccessToken>, Refusal> {
        actor.check()?;
        let view = self.snapshot(actor.tailnet).ok_or(Refusal::NotFound)?;
        // Whoever may see neither kind of parent sees none, and reads nothing.
        let may_see_any = [super::READ_OAUTH_KEYS, super::READ_FEDERATED_KEYS]
            .iter()
            .any(|need| actor.may(need));
        if !may_see_any {
            return Ok(Vec::new());
        }
        let page = self.cold_page::<AccessToken>(actor.tailnet, None, LISTED_MAX);
        let page = page.await.map_err(StoreFailure::of_reading)?;
        let now = self.now();
        let is_good = |token: &AccessToken| {
            let parent = view.credential(token.parent);
            token.is_valid(now) && parent.is_some_and(|parent| parent.is_valid(now))
        };
        let tokens = page.into_iter().map(|body| body.record);
        Ok(tokens
            .filter(|token| is_good(token) && check(&view, actor, token, Access::Read).is_ok())
            .collect())
    }

    /// Revokes an access token, and not what it was made from. Everybody may revoke their own.
    pub(super) async fn revoke_access_token(
        &self,
        actor: &Actor,
        id: KeyId,
    ) -> Result<(), Refusal> {
        let (_, body) = self.token_of(actor, id).await?;
        let done = self
            .write(actor, move |draft| {
                let token = &body.record;
                check(draft.view(), draft.actor(), token, Access::Write)?;
                if token.revoked.is_some() {
                    return Ok(());
                }
                let at = draft.now();
                draft.audit(Event::AccessTokenRevoked { id, at });
                let mut body = body.clone();
                body.record.revoked = Some(at);
                Ok(draft.put_cold(&body)?)
            })
            .await;
        // Whatever became of it: what is not remembered is read again.
        self.known_tokens().remove(id);
        done
    }

    /// An access token of the actor's tailnet.
    async fn token_of(
        &self,
        actor: &Actor,
        id: KeyId,
    ) -> Result<(Arc<Snapshot>, Body<AccessToken>), Refusal> {
        let view = self.snapshot(actor.tailnet).ok_or(Refusal::NotFound)?;
        let found = self.cold::<AccessToken>(actor.tailnet, id).await;
        let found = found.map_err(StoreFailure::of_reading)?;
        Ok((view, found.ok_or(Refusal::NotFound)?))
    }

    /// An access token that has not expired, whoever's it is.
    async fn stored_token(
        &self,
        id: KeyId,
    ) -> Result<Option<(TailnetId, AccessToken)>, StoreFailure> {
        let found = self.find_cold::<AccessToken>(id).await;
        let found = found.map_err(StoreFailure::of_reading)?;
        Ok(found.and_then(|(owner, body)| match owner {
            Owner::Tailnet(tailnet) => Some((tailnet, body.record)),
            Owner::Server => None,
        }))
    }
}

/// The most access tokens that one answer lists.
const LISTED_MAX: usize = 1000;

/// Whether an actor may see or revoke an access token.
fn check(
    view: &Snapshot,
    actor: &Actor,
    token: &AccessToken,
    access: Access,
) -> Result<(), Refusal> {
    if actor.credential == Some(token.id) {
        return Ok(());
    }
    let parent = view.credential(token.parent).ok_or(Refusal::NotFound)?;
    if actor.may(&super::need_of(parent, access)) {
        Ok(())
    } else {
        Err(Refusal::NotPermitted)
    }
}

fn issue(draft: &mut Draft<'_>, wanted: &NarrowedToken) -> Result<IssuedToken, TokenRefused> {
    let parent = match &draft.actor().principal {
        Principal::OAuthClient(parent) | Principal::FederatedIdentity(parent) => parent.clone(),
        Principal::User { .. }
        | Principal::AuthKey { .. }
        | Principal::Device { .. }
        | Principal::Operator
        | Principal::System => return Err(TokenRefused::Unauthenticated),
    };
    let scopes = narrowed_scopes(&parent, &wanted.scopes)?;
    let narrows_tags = !wanted.tags.is_empty() && scopes.give_tags();
    let tags = if narrows_tags {
        tag::carried(draft.view(), parent.id, &wanted.tags)
            .map_err(|refusal| TokenRefused::Tags(refusal.to_string()))?
    } else {
        parent.tags
    };
    let (id, minted) = super::mint(draft, SecretKind::Api).map_err(|refusal| match refusal {
        Refusal::Store(failure) => TokenRefused::Store(failure),
        _ => TokenRefused::Unauthenticated,
    })?;
    let now = draft.now();
    let token = AccessToken {
        id,
        hash: minted.hash(),
        parent: parent.id,
        scopes,
        tags,
        narrows_tags,
        created: now,
        expires: now + SignedDuration::from_secs(LIFETIME_SECONDS.into()),
        revoked: None,
    };
    draft.audit(Event::AccessTokenIssued {
        token: Box::new(token.clone()),
    });
    draft.put_cold(&Body::from(token.clone()))?;
    Ok(IssuedToken { minted, token })
}

fn narrowed_scopes(parent: &TrustCredential, wanted: &[Scope]) -> Result<Scopes, TokenRefused> {
    if wanted.is_empty() {
        return Ok(parent.scopes.clone());
    }
    let beyond = wanted.iter().filter(|scope| !parent.scopes.grant(**scope));
    let beyond: Scopes = beyond.copied().collect();
    if beyond.as_slice().is_empty() {
        Ok(wanted.iter().copied().collect())
    } else {
        Err(TokenRefused::Scopes(beyond))
    }
}

#[cfg(test)]
mod tests;
