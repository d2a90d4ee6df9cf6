//! The server's clock: for its operator only. Operations of ours.

use axum::extract::State;
use axum::response::Response;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::json;

use crate::Api;
use crate::caller::ServerOperator;
use crate::error::ApiError;
use crate::extract::{Json, json};
use crate::text::time;

/// `GET /clock`: what the clocks show, and what the machine's clock would end if it were believed.
pub(crate) async fn get(
    _operator: ServerOperator,
    State(api): State<Api>,
) -> Result<Response, ApiError> {
    shown(&api)
}

/// Body of "confirm clock".
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ConfirmBody {
    wall_clock: Timestamp,
}

/// `POST /clock/confirm`: the machine's clock is right.
pub(crate) async fn confirm(
    _operator: ServerOperator,
    State(api): State<Api>,
    Json(body): Json<ConfirmBody>,
) -> Result<Response, ApiError> {
    api.engine.confirm_clock(body.wall_clock).await?;
    shown(&api)
}

fn shown(api: &Api) -> Result<Response, ApiError> {
    let clock = api.engine.clock();
    let due = api.engine.falls_due();
    json(&json!({
        "time": time(clock.time),
        "wallClock": time(clock.wall),
        "isHeld": clock.is_held,
        "jumps": clock.jumps,
        "wouldExpire": {"devices": due.devices, "keys": due.credentials},
    }))
}
