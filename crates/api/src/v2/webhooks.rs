//! Webhook endpoints.

pub(crate) mod create;
pub(crate) mod delete;
pub(crate) mod deliveries;
pub(crate) mod get;
pub(crate) mod list;
pub(crate) mod replay;
pub(crate) mod rotate;
pub(crate) mod test;
pub(crate) mod update;

use std::collections::BTreeSet;

use bowline_engine::credential::Minted;
use bowline_model::webhook::{Provider, Subscription, WebhookEndpoint};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Serialize;

use crate::answer::Shape;
use crate::error::ApiError;
use crate::text::{Time, time};

// Source: official OpenAPI document, `Webhook`.
/// A webhook endpoint.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Webhook<'a> {
    endpoint_id: String,
    /// Where events are sent to.
    endpoint_url: &'a str,
    /// The product in whose form they are sent. Absent: in the official JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "providers")]
    provider_type: Option<&'static str>,
    /// Login name of who made it; empty where no user did.
    creator_login_name: &'a str,
    created: Time,
    last_modified: Time,
    /// What it is told of.
    #[schemars(schema_with = "subscriptions")]
    subscriptions: Vec<&'static str>,
    /// The secret that events are signed with, when it was just made only.
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<&'a str>,
}

impl<'a> Webhook<'a> {
    pub(crate) fn new(endpoint: &'a WebhookEndpoint, minted: Option<&'a Minted>) -> Self {
        Self {
            endpoint_id: endpoint.id.stable(),
            endpoint_url: &endpoint.url,
            provider_type: endpoint.provider.map(Provider::as_str),
            creator_login_name: &endpoint.creator,
            created: time(endpoint.created),
            last_modified: time(endpoint.updated),
            subscriptions: endpoint
                .subscriptions
                .iter()
                .map(|one| one.as_str())
                .collect(),
            secret: minted.map(Minted::expose),
        }
    }
}

impl Shape for Webhook<'_> {
    type Schema = Webhook<'static>;
}

/// Products that there are forms for.
fn providers(_: &mut SchemaGenerator) -> Schema {
    let names = Provider::ALL.map(Provider::as_str);
    json_schema!({"type": "string", "enum": names})
}

/// The same, or nothing.
fn providers_or_none(_: &mut SchemaGenerator) -> Schema {
    let names = Provider::ALL.map(Provider::as_str).into_iter().map(Some);
    let names: Vec<Option<&str>> = names.chain([Some(""), None]).collect();
    json_schema!({"type": ["string", "null"], "enum": names})
}

/// Names of what can be subscribed to, or nothing.
fn subscriptions_or_null(generator: &mut SchemaGenerator) -> Schema {
    let mut schema = subscriptions(generator);
    schema.insert("type".to_owned(), serde_json::json!(["array", "null"]));
    schema
}

/// Names of what can be subscribed to.
fn subscriptions(_: &mut SchemaGenerator) -> Schema {
    let names: Vec<&str> = Subscription::all().map(Subscription::as_str).collect();
    json_schema!({"type": "array", "items": {"type": "string", "enum": names}})
}

/// Reads what an endpoint is to be told of.
fn read_subscriptions(names: &[String]) -> Result<BTreeSet<Subscription>, ApiError> {
    let read = |name: &String| {
        Subscription::parse(name)
            .ok_or_else(|| ApiError::bad_request(format!("unknown subscription {name:?}")))
    };
    names.iter().map(read).collect()
}
