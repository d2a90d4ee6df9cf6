//! Devices.

use axum::extract::{Path, RawQuery, State};
use axum::response::Response;
use bowline_model::address::sort_routes;
use bowline_model::device::Device;
use bowline_model::id::DeviceId;
use bowline_netmap::snapshot::Snapshot;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::Api;
use crate::caller::{Caller, DevicesRead, DevicesWrite, RoutesRead, RoutesWrite, TagsWrite};
use crate::error::ApiError;
use crate::extract::{Json, empty_object, json, nothing, null_is_empty, pairs};
use crate::v2::device_json::{DeviceJson, Fields};

pub(crate) fn device_id(text: &str) -> Result<DeviceId, ApiError> {
    DeviceId::parse(text).ok_or_else(ApiError::not_found)
}

fn fields(pairs: &[(String, String)]) -> Fields {
    // An unknown value is as none: the official documentation names no error for it.
    let all = pairs
        .iter()
        .any(|(key, value)| key == "fields" && value == "all");
    if all { Fields::All } else { Fields::Default }
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

/// Fields of simple types that a device may lack. A test holds them against the official document.
pub(crate) const OPTIONAL: [&str; 3] = ["tags", "lastSeen", "multipleConnections"];

/// `GET /tailnet/{tailnet}/devices`: list devices.
///
/// Source: official OpenAPI document, `listTailnetDevices`.
pub(crate) async fn list(
    caller: Caller<DevicesRead>,
    State(api): State<Api>,
    RawQuery(query): RawQuery,
) -> Result<Response, ApiError> {
    let pairs = pairs(query.as_deref());
    let fields = fields(&pairs);
    let filters: Vec<(String, String)> = pairs
        .into_iter()
        .filter(|(key, _)| key != "fields")
        .collect();
    let snapshot = api
        .engine
        .snapshot(caller.actor.tailnet)
        .ok_or_else(ApiError::not_found)?;
    let (tailnet, count) = (caller.actor.tailnet, snapshot.device_count());
    let work = move || listed(&snapshot, fields, &filters);
    api.lists.answer(tailnet, count, work).await
}

fn listed(
    snapshot: &Snapshot,
    fields: Fields,
    filters: &[(String, String)],
) -> Result<Response, ApiError> {
    #[derive(Serialize)]
    struct Answer<'a> {
        devices: Vec<DeviceJson<'a>>,
    }
    let mut entries: Vec<_> = snapshot.devices().collect();
    entries.sort_by_key(|entry| entry.device.id);
    if !filters.is_empty() {
        entries.retain(|entry| {
            let device = serde_json::to_value(DeviceJson::new(entry, snapshot, Fields::All))
                .unwrap_or_default();
            passes(&device, filters)
        });
    }
    let devices = entries
        .into_iter()
        .map(|entry| DeviceJson::new(entry, snapshot, fields))
        .collect();
    json(&Answer { devices })
}

/// `GET /device/{deviceId}`: get a device.
///
/// Source: official OpenAPI document, `getDevice`.
pub(crate) async fn get(
    caller: Caller<DevicesRead>,
    State(api): State<Api>,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Response, ApiError> {
    let (snapshot, entry) = api.engine.device(&caller.actor, device_id(&id)?)?;
    json(&DeviceJson::new(
        &entry,
        &snapshot,
        fields(&pairs(query.as_deref())),
    ))
}

/// `DELETE /device/{deviceId}`: delete a device.
///
/// Source: official OpenAPI document, `deleteDevice`.
pub(crate) async fn delete(
    caller: Caller<DevicesWrite>,
    State(api): State<Api>,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    api.engine
        .delete_device(&caller.actor, device_id(&id)?)
        .await?;
    Ok(nothing())
}

/// `POST /device/{deviceId}/expire`: expire a device's key.
///
/// Source: official OpenAPI document, `expireDeviceKey`.
pub(crate) async fn expire(
    caller: Caller<DevicesWrite>,
    State(api): State<Api>,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    api.engine
        .expire_device(&caller.actor, device_id(&id)?)
        .await?;
    Ok(nothing())
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Routes {
    advertised_routes: Vec<ipnet::IpNet>,
    enabled_routes: Vec<ipnet::IpNet>,
}

impl Routes {
    fn of(device: &Device) -> Self {
        let mut enabled_routes = device.enabled_routes.clone();
        sort_routes(&mut enabled_routes);
        Self {
            advertised_routes: device.facts.advertised_routes.clone(),
            enabled_routes,
        }
    }
}

/// `GET /device/{deviceId}/routes`: list a device's routes.
///
/// Source: official OpenAPI document, `listDeviceRoutes`.
pub(crate) async fn routes(
    caller: Caller<RoutesRead>,
    State(api): State<Api>,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    let (_, entry) = api.engine.device(&caller.actor, device_id(&id)?)?;
    json(&Routes::of(&entry.device))
}

/// Body of "set device routes".
#[derive(Deserialize)]
pub(crate) struct RoutesBody {
    /// The complete new list of enabled routes. `null` means `[]`; absent it is refused, since a
    /// misspelt member would take all routes away.
    #[serde(default, deserialize_with = "null_is_empty")]
    routes: Option<Vec<String>>,
}

/// `POST /device/{deviceId}/routes`: set a device's enabled routes.
///
/// Source: official OpenAPI document, `setDeviceRoutes`.
pub(crate) async fn set_routes(
    caller: Caller<RoutesWrite>,
    State(api): State<Api>,
    Path(id): Path<String>,
    Json(body): Json<RoutesBody>,
) -> Result<Response, ApiError> {
    let routes = body
        .routes
        .ok_or_else(|| ApiError::bad_request("routes is required: a list of prefixes"))?;
    let entry = api
        .engine
        .set_device_routes(&caller.actor, device_id(&id)?, &routes)
        .await?;
    json(&Routes::of(&entry.device))
}

/// Body of "authorize device".
#[derive(Deserialize)]
pub(crate) struct AuthorizedBody {
    authorized: Option<bool>,
}

/// `POST /device/{deviceId}/authorized`: approve a device, or take the approval away.
///
/// Source: official OpenAPI document, `authorizeDevice`.
pub(crate) async fn authorize(
    caller: Caller<DevicesWrite>,
    State(api): State<Api>,
    Path(id): Path<String>,
    Json(body): Json<AuthorizedBody>,
) -> Result<Response, ApiError> {
    let authorized = body
        .authorized
        .ok_or_else(|| ApiError::bad_request("authorized must be true or false"))?;
    api.engine
        .authorize_device(&caller.actor, device_id(&id)?, authorized)
        .await?;
    Ok(empty_object())
}

/// Body of "set device name".
#[derive(Deserialize)]
pub(crate) struct NameBody {
    /// A label or a full name. Absent and empty: follow the host name again.
    name: Option<String>,
}

/// `POST /device/{deviceId}/name`: rename a device.
///
/// Source: official OpenAPI document, `setDeviceName`.
pub(crate) async fn rename(
    caller: Caller<DevicesWrite>,
    State(api): State<Api>,
    Path(id): Path<String>,
    Json(body): Json<NameBody>,
) -> Result<Response, ApiError> {
    api.engine
        .rename_device(
            &caller.actor,
            device_id(&id)?,
            body.name.as_deref().unwrap_or(""),
        )
        .await?;
    Ok(empty_object())
}

/// Body of "set device tags".
#[derive(Deserialize)]
pub(crate) struct TagsBody {
    /// The complete new set. `null` means `[]`; absent it is refused, since a misspelt member would
    /// take all tags away.
    #[serde(default, deserialize_with = "null_is_empty")]
    tags: Option<Vec<String>>,
}

/// `POST /device/{deviceId}/tags`: replace a device's tags.
///
/// Source: official OpenAPI document, `setDeviceTags`.
pub(crate) async fn set_tags(
    caller: Caller<TagsWrite>,
    State(api): State<Api>,
    Path(id): Path<String>,
    Json(body): Json<TagsBody>,
) -> Result<Response, ApiError> {
    let tags = body
        .tags
        .ok_or_else(|| ApiError::bad_request("tags is required: a list of tags"))?;
    api.engine
        .set_device_tags(&caller.actor, device_id(&id)?, tags)
        .await?;
    Ok(empty_object())
}

/// Body of "update device key".
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct KeyBody {
    /// Absent: nothing changes.
    key_expiry_disabled: Option<bool>,
}

/// `POST /device/{deviceId}/key`: disable or enable a device's key expiry.
///
/// Source: official OpenAPI document, `updateDeviceKey`.
pub(crate) async fn set_key(
    caller: Caller<DevicesWrite>,
    State(api): State<Api>,
    Path(id): Path<String>,
    Json(body): Json<KeyBody>,
) -> Result<Response, ApiError> {
    api.engine
        .set_key_expiry_disabled(&caller.actor, device_id(&id)?, body.key_expiry_disabled)
        .await?;
    Ok(empty_object())
}

/// Body of "set device IP".
#[derive(Deserialize)]
pub(crate) struct IpBody {
    /// Absent: nothing changes.
    ipv4: Option<String>,
}

/// `POST /device/{deviceId}/ip`: set a device's IPv4 address.
///
/// Source: official OpenAPI document, `setDeviceIp`.
pub(crate) async fn set_ip(
    caller: Caller<DevicesWrite>,
    State(api): State<Api>,
    Path(id): Path<String>,
    Json(body): Json<IpBody>,
) -> Result<Response, ApiError> {
    api.engine
        .set_device_ipv4(&caller.actor, device_id(&id)?, body.ipv4.as_deref())
        .await?;
    Ok(empty_object())
}

#[cfg(test)]
mod tests {
    use super::*;
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
}
