//! Webhook endpoints: make, list, change, rotate, test, delete. What they are told of follows from the
//! events of changes (`announce`) and is delivered by a job for each endpoint (`deliver`).
//!
//! Source: official OpenAPI document, Webhooks; `docs/webhooks.md`.

pub(crate) mod announce;
pub(crate) mod courier;
pub(crate) mod deliver;
pub(crate) mod due;
pub mod log;
mod queue;
mod request;
mod told;

use std::collections::BTreeSet;
use std::sync::Arc;

use bowline_model::event::{Event, WebhookEvent, WebhookRef};
use bowline_model::id::{KeyId, WebhookId};
use bowline_model::principal::Principal;
use bowline_model::secret::{Minted, SecretHash, SecretKind};
use bowline_model::webhook::{
    ENDPOINTS_MAX, Progress, Provider, Subscription, URL_MAX, WebhookEndpoint,
};
use bowline_store::{Condition, Sealer, Trouble};
use jiff::SignedDuration;

use crate::core::actor::Actor;
use crate::core::draft::Draft;
use crate::core::engine::Engine;
use crate::core::failure::{Refusal, StoreFailure};

/// What a new endpoint is to be.
#[derive(Debug, Clone)]
pub struct NewWebhook {
    /// Where requests go to.
    pub url: String,
    /// The product whose form they have; absent: the official JSON.
    pub provider: Option<Provider>,
    /// What it is told of; at least one.
    pub subscriptions: BTreeSet<Subscription>,
}

/// The name under which an endpoint's secret is sealed.
pub(crate) fn secret_name(id: WebhookId) -> String {
    format!("webhook/{id}")
}

/// The same of the secret before the last rotation.
pub(crate) fn former_name(id: WebhookId) -> String {
    format!("webhook/{id}/former")
}

fn check_subscriptions(subscriptions: &BTreeSet<Subscription>) -> Result<(), Refusal> {
    if subscriptions.is_empty() {
        return Err(Refusal::invalid(
            "subscriptions must name at least one event",
        ));
    }
    Ok(())
}

fn mint(draft: &Draft<'_>, id: WebhookId) -> Result<Minted, Refusal> {
    let id = KeyId::new(id.get()).ok_or(StoreFailure::Defect("ran out of ids"))?;
    for _ in 0..8 {
        if let Some(minted) = Minted::new(SecretKind::Webhook, id, &draft.random()) {
            return Ok(minted);
        }
    }
    Err(StoreFailure::Defect("no usable random bytes").into())
}

impl Engine {
    fn sealer(&self) -> Result<Sealer, Refusal> {
        let sealer = self.0.settings.sealer.clone();
        sealer.ok_or_else(|| StoreFailure::Defect("there is nothing to seal secrets with").into())
    }

    fn check_url(&self, url: &str) -> Result<(), Refusal> {
        let wrong = |what: &str| Refusal::invalid(format!("endpointUrl {what}"));
        if url.len() > URL_MAX {
            return Err(wrong(&format!("is longer than {URL_MAX} bytes")));
        }
        if !(url.starts_with("https://") || url.starts_with("http://")) {
            return Err(wrong("must be an https:// URL"));
        }
        if !url.bytes().all(|byte| byte.is_ascii_graphic()) || url.contains('#') {
            return Err(wrong(
                "must be a URL of visible ASCII characters without a fragment",
            ));
        }
        let courier = courier::of(&self.0.settings);
        courier.check(url).map_err(|text| wrong(&text))
    }

    /// Makes an endpoint. Its secret is in this answer only.
    ///
    /// # Errors
    /// `Invalid` for a URL that no request can go to, without subscriptions, and where the tailnet has
    /// [`ENDPOINTS_MAX`] endpoints already.
    pub async fn create_webhook(
        &self,
        actor: &Actor,
        new: NewWebhook,
    ) -> Result<(Minted, Arc<WebhookEndpoint>), Refusal> {
        self.check_url(&new.url)?;
        check_subscriptions(&new.subscriptions)?;
        let sealer = self.sealer()?;
        self.write(actor, move |draft| {
            if draft.view().webhook_count() >= ENDPOINTS_MAX {
                return Err(Refusal::invalid(format!(
                    "a tailnet has at most {ENDPOINTS_MAX} webhook endpoints"
                )));
            }
            let id =
                WebhookId::new(draft.new_id()).ok_or(StoreFailure::Defect("ran out of ids"))?;
            let minted = mint(draft, id)?;
            let now = draft.now();
            let creator = match &draft.actor().principal {
                Principal::User { login, .. } => login.clone(),
                Principal::OAuthClient(_)
                | Principal::FederatedIdentity(_)
                | Principal::AuthKey { .. }
                | Principal::Device { .. }
                | Principal::Operator
                | Principal::System => String::new(),
            };
            let endpoint = WebhookEndpoint {
                id,
                url: new.url.clone(),
                provider: new.provider,
                subscriptions: new.subscriptions.clone(),
                creator,
                created: now,
                updated: now,
                hash: minted.hash(),
                former_until: None,
            };
            draft.put_secret(&sealer, &secret_name(id), minted.expose().as_bytes())?;
            draft.put_cold(&Progress::of_new(id, queue::notice_id(draft)?).into())?;
            draft.audit(Event::WebhookCreated {
                endpoint: Box::new(endpoint.clone()),
            });
            draft.put(endpoint.clone());
            Ok((minted, Arc::new(endpoint)))
        })
        .await
    }

    /// All endpoints of the actor's tailnet, by id.
    ///
    /// # Errors
    /// When the actor may not see them.
    pub fn webhooks(&self, actor: &Actor) -> Result<Vec<Arc<WebhookEndpoint>>, Refusal> {
        actor.check()?;
        let snapshot = self.snapshot(actor.tailnet).ok_or(Refusal::NotFound)?;
        Ok(snapshot.webhooks().cloned().collect())
    }

    /// An endpoint.
    ///
    /// # Errors
    /// `NotFound` where there is none in the actor's tailnet.
    pub fn webhook(&self, actor: &Actor, id: WebhookId) -> Result<Arc<WebhookEndpoint>, Refusal> {
        actor.check()?;
        let snapshot = self.snapshot(actor.tailnet).ok_or(Refusal::NotFound)?;
        snapshot.webhook(id).cloned().ok_or(Refusal::NotFound)
    }

    /// Gives an endpoint other subscriptions. The endpoint is told.
    ///
    /// # Errors
    /// `NotFound` where there is none; `Invalid` without subscriptions.
    pub async fn subscribe_webhook(
        &self,
        actor: &Actor,
        id: WebhookId,
        subscriptions: BTreeSet<Subscription>,
    ) -> Result<Arc<WebhookEndpoint>, Refusal> {
        check_subscriptions(&subscriptions)?;
        self.write(actor, move |draft| {
            let old = draft.view().webhook(id).cloned().ok_or(Refusal::NotFound)?;
            if old.subscriptions == subscriptions {
                return Ok(old);
            }
            let new = WebhookEndpoint {
                subscriptions: subscriptions.clone(),
                updated: draft.now(),
                ..(*old).clone()
            };
            draft.audit(Event::WebhookSubscriptions {
                endpoint: WebhookRef::of(&old),
                old: old.subscriptions.clone(),
                new: subscriptions.clone(),
            });
            draft.put(new.clone());
            Ok(Arc::new(new))
        })
        .await
    }

    /// Gives an endpoint another secret, which is in this answer only. For a while requests are signed
    /// with both.
    ///
    /// # Errors
    /// `NotFound` where there is none; `Invalid` where it is given another at the same time.
    pub async fn rotate_webhook(
        &self,
        actor: &Actor,
        id: WebhookId,
    ) -> Result<(Minted, Arc<WebhookEndpoint>), Refusal> {
        actor.check_change()?;
        self.webhook(actor, id)?;
        let sealer = self.sealer()?;
        // A sealed secret opens under its own name only, so the former one is sealed again.
        let former = self.open_secret(actor, &secret_name(id)).await?;
        let overlap = SignedDuration::try_from(self.0.settings.webhooks.secret_overlap);
        let overlap = overlap.unwrap_or(SignedDuration::MAX);
        self.write(actor, move |draft| {
            let old = draft.view().webhook(id).cloned().ok_or(Refusal::NotFound)?;
            let is_former =
                std::str::from_utf8(&former).is_ok_and(|former| SecretHash::of(former) == old.hash);
            if !is_former {
                return Err(Refusal::invalid(
                    "the secret was rotated by another request at the same time; try again",
                ));
            }
            let minted = mint(draft, id)?;
            let now = draft.now();
            let former_until = now.checked_add(overlap).ok().filter(|until| *until > now);
            match former_until {
                Some(_) => draft.put_secret(&sealer, &former_name(id), &former)?,
                None => draft.remove_secret(&former_name(id)),
            }
            draft.put_secret(&sealer, &secret_name(id), minted.expose().as_bytes())?;
            let new = WebhookEndpoint {
                hash: minted.hash(),
                former_until,
                updated: now,
                ..(*old).clone()
            };
            draft.audit(Event::WebhookSecret {
                endpoint: WebhookRef::of(&old),
                former_until,
            });
            draft.put(new.clone());
            Ok((minted, Arc::new(new)))
        })
        .await
    }

    /// Whether an endpoint had a secret with this hash before the last rotation, which still signs.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub(crate) async fn is_former_secret(
        &self,
        actor: &Actor,
        id: WebhookId,
        hash: SecretHash,
    ) -> Result<bool, Refusal> {
        let name = former_name(id);
        let sealed = self.0.store.secret(actor.tailnet, &name).await;
        let sealed = sealed
            .map_err(|error| StoreFailure::Unavailable(Trouble::new(Condition::Failed, error)))?;
        // Its time may have come meanwhile.
        let Some(sealed) = sealed else {
            return Ok(false);
        };
        let former = self.sealer()?.open(actor.tailnet, &name, &sealed);
        let former = former.map_err(|_| StoreFailure::Defect("a webhook secret does not open"))?;
        Ok(std::str::from_utf8(&former).is_ok_and(|former| SecretHash::of(former) == hash))
    }

    async fn open_secret(
        &self,
        actor: &Actor,
        name: &str,
    ) -> Result<zeroize::Zeroizing<Vec<u8>>, Refusal> {
        let sealed = self.0.store.secret(actor.tailnet, name).await;
        let sealed = sealed
            .map_err(|error| StoreFailure::Unavailable(Trouble::new(Condition::Failed, error)))?
            .ok_or(StoreFailure::Defect("a webhook endpoint has no secret"))?;
        let secret = self.sealer()?.open(actor.tailnet, name, &sealed);
        Ok(secret.map_err(|_| StoreFailure::Defect("a webhook secret does not open"))?)
    }

    /// Sends a test event to an endpoint, soon.
    ///
    /// # Errors
    /// `NotFound` where there is none.
    pub async fn test_webhook(&self, actor: &Actor, id: WebhookId) -> Result<(), Refusal> {
        let settings = self.0.settings.clone();
        self.write(actor, move |draft| {
            draft.view().webhook(id).ok_or(Refusal::NotFound)?;
            let told = told::Told {
                event: WebhookEvent::Test,
                message: "This is a test event".to_owned(),
                data: serde_json::Value::Null,
                texts: std::collections::BTreeMap::new(),
                farewell: None,
            };
            let at = draft.now();
            Ok(announce::tell(draft, [id].into(), at, told, &settings)?)
        })
        .await
    }

    /// Deletes an endpoint. It is told so, after what it was to be told before.
    ///
    /// # Errors
    /// `NotFound` where there is none.
    pub async fn delete_webhook(&self, actor: &Actor, id: WebhookId) -> Result<(), Refusal> {
        self.write(actor, move |draft| {
            let endpoint = draft.view().webhook(id).cloned().ok_or(Refusal::NotFound)?;
            draft.audit(Event::WebhookDeleted {
                endpoint: Box::new((*endpoint).clone()),
            });
            draft.remove::<WebhookEndpoint>(id);
            // Its secret signs the last request. The job that makes that removes the rest.
            Ok(())
        })
        .await
    }
}
