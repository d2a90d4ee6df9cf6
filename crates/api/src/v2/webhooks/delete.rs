//! `DELETE /webhooks/{endpointId}`: delete a webhook endpoint.
//!
//! Source: official OpenAPI document, `deleteWebhook`.

use bowline_model::id::WebhookId;

use crate::Api;
use crate::answer::Empty;
use crate::call::Call;
use crate::error::ApiError;
use crate::extract::Json;

pub(crate) async fn handler(api: Api, call: Call<WebhookId>) -> Result<Json<Empty>, ApiError> {
    api.engine.delete_webhook(&call.actor, call.path).await?;
    Ok(Json(Empty {}))
}
