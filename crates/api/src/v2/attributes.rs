//! Posture attributes of devices.

use std::collections::{BTreeMap, HashSet};

use axum::extract::{Path, State};
use axum::response::Response;
use bowline_engine::device::attribute::{Edit, parse_value};
use bowline_model::device::Device;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::Api;
use crate::caller::{AttributesRead, AttributesWrite, Caller};
use crate::error::ApiError;
use crate::extract::{Json, Members, Object, empty_object, json};
use crate::text::{exact_time, parse_time};
use crate::v2::devices::device_id;

/// All attributes of a device: those that it reports, and custom ones.
fn attributes(device: &Device) -> Value {
    let mut attributes = Map::new();
    let mut expiries = Map::new();
    for (key, value) in device.reported_attributes() {
        attributes.insert(key, json!(value));
    }
    for (key, attribute) in &device.attributes {
        attributes.insert(key.clone(), json!(attribute.value));
        if let Some(at) = attribute.expires {
            expiries.insert(key.clone(), json!(exact_time(at)));
        }
    }
    json!({"attributes": attributes, "expiries": expiries})
}

/// `GET /device/{deviceId}/attributes`: list a device's posture attributes.
///
/// Source: official OpenAPI document, `getDevicePostureAttributes`.
pub(crate) async fn get(
    caller: Caller<AttributesRead>,
    State(api): State<Api>,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    let (_, entry) = api.engine.device(&caller.actor, device_id(&id)?)?;
    json(&attributes(&entry.device))
}

/// A value to set.
#[derive(Deserialize)]
pub(crate) struct SetBody {
    value: Option<Value>,
    expiry: Option<String>,
    comment: Option<String>,
}

impl SetBody {
    /// What to set, or why it cannot be.
    pub(crate) fn into_edit(self) -> Result<Edit, ApiError> {
        let value = self
            .value
            .filter(|value| !value.is_null())
            .ok_or_else(|| ApiError::bad_request("value is required"))?;
        let value = parse_value(&value)?;
        Ok(Some((value, expiry(self.expiry.as_deref())?)))
    }
}

fn expiry(text: Option<&str>) -> Result<Option<Timestamp>, ApiError> {
    match text {
        None | Some("") => Ok(None),
        // Go's zero time: no expiry. The official Go client always sends it.
        Some(text) if text.starts_with("0001-01-01T") => Ok(None),
        Some(text) => parse_time(text).map(Some).ok_or_else(|| {
            ApiError::bad_request(format!(
                "invalid expiry {text:?}: expected an RFC 3339 time, like 2030-01-02T15:04:05Z"
            ))
        }),
    }
}

/// `POST /device/{deviceId}/attributes/{attributeKey}`: set a custom posture attribute.
///
/// Source: official OpenAPI document, `setCustomDevicePostureAttributes`.
pub(crate) async fn set(
    caller: Caller<AttributesWrite>,
    State(api): State<Api>,
    Path((id, key)): Path<(String, String)>,
    Json(body): Json<SetBody>,
) -> Result<Response, ApiError> {
    let id = device_id(&id)?;
    let comment = body.comment.clone();
    let edit = body.into_edit()?;
    api.engine
        .edit_attributes(
            &caller.actor,
            vec![(id, BTreeMap::from([(key, edit)]))],
            comment,
        )
        .await?;
    let (_, entry) = api.engine.device(&caller.actor, id)?;
    json(&attributes(&entry.device))
}

/// `DELETE /device/{deviceId}/attributes/{attributeKey}`: delete a custom posture attribute.
///
/// Source: official OpenAPI document, `deleteCustomDevicePostureAttributes`.
pub(crate) async fn delete(
    caller: Caller<AttributesWrite>,
    State(api): State<Api>,
    Path((id, key)): Path<(String, String)>,
) -> Result<Response, ApiError> {
    let edits = vec![(device_id(&id)?, BTreeMap::from([(key, None)]))];
    api.engine
        .edit_attributes(&caller.actor, edits, None)
        .await?;
    Ok(empty_object())
}

/// Body of the batch.
#[derive(Deserialize)]
pub(crate) struct BatchBody {
    /// Attributes by device; `null` deletes one.
    nodes: Members<Members<Option<Object<SetBody>>>>,
    comment: Option<String>,
}

/// `PATCH /tailnet/{tailnet}/device-attributes`: set and delete custom attributes of several
/// devices, all or none.
///
/// Source: official OpenAPI document, `batchUpdateCustomDevicePostureAttributes`.
pub(crate) async fn batch(
    caller: Caller<AttributesWrite>,
    State(api): State<Api>,
    Json(body): Json<BatchBody>,
) -> Result<Response, ApiError> {
    let mut edits = Vec::with_capacity(body.nodes.0.len());
    let mut seen = HashSet::new();
    for (node, attributes) in body.nodes.0 {
        let id = device_id(&node)
            .ok()
            .filter(|id| api.engine.device(&caller.actor, *id).is_ok())
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
        .edit_attributes(&caller.actor, edits, body.comment)
        .await?;
    json(&Value::Null)
}
