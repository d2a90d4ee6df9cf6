//! `GET /device/{deviceId}/routes`: list a device's routes.
//!
//! Source: official OpenAPI document, `listDeviceRoutes`.

use bowline_model::id::DeviceId;

use super::Routes;
use crate::Api;
use crate::call::Call;
use crate::error::ApiError;
use crate::extract::Json;

pub(crate) async fn handler(api: Api, call: Call<DeviceId>) -> Result<Json<Routes>, ApiError> {
    let (_, entry) = api.engine.device(&call.actor, call.path)?;
    Ok(Json(Routes::of(&entry.device)))
}
