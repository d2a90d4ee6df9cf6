//! `POST /tailnet/{tailnet}/webhooks`: make a webhook endpoint. Its secret is in this answer only.
//!
//! Source: official OpenAPI document, `createWebhook`.

use bowline_engine::webhook::NewWebhook;
use bowline_model::webhook::Provider;
use schemars::JsonSchema;
use serde::Deserialize;

use super::{Webhook, providers_or_none, read_subscriptions, subscriptions};
use crate::Api;
use crate::answer::Encoded;
use crate::call::Call;
use crate::error::ApiError;
use crate::extract::Json;

/// An endpoint to be made.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CreateWebhook {
    /// Where events are sent to: `https://…`, at most 2048 bytes.
    endpoint_url: String,
    /// The product in whose form they are sent. Empty and absent: in the official JSON.
    #[schemars(schema_with = "providers_or_none")]
    #[serde(default)]
    provider_type: Option<String>,
    /// What it is told of; at least one.
    #[schemars(schema_with = "subscriptions")]
    subscriptions: Vec<String>,
}

pub(crate) async fn handler(
    api: Api,
    call: Call<(), (), Json<CreateWebhook>>,
) -> Result<Encoded<Webhook<'static>>, ApiError> {
    let Json(body) = call.body;
    let provider = match body.provider_type.as_deref() {
        None | Some("") => None,
        Some(name) => Some(
            Provider::parse(name)
                .ok_or_else(|| ApiError::bad_request(format!("unknown providerType {name:?}")))?,
        ),
    };
    let new = NewWebhook {
        url: body.endpoint_url,
        provider,
        subscriptions: read_subscriptions(&body.subscriptions)?,
    };
    let (minted, endpoint) = api.engine.create_webhook(&call.actor, new).await?;
    Encoded::new(&Webhook::new(&endpoint, Some(&minted)))
}
