//! `PATCH /tailnet/{tailnet}/settings`: change settings of a tailnet.
//!
//! Source: official OpenAPI document, `updateTailnetSettings`.

use bowline_engine::settings::{SHOWN_SETTINGS, SettingsEdit};
use bowline_model::requirement::Requirement;
use http::StatusCode;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use super::{JOINERS, Part, SettingsShown};
use crate::Api;
use crate::answer::Encoded;
use crate::call::Call;
use crate::error::ApiError;
use crate::extract::{Integer, Json, Members};

/// Settings to be changed. `null` and absent: unchanged. The others of the answer may be there as they
/// are, and cannot be changed yet.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SetSettings {
    /// Whether new devices wait for approval.
    devices_approval_on: Option<bool>,
    /// Days until the key of a device that logs in from now on expires, 1 to 180.
    #[schemars(range(min = 1, max = 180))]
    devices_key_duration_days: Option<Integer>,
    /// Whether users whom no person made wait for approval. Turned off, it approves those who wait.
    users_approval_on: Option<bool>,
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
const UNSERVED: [(&str, Form); 8] = [
    ("aclsExternallyManagedOn", Form::Boolean),
    ("aclsExternalLink", Form::Link),
    ("devicesAutoUpdatesOn", Form::Boolean),
    (
        "usersRoleAllowedToJoinExternalTailnets",
        Form::OneOf(JOINERS),
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

pub(crate) async fn handler(
    api: Api,
    call: Call<(), (), Json<SetSettings>>,
) -> Result<Encoded<SettingsShown>, ApiError> {
    let (actor, Json(body)) = (call.actor, call.body);
    let snapshot = api.snapshot(actor.tailnet)?;
    let Part(present) = Part::all(&snapshot.tailnet().settings);
    let mut unserved = None;
    for (name, form) in UNSERVED {
        let Some(value) = body.others.0.get(name).filter(|value| !value.is_null()) else {
            continue;
        };
        if !actor.may_field(name) {
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
            StatusCode::NOT_IMPLEMENTED,
            format!("{name} cannot be changed yet"),
        ));
    }
    let edit = SettingsEdit {
        device_approval_on: body.devices_approval_on,
        users_approval_on: body.users_approval_on,
        devices_key_duration_days,
    };
    let settings = api.engine.edit_settings(&actor, edit).await?;
    // Who may change a setting may see it, and no other is told of here.
    let reading = actor.asking(Requirement::shown(SHOWN_SETTINGS));
    Encoded::new(&Part::visible(&settings, &reading))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_setting_that_is_not_served_must_make_sense_all_the_same() {
        for (form, good, bad) in [
            (Form::Boolean, json!(true), json!("true")),
            (Form::Link, json!("https://x.org"), json!("ftp://x.org")),
            (Form::Link, json!(""), json!(1)),
            (Form::OneOf(JOINERS), json!("admin"), json!("owner")),
        ] {
            assert!(form.check(&good).is_ok(), "{good}");
            assert!(form.check(&bad).is_err(), "{bad}");
        }
    }
}
