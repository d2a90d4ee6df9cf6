//! `GET /tailnet/{tailnet}/webhooks`: list the webhook endpoints.
//!
//! Source: official OpenAPI document, `listWebhooks`.

use schemars::JsonSchema;
use serde::Serialize;

use super::Webhook;
use crate::Api;
use crate::answer::{Encoded, Shape};
use crate::call::Call;
use crate::error::ApiError;

/// Webhook endpoints.
#[derive(Serialize, JsonSchema)]
pub(crate) struct WebhookList<'a> {
    webhooks: Vec<Webhook<'a>>,
}

impl Shape for WebhookList<'_> {
    type Schema = WebhookList<'static>;
}

pub(crate) async fn handler(
    api: Api,
    call: Call,
) -> Result<Encoded<WebhookList<'static>>, ApiError> {
    let endpoints = api.engine.webhooks(&call.actor)?;
    let webhooks = endpoints.iter().map(|one| Webhook::new(one, None));
    Encoded::new(&WebhookList {
        webhooks: webhooks.collect(),
    })
}
