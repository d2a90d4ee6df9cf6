//! `POST /webhooks/{endpointId}/rotate`: give a webhook endpoint another secret, which is in this answer
//! only.
//!
//! Source: official OpenAPI document, `rotateWebhookSecret`.

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
    let (minted, endpoint) = api.engine.rotate_webhook(&call.actor, call.path).await?;
    Encoded::new(&Webhook::new(&endpoint, Some(&minted)))
}
