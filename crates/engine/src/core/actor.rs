//! Who acts, and what their role lets them do.
//!
//! Source: `docs/protocol/api-behaviour.md`, sections 4.2 and 4.3.

use bowline_model::audit::ActorRef;
use bowline_model::id::{KeyId, TailnetId, UserId};
use bowline_model::user::Role;

/// Somebody who was let in, in one tailnet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Actor {
    /// The tailnet of their credential: every lookup stays inside it.
    pub tailnet: TailnetId,
    /// Who they are.
    pub principal: Principal,
    /// The credential they showed.
    pub credential: Option<KeyId>,
}

/// Who an actor is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Principal {
    /// A user, with their role as of now.
    User {
        /// Their id.
        id: UserId,
        /// Their login name.
        login: String,
        /// Their role.
        role: Role,
    },
    /// Whoever runs the server, by its local socket or the command line.
    Operator,
}

/// What an operation works on. Source: `docs/protocol/api-behaviour.md`, section 4.2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scope {
    /// `devices:core`.
    DevicesCore,
    /// `devices:core` again, for tags: network administrators may assign every tag and change
    /// nothing else of a device.
    DevicesTags,
    /// `devices:routes`.
    DevicesRoutes,
    /// `devices:posture_attributes`.
    DevicesPostureAttributes,
    /// `auth_keys`.
    AuthKeys,
    /// `api_access_tokens`.
    ApiAccessTokens,
    /// `policy_file`.
    PolicyFile,
    /// `dns`.
    Dns,
    /// `users`.
    Users,
    /// `feature_settings`.
    FeatureSettings,
}

impl Scope {
    /// Every scope.
    pub const ALL: [Self; 10] = [
        Self::DevicesCore,
        Self::DevicesTags,
        Self::DevicesRoutes,
        Self::DevicesPostureAttributes,
        Self::AuthKeys,
        Self::ApiAccessTokens,
        Self::PolicyFile,
        Self::Dns,
        Self::Users,
        Self::FeatureSettings,
    ];

    /// The API's word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::DevicesCore | Self::DevicesTags => "devices:core",
            Self::DevicesRoutes => "devices:routes",
            Self::DevicesPostureAttributes => "devices:posture_attributes",
            Self::AuthKeys => "auth_keys",
            Self::ApiAccessTokens => "api_access_tokens",
            Self::PolicyFile => "policy_file",
            Self::Dns => "dns",
            Self::Users => "users",
            Self::FeatureSettings => "feature_settings",
        }
    }
}

/// Whether an operation reads or writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Access {
    /// Reads.
    Read,
    /// Writes.
    Write,
}

/// What a role may do.
pub fn role_may(role: Role, scope: Scope, access: Access) -> bool {
    use Role::{Admin, Auditor, BillingAdmin, ItAdmin, Member, NetworkAdmin, Owner};
    match (role, access) {
        (Owner | Admin, _) => true,
        (Member, _) | (BillingAdmin | Auditor, Access::Write) => false,
        (NetworkAdmin | ItAdmin | BillingAdmin | Auditor, Access::Read) => match scope {
            Scope::DevicesPostureAttributes | Scope::AuthKeys | Scope::ApiAccessTokens => {
                matches!(role, NetworkAdmin | ItAdmin)
            }
            Scope::DevicesCore
            | Scope::DevicesTags
            | Scope::DevicesRoutes
            | Scope::PolicyFile
            | Scope::Dns
            | Scope::Users
            | Scope::FeatureSettings => true,
        },
        (NetworkAdmin, Access::Write) => matches!(
            scope,
            Scope::PolicyFile
                | Scope::Dns
                | Scope::DevicesTags
                | Scope::DevicesRoutes
                | Scope::DevicesPostureAttributes
                | Scope::AuthKeys
                | Scope::ApiAccessTokens
        ),
        (ItAdmin, Access::Write) => matches!(
            scope,
            Scope::DevicesCore
                | Scope::DevicesTags
                | Scope::DevicesPostureAttributes
                | Scope::AuthKeys
                | Scope::ApiAccessTokens
                | Scope::Users
                | Scope::FeatureSettings
        ),
    }
}

impl Actor {
    /// The operator of the server, acting in a tailnet.
    pub const fn operator(tailnet: TailnetId) -> Self {
        Self {
            tailnet,
            principal: Principal::Operator,
            credential: None,
        }
    }

    /// Whether the actor may do this.
    pub fn may(&self, scope: Scope, access: Access) -> bool {
        match &self.principal {
            Principal::User { role, .. } => role_may(*role, scope, access),
            Principal::Operator => true,
        }
    }

    /// Whether the actor has any access to the API at all.
    pub fn may_use_api(&self) -> bool {
        !matches!(
            &self.principal,
            Principal::User {
                role: Role::Member,
                ..
            }
        )
    }

    /// The user, when the actor is one.
    pub const fn user(&self) -> Option<UserId> {
        match &self.principal {
            Principal::User { id, .. } => Some(*id),
            Principal::Operator => None,
        }
    }

    /// How audit events name the actor.
    pub fn audit_ref(&self) -> ActorRef {
        match &self.principal {
            Principal::User { id, login, .. } => ActorRef::User {
                id: *id,
                login: login.clone(),
                credential: self.credential,
            },
            Principal::Operator => ActorRef::Operator,
        }
    }
}
