//! `PATCH /webhooks/{endpointId}`: give a webhook endpoint other subscriptions. URL and form stay as
//! they are.
//!
//! Source: official OpenAPI document, `updateWebhook`.

use bowline_model::id::WebhookId;
use schemars::JsonSchema;
use serde::Deserialize;

use super::{Webhook, read_subscriptions, subscriptions_or_null};
use crate::Api;
use crate::answer::Encoded;
use crate::call::Call;
use crate::error::ApiError;
use crate::extract::Json;

/// What is to be changed.
#[derive(Deserialize, JsonSchema)]
pub(crate) struct UpdateWebhook {
    /// What it is told of; at least one. Absent: unchanged.
    #[schemars(schema_with = "subscriptions_or_null")]
    #[serde(default)]
    subscriptions: Option<Vec<String>>,
}

pub(crate) async fn handler(
    api: Api,
    call: Call<WebhookId, (), Json<UpdateWebhook>>,
) -> Result<Encoded<Webhook<'static>>, ApiError> {
    let (actor, id, Json(body)) = (call.actor, call.path, call.body);
    let endpoint = match body.subscriptions {
        Some(names) => {
            let subscriptions = read_subscriptions(&names)?;
            api.engine
                .subscribe_webhook(&actor, id, subscriptions)
                .await?
        }
        None => api.engine.webhook(&actor, id)?,
    };
    Encoded::new(&Webhook::new(&endpoint, None))
}
