//! `POST /device/{deviceId}/name`: rename a device.
//!
//! Source: official OpenAPI document, `setDeviceName`.

use bowline_model::id::DeviceId;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::Api;
use crate::answer::Empty;
use crate::call::Call;
use crate::error::ApiError;
use crate::extract::Json;

/// The name of a device.
#[derive(Deserialize, JsonSchema)]
pub(crate) struct SetName {
    /// A label or a full name. Absent and empty: follow the host name again.
    name: Option<String>,
}

pub(crate) async fn handler(
    api: Api,
    call: Call<DeviceId, (), Json<SetName>>,
) -> Result<Json<Empty>, ApiError> {
    let Json(body) = call.body;
    let name = body.name.unwrap_or_default();
    api.engine
        .rename_device(&call.actor, call.path, &name)
        .await?;
    Ok(Json(Empty {}))
}
