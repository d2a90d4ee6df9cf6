//! `GET /webhooks/{endpointId}`: get a webhook endpoint.
//!
//! Source: official OpenAPI document, `getWebhook`.

use bowline_model::id::WebhookId;

use super::Webhook;
use crate::Api;
use crate::answer::Encoded;
use crate::call::Call;
use crate::error::ApiError;

pub(crate) async fn handler(
    api: Api,
    call: Call<WebhookId>,
) -> Result<Encoded<Webhook<'static>>, ApiError> {
    let endpoint = api.engine.webhook(&call.actor, call.path)?;
    Encoded::new(&Webhook::new(&endpoint, None))
}
