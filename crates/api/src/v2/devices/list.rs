//! `GET /tailnet/{tailnet}/devices`: list the devices of a tailnet.
//!
//! Source: official OpenAPI document, `listTailnetDevices`.

use bowline_netmap::snapshot::Snapshot;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use super::Fields;
use super::shown::Device;
use crate::Api;
use crate::answer::{Encoded, Shape};
use crate::call::{Call, FromQuery, Pairs};
use crate::error::ApiError;

/// Parameters of the list.
#[derive(JsonSchema)]
pub(crate) struct Wanted {
    /// `all` shows every field. Every other parameter is the name of a field, and lists the devices
    /// of which the field has this value, or has it in its list.
    #[schemars(with = "Option<Fields>")]
    fields: Fields,
    #[schemars(skip)]
    filters: Pairs,
}

impl FromQuery for Wanted {
    fn read(mut pairs: Pairs) -> Result<Self, ApiError> {
        let fields = Fields::of(&pairs);
        pairs.retain(|(key, _)| key != "fields");
        Ok(Self {
            fields,
            filters: pairs,
        })
    }
}

/// The devices of a tailnet, by when they were made.
#[derive(Serialize, JsonSchema)]
pub(crate) struct DeviceList<'a> {
    devices: Vec<Device<'a>>,
}

impl Shape for DeviceList<'_> {
    type Schema = DeviceList<'static>;
}

pub(crate) async fn handler(
    api: Api,
    call: Call<(), Wanted>,
) -> Result<Encoded<DeviceList<'static>>, ApiError> {
    let tailnet = call.actor.tailnet;
    let snapshot = api.snapshot(tailnet)?;
    let count = snapshot.device_count();
    let work = move || Encoded::new(&listed(&snapshot, &call.query));
    api.lists.answer(tailnet, count, work).await
}

fn listed<'a>(snapshot: &'a Snapshot, wanted: &Wanted) -> DeviceList<'a> {
    let mut entries: Vec<_> = snapshot.devices().collect();
    entries.sort_by_key(|entry| entry.device.id);
    if !wanted.filters.is_empty() {
        entries.retain(|entry| {
            let device = serde_json::to_value(Device::new(entry, snapshot, Fields::All));
            passes(&device.unwrap_or_default(), &wanted.filters)
        });
    }
    let devices = entries
        .into_iter()
        .map(|entry| Device::new(entry, snapshot, wanted.fields))
        .collect();
    DeviceList { devices }
}

/// Whether a device, as JSON with all fields, passes the filters: each `field=value` must be the
/// field's JSON text, or be in it when it is a list. A field that this device lacks matches no
/// value; a name that is not a field of devices, or not of a simple type, filters nothing.
fn passes(device: &Value, filters: &[(String, String)]) -> bool {
    filters.iter().all(|(key, wanted)| match device.get(key) {
        Some(Value::Array(list)) => list.iter().any(|item| text_of(item) == *wanted),
        Some(Value::Object(_)) => true,
        None => !OPTIONAL.contains(&key.as_str()),
        Some(value) => text_of(value) == *wanted,
    })
}

fn text_of(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

/// Fields of simple types that a device may lack. A test holds them against the schema of devices.
const OPTIONAL: [&str; 3] = ["tags", "lastSeen", "multipleConnections"];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::extract::pairs;
    use crate::schema::Schemas;
    use serde_json::json;

    #[test]
    fn filters_compare_json_text_and_lists_contain() {
        let device =
            json!({"name": "a.x", "isEphemeral": true, "tags": ["tag:a", "tag:b"], "distro": {}});
        let filter = |text: &str| pairs(Some(text));
        assert!(passes(
            &device,
            &filter("name=a.x&isEphemeral=true&tags=tag%3Aa&tags=tag:b")
        ));
        assert!(passes(&device, &filter("unknown=1&distro=x")));
        for text in ["name=a", "isEphemeral=false", "tags=tag:a&tags=tag:c"] {
            assert!(!passes(&device, &filter(text)), "{text}");
        }
        for field in OPTIONAL {
            for value in ["true", "false"] {
                assert!(
                    !passes(&json!({}), &filter(&format!("{field}={value}"))),
                    "{field}"
                );
            }
        }
        let copied = json!({"multipleConnections": true});
        assert!(passes(&copied, &filter("multipleConnections=true")));
        assert!(!passes(&copied, &filter("multipleConnections=false")));
    }

    #[test]
    fn fields_that_a_device_may_lack_filter_all_the_same() {
        let mut schemas = Schemas::new();
        schemas.answer::<Device<'static>>();
        let (all, _) = schemas.finish();
        let device = &all["Device"];
        let required = device["required"].as_array().unwrap();
        let fields = device["properties"].as_object().unwrap().iter();
        let mut optional: Vec<&str> = fields
            .filter(|(name, _)| !required.iter().any(|it| it == *name))
            // Those that only `fields=all` shows are always in what is compared.
            .filter(|(name, _)| {
                !["enabledRoutes", "advertisedRoutes", "sshEnabled"].contains(&name.as_str())
            })
            .filter(|(_, schema)| schema.get("$ref").is_none() && schema["type"] != "object")
            .map(|(name, _)| name.as_str())
            .collect();
        optional.sort_unstable();
        let mut expected = OPTIONAL;
        expected.sort_unstable();
        assert_eq!(optional, expected);
    }
}
