//! Settings of a tailnet that administrators change.

pub mod clock;

use bowline_model::event::{Event, TailnetRef};
use bowline_model::requirement::{Field, Need};
use bowline_model::right::Right;
use bowline_model::scope::Scope;
use bowline_model::tailnet::{Settings, Tailnet};

use crate::core::actor::Actor;
use crate::core::engine::Engine;
use crate::core::failure::Refusal;
use crate::people::standing;

/// The settings as the API names them, each with what is needed to see it. Source: official OpenAPI
/// document, `getTailnetSettings` and `TailnetSettings`.
pub const SHOWN_SETTINGS: &[Field] = &[
    field("aclsExternallyManagedOn", READ_POLICY),
    field("aclsExternalLink", READ_POLICY),
    field("devicesApprovalOn", READ),
    field("devicesAutoUpdatesOn", READ),
    field("devicesKeyDurationDays", READ),
    field("usersApprovalOn", READ),
    field("usersRoleAllowedToJoinExternalTailnets", READ),
    field("networkFlowLoggingOn", READ_FLOW_LOGS),
    field("regionalRoutingOn", READ),
    field("postureIdentityCollectionOn", READ),
    field("httpsEnabled", READ_HTTPS),
];

/// The settings as the API names them, each with what is needed to change it. Source: official
/// OpenAPI document, `updateTailnetSettings`; `docs/protocol/api-behaviour.md`, section 4.3.
pub const CHANGED_SETTINGS: &[Field] = &[
    field("aclsExternallyManagedOn", WRITE_POLICY),
    field("aclsExternalLink", WRITE_POLICY),
    field("devicesApprovalOn", WRITE),
    field("devicesAutoUpdatesOn", WRITE),
    field("devicesKeyDurationDays", WRITE),
    field("usersApprovalOn", WRITE_USER_APPROVAL),
    field("usersRoleAllowedToJoinExternalTailnets", WRITE),
    field("networkFlowLoggingOn", WRITE_FLOW_LOGS),
    field("regionalRoutingOn", WRITE),
    field("postureIdentityCollectionOn", WRITE),
    field("httpsEnabled", WRITE_HTTPS),
];

const fn field(name: &'static str, need: Need) -> Field {
    Field { name, need }
}

const fn need(scopes: &'static [Scope], right: Right) -> Need {
    Need { scopes, right }
}

const READ: Need = need(&[Scope::FEATURE_SETTINGS_READ], Right::ReadSettings);
const READ_POLICY: Need = need(&[Scope::POLICY_FILE_READ], Right::ReadSettings);
const READ_FLOW_LOGS: Need = need(&[Scope::LOGS_NETWORK_READ], Right::ReadSettings);
const READ_HTTPS: Need = need(&[Scope::NETWORKING_SETTINGS_READ], Right::ReadSettings);
const WRITE: Need = need(&[Scope::FEATURE_SETTINGS], Right::WriteSettings);
const WRITE_POLICY: Need = need(&[Scope::POLICY_FILE], Right::WritePolicyFile);
const WRITE_USER_APPROVAL: Need = need(&[Scope::FEATURE_SETTINGS], Right::WriteUserApproval);
const WRITE_FLOW_LOGS: Need = need(&[Scope::LOGS_NETWORK], Right::WriteFlowLogging);
const WRITE_HTTPS: Need = need(&[Scope::NETWORKING_SETTINGS], Right::WriteNetwork);

/// A change of a tailnet's settings. Absent: unchanged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SettingsEdit {
    /// Whether new devices wait for approval.
    pub device_approval_on: Option<bool>,
    /// Whether users whom no person made wait for approval. Those who wait when it is turned off are
    /// approved by that.
    pub users_approval_on: Option<bool>,
    /// Days until the key of a device that logs in from now on expires, 1 to 180.
    pub devices_key_duration_days: Option<u32>,
}

impl SettingsEdit {
    /// The settings that it changes, by the names that the API has for them.
    fn fields(&self) -> Vec<&'static str> {
        let Self {
            device_approval_on,
            users_approval_on,
            devices_key_duration_days,
        } = self;
        [
            device_approval_on.map(|_| "devicesApprovalOn"),
            users_approval_on.map(|_| "usersApprovalOn"),
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
            let tailnet = || TailnetRef::of(&old);
            if let Some(on) = edit.device_approval_on
                && on != new.device_approval_on
            {
                draft.audit(Event::ApprovalOfDevices {
                    tailnet: tailnet(),
                    old: new.device_approval_on,
                    new: on,
                });
                new.device_approval_on = on;
            }
            if let Some(on) = edit.users_approval_on
                && on != new.users_approval_on
            {
                draft.audit(Event::ApprovalOfUsers {
                    tailnet: tailnet(),
                    old: new.users_approval_on,
                    new: on,
                });
                new.users_approval_on = on;
                if !on {
                    standing::approve_all(draft);
                }
            }
            if let Some(days) = edit.devices_key_duration_days
                && days != new.devices_key_duration_days
            {
                draft.audit(Event::KeyDuration {
                    tailnet: tailnet(),
                    old: new.devices_key_duration_days,
                    new: days,
                });
                new.devices_key_duration_days = days;
            }
            if new != old.settings {
                draft.put(Tailnet {
                    settings: new.clone(),
                    ..(*old).clone()
                });
            }
            Ok(new)
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_is_shown_and_changed_by_a_need_of_its_own() {
        let names = |fields: &[Field]| fields.iter().map(|field| field.name).collect::<Vec<_>>();
        assert_eq!(names(SHOWN_SETTINGS), names(CHANGED_SETTINGS));
        let edit = SettingsEdit {
            device_approval_on: Some(true),
            users_approval_on: Some(true),
            devices_key_duration_days: Some(1),
        };
        for name in edit.fields() {
            assert!(names(CHANGED_SETTINGS).contains(&name), "{name}");
        }
    }
}
