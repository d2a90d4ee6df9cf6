//! `POST /device/{deviceId}/routes`: replace a device's enabled routes.
//!
//! Source: official OpenAPI document, `setDeviceRoutes`.

use bowline_model::id::DeviceId;
use schemars::JsonSchema;
use serde::Deserialize;

use super::Routes;
use crate::Api;
use crate::call::Call;
use crate::error::ApiError;
use crate::extract::{Json, null_is_empty};
use crate::schema::OrNull;

/// The enabled routes of a device.
#[derive(Deserialize, JsonSchema)]
#[schemars(extend("required" = ["routes"]))]
pub(crate) struct SetRoutes {
    /// The complete new list of prefixes. `null` means `[]`.
    // Absent it is refused: a misspelt member would take all routes away.
    #[serde(default, deserialize_with = "null_is_empty")]
    #[schemars(with = "OrNull<Vec<String>>", length(max = 1024))]
    routes: Option<Vec<String>>,
}

pub(crate) async fn handler(
    api: Api,
    call: Call<DeviceId, (), Json<SetRoutes>>,
) -> Result<Json<Routes>, ApiError> {
    let Json(body) = call.body;
    let routes = body
        .routes
        .ok_or_else(|| ApiError::bad_request("routes is required: a list of prefixes"))?;
    let entry = api
        .engine
        .set_device_routes(&call.actor, call.path, &routes)
        .await?;
    Ok(Json(Routes::of(&entry.device)))
}
