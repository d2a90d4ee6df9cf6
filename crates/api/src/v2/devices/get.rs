//! `GET /device/{deviceId}`: get a device.
//!
//! Source: official OpenAPI document, `getDevice`.

use bowline_model::id::DeviceId;

use super::Shown;
use super::shown::Device;
use crate::Api;
use crate::answer::Encoded;
use crate::call::Call;
use crate::error::ApiError;

pub(crate) async fn handler(
    api: Api,
    call: Call<DeviceId, Shown>,
) -> Result<Encoded<Device<'static>>, ApiError> {
    let (snapshot, entry) = api.engine.device(&call.actor, call.path)?;
    Encoded::new(&Device::new(&entry, &snapshot, call.query.fields))
}
