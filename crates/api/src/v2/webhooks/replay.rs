//! `POST /webhooks/{endpointId}/deliveries/replay`: tell a webhook endpoint what it was not told.

use std::collections::BTreeSet;

use bowline_model::id::{NoticeId, WebhookId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Api;
use crate::answer::{Encoded, Shape};
use crate::call::Call;
use crate::error::ApiError;
use crate::extract::Json;

/// What is to be told again.
#[derive(Deserialize, JsonSchema)]
pub(crate) struct Replay {
    /// Ids of deliveries that were given up. Absent: all, at most a thousand at once.
    #[serde(default)]
    deliveries: Option<Vec<String>>,
}

/// What is told again.
#[derive(Serialize, JsonSchema)]
pub(crate) struct Replayed {
    /// How many events. They go behind those that wait already.
    events: u64,
}

impl Shape for Replayed {
    type Schema = Self;
}

pub(crate) async fn handler(
    api: Api,
    call: Call<WebhookId, (), Json<Replay>>,
) -> Result<Encoded<Replayed>, ApiError> {
    let Json(body) = call.body;
    let read = |ids: Vec<String>| -> Option<BTreeSet<NoticeId>> {
        ids.iter().map(|id| NoticeId::parse(id)).collect()
    };
    let entries = match body.deliveries {
        Some(ids) => Some(read(ids).ok_or_else(ApiError::not_found)?),
        None => None,
    };
    let replayed = api.engine.replay_webhook(&call.actor, call.path, entries);
    let events = replayed.await?;
    Encoded::new(&Replayed { events })
}
