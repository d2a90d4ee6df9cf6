//! Tailnet settings. Those that nothing obeys yet are shown as they are and cannot be changed.

use axum::extract::State;
use axum::response::Response;
use bowline_engine::Actor;
use bowline_engine::settings::{SHOWN_SETTINGS, SettingsEdit};
use bowline_model::requirement::Requirement;
use bowline_model::tailnet::Settings;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::Api;
use crate::caller::{Caller, SettingsRead, SettingsWrite};
use crate::error::ApiError;
use crate::extract::{Integer, Json, Members, json};

/// Settings as the API shows them. Source: official OpenAPI document, `TailnetSettings`.
fn settings_json(settings: &Settings) -> Value {
    json!({
        "aclsExternallyManagedOn": false,
        "aclsExternalLink": "",
        "devicesApprovalOn": settings.device_approval_on,
        "devicesAutoUpdatesOn": false,
        "devicesKeyDurationDays": settings.devices_key_duration_days,
        "usersApprovalOn": false,
        "usersRoleAllowedToJoinExternalTailnets": "none",
        "networkFlowLoggingOn": false,
        "regionalRoutingOn": false,
        "postureIdentityCollectionOn": false,
        "httpsEnabled": false,
    })
}

/// `GET /tailnet/{tailnet}/settings`: get the tailnet's settings.
///
/// Source: official OpenAPI document, `getTailnetSettings`.
pub(crate) async fn get(
    caller: Caller<SettingsRead>,
    State(api): State<Api>,
) -> Result<Response, ApiError> {
    let snapshot = api
        .engine
        .snapshot(caller.actor.tailnet)
        .ok_or_else(ApiError::not_found)?;
    json(&shown(&caller.actor, &snapshot.tailnet().settings))
}

/// The settings that the caller may see.
fn shown(actor: &Actor, settings: &Settings) -> Value {
    let mut shown = settings_json(settings);
    if let Some(members) = shown.as_object_mut() {
        members.retain(|name, _| actor.may_field(name));
    }
    shown
}

/// Body of "update settings". `null` and absent: unchanged.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Body {
    devices_approval_on: Option<bool>,
    devices_key_duration_days: Option<Integer>,
    #[serde(flatten)]
    others: Members<Value>,
}

/// What a setting that nothing obeys yet may be. Source: official OpenAPI document,
/// `TailnetSettings`.
#[derive(Debug, Clone, Copy)]
enum Form {
    Boolean,
    Link,
    OneOf(&'static [&'static str]),
}

/// Settings that are shown and cannot be changed.
const UNSERVED: [(&str, Form); 9] = [
    ("aclsExternallyManagedOn", Form::Boolean),
    ("aclsExternalLink", Form::Link),
    ("devicesAutoUpdatesOn", Form::Boolean),
    ("usersApprovalOn", Form::Boolean),
    (
        "usersRoleAllowedToJoinExternalTailnets",
        Form::OneOf(&["none", "admin", "member"]),
    ),
    ("networkFlowLoggingOn", Form::Boolean),
    ("regionalRoutingOn", Form::Boolean),
    ("postureIdentityCollectionOn", Form::Boolean),
    ("httpsEnabled", Form::Boolean),
];

impl Form {
    /// What is wrong with a value, if anything.
    fn check(self, value: &Value) -> Result<(), String> {
        match self {
            Self::Boolean if value.is_boolean() => Ok(()),
            Self::Boolean => Err("must be true or false".to_owned()),
            Self::Link => match value.as_str() {
                Some("") => Ok(()),
                Some(link) if link.starts_with("https://") || link.starts_with("http://") => Ok(()),
                _ => Err("must be an http:// or https:// URL, or empty".to_owned()),
            },
            Self::OneOf(words) => match value.as_str() {
                Some(word) if words.contains(&word) => Ok(()),
                _ => Err(format!("must be one of {}", words.join(", "))),
            },
        }
    }
}

/// `PATCH /tailnet/{tailnet}/settings`: change settings.
///
/// Source: official OpenAPI document, `updateTailnetSettings`.
pub(crate) async fn update(
    caller: Caller<SettingsWrite>,
    State(api): State<Api>,
    Json(body): Json<Body>,
) -> Result<Response, ApiError> {
    let snapshot = api
        .engine
        .snapshot(caller.actor.tailnet)
        .ok_or_else(ApiError::not_found)?;
    let present = settings_json(&snapshot.tailnet().settings);
    let mut unserved = None;
    for (name, form) in UNSERVED {
        let Some(value) = body.others.0.get(name).filter(|value| !value.is_null()) else {
            continue;
        };
        if !caller.actor.may_field(name) {
            return Err(ApiError::forbidden());
        }
        // What makes no sense is the caller's fault, whether or not the setting is served.
        form.check(value)
            .map_err(|wrong| ApiError::bad_request(format!("{name} {wrong}")))?;
        if present.get(name) != Some(value) {
            unserved = unserved.or(Some(name));
        }
    }
    let days = body.devices_key_duration_days.map(|Integer(days)| {
        u32::try_from(days)
            .map_err(|_| ApiError::bad_request("devicesKeyDurationDays must be between 1 and 180"))
    });
    let devices_key_duration_days = days.transpose()?;
    if let Some(name) = unserved {
        return Err(ApiError::new(
            http::StatusCode::NOT_IMPLEMENTED,
            format!("{name} cannot be changed yet"),
        ));
    }
    let edit = SettingsEdit {
        device_approval_on: body.devices_approval_on,
        devices_key_duration_days,
    };
    let settings = api.engine.edit_settings(&caller.actor, edit).await?;
    // Who may change a setting may see it, and no other is told of here.
    let reading = caller.actor.asking(Requirement::shown(SHOWN_SETTINGS));
    json(&shown(&reading, &settings))
}
