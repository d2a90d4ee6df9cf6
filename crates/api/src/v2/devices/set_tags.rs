//! `POST /device/{deviceId}/tags`: replace a device's tags.
//!
//! Source: official OpenAPI document, `setDeviceTags`.

use bowline_model::id::DeviceId;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::Api;
use crate::answer::Empty;
use crate::call::Call;
use crate::error::ApiError;
use crate::extract::{Json, null_is_empty};
use crate::schema::OrNull;

/// The tags of a device.
#[derive(Deserialize, JsonSchema)]
#[schemars(extend("required" = ["tags"]))]
pub(crate) struct SetTags {
    /// The complete new set, each `tag:<name>`. `null` means `[]`.
    // Absent it is refused: a misspelt member would take all tags away.
    #[serde(default, deserialize_with = "null_is_empty")]
    #[schemars(with = "OrNull<Vec<String>>", length(max = 256))]
    tags: Option<Vec<String>>,
}

pub(crate) async fn handler(
    api: Api,
    call: Call<DeviceId, (), Json<SetTags>>,
) -> Result<Json<Empty>, ApiError> {
    let Json(body) = call.body;
    let tags = body
        .tags
        .ok_or_else(|| ApiError::bad_request("tags is required: a list of tags"))?;
    api.engine
        .set_device_tags(&call.actor, call.path, tags)
        .await?;
    Ok(Json(Empty {}))
}
