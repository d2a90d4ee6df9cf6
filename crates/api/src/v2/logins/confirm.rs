//! `POST /tailnet/{tailnet}/logins/{code}`: let the device in. Whoever has the code may: the
//! device belongs to no tailnet before.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::Api;
use crate::answer::Encoded;
use crate::call::{Call, Code};
use crate::error::ApiError;
use crate::extract::Json;
use crate::v2::devices::Fields;
use crate::v2::devices::shown::Device;

/// Whose a device is to be.
#[derive(Deserialize, JsonSchema)]
pub(crate) struct ConfirmLogin {
    /// Login name or id of the user; absent: that of the device that logs in again. For a device
    /// that is new here, or has tags, it must be named.
    user: Option<String>,
    /// In place of the tags that the device asks for.
    tags: Option<Vec<String>>,
}

pub(crate) async fn handler(
    api: Api,
    call: Call<Code, (), Json<ConfirmLogin>>,
) -> Result<Encoded<Device<'static>>, ApiError> {
    let (Code(code), Json(body)) = (call.path, call.body);
    let device = api
        .engine
        .confirm_login(&call.actor, &code, body.user.as_deref(), body.tags)
        .await?;
    let (snapshot, entry) = api.engine.device(&call.actor, device)?;
    Encoded::new(&Device::new(&entry, &snapshot, Fields::Default))
}
