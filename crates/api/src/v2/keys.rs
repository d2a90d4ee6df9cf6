//! Auth keys and API access tokens.

use axum::extract::{Path, RawQuery, State};
use axum::response::Response;
use bowline_engine::Actor;
use bowline_engine::credential::{Minted, NewAuthKey};
use bowline_model::credential::Credential;
use bowline_model::id::{KeyId, UserId};
use serde::{Deserialize, Serialize};

use crate::Api;
use crate::caller::{
    AuthKeysWrite, Caller, KeysChange, KeysList, KeysRead, KeysRevoke, TokensWrite,
};
use crate::error::ApiError;
use crate::extract::{Integer, Json, Object, empty_object, json, pairs};
use crate::text::time;

/// A credential as the API shows it. Source: official OpenAPI document, `Key`; `docs/protocol/api-behaviour.md`,
/// section 2.4.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct KeyJson<'a> {
    id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'a str>,
    key_type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    expiry_seconds: Option<i64>,
    created: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    revoked: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    capabilities: Option<Capabilities<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scopes: Option<[&'static str; 1]>,
    description: &'a str,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    invalid: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_id: Option<String>,
}

#[derive(Serialize)]
struct Capabilities<'a> {
    devices: Devices<'a>,
}

#[derive(Serialize)]
struct Devices<'a> {
    create: Create<'a>,
}

#[derive(Serialize)]
struct Create<'a> {
    reusable: bool,
    ephemeral: bool,
    preauthorized: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tags: Vec<&'a str>,
}

impl<'a> KeyJson<'a> {
    fn new(credential: &'a Credential, minted: Option<&'a Minted>, now: jiff::Timestamp) -> Self {
        let auth = credential.auth_key();
        let seconds = credential
            .expires
            .map(|expires| expires.as_second() - credential.created.as_second());
        Self {
            id: credential.id.stable(),
            key: minted.map(Minted::expose),
            key_type: credential.kind.name(),
            expiry_seconds: auth.and(seconds),
            created: time(credential.created),
            expires: credential.expires.map(time),
            revoked: credential.revoked.map(time),
            capabilities: auth.map(|key| Capabilities {
                devices: Devices {
                    create: Create {
                        reusable: key.reusable,
                        ephemeral: key.ephemeral,
                        preauthorized: key.preauthorized,
                        tags: key
                            .tags
                            .iter()
                            .map(bowline_model::tag::Tag::as_str)
                            .collect(),
                    },
                },
            }),
            scopes: auth.is_none().then_some(["all"]),
            description: &credential.description,
            invalid: !credential.is_valid(now),
            user_id: credential.user.map(UserId::stable),
        }
    }
}

/// `GET /tailnet/{tailnet}/keys`: list valid keys, the caller's own or all.
///
/// Source: official OpenAPI document, `listTailnetKeys`.
pub(crate) async fn list(
    caller: Caller<KeysList>,
    State(api): State<Api>,
    RawQuery(query): RawQuery,
) -> Result<Response, ApiError> {
    #[derive(Serialize)]
    struct Answer<'a> {
        keys: Vec<KeyJson<'a>>,
    }
    let actor = &caller.actor;
    let all = pairs(query.as_deref())
        .iter()
        .any(|(key, value)| key == "all" && matches!(value.as_str(), "true" | "1"));
    let count = api
        .engine
        .snapshot(actor.tailnet)
        .map_or(0, |snapshot| snapshot.credential_count());
    let (engine, actor) = (api.engine.clone(), actor.clone());
    let work = move || {
        let now = engine.now();
        let credentials = engine.credentials(&actor, all);
        json(&Answer {
            keys: credentials
                .iter()
                .map(|credential| KeyJson::new(credential, None, now))
                .collect(),
        })
    };
    api.lists.answer(caller.actor.tailnet, count, work).await
}

/// Body of "create key". Fields of other kinds of keys are ignored.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CreateBody {
    key_type: Option<String>,
    capabilities: Option<Object<CapabilitiesBody>>,
    expiry_seconds: Option<Integer>,
    description: Option<String>,
    /// Ours: the user who is to own the key, by id or login name.
    user: Option<String>,
}

#[derive(Deserialize)]
struct CapabilitiesBody {
    devices: Option<Object<DevicesBody>>,
}

#[derive(Deserialize)]
struct DevicesBody {
    create: Option<Object<CreateDevices>>,
}

#[derive(Deserialize, Default)]
struct CreateDevices {
    reusable: Option<bool>,
    ephemeral: Option<bool>,
    preauthorized: Option<bool>,
    tags: Option<Vec<String>>,
}

/// A user by id or login name.
pub(crate) fn find_user(
    api: &Api,
    actor: &Actor,
    text: Option<&str>,
) -> Result<Option<UserId>, ApiError> {
    let Some(text) = text.filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    let snapshot = api
        .engine
        .snapshot(actor.tailnet)
        .ok_or_else(ApiError::not_found)?;
    let user = snapshot
        .user_by_login(text)
        .or_else(|| UserId::parse(text).and_then(|id| snapshot.user(id)))
        .ok_or_else(|| ApiError::bad_request(format!("there is no user {text:?}")))?;
    Ok(Some(user.id))
}

/// `POST /tailnet/{tailnet}/keys`: make an auth key. Its secret is in this answer only.
///
/// Source: official OpenAPI document, `createKey`.
pub(crate) async fn create(
    caller: Caller<AuthKeysWrite>,
    State(api): State<Api>,
    Json(body): Json<CreateBody>,
) -> Result<Response, ApiError> {
    match body.key_type.as_deref().unwrap_or("auth") {
        "auth" | "" => {}
        "api" => {
            return Err(ApiError::bad_request(
                "API access tokens are not made here: POST /api/v2/tailnet/-/access-tokens",
            ));
        }
        other @ ("client" | "federated") => {
            return Err(ApiError::new(
                http::StatusCode::NOT_IMPLEMENTED,
                format!("keys of type {other} cannot be made yet"),
            ));
        }
        other => return Err(ApiError::bad_request(format!("unknown keyType {other:?}"))),
    }
    let devices = body
        .capabilities
        .and_then(|capabilities| capabilities.0.devices);
    let create = devices
        .ok_or_else(|| ApiError::bad_request("capabilities.devices is required"))?
        .0
        .create
        .unwrap_or_default()
        .0;
    let user = find_user(&api, &caller.actor, body.user.as_deref())?;
    let new = NewAuthKey {
        reusable: create.reusable.unwrap_or(false),
        ephemeral: create.ephemeral.unwrap_or(false),
        preauthorized: create.preauthorized.unwrap_or(false),
        tags: create.tags.unwrap_or_default(),
        expiry_seconds: body.expiry_seconds.map(|Integer(seconds)| seconds),
        description: body.description.unwrap_or_default(),
    };
    let (minted, credential) = api.engine.create_auth_key(&caller.actor, user, new).await?;
    json(&KeyJson::new(&credential, Some(&minted), api.engine.now()))
}

fn key_id(text: &str) -> Result<KeyId, ApiError> {
    KeyId::parse(text)
        .filter(|_| text.starts_with('k'))
        .ok_or_else(ApiError::not_found)
}

/// `GET /tailnet/{tailnet}/keys/{keyId}`: get a key, also one that is no longer valid.
///
/// Source: official OpenAPI document, `getKey`.
pub(crate) async fn get(
    caller: Caller<KeysRead>,
    State(api): State<Api>,
    Path((_, id)): Path<(String, String)>,
) -> Result<Response, ApiError> {
    let credential = api.engine.credential(&caller.actor, key_id(&id)?)?;
    json(&KeyJson::new(&credential, None, api.engine.now()))
}

/// `DELETE /tailnet/{tailnet}/keys/{keyId}`: revoke a key.
///
/// Source: official OpenAPI document, `deleteKey`.
pub(crate) async fn delete(
    caller: Caller<KeysRevoke>,
    State(api): State<Api>,
    Path((_, id)): Path<(String, String)>,
) -> Result<Response, ApiError> {
    api.engine
        .revoke_credential(&caller.actor, key_id(&id)?)
        .await?;
    Ok(empty_object())
}

/// `PUT /tailnet/{tailnet}/keys/{keyId}`: change an OAuth client or federated identity. There are
/// none yet, and other keys cannot be changed.
///
/// Source: official OpenAPI document, `setKey`.
pub(crate) async fn update(
    caller: Caller<KeysChange>,
    State(api): State<Api>,
    Path((_, id)): Path<(String, String)>,
) -> Result<Response, ApiError> {
    api.engine
        .credential_to_change(&caller.actor, key_id(&id)?)?;
    Err(ApiError::bad_request(
        "only OAuth clients and federated identities can be changed",
    ))
}

/// Body of "create access token".
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TokenBody {
    user: Option<String>,
    description: Option<String>,
    expiry_seconds: Option<Integer>,
}

/// `POST /tailnet/{tailnet}/access-tokens`: make an API access token. Its secret is in this answer
/// only. An operation of ours: the official API has none.
pub(crate) async fn create_token(
    caller: Caller<TokensWrite>,
    State(api): State<Api>,
    Json(body): Json<TokenBody>,
) -> Result<Response, ApiError> {
    let user = find_user(&api, &caller.actor, body.user.as_deref())?;
    let description = body.description.unwrap_or_default();
    let seconds = body.expiry_seconds.map(|Integer(seconds)| seconds);
    let (minted, credential) = api
        .engine
        .create_access_token(&caller.actor, user, &description, seconds)
        .await?;
    json(&KeyJson::new(&credential, Some(&minted), api.engine.now()))
}
