//! `POST /device/{deviceId}/key`: disable or enable a device's key expiry.
//!
//! Source: official OpenAPI document, `updateDeviceKey`.

use bowline_model::id::DeviceId;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::Api;
use crate::answer::Empty;
use crate::call::Call;
use crate::error::ApiError;
use crate::extract::Json;

/// Whether the key of a device expires.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SetKeyExpiry {
    /// `true`: never. Absent: nothing changes.
    key_expiry_disabled: Option<bool>,
}

pub(crate) async fn handler(
    api: Api,
    call: Call<DeviceId, (), Json<SetKeyExpiry>>,
) -> Result<Json<Empty>, ApiError> {
    let Json(body) = call.body;
    api.engine
        .set_key_expiry_disabled(&call.actor, call.path, body.key_expiry_disabled)
        .await?;
    Ok(Json(Empty {}))
}
