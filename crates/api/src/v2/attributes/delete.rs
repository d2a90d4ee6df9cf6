//! `DELETE /device/{deviceId}/attributes/{attributeKey}`: delete a custom posture attribute.
//!
//! Source: official OpenAPI document, `deleteCustomDevicePostureAttributes`.

use std::collections::BTreeMap;

use crate::Api;
use crate::answer::Empty;
use crate::call::{AttributeOf, Call};
use crate::error::ApiError;
use crate::extract::Json;

pub(crate) async fn handler(api: Api, call: Call<AttributeOf>) -> Result<Json<Empty>, ApiError> {
    let AttributeOf { device, key } = call.path;
    let edits = vec![(device, BTreeMap::from([(key, None)]))];
    api.engine.edit_attributes(&call.actor, edits, None).await?;
    Ok(Json(Empty {}))
}
