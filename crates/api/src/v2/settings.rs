//! Tailnet settings. Those that nothing obeys yet are shown as they are and cannot be changed.

pub(crate) mod get;
pub(crate) mod update;

use bowline_engine::Actor;
use bowline_model::tailnet::Settings;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::answer::Shape;

// Source: official OpenAPI document, `TailnetSettings`.
/// The settings of a tailnet: those that the caller may see.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "Settings", extend("required" = []))]
pub(crate) struct SettingsShown {
    acls_externally_managed_on: bool,
    acls_external_link: &'static str,
    /// Whether new devices wait for approval.
    devices_approval_on: bool,
    devices_auto_updates_on: bool,
    /// Days until the key of a device that logs in expires.
    devices_key_duration_days: u32,
    /// Whether users whom no person made wait for approval.
    users_approval_on: bool,
    #[schemars(schema_with = "joiners")]
    users_role_allowed_to_join_external_tailnets: &'static str,
    network_flow_logging_on: bool,
    regional_routing_on: bool,
    posture_identity_collection_on: bool,
    https_enabled: bool,
}

/// Who may be allowed to join tailnets of others.
const JOINERS: &[&str] = &["none", "admin", "member"];

fn joiners(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "enum": JOINERS})
}

impl From<&Settings> for SettingsShown {
    fn from(settings: &Settings) -> Self {
        Self {
            acls_externally_managed_on: false,
            acls_external_link: "",
            devices_approval_on: settings.device_approval_on,
            devices_auto_updates_on: false,
            devices_key_duration_days: settings.devices_key_duration_days,
            users_approval_on: settings.users_approval_on,
            users_role_allowed_to_join_external_tailnets: "none",
            network_flow_logging_on: false,
            regional_routing_on: false,
            posture_identity_collection_on: false,
            https_enabled: false,
        }
    }
}

/// Settings by name, some of them.
#[derive(Serialize)]
#[serde(transparent)]
pub(crate) struct Part(Map<String, Value>);

impl Shape for Part {
    type Schema = SettingsShown;
}

impl Part {
    fn all(settings: &Settings) -> Self {
        match serde_json::to_value(SettingsShown::from(settings)) {
            Ok(Value::Object(members)) => Self(members),
            // A struct of booleans, numbers and texts is an object.
            Ok(_) | Err(_) => Self(Map::new()),
        }
    }

    /// Those that an actor may see, who asks to be shown them.
    fn visible(settings: &Settings, actor: &Actor) -> Self {
        let Self(mut members) = Self::all(settings);
        members.retain(|name, _| actor.may_field(name));
        Self(members)
    }
}
