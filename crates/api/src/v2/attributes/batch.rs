//! `PATCH /tailnet/{tailnet}/device-attributes`: set and delete custom attributes of several
//! devices, all or none.
//!
//! Source: official OpenAPI document, `batchUpdateCustomDevicePostureAttributes`.

use std::collections::{BTreeMap, HashSet};

use bowline_engine::device::attribute::Edit;
use bowline_model::id::DeviceId;
use schemars::JsonSchema;
use serde::Deserialize;

use super::SetAttribute;
use crate::Api;
use crate::answer::Null;
use crate::call::Call;
use crate::error::ApiError;
use crate::extract::{Json, Members, Object};

/// Custom attributes of several devices.
#[derive(Deserialize, JsonSchema)]
pub(crate) struct AttributesBatch {
    /// By device, under either id; then by attribute key. `null` deletes an attribute.
    nodes: Members<Members<Option<Object<SetAttribute>>>>,
    /// At most 200 characters, for the audit log.
    comment: Option<String>,
}

pub(crate) async fn handler(
    api: Api,
    call: Call<(), (), Json<AttributesBatch>>,
) -> Result<Json<Null>, ApiError> {
    let Json(body) = call.body;
    let mut edits = Vec::with_capacity(body.nodes.0.len());
    let mut seen = HashSet::new();
    for (node, attributes) in body.nodes.0 {
        let id = DeviceId::parse(&node)
            .filter(|id| api.engine.device(&call.actor, *id).is_ok())
            .ok_or_else(|| ApiError::bad_request(format!("device {node:?} not found")))?;
        if !seen.insert(id) {
            return Err(ApiError::bad_request(format!(
                "device {node:?} is there twice, under both of its ids"
            )));
        }
        let mut changes: BTreeMap<String, Edit> = BTreeMap::new();
        for (key, set) in attributes.0 {
            let edit = match set {
                None => None,
                Some(Object(set)) => set.into_edit().map_err(|error| ApiError {
                    message: format!("{key}: {}", error.message),
                    ..error
                })?,
            };
            changes.insert(key, edit);
        }
        edits.push((id, changes));
    }
    api.engine
        .edit_attributes(&call.actor, edits, body.comment)
        .await?;
    Ok(Json(Null))
}
