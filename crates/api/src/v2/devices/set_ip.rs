//! `POST /device/{deviceId}/ip`: set a device's IPv4 address.
//!
//! Source: official OpenAPI document, `setDeviceIp`.

use bowline_model::id::DeviceId;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::Api;
use crate::answer::Empty;
use crate::call::Call;
use crate::error::ApiError;
use crate::extract::Json;

/// The IPv4 address of a device.
#[derive(Deserialize, JsonSchema)]
pub(crate) struct SetIp {
    /// An address of `100.64.0.0/10` that no other device has. Absent: nothing changes.
    ipv4: Option<String>,
}

pub(crate) async fn handler(
    api: Api,
    call: Call<DeviceId, (), Json<SetIp>>,
) -> Result<Json<Empty>, ApiError> {
    let Json(body) = call.body;
    api.engine
        .set_device_ipv4(&call.actor, call.path, body.ipv4.as_deref())
        .await?;
    Ok(Json(Empty {}))
}
