//! Federated identities: make and change. They have no secret, belong to the tailnet, and never expire.

use std::collections::BTreeMap;
use std::sync::Arc;

use bowline_model::credential::{Credential, FederatedIdentity, Kind};
use bowline_model::event::Event;
use bowline_model::id::{KeyId, TailnetId};
use bowline_model::scope::{Access, Scopes};
use http::Uri;

use crate::core::actor::Actor;
use crate::core::engine::Engine;
use crate::core::failure::{Refusal, StoreFailure};
use crate::credential::{check, check_description, grant};
use crate::device::tag;

use super::rules::{ClaimPath, PATTERN_MAX};

/// The most rules for claims that an identity has.
const RULES_MAX: usize = 20;
/// The most characters of an issuer and of an audience.
const TEXT_MAX: usize = 500;

/// What a federated identity is to be.
#[derive(Debug, Clone, Default)]
pub struct NewFederatedIdentity {
    /// What its access tokens have: one at least.
    pub scopes: Scopes,
    /// Tags of what it makes, as requested. Required with some scopes.
    pub tags: Vec<String>,
    /// At most 50 of letters, digits, space, `-`, `_`.
    pub description: String,
    /// URL of the issuer: `https://`, a host, perhaps a path. A token's `iss` must equal it.
    pub issuer: String,
    /// Pattern for a token's `sub`.
    pub subject: String,
    /// What a token's `aud` must contain. Empty: the server makes one, or keeps the one that there is.
    pub audience: String,
    /// Patterns for other claims, by path.
    pub custom_claim_rules: BTreeMap<String, String>,
}

/// The client id of a federated identity, which is its id in the API as well: `T…CNTRL-k…CNTRL`.
pub fn client_id(tailnet: TailnetId, id: KeyId) -> String {
    format!("{}-{}", tailnet.stable(), id.stable())
}

/// The tailnet and the credential that a client id names.
pub fn parse_client_id(text: &str) -> Option<(TailnetId, KeyId)> {
    let (tailnet, id) = text.split_once('-')?;
    let parsed = (TailnetId::parse(tailnet)?, KeyId::parse(id)?);
    // Not the decimal forms, which ids have elsewhere.
    (client_id(parsed.0, parsed.1) == text).then_some(parsed)
}

impl NewFederatedIdentity {
    /// Refuses what no identity can be. To be asked before it reaches the writer.
    fn check(&self, engine: &Engine) -> Result<(), Refusal> {
        check_description(&self.description)?;
        grant::check_scopes(&self.scopes)?;
        tag::check_count(&self.tags)?;
        self.check_issuer(engine)?;
        if self.subject.is_empty() || !is_text(&self.subject, PATTERN_MAX) {
            return Err(Refusal::invalid(format!(
                "subject must be a pattern of 1 to {PATTERN_MAX} characters"
            )));
        }
        if !is_text(&self.audience, TEXT_MAX) {
            return Err(Refusal::invalid(format!(
                "audience must have at most {TEXT_MAX} characters"
            )));
        }
        if self.custom_claim_rules.len() > RULES_MAX {
            return Err(Refusal::invalid(format!(
                "at most {RULES_MAX} customClaimRules are possible"
            )));
        }
        for (path, pattern) in &self.custom_claim_rules {
            if ClaimPath::parse(path).is_none() {
                return Err(Refusal::invalid(format!(
                    "customClaimRules: {path:?} is not the path of a claim; iss, sub and aud have \
                     members of their own"
                )));
            }
            if pattern.is_empty() || !is_text(pattern, PATTERN_MAX) {
                return Err(Refusal::invalid(format!(
                    "customClaimRules: {path:?} needs a pattern of 1 to {PATTERN_MAX} characters"
                )));
            }
        }
        Ok(())
    }

    fn check_issuer(&self, engine: &Engine) -> Result<(), Refusal> {
        let bad = |why: &str| Refusal::invalid(format!("issuer: {why}"));
        let issuer = &self.issuer;
        let is_url = issuer.starts_with("https://")
            && issuer.len() <= TEXT_MAX
            && !issuer.contains(['?', '#']);
        let url: Option<Uri> = is_url.then(|| issuer.parse().ok()).flatten();
        let url = url.ok_or_else(|| {
            bad("it must be a URL that begins with https://, without a query and a fragment")
        })?;
        engine
            .settings()
            .outbound
            .check(&url)
            .map_err(|failure| bad(&failure.to_string()))
    }
}

fn is_text(text: &str, max: usize) -> bool {
    text.chars().count() <= max && !text.chars().any(char::is_control)
}

impl Engine {
    /// Makes a federated identity.
    ///
    /// # Errors
    /// `NotPermitted` for scopes that the actor does not have; `Invalid` for tags that the actor may not
    /// assign, an issuer that cannot be asked, patterns that are none, and without scopes or required
    /// tags.
    pub async fn create_federated_identity(
        &self,
        actor: &Actor,
        new: NewFederatedIdentity,
    ) -> Result<Arc<Credential>, Refusal> {
        new.check(self)?;
        let url = &self.settings().url;
        let host = url.split_once("://").map_or(url.as_str(), |(_, host)| host);
        let host = host.to_owned();
        self.write(actor, move |draft| {
            let tags = grant::permitted(draft.view(), draft.actor(), &new.scopes, &new.tags)?;
            let id = KeyId::new(draft.new_id()).ok_or(StoreFailure::Defect("ran out of ids"))?;
            let audience = if new.audience.is_empty() {
                format!("{host}/{}", client_id(draft.view().id(), id))
            } else {
                new.audience.clone()
            };
            let credential = Credential {
                id,
                kind: Kind::Federated(FederatedIdentity {
                    scopes: new.scopes.clone(),
                    tags,
                    issuer: new.issuer.clone(),
                    subject: new.subject.clone(),
                    audience,
                    custom_claim_rules: new.custom_claim_rules.clone(),
                }),
                hash: None,
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
            Ok(Arc::new(credential))
        })
        .await
    }

    /// Gives a federated identity other scopes, tags, rules and another description, all at once. Access
    /// tokens that were made of it before lose the scopes that it loses, and gain none.
    ///
    /// # Errors
    /// As [`Self::create_federated_identity`]; `NotFound`; `Invalid` for another kind of key, and for
    /// one that was revoked.
    pub async fn change_federated_identity(
        &self,
        actor: &Actor,
        id: KeyId,
        new: NewFederatedIdentity,
    ) -> Result<Arc<Credential>, Refusal> {
        new.check(self)?;
        self.write(actor, move |draft| {
            let old = draft
                .view()
                .credential(id)
                .cloned()
                .ok_or(Refusal::NotFound)?;
            check(draft.actor(), &old, Access::Write)?;
            grant::check_changeable(&old)?;
            let Kind::Federated(identity) = &old.kind else {
                return Err(Refusal::invalid("keyType is not that of this key"));
            };
            let tags = grant::permitted(draft.view(), draft.actor(), &new.scopes, &new.tags)?;
            let kind = FederatedIdentity {
                scopes: new.scopes.clone(),
                tags,
                issuer: new.issuer.clone(),
                subject: new.subject.clone(),
                audience: if new.audience.is_empty() {
                    identity.audience.clone()
                } else {
                    new.audience.clone()
                },
                custom_claim_rules: new.custom_claim_rules.clone(),
            };
            if *identity == kind && old.description == new.description {
                return Ok(old);
            }
            let changed = Credential {
                kind: Kind::Federated(kind),
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_id_names_tailnet_and_credential() {
        let (tailnet, id) = (TailnetId::new(77).unwrap(), KeyId::new(78).unwrap());
        let text = client_id(tailnet, id);
        assert_eq!(parse_client_id(&text), Some((tailnet, id)));
        for bad in [
            "",
            "-",
            &tailnet.stable(),
            &id.stable(),
            &format!("{}-", tailnet.stable()),
            &format!("{}-{}", id.stable(), tailnet.stable()),
            "77-78",
            &format!("{text}-x"),
            &format!(" {text}"),
        ] {
            assert_eq!(parse_client_id(bad), None, "{bad}");
        }
    }
}
