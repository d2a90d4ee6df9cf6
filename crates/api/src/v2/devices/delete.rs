//! `DELETE /device/{deviceId}`: delete a device.
//!
//! Source: official OpenAPI document, `deleteDevice`.

use bowline_model::id::DeviceId;

use crate::Api;
use crate::answer::Nothing;
use crate::call::Call;
use crate::error::ApiError;

pub(crate) async fn handler(api: Api, call: Call<DeviceId>) -> Result<Nothing, ApiError> {
    api.engine.delete_device(&call.actor, call.path).await?;
    Ok(Nothing)
}
