//! Scopes: what a credential was given.
//!
//! A scope limits a credential and says nothing of people: what a user may do is their role's
//! ([`crate::right`]), and an act needs both. A user's API access token has the scope `all`; OAuth
//! clients, federated identities and the tokens made from them have those that they were given.
//!
//! Source: official OpenAPI document (the scopes of each operation and of `Key`);
//! `docs/protocol/api-behaviour.md`, sections 4.1 and 4.2.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Reading or writing. Who may write may read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Access {
    /// Reads.
    Read,
    /// Reads and writes.
    Write,
}

/// What a scope is about: its name without `:read`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Area {
    /// `all`: everything, also what comes with later versions.
    All,
    /// `account_settings`: contacts.
    AccountSettings,
    /// `api_access_tokens`: users' API access tokens.
    ApiAccessTokens,
    /// `auth_keys`: keys that register devices.
    AuthKeys,
    /// `device_invites`: invitations to use a device.
    DeviceInvites,
    /// `devices:core`: devices and everything of them that has no scope of its own.
    DevicesCore,
    /// `devices:posture_attributes`: posture attributes of devices.
    DevicesPostureAttributes,
    /// `devices:routes`: subnet routes and exit nodes.
    DevicesRoutes,
    /// `dns`: nameservers, search paths, split DNS and MagicDNS.
    Dns,
    /// `feature_settings`: most settings of the tailnet, and posture integrations.
    FeatureSettings,
    /// `federated_keys`: federated identities.
    FederatedKeys,
    /// `log_streaming`: where logs are sent.
    LogStreaming,
    /// `logs:configuration`: the audit log. It can only be read.
    LogsConfiguration,
    /// `logs:network`: network flow logs, and the setting that turns them on.
    LogsNetwork,
    /// `networking_settings`: the setting for HTTPS certificates.
    NetworkingSettings,
    /// `oauth_apps`: OAuth apps.
    OauthApps,
    /// `oauth_keys`: OAuth clients and the access tokens made from them.
    OauthKeys,
    /// `policy_file`: the policy file.
    PolicyFile,
    /// `services`: services of the tailnet.
    Services,
    /// `tailnets`: tailnets of an organisation.
    Tailnets,
    /// `users`: users and invitations of users.
    Users,
    /// `webhooks`: webhook endpoints.
    Webhooks,
    /// `acl`, an old name for the policy file and posture attributes.
    LegacyAcl,
    /// `devices`, an old name for everything of devices, and for auth keys.
    LegacyDevices,
    /// `logs`, an old name for the audit log. It can only be read.
    LegacyLogs,
    /// `network-logs`, an old name for network flow logs. It can only be read.
    LegacyNetworkLogs,
    /// `routes`, an old name for `devices:routes`.
    LegacyRoutes,
}

impl Area {
    /// Every area, those with old names last.
    pub const EVERY: [Self; 27] = [
        Self::All,
        Self::AccountSettings,
        Self::ApiAccessTokens,
        Self::AuthKeys,
        Self::DeviceInvites,
        Self::DevicesCore,
        Self::DevicesPostureAttributes,
        Self::DevicesRoutes,
        Self::Dns,
        Self::FeatureSettings,
        Self::FederatedKeys,
        Self::LogStreaming,
        Self::LogsConfiguration,
        Self::LogsNetwork,
        Self::NetworkingSettings,
        Self::OauthApps,
        Self::OauthKeys,
        Self::PolicyFile,
        Self::Services,
        Self::Tailnets,
        Self::Users,
        Self::Webhooks,
        Self::LegacyAcl,
        Self::LegacyDevices,
        Self::LegacyLogs,
        Self::LegacyNetworkLogs,
        Self::LegacyRoutes,
    ];

    /// The API's word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::AccountSettings => "account_settings",
            Self::ApiAccessTokens => "api_access_tokens",
            Self::AuthKeys => "auth_keys",
            Self::DeviceInvites => "device_invites",
            Self::DevicesCore => "devices:core",
            Self::DevicesPostureAttributes => "devices:posture_attributes",
            Self::DevicesRoutes => "devices:routes",
            Self::Dns => "dns",
            Self::FeatureSettings => "feature_settings",
            Self::FederatedKeys => "federated_keys",
            Self::LogStreaming => "log_streaming",
            Self::LogsConfiguration => "logs:configuration",
            Self::LogsNetwork => "logs:network",
            Self::NetworkingSettings => "networking_settings",
            Self::OauthApps => "oauth_apps",
            Self::OauthKeys => "oauth_keys",
            Self::PolicyFile => "policy_file",
            Self::Services => "services",
            Self::Tailnets => "tailnets",
            Self::Users => "users",
            Self::Webhooks => "webhooks",
            Self::LegacyAcl => "acl",
            Self::LegacyDevices => "devices",
            Self::LegacyLogs => "logs",
            Self::LegacyNetworkLogs => "network-logs",
            Self::LegacyRoutes => "routes",
        }
    }

    /// What it covers, in words.
    pub const fn words(self) -> &'static str {
        match self {
            Self::All => "everything, also what comes with later versions",
            Self::AccountSettings => "contacts",
            Self::ApiAccessTokens => "users' API access tokens",
            Self::AuthKeys => "keys that register devices",
            Self::DeviceInvites => "invitations to use a device",
            Self::DevicesCore => "devices and everything of them that has no scope of its own",
            Self::DevicesPostureAttributes => "posture attributes of devices",
            Self::DevicesRoutes => "subnet routes and exit nodes",
            Self::Dns => "nameservers, search paths, split DNS and MagicDNS",
            Self::FeatureSettings => "most settings of the tailnet, and posture integrations",
            Self::FederatedKeys => "federated identities",
            Self::LogStreaming => "where logs are sent",
            Self::LogsConfiguration => "the audit log",
            Self::LogsNetwork => "network flow logs, and the setting that turns them on",
            Self::NetworkingSettings => "the setting for HTTPS certificates",
            Self::OauthApps => "OAuth apps",
            Self::OauthKeys => "OAuth clients and the access tokens made from them",
            Self::PolicyFile => "the policy file",
            Self::Services => "services of the tailnet",
            Self::Tailnets => "tailnets of an organisation",
            Self::Users => "users and invitations of users",
            Self::Webhooks => "webhook endpoints",
            Self::LegacyAcl => "an old name for the policy file and posture attributes",
            Self::LegacyDevices => "an old name for everything of devices, and for auth keys",
            Self::LegacyLogs => "an old name for the audit log",
            Self::LegacyNetworkLogs => "an old name for network flow logs",
            Self::LegacyRoutes => "an old name for `devices:routes`",
        }
    }

    /// Whether there is only a scope to read it.
    pub const fn is_read_only(self) -> bool {
        matches!(
            self,
            Self::LogsConfiguration | Self::LegacyLogs | Self::LegacyNetworkLogs
        )
    }

    /// The areas of today that an area covers: itself; for an old name those that it became. `All`
    /// covers every area and is not listed here.
    pub(crate) const fn covers(self) -> &'static [Self] {
        match self {
            Self::All => &[Self::All],
            Self::AccountSettings => &[Self::AccountSettings],
            Self::ApiAccessTokens => &[Self::ApiAccessTokens],
            Self::AuthKeys => &[Self::AuthKeys],
            Self::DeviceInvites => &[Self::DeviceInvites],
            Self::DevicesCore => &[Self::DevicesCore],
            Self::DevicesPostureAttributes => &[Self::DevicesPostureAttributes],
            Self::DevicesRoutes | Self::LegacyRoutes => &[Self::DevicesRoutes],
            Self::Dns => &[Self::Dns],
            Self::FeatureSettings => &[Self::FeatureSettings],
            Self::FederatedKeys => &[Self::FederatedKeys],
            Self::LogStreaming => &[Self::LogStreaming],
            Self::LogsConfiguration | Self::LegacyLogs => &[Self::LogsConfiguration],
            Self::LogsNetwork | Self::LegacyNetworkLogs => &[Self::LogsNetwork],
            Self::NetworkingSettings => &[Self::NetworkingSettings],
            Self::OauthApps => &[Self::OauthApps],
            Self::OauthKeys => &[Self::OauthKeys],
            Self::PolicyFile => &[Self::PolicyFile],
            Self::Services => &[Self::Services],
            Self::Tailnets => &[Self::Tailnets],
            Self::Users => &[Self::Users],
            Self::Webhooks => &[Self::Webhooks],
            Self::LegacyAcl => &[Self::PolicyFile, Self::DevicesPostureAttributes],
            Self::LegacyDevices => &[
                Self::DevicesCore,
                Self::DevicesRoutes,
                Self::DevicesPostureAttributes,
                Self::AuthKeys,
            ],
        }
    }
}

/// A scope: `devices:core` reads and writes, `devices:core:read` reads.
///
/// ```
/// use bowline_model::scope::Scope;
/// let write: Scope = "devices:core".parse().unwrap();
/// assert!(write.grants(Scope::DEVICES_CORE_READ));
/// assert!(!Scope::DEVICES_CORE_READ.grants(write));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Scope {
    area: Area,
    access: Access,
}

/// The text that is not a scope.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a scope")]
pub struct NotAScope(pub String);

macro_rules! scopes {
    ($($write:ident $read:ident = $area:ident;)*) => {
        $(
            #[doc = concat!("[`Area::", stringify!($area), "`], to read and write.")]
            pub const $write: Self = Self::write_of(Area::$area);
            #[doc = concat!("[`Area::", stringify!($area), "`], to read.")]
            pub const $read: Self = Self::read_of(Area::$area);
        )*
    };
}

impl Scope {
    scopes! {
        ALL ALL_READ = All;
        ACCOUNT_SETTINGS ACCOUNT_SETTINGS_READ = AccountSettings;
        API_ACCESS_TOKENS API_ACCESS_TOKENS_READ = ApiAccessTokens;
        AUTH_KEYS AUTH_KEYS_READ = AuthKeys;
        DEVICE_INVITES DEVICE_INVITES_READ = DeviceInvites;
        DEVICES_CORE DEVICES_CORE_READ = DevicesCore;
        DEVICES_POSTURE_ATTRIBUTES DEVICES_POSTURE_ATTRIBUTES_READ = DevicesPostureAttributes;
        DEVICES_ROUTES DEVICES_ROUTES_READ = DevicesRoutes;
        DNS DNS_READ = Dns;
        FEATURE_SETTINGS FEATURE_SETTINGS_READ = FeatureSettings;
        FEDERATED_KEYS FEDERATED_KEYS_READ = FederatedKeys;
        LOG_STREAMING LOG_STREAMING_READ = LogStreaming;
        LOGS_NETWORK LOGS_NETWORK_READ = LogsNetwork;
        NETWORKING_SETTINGS NETWORKING_SETTINGS_READ = NetworkingSettings;
        OAUTH_APPS OAUTH_APPS_READ = OauthApps;
        OAUTH_KEYS OAUTH_KEYS_READ = OauthKeys;
        POLICY_FILE POLICY_FILE_READ = PolicyFile;
        SERVICES SERVICES_READ = Services;
        TAILNETS TAILNETS_READ = Tailnets;
        USERS USERS_READ = Users;
        WEBHOOKS WEBHOOKS_READ = Webhooks;
    }
    /// `logs:configuration:read`: there is no scope to write the audit log.
    pub const LOGS_CONFIGURATION_READ: Self = Self::read_of(Area::LogsConfiguration);

    const fn write_of(area: Area) -> Self {
        Self {
            area,
            access: Access::Write,
        }
    }

    const fn read_of(area: Area) -> Self {
        Self {
            area,
            access: Access::Read,
        }
    }

    /// The scope that reads what this one is about: `devices:core` → `devices:core:read`.
    #[must_use]
    pub const fn read(self) -> Self {
        Self::read_of(self.area)
    }

    /// What it is about.
    pub const fn area(self) -> Area {
        self.area
    }

    /// Whether it reads only.
    pub const fn access(self) -> Access {
        self.access
    }

    /// Every scope that there is, those with old names last.
    pub fn every() -> impl Iterator<Item = Self> {
        Area::EVERY.into_iter().flat_map(|area| {
            let write = (!area.is_read_only()).then(|| Self::write_of(area));
            write.into_iter().chain([Self::read_of(area)])
        })
    }

    /// Whether whoever has this scope has the other one too. `all` grants every scope, `all:read`
    /// every one that reads, and each scope that writes its own `:read`. Names do not nest:
    /// `devices:core` does not grant `devices:routes`.
    pub fn grants(self, other: Self) -> bool {
        let covers = |area: &Area| self.area == Area::All || self.area.covers().contains(area);
        self.access >= other.access && other.area.covers().iter().all(covers)
    }

    /// Whether a credential with this scope must have tags: what it makes belongs to them.
    pub fn needs_tags(self) -> bool {
        let makes_devices = |scope| self.area != Area::All && self.grants(scope);
        makes_devices(Self::DEVICES_CORE) || makes_devices(Self::AUTH_KEYS)
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.area.as_str())?;
        match self.access {
            Access::Read => f.write_str(":read"),
            Access::Write => Ok(()),
        }
    }
}

impl FromStr for Scope {
    type Err = NotAScope;

    /// Reads a scope as the API writes it. `<scope>:write`, which some clients send, is the same as
    /// `<scope>`.
    fn from_str(text: &str) -> Result<Self, NotAScope> {
        let (name, access) = match text.rsplit_once(':') {
            Some((name, "read")) => (name, Access::Read),
            Some((name, "write")) => (name, Access::Write),
            _ => (text, Access::Write),
        };
        Area::EVERY
            .into_iter()
            .find(|area| area.as_str() == name)
            .map(|area| Self { area, access })
            .filter(|scope| scope.access == Access::Read || !scope.area.is_read_only())
            .ok_or_else(|| NotAScope(text.to_owned()))
    }
}

impl Serialize for Scope {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Scope {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

/// The scopes of a credential, in the order in which they were given. Without any it may do
/// nothing.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Scopes(Vec<Scope>);

impl Scopes {
    /// What a user's API access token has: `all`.
    pub fn all() -> Self {
        Self(vec![Scope::ALL])
    }

    /// The scopes, as given.
    pub fn as_slice(&self) -> &[Scope] {
        &self.0
    }

    /// Whether they grant a scope.
    pub fn grant(&self, scope: Scope) -> bool {
        self.0.iter().any(|own| own.grants(scope))
    }

    /// Whether they grant all of these: only such scopes may be given on.
    pub fn grant_all(&self, scopes: &[Scope]) -> bool {
        scopes.iter().all(|scope| self.grant(*scope))
    }

    /// What both these scopes and the others grant: of `dns` and `dns:read` it is `dns:read`.
    #[must_use]
    pub fn within(&self, others: &Self) -> Self {
        let mut both: Vec<Scope> = Vec::new();
        let each = self.0.iter().chain(&others.0);
        for scope in each.flat_map(|scope| [*scope, scope.read()]) {
            let is_new = !both.iter().any(|known| known.grants(scope));
            if is_new && self.grant(scope) && others.grant(scope) {
                both.push(scope);
            }
        }
        Self(both)
    }

    /// Whether what has these scopes may give tags to something: to devices, or to the keys that
    /// register them.
    pub fn give_tags(&self) -> bool {
        self.grant(Scope::DEVICES_CORE) || self.grant(Scope::AUTH_KEYS)
    }

    /// Whether a credential with these scopes must have tags.
    pub fn need_tags(&self) -> bool {
        self.0.iter().any(|scope| scope.needs_tags())
    }
}

impl fmt::Display for Scopes {
    /// As OAuth writes them: with a space between two.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, scope) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str(" ")?;
            }
            scope.fmt(f)?;
        }
        Ok(())
    }
}

impl FromIterator<Scope> for Scopes {
    fn from_iter<I: IntoIterator<Item = Scope>>(scopes: I) -> Self {
        Self(scopes.into_iter().collect())
    }
}

#[cfg(test)]
mod tests;
