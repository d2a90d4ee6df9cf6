//! `GET /webhooks/{endpointId}/deliveries`: what waits for a webhook endpoint, and what it was not
//! told.

use bowline_model::id::WebhookId;
use schemars::JsonSchema;
use serde::Serialize;

use crate::Api;
use crate::answer::{Encoded, Shape};
use crate::call::Call;
use crate::error::ApiError;
use crate::text::{Time, exact_time, time};

/// How a webhook endpoint is being told.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Deliveries {
    /// What waits, in the order in which it is told: the first thousand.
    waiting: Vec<WaitingEvent>,
    /// What was given up and can be replayed, the oldest first: the first thousand.
    undelivered: Vec<UndeliveredEvent>,
    /// How many tries failed since the last that did not.
    failures: u32,
    /// Why the last one failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_error: Option<String>,
    /// Not before this is the next one.
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_at: Option<Time>,
    /// When something was delivered last.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_delivered: Option<Time>,
}

/// An event that waits.
#[derive(Serialize, JsonSchema)]
struct WaitingEvent {
    #[serde(rename = "type")]
    kind: String,
    timestamp: Time,
    message: String,
}

/// An event that was given up.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct UndeliveredEvent {
    /// By which it is replayed.
    delivery_id: String,
    #[serde(rename = "type")]
    kind: String,
    timestamp: Time,
    given_up: Time,
    /// Why the last try failed.
    error: String,
}

impl Shape for Deliveries {
    type Schema = Self;
}

pub(crate) async fn handler(
    api: Api,
    call: Call<WebhookId>,
) -> Result<Encoded<Deliveries>, ApiError> {
    let found = api
        .engine
        .webhook_deliveries(&call.actor, call.path)
        .await?;
    let waiting = found.waiting.into_iter().map(|notice| WaitingEvent {
        kind: notice.event,
        timestamp: exact_time(notice.at),
        message: notice.message,
    });
    let undelivered = found.undelivered.into_iter().map(|one| UndeliveredEvent {
        delivery_id: one.id.stable(),
        kind: one.event,
        timestamp: exact_time(one.at),
        given_up: time(one.given_up),
        error: one.error,
    });
    let progress = found.progress.as_ref();
    Encoded::new(&Deliveries {
        waiting: waiting.collect(),
        undelivered: undelivered.collect(),
        failures: progress.map_or(0, |progress| progress.failures),
        last_error: progress.and_then(|progress| progress.error.clone()),
        retry_at: progress.and_then(|progress| progress.retry_at).map(time),
        last_delivered: progress.and_then(|progress| progress.delivered).map(time),
    })
}
