//! `POST /clock/confirm`: the machine's clock is right.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Deserialize;

use super::Clock;
use crate::Api;
use crate::call::Call;
use crate::caller::NoTailnet;
use crate::error::ApiError;
use crate::extract::Json;
use crate::text::Time;

/// That the clock is right.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ConfirmClock {
    /// What the operator saw the clock show. It is refused where the clock shows something else by
    /// now.
    #[schemars(with = "Time")]
    wall_clock: Timestamp,
}

pub(crate) async fn handler(
    api: Api,
    call: Call<(), (), Json<ConfirmClock>, NoTailnet>,
) -> Result<Json<Clock>, ApiError> {
    let Json(body) = call.body;
    api.engine.confirm_clock(body.wall_clock).await?;
    Ok(Json(Clock::of(&api.engine)))
}
