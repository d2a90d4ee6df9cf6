//! `PUT /tailnet/{tailnet}/keys/{keyId}`: change an OAuth client or a federated identity. What is absent is
//! empty from then on, but for an audience, which stays; other kinds of keys cannot be changed.
//!
//! Source: official OpenAPI document, `setKey`.

use std::collections::BTreeMap;

use bowline_engine::credential::client::NewOAuthClient;
use bowline_engine::workload::identity::NewFederatedIdentity;
use bowline_model::credential::Kind;
use schemars::JsonSchema;
use serde::Deserialize;

use super::{Key, read_scopes};
use crate::Api;
use crate::answer::Encoded;
use crate::call::{Call, NamedKey};
use crate::error::ApiError;
use crate::extract::Json;

/// All of a key that can be changed. Members of other kinds of keys are ignored.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ChangedKey {
    /// `client` or `federated`. It never changes; absent: as the key is.
    key_type: Option<String>,
    /// At most 50 letters, digits, spaces, `-` and `_`.
    description: Option<String>,
    /// What its access tokens may be given. One at least.
    scopes: Option<Vec<String>>,
    /// Tags of what it makes. Required with the scopes `devices:core` and `auth_keys`.
    tags: Option<Vec<String>>,
    /// URL of a federated identity's issuer. Required for those.
    issuer: Option<String>,
    /// Pattern for the `sub` of the issuer's tokens. Required.
    subject: Option<String>,
    /// What the `aud` of the issuer's tokens must contain. Absent and empty: as it is.
    audience: Option<String>,
    /// Patterns for other claims of the issuer's tokens, by path.
    custom_claim_rules: Option<BTreeMap<String, String>>,
}

pub(crate) async fn handler(
    api: Api,
    call: Call<NamedKey, (), Json<ChangedKey>>,
) -> Result<Encoded<Key<'static>>, ApiError> {
    let Json(body) = call.body;
    let id = call.path.of(&call.actor)?;
    let old = api.engine.credential_to_change(&call.actor, id)?;
    let asked = body.key_type.filter(|name| !name.is_empty());
    if asked.is_some_and(|asked| asked != old.kind.name()) {
        return Err(ApiError::bad_request("keyType is not that of this key"));
    }
    let changed = match &old.kind {
        Kind::Client(_) => {
            let new = NewOAuthClient {
                scopes: read_scopes(body.scopes)?,
                tags: body.tags.unwrap_or_default(),
                description: body.description.unwrap_or_default(),
            };
            let engine = &api.engine;
            engine.change_oauth_client(&call.actor, id, new).await?
        }
        Kind::Federated(_) => {
            let new = NewFederatedIdentity {
                scopes: read_scopes(body.scopes)?,
                tags: body.tags.unwrap_or_default(),
                description: body.description.unwrap_or_default(),
                issuer: body.issuer.unwrap_or_default(),
                subject: body.subject.unwrap_or_default(),
                audience: body.audience.unwrap_or_default(),
                custom_claim_rules: body.custom_claim_rules.unwrap_or_default(),
            };
            let engine = &api.engine;
            engine
                .change_federated_identity(&call.actor, id, new)
                .await?
        }
        Kind::Auth(_) | Kind::Api | Kind::Scim => {
            return Err(ApiError::bad_request(
                "only OAuth clients and federated identities can be changed",
            ));
        }
    };
    Encoded::new(&Key::new(
        call.actor.tailnet,
        &changed,
        None,
        api.engine.now(),
    ))
}
