//! Tailnet settings. Those that nothing obeys yet are shown as they are and cannot be changed.

use axum::extract::State;
use axum::response::Response;
use bowline_engine::settings::SettingsEdit;
use bowline_model::tailnet::Settings;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::Api;
use crate::caller::{Caller, SettingsRead, SettingsWrite};
use crate::error::ApiError;
use crate::extract::{Json, json};

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
    json(&settings_json(&snapshot.tailnet().settings))
}

/// Body of "update settings". `null` and absent: unchanged.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Body {
    devices_approval_on: Option<bool>,
    devices_key_duration_days: Option<u32>,
    #[serde(flatten)]
    others: Map<String, Value>,
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
    let other = body.others.iter().find(|(key, value)| {
        !value.is_null()
            && present
                .get(key.as_str())
                .is_some_and(|present| present != *value)
    });
    if let Some((key, _)) = other {
        return Err(ApiError::new(
            http::StatusCode::NOT_IMPLEMENTED,
            format!("{key} cannot be changed yet"),
        ));
    }
    let edit = SettingsEdit {
        device_approval_on: body.devices_approval_on,
        devices_key_duration_days: body.devices_key_duration_days,
    };
    json(&settings_json(
        &api.engine.edit_settings(&caller.actor, edit).await?,
    ))
}
