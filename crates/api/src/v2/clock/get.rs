//! `GET /clock`: what the clocks show, and what the machine's clock would end if it were believed.

use super::Clock;
use crate::Api;
use crate::call::Call;
use crate::caller::NoTailnet;
use crate::error::ApiError;
use crate::extract::Json;

pub(crate) async fn handler(
    api: Api,
    _: Call<(), (), (), NoTailnet>,
) -> Result<Json<Clock>, ApiError> {
    Ok(Json(Clock::of(&api.engine)))
}
