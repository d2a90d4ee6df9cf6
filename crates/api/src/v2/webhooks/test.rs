//! `POST /webhooks/{endpointId}/test`: send a test event to a webhook endpoint, soon.
//!
//! Source: official OpenAPI document, `testWebhook`.

use bowline_model::id::WebhookId;

use crate::Api;
use crate::answer::Accepted;
use crate::call::Call;
use crate::error::ApiError;

pub(crate) async fn handler(api: Api, call: Call<WebhookId>) -> Result<Accepted, ApiError> {
    api.engine.test_webhook(&call.actor, call.path).await?;
    Ok(Accepted)
}
