//! `GET /device/{deviceId}/attributes`: list a device's posture attributes.
//!
//! Source: official OpenAPI document, `getDevicePostureAttributes`.

use bowline_model::id::DeviceId;

use super::Attributes;
use crate::Api;
use crate::call::Call;
use crate::error::ApiError;
use crate::extract::Json;

pub(crate) async fn handler(api: Api, call: Call<DeviceId>) -> Result<Json<Attributes>, ApiError> {
    let (_, entry) = api.engine.device(&call.actor, call.path)?;
    Ok(Json(Attributes::of(&entry.device)))
}
