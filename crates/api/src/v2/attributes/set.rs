//! `POST /device/{deviceId}/attributes/{attributeKey}`: set a custom posture attribute.
//!
//! Source: official OpenAPI document, `setCustomDevicePostureAttributes`.

use std::collections::BTreeMap;

use super::{Attributes, SetAttribute};
use crate::Api;
use crate::call::{AttributeOf, Call};
use crate::error::ApiError;
use crate::extract::Json;

pub(crate) async fn handler(
    api: Api,
    call: Call<AttributeOf, (), Json<SetAttribute>>,
) -> Result<Json<Attributes>, ApiError> {
    let AttributeOf { device, key } = call.path;
    let Json(body) = call.body;
    let comment = body.comment.clone();
    let edits = vec![(device, BTreeMap::from([(key, body.into_edit()?)]))];
    api.engine
        .edit_attributes(&call.actor, edits, comment)
        .await?;
    let (_, entry) = api.engine.device(&call.actor, device)?;
    Ok(Json(Attributes::of(&entry.device)))
}
