//! `POST /tailnet/{tailnet}/keys`: make an auth key, an OAuth client or a federated identity. A secret is
//! in this answer only; a federated identity has none.
//!
//! Source: official OpenAPI document, `createKey`.

use std::collections::BTreeMap;
use std::sync::Arc;

use bowline_engine::Actor;
use bowline_engine::credential::client::NewOAuthClient;
use bowline_engine::credential::{Minted, NewAuthKey};
use bowline_engine::workload::identity::NewFederatedIdentity;
use bowline_model::credential::Credential;
use schemars::JsonSchema;
use serde::Deserialize;

use super::{Key, find_user, read_scopes};
use crate::Api;
use crate::answer::Encoded;
use crate::call::Call;
use crate::error::ApiError;
use crate::extract::{Integer, Json, Object};

/// A key to be made. Members of other kinds of keys are ignored.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct NewKey {
    /// `auth`, which it is too where it is absent; `client`; `federated`.
    key_type: Option<String>,
    /// What an auth key is good for. Required for those.
    capabilities: Option<Object<Capabilities>>,
    /// 1 to 7776000. 0 and absent: 7776000.
    expiry_seconds: Option<Integer>,
    /// At most 50 letters, digits, spaces, `-` and `_`.
    description: Option<String>,
    /// What access tokens of an OAuth client or a federated identity may be given. One at least.
    scopes: Option<Vec<String>>,
    /// Tags of what an OAuth client or a federated identity makes. Required with the scopes `devices:core` and `auth_keys`.
    tags: Option<Vec<String>>,
    /// URL of a federated identity's issuer: `https://`, a host, perhaps a path. Required for those.
    issuer: Option<String>,
    /// Pattern for the `sub` of the issuer's tokens; `*` stands for any characters. Required.
    subject: Option<String>,
    /// What the `aud` of the issuer's tokens must contain. Absent and empty: the server makes one.
    audience: Option<String>,
    /// Patterns for other claims of the issuer's tokens, by path.
    custom_claim_rules: Option<BTreeMap<String, String>>,
    /// Who is to own an auth key, by id or login name. A member of ours.
    user: Option<String>,
}

#[derive(Deserialize, JsonSchema)]
#[schemars(inline)]
struct Capabilities {
    #[schemars(required)]
    devices: Option<Object<Devices>>,
}

#[derive(Deserialize, JsonSchema)]
#[schemars(inline)]
struct Devices {
    /// What devices are that register with the key.
    create: Option<Object<Create>>,
}

#[derive(Deserialize, Default, JsonSchema)]
#[schemars(inline)]
struct Create {
    reusable: Option<bool>,
    ephemeral: Option<bool>,
    preauthorized: Option<bool>,
    tags: Option<Vec<String>>,
}

pub(crate) async fn handler(
    api: Api,
    call: Call<(), (), Json<NewKey>>,
) -> Result<Encoded<Key<'static>>, ApiError> {
    let Json(body) = call.body;
    let (minted, credential) = match body.key_type.as_deref().unwrap_or("auth") {
        "auth" | "" => secret(auth_key(&api, &call.actor, body).await?),
        "client" => secret(oauth_client(&api, &call.actor, body).await?),
        "federated" => (None, federated_identity(&api, &call.actor, body).await?),
        "api" => {
            return Err(ApiError::bad_request(
                "API access tokens are not made here: POST /api/v2/tailnet/-/access-tokens",
            ));
        }
        other => return Err(ApiError::bad_request(format!("unknown keyType {other:?}"))),
    };
    let shown = Key::new(
        call.actor.tailnet,
        &credential,
        minted.as_ref(),
        api.engine.now(),
    );
    Encoded::new(&shown)
}

fn secret((minted, credential): (Minted, Arc<Credential>)) -> (Option<Minted>, Arc<Credential>) {
    (Some(minted), credential)
}

async fn auth_key(
    api: &Api,
    actor: &Actor,
    body: NewKey,
) -> Result<(Minted, Arc<Credential>), ApiError> {
    let devices = body
        .capabilities
        .and_then(|capabilities| capabilities.0.devices);
    let create = devices
        .ok_or_else(|| ApiError::bad_request("capabilities.devices is required"))?
        .0
        .create
        .unwrap_or_default()
        .0;
    let user = find_user(api, actor, body.user.as_deref())?;
    let new = NewAuthKey {
        reusable: create.reusable.unwrap_or(false),
        ephemeral: create.ephemeral.unwrap_or(false),
        preauthorized: create.preauthorized.unwrap_or(false),
        tags: create.tags.unwrap_or_default(),
        expiry_seconds: body.expiry_seconds.map(|Integer(seconds)| seconds),
        description: body.description.unwrap_or_default(),
    };
    Ok(api.engine.create_auth_key(actor, user, new).await?)
}

async fn oauth_client(
    api: &Api,
    actor: &Actor,
    body: NewKey,
) -> Result<(Minted, Arc<Credential>), ApiError> {
    let new = NewOAuthClient {
        scopes: read_scopes(body.scopes)?,
        tags: body.tags.unwrap_or_default(),
        description: body.description.unwrap_or_default(),
    };
    Ok(api.engine.create_oauth_client(actor, new).await?)
}

async fn federated_identity(
    api: &Api,
    actor: &Actor,
    body: NewKey,
) -> Result<Arc<Credential>, ApiError> {
    let new = NewFederatedIdentity {
        scopes: read_scopes(body.scopes)?,
        tags: body.tags.unwrap_or_default(),
        description: body.description.unwrap_or_default(),
        issuer: body.issuer.unwrap_or_default(),
        subject: body.subject.unwrap_or_default(),
        audience: body.audience.unwrap_or_default(),
        custom_claim_rules: body.custom_claim_rules.unwrap_or_default(),
    };
    Ok(api.engine.create_federated_identity(actor, new).await?)
}
