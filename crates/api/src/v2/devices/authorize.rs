//! `POST /device/{deviceId}/authorized`: approve a device, or take the approval away.
//!
//! Source: official OpenAPI document, `authorizeDevice`.

use bowline_model::id::DeviceId;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::Api;
use crate::answer::Empty;
use crate::call::Call;
use crate::error::ApiError;
use crate::extract::Json;

/// Whether a device may use the network.
#[derive(Deserialize, JsonSchema)]
pub(crate) struct SetAuthorized {
    /// `true` approves it.
    #[schemars(required)]
    authorized: Option<bool>,
}

pub(crate) async fn handler(
    api: Api,
    call: Call<DeviceId, (), Json<SetAuthorized>>,
) -> Result<Json<Empty>, ApiError> {
    let Json(body) = call.body;
    let authorized = body
        .authorized
        .ok_or_else(|| ApiError::bad_request("authorized must be true or false"))?;
    api.engine
        .authorize_device(&call.actor, call.path, authorized)
        .await?;
    Ok(Json(Empty {}))
}
