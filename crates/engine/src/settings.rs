//! Settings of a tailnet that administrators change.

pub mod clock;

use bowline_model::audit::Target;
use bowline_model::tailnet::{Settings, Tailnet};
use serde_json::json;

use crate::core::actor::Actor;
use crate::core::engine::Engine;
use crate::core::failure::Refusal;

/// A change of a tailnet's settings. Absent: unchanged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SettingsEdit {
    /// Whether new devices wait for approval.
    pub device_approval_on: Option<bool>,
    /// Days until the key of a device that logs in from now on expires, 1 to 180.
    pub devices_key_duration_days: Option<u32>,
}

impl SettingsEdit {
    /// The settings that it changes, by the names that the API has for them.
    fn fields(&self) -> Vec<&'static str> {
        let Self {
            device_approval_on,
            devices_key_duration_days,
        } = self;
        [
            device_approval_on.map(|_| "devicesApprovalOn"),
            devices_key_duration_days.map(|_| "devicesKeyDurationDays"),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}

impl Engine {
    /// Changes the settings of a tailnet; returns them as they are then.
    ///
    /// # Errors
    /// `Invalid` for a duration that cannot be.
    pub async fn edit_settings(
        &self,
        actor: &Actor,
        edit: SettingsEdit,
    ) -> Result<Settings, Refusal> {
        if edit
            .devices_key_duration_days
            .is_some_and(|days| !(1..=180).contains(&days))
        {
            return Err(Refusal::invalid(
                "devicesKeyDurationDays must be between 1 and 180",
            ));
        }
        let actor = actor.clone().changing(edit.fields());
        self.write(&actor, move |draft| {
            let old = draft.view().tailnet().clone();
            let mut new = old.settings.clone();
            let target = |property| Target::tailnet(old.id, &old.name, property);
            if let Some(on) = edit.device_approval_on
                && on != new.device_approval_on
            {
                let action = if on { "ENABLE" } else { "DISABLE" };
                draft.audit(
                    action,
                    target("MACHINE_APPROVAL_NEEDED"),
                    json!(!on),
                    json!(on),
                );
                new.device_approval_on = on;
            }
            if let Some(days) = edit.devices_key_duration_days
                && days != new.devices_key_duration_days
            {
                let before = json!(new.devices_key_duration_days);
                draft.audit("UPDATE", target("MAX_KEY_DURATION"), before, json!(days));
                new.devices_key_duration_days = days;
            }
            if new != old.settings {
                draft.set_tailnet(Tailnet {
                    settings: new.clone(),
                    ..(*old).clone()
                });
            }
            Ok(new)
        })
        .await
    }
}
