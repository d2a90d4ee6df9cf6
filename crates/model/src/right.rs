//! Rights: what a user's role may do.
//!
//! A right says nothing of credentials: what one of them was given are its scopes
//! ([`crate::scope`]), and an act needs both. Some rights have no scope of their own: network
//! administrators set the tags of devices (`devices:core`) and change nothing else of them.
//!
//! Source: `docs/protocol/api-behaviour.md`, section 4.3 (the official page on user roles).

use crate::scope::{Access, Area, Scope};
use crate::user::Role;

/// Something that a role may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Right {
    /// Call the API at all.
    UseApi,
    /// See devices.
    ReadDevices,
    /// Approve, rename, expire, renumber and delete devices; decide about logins.
    WriteDevices,
    /// Replace the tags of devices by tags that the user may assign.
    SetDeviceTags,
    /// See and change posture attributes of devices.
    PostureAttributes,
    /// See DNS settings and routes.
    ReadNetwork,
    /// Change DNS settings, routes and HTTPS.
    WriteNetwork,
    /// See the policy file, and ask what it or another one does.
    ReadPolicyFile,
    /// Change the policy file.
    WritePolicyFile,
    /// See users and invitations of users.
    ReadUsers,
    /// Make users, change their roles, suspend and delete them, and act for members.
    WriteUsers,
    /// See settings and posture integrations.
    ReadSettings,
    /// Change settings and posture integrations.
    WriteSettings,
    /// Change whether new users wait for approval.
    WriteUserApproval,
    /// Change whether network flows are logged.
    WriteFlowLogging,
    /// See, make and revoke auth keys.
    AuthKeys,
    /// See, make and revoke API access tokens, OAuth clients, federated identities and OAuth apps.
    ApiCredentials,
    /// See invitations to use a device.
    ReadDeviceInvites,
    /// Share devices, and accept such an invitation.
    ShareDevices,
    /// Read the audit log.
    ReadAuditLog,
    /// Read network flow logs.
    ReadFlowLogs,
    /// See where logs are sent.
    ReadLogStreaming,
    /// Change where logs are sent.
    WriteLogStreaming,
    /// See webhooks.
    ReadWebhooks,
    /// Make, change and delete webhooks.
    WriteWebhooks,
    /// See contacts.
    ReadContacts,
    /// Change contacts.
    WriteContacts,
    /// See services.
    ReadServices,
    /// Define services and approve their hosts.
    WriteServices,
    /// See OAuth apps.
    ReadOauthApps,
}

use Role::{Admin, Auditor, BillingAdmin, ItAdmin, NetworkAdmin, Owner};

/// Everybody but members, who use the network and not the API.
const ALL_BUT_MEMBERS: &[Role] = &[Owner, Admin, NetworkAdmin, ItAdmin, BillingAdmin, Auditor];
const ADMINISTRATORS: &[Role] = &[Owner, Admin, NetworkAdmin, ItAdmin];
const NETWORK: &[Role] = &[Owner, Admin, NetworkAdmin];
const IT: &[Role] = &[Owner, Admin, ItAdmin];

impl Right {
    /// Every right.
    pub const EVERY: [Self; 30] = [
        Self::UseApi,
        Self::ReadDevices,
        Self::WriteDevices,
        Self::SetDeviceTags,
        Self::PostureAttributes,
        Self::ReadNetwork,
        Self::WriteNetwork,
        Self::ReadPolicyFile,
        Self::WritePolicyFile,
        Self::ReadUsers,
        Self::WriteUsers,
        Self::ReadSettings,
        Self::WriteSettings,
        Self::WriteUserApproval,
        Self::WriteFlowLogging,
        Self::AuthKeys,
        Self::ApiCredentials,
        Self::ReadDeviceInvites,
        Self::ShareDevices,
        Self::ReadAuditLog,
        Self::ReadFlowLogs,
        Self::ReadLogStreaming,
        Self::WriteLogStreaming,
        Self::ReadWebhooks,
        Self::WriteWebhooks,
        Self::ReadContacts,
        Self::WriteContacts,
        Self::ReadServices,
        Self::WriteServices,
        Self::ReadOauthApps,
    ];

    /// What it allows, in words.
    pub const fn words(self) -> &'static str {
        match self {
            Self::UseApi => "call the API at all",
            Self::ReadDevices => "see devices",
            Self::WriteDevices => {
                "approve, rename, expire, renumber and delete devices; decide about logins"
            }
            Self::SetDeviceTags => "replace the tags of devices by tags that the user may assign",
            Self::PostureAttributes => "see and change posture attributes of devices",
            Self::ReadNetwork => "see DNS settings and routes",
            Self::WriteNetwork => "change DNS settings, routes and HTTPS",
            Self::ReadPolicyFile => "see the policy file, and ask what it or another one does",
            Self::WritePolicyFile => "change the policy file",
            Self::ReadUsers => "see users and invitations of users",
            Self::WriteUsers => {
                "make users, change their roles, suspend and delete them, and act for members"
            }
            Self::ReadSettings => "see settings and posture integrations",
            Self::WriteSettings => "change settings and posture integrations",
            Self::WriteUserApproval => "change whether new users wait for approval",
            Self::WriteFlowLogging => "change whether network flows are logged",
            Self::AuthKeys => "see, make and revoke auth keys",
            Self::ApiCredentials => {
                "see, make and revoke API access tokens, OAuth clients, federated identities and OAuth apps"
            }
            Self::ReadDeviceInvites => "see invitations to use a device",
            Self::ShareDevices => "share devices, and accept such an invitation",
            Self::ReadAuditLog => "read the audit log",
            Self::ReadFlowLogs => "read network flow logs",
            Self::ReadLogStreaming => "see where logs are sent",
            Self::WriteLogStreaming => "change where logs are sent",
            Self::ReadWebhooks => "see webhooks",
            Self::WriteWebhooks => "make, change and delete webhooks",
            Self::ReadContacts => "see contacts",
            Self::WriteContacts => "change contacts",
            Self::ReadServices => "see services",
            Self::WriteServices => "define services and approve their hosts",
            Self::ReadOauthApps => "see OAuth apps",
        }
    }

    /// The roles that have it. Where two pages of the official documentation differ (user approval,
    /// flow logs), whoever has it on one of them.
    pub const fn roles(self) -> &'static [Role] {
        match self {
            Self::UseApi
            | Self::ReadDevices
            | Self::ReadNetwork
            | Self::ReadPolicyFile
            | Self::ReadUsers
            | Self::ReadSettings
            | Self::ReadDeviceInvites
            | Self::ReadAuditLog
            | Self::ReadLogStreaming
            | Self::ReadWebhooks
            | Self::ReadContacts
            | Self::ReadServices
            | Self::ReadOauthApps => ALL_BUT_MEMBERS,
            Self::ReadFlowLogs => &[Owner, Admin, NetworkAdmin, ItAdmin, Auditor],
            Self::SetDeviceTags
            | Self::PostureAttributes
            | Self::WriteUserApproval
            | Self::WriteFlowLogging
            | Self::AuthKeys
            | Self::ApiCredentials
            | Self::WriteLogStreaming
            | Self::WriteWebhooks
            | Self::WriteContacts => ADMINISTRATORS,
            Self::WriteNetwork | Self::WritePolicyFile | Self::WriteServices => NETWORK,
            Self::WriteDevices | Self::WriteUsers | Self::WriteSettings | Self::ShareDevices => IT,
        }
    }
}

impl Role {
    /// Whether the role has a right.
    pub fn has(self, right: Right) -> bool {
        right.roles().contains(&self)
    }

    /// Whether the role has every right that another one has: so it may give that one to a user, or
    /// take it away, without anybody getting more than the giver has. The owner alone covers the
    /// owner, of whom there is one.
    pub fn covers(self, other: Self) -> bool {
        match (self, other) {
            (Owner, _) => true,
            (_, Owner) => false,
            _ => Right::EVERY
                .into_iter()
                .all(|right| self.has(right) || !other.has(right)),
        }
    }

    /// Whether somebody of this role may give a credential this scope: with it the credential does
    /// what the role itself may do. Owners and administrators may give every one.
    pub fn may_grant(self, scope: Scope) -> bool {
        match self {
            Owner | Admin => true,
            NetworkAdmin | ItAdmin | BillingAdmin | Auditor | Self::Member => {
                let covered = scope.area().covers().iter();
                covered
                    .map(|area| rights_of(*area, scope.access()))
                    .all(|rights| {
                        rights.is_some_and(|rights| rights.iter().all(|right| self.has(*right)))
                    })
            }
        }
    }
}

/// What a scope of this area does, as rights. `None`: more than rights can say, so that only owners and
/// administrators may give it. Old names are those areas that they cover.
const fn rights_of(area: Area, access: Access) -> Option<&'static [Right]> {
    let (read, write): (&'static [Right], &'static [Right]) = match area {
        // Everything; others' API access tokens, which only they see; other tailnets.
        Area::All | Area::ApiAccessTokens | Area::Tailnets => return None,
        Area::AccountSettings => (&[Right::ReadContacts], &[Right::WriteContacts]),
        Area::AuthKeys => (&[Right::AuthKeys], &[Right::AuthKeys]),
        Area::DeviceInvites => (&[Right::ReadDeviceInvites], &[Right::ShareDevices]),
        Area::DevicesCore => (
            &[Right::ReadDevices],
            &[Right::WriteDevices, Right::SetDeviceTags],
        ),
        Area::DevicesPostureAttributes => {
            (&[Right::PostureAttributes], &[Right::PostureAttributes])
        }
        Area::DevicesRoutes | Area::LegacyRoutes | Area::Dns => {
            (&[Right::ReadNetwork], &[Right::WriteNetwork])
        }
        Area::FeatureSettings => (
            &[Right::ReadSettings],
            &[Right::WriteSettings, Right::WriteUserApproval],
        ),
        Area::FederatedKeys | Area::OauthKeys => {
            (&[Right::ApiCredentials], &[Right::ApiCredentials])
        }
        Area::LogStreaming => (&[Right::ReadLogStreaming], &[Right::WriteLogStreaming]),
        Area::LogsConfiguration | Area::LegacyLogs => {
            (&[Right::ReadAuditLog], &[Right::ReadAuditLog])
        }
        Area::LogsNetwork | Area::LegacyNetworkLogs => (
            &[Right::ReadFlowLogs],
            &[Right::ReadFlowLogs, Right::WriteFlowLogging],
        ),
        Area::NetworkingSettings => (&[Right::ReadSettings], &[Right::WriteNetwork]),
        Area::OauthApps => (&[Right::ReadOauthApps], &[Right::ApiCredentials]),
        Area::PolicyFile => (&[Right::ReadPolicyFile], &[Right::WritePolicyFile]),
        Area::Services => (&[Right::ReadServices], &[Right::WriteServices]),
        Area::Users => (&[Right::ReadUsers], &[Right::WriteUsers]),
        Area::Webhooks => (&[Right::ReadWebhooks], &[Right::WriteWebhooks]),
        Area::LegacyAcl | Area::LegacyDevices => (&[], &[]),
    };
    Some(match access {
        Access::Read => read,
        Access::Write => write,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_right_stands_once_in_the_list() {
        let mut rights = Right::EVERY.to_vec();
        rights.sort_unstable();
        rights.dedup();
        assert_eq!(rights.len(), Right::EVERY.len());
        // The last one of the enum: a new one behind it must be added to the list.
        assert_eq!(rights.len() - 1, Right::ReadOauthApps as usize);
    }

    #[test]
    fn owners_and_administrators_have_every_right_and_members_none() {
        for right in Right::EVERY {
            assert!(
                Role::Owner.has(right) && Role::Admin.has(right),
                "{right:?}"
            );
            assert!(!Role::Member.has(right), "{right:?}");
        }
    }

    #[test]
    fn each_role_grants_what_it_may_do_itself() {
        let grants = |role: Role, text: &str| role.may_grant(text.parse().unwrap());
        for scope in Scope::every() {
            assert!(Role::Owner.may_grant(scope) && Role::Admin.may_grant(scope));
            assert!(!Role::Member.may_grant(scope), "{scope}");
            // Who may grant writing may grant reading.
            for role in [NetworkAdmin, ItAdmin, BillingAdmin, Auditor] {
                assert!(
                    !role.may_grant(scope) || role.may_grant(scope.read()),
                    "{scope}: {role:?}"
                );
            }
        }
        for (scope, network, it) in [
            ("all", false, false),
            ("all:read", false, false),
            ("api_access_tokens:read", false, false),
            ("devices:core", false, true),
            ("devices:core:read", true, true),
            ("devices:routes", true, false),
            ("dns", true, false),
            ("policy_file", true, false),
            ("auth_keys", true, true),
            ("oauth_keys", true, true),
            ("users", false, true),
            ("feature_settings", false, true),
            ("devices", false, false),
            ("devices:read", true, true),
            ("acl", true, false),
            ("routes", true, false),
            ("logs:read", true, true),
        ] {
            assert_eq!(grants(NetworkAdmin, scope), network, "{scope}");
            assert_eq!(grants(ItAdmin, scope), it, "{scope}");
        }
    }

    #[test]
    fn a_role_covers_what_has_no_right_beyond_its_own() {
        use Role::Member;
        let covered = |role: Role| -> Vec<Role> {
            let all = Role::EVERY.into_iter();
            all.filter(|other| role.covers(*other)).collect()
        };
        assert_eq!(covered(Owner), Role::EVERY);
        assert_eq!(covered(Admin), Role::EVERY[1..]);
        assert_eq!(
            covered(NetworkAdmin),
            [NetworkAdmin, BillingAdmin, Auditor, Member]
        );
        assert_eq!(covered(ItAdmin), [ItAdmin, BillingAdmin, Auditor, Member]);
        assert_eq!(covered(BillingAdmin), [BillingAdmin, Member]);
        assert_eq!(covered(Auditor), [BillingAdmin, Auditor, Member]);
        assert_eq!(covered(Member), [Member]);
    }

    #[test]
    fn who_has_a_right_may_use_the_api() {
        for right in Right::EVERY {
            for role in right.roles() {
                assert!(role.has(Right::UseApi), "{right:?}: {role:?}");
            }
        }
    }
}
