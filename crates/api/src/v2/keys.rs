//! Auth keys, API access tokens, OAuth clients and federated identities.

pub(crate) mod create;
pub(crate) mod delete;
pub(crate) mod get;
pub(crate) mod list;
pub(crate) mod update;

use std::collections::BTreeMap;

use bowline_engine::Actor;
use bowline_engine::credential::Minted;
use bowline_engine::workload::identity::client_id;
use bowline_model::access_token::AccessToken;
use bowline_model::credential::{Credential, Kind};
use bowline_model::id::{TailnetId, UserId};
use bowline_model::scope::{Scope, Scopes};
use bowline_model::tag::Tag;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Serialize;

use crate::Api;
use crate::answer::Shape;
use crate::error::ApiError;
use crate::text::{Time, time};

// Source: official OpenAPI document, `Key`; `docs/protocol/api-behaviour.md`, section 2.4.
/// A key: an auth key, an API access token, an OAuth client or a federated identity.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Key<'a> {
    /// `k…`; of a federated identity `T…-k…`, which is its client id.
    id: String,
    /// The secret, in the answer to its making only.
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'a str>,
    #[schemars(schema_with = "key_types")]
    key_type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    expiry_seconds: Option<i64>,
    created: Time,
    /// Absent: it does not expire.
    #[serde(skip_serializing_if = "Option::is_none")]
    expires: Option<Time>,
    /// Absent: it was never changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    updated: Option<Time>,
    #[serde(skip_serializing_if = "Option::is_none")]
    revoked: Option<Time>,
    #[serde(skip_serializing_if = "Option::is_none")]
    capabilities: Option<Capabilities<'a>>,
    /// What it was given; `all`, of a user's API access token. Auth keys have none.
    #[serde(skip_serializing_if = "Option::is_none")]
    scopes: Option<Vec<String>>,
    /// Tags of what an OAuth client, a federated identity or an access token of one makes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tags: Vec<&'a str>,
    description: &'a str,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    invalid: bool,
    /// Whether it is good and expires soon, as the audit log tells too: who needs it makes another one.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    expires_soon: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_id: Option<String>,
    /// Whose tokens a federated identity trusts.
    #[serde(skip_serializing_if = "Option::is_none")]
    issuer: Option<&'a str>,
    /// Pattern for their `sub`.
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<&'a str>,
    /// What their `aud` must contain.
    #[serde(skip_serializing_if = "Option::is_none")]
    audience: Option<&'a str>,
    /// Patterns for their other claims. `{}`, of a federated identity without any.
    #[serde(skip_serializing_if = "Option::is_none")]
    custom_claim_rules: Option<&'a BTreeMap<String, String>>,
}

#[derive(Serialize, JsonSchema)]
#[schemars(inline)]
struct Capabilities<'a> {
    devices: Devices<'a>,
}

#[derive(Serialize, JsonSchema)]
#[schemars(inline)]
struct Devices<'a> {
    create: Create<'a>,
}

#[derive(Serialize, JsonSchema)]
#[schemars(inline)]
struct Create<'a> {
    reusable: bool,
    ephemeral: bool,
    preauthorized: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tags: Vec<&'a str>,
}

impl<'a> Key<'a> {
    pub(crate) fn new(
        tailnet: TailnetId,
        credential: &'a Credential,
        minted: Option<&'a Minted>,
        now: jiff::Timestamp,
    ) -> Self {
        let auth = credential.auth_key();
        let federated = match &credential.kind {
            Kind::Federated(identity) => Some(identity),
            Kind::Auth(_) | Kind::Api | Kind::Client(_) | Kind::Scim => None,
        };
        let seconds = credential
            .expires
            .map(|expires| expires.as_second() - credential.created.as_second());
        Self {
            id: match federated {
                Some(_) => client_id(tailnet, credential.id),
                None => credential.id.stable(),
            },
            key: minted.map(Minted::expose),
            key_type: credential.kind.name(),
            expiry_seconds: auth.and(seconds),
            created: time(credential.created),
            expires: credential.expires.map(time),
            updated: credential.updated.map(time),
            revoked: credential.revoked.map(time),
            capabilities: auth.map(|key| Capabilities {
                devices: Devices {
                    create: Create {
                        reusable: key.reusable,
                        ephemeral: key.ephemeral,
                        preauthorized: key.preauthorized,
                        tags: key.tags.iter().map(Tag::as_str).collect(),
                    },
                },
            }),
            scopes: match &credential.kind {
                Kind::Auth(_) | Kind::Scim => None,
                Kind::Api => Some(texts(&Scopes::all())),
                Kind::Client(client) => Some(texts(&client.scopes)),
                Kind::Federated(identity) => Some(texts(&identity.scopes)),
            },
            tags: credential
                .granted()
                .map(|(_, tags)| tags.iter().map(Tag::as_str).collect())
                .unwrap_or_default(),
            description: &credential.description,
            invalid: !credential.is_valid(now),
            expires_soon: credential.is_valid(now)
                && credential.expiry_told.is_some()
                && credential.expiry_told == credential.expires,
            user_id: credential.user.map(UserId::stable),
            issuer: federated.map(|identity| identity.issuer.as_str()),
            subject: federated.map(|identity| identity.subject.as_str()),
            audience: federated.map(|identity| identity.audience.as_str()),
            custom_claim_rules: federated.map(|identity| &identity.custom_claim_rules),
        }
    }

    /// An access token of an OAuth client or a federated identity, as the official service shows it: of
    /// the type `api`.
    pub(crate) fn of_access_token(token: &'a AccessToken, now: jiff::Timestamp) -> Self {
        Self {
            id: token.id.stable(),
            key: None,
            key_type: Kind::Api.name(),
            expiry_seconds: None,
            created: time(token.created),
            expires: Some(time(token.expires)),
            updated: None,
            revoked: token.revoked.map(time),
            capabilities: None,
            scopes: Some(texts(&token.scopes)),
            tags: token.tags.iter().map(Tag::as_str).collect(),
            description: "",
            invalid: !token.is_valid(now),
            expires_soon: false,
            user_id: None,
            issuer: None,
            subject: None,
            audience: None,
            custom_claim_rules: None,
        }
    }
}

fn texts(scopes: &Scopes) -> Vec<String> {
    scopes.as_slice().iter().map(ToString::to_string).collect()
}

/// The scopes that a body lists.
pub(crate) fn read_scopes(texts: Option<Vec<String>>) -> Result<Scopes, ApiError> {
    let scopes = texts.unwrap_or_default();
    let read = scopes.iter().map(|text| text.parse::<Scope>());
    read.collect::<Result<Scopes, _>>()
        .map_err(|error| ApiError::bad_request(error.to_string()))
}

impl Shape for Key<'_> {
    type Schema = Key<'static>;
}

/// Kinds of keys that there are.
fn key_types(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "enum": ["auth", "api", "client", "federated"]})
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
    let snapshot = api.snapshot(actor.tailnet)?;
    let user = snapshot
        .user_by_login(text)
        .or_else(|| UserId::parse(text).and_then(|id| snapshot.user(id)))
        .ok_or_else(|| ApiError::bad_request(format!("there is no user {text:?}")))?;
    Ok(Some(user.id))
}
