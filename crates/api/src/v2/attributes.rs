//! Posture attributes of devices.

pub(crate) mod batch;
pub(crate) mod delete;
pub(crate) mod list;
pub(crate) mod set;

use std::collections::BTreeMap;

use bowline_engine::device::attribute::{Edit, parse_value};
use bowline_model::device::{AttributeValue, Device};
use jiff::Timestamp;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::ApiError;
use crate::text::{Time, exact_time, parse_time};

/// The posture attributes of a device: those that it reports, and custom ones.
#[derive(Serialize, JsonSchema)]
pub(crate) struct Attributes {
    #[schemars(schema_with = "values")]
    attributes: BTreeMap<String, AttributeValue>,
    /// Of custom attributes that expire.
    expiries: BTreeMap<String, Time>,
}

impl Attributes {
    fn of(device: &Device) -> Self {
        let mut attributes = device.reported_attributes();
        let mut expiries = BTreeMap::new();
        for (key, attribute) in &device.attributes {
            attributes.insert(key.clone(), attribute.value.clone());
            if let Some(at) = attribute.expires {
                expiries.insert(key.clone(), exact_time(at));
            }
        }
        Self {
            attributes,
            expiries,
        }
    }
}

fn value(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": ["string", "integer", "boolean"]})
}

fn values(generator: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "object", "additionalProperties": value(generator)})
}

/// A value to set.
#[derive(Deserialize, JsonSchema)]
pub(crate) struct SetAttribute {
    /// The value.
    #[schemars(required, schema_with = "value")]
    value: Option<Value>,
    /// RFC 3339 time. Absent, empty or the zero time: never.
    expiry: Option<String>,
    /// At most 200 characters, for the audit log.
    comment: Option<String>,
}

impl SetAttribute {
    /// What to set, or why it cannot be.
    fn into_edit(self) -> Result<Edit, ApiError> {
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

#[cfg(test)]
mod tests {
    use super::expiry;

    #[test]
    fn no_expiry_is_said_in_three_ways() {
        for text in [None, Some(""), Some("0001-01-01T00:00:00Z")] {
            assert_eq!(expiry(text).unwrap(), None);
        }
        assert!(expiry(Some("2030-01-02T15:04:05.25Z")).unwrap().is_some());
        let refused = expiry(Some("tomorrow")).unwrap_err();
        assert!(refused.message.starts_with("invalid expiry \"tomorrow\""));
    }
}
