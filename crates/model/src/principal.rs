//! Principals: everybody who can act.
//!
//! There is always one, also where nobody asked for something: the server itself is one. What each
//! may do is decided by matches that name every variant, so a new one does not compile until each
//! place says what it may.

use std::collections::BTreeSet;

use crate::audit::ActorRef;
use crate::id::{DeviceId, KeyId, UserId};
use crate::right::Right;
use crate::scope::Scopes;
use crate::tag::Tag;
use crate::user::Role;

/// Somebody or something that acts, with what it may do at that time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Principal {
    /// A user, by a credential of theirs.
    User {
        /// Their id.
        id: UserId,
        /// Their login name.
        login: String,
        /// Their role. It limits what they may do, whatever the credential was given.
        role: Role,
        /// What the credential was given: an API access token has `all`.
        scopes: Scopes,
    },
    /// An OAuth client, by an access token made from it.
    OAuthClient(TrustCredential),
    /// A federated identity, by an access token made from it.
    FederatedIdentity(TrustCredential),
    /// Whoever holds an auth key, while they register a device with it.
    AuthKey {
        /// The auth key.
        id: KeyId,
    },
    /// A device, over the control protocol.
    Device {
        /// The device.
        id: DeviceId,
        /// Its name.
        name: String,
    },
    /// Whoever runs the server, by its local socket or the command line.
    Operator,
    /// The server itself, when something falls due.
    System,
}

/// A credential that acts by itself: nobody's role stands behind it, and it lives on when the user
/// who made it is gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustCredential {
    /// Its id, which is its client id too.
    pub id: KeyId,
    /// What it, or the access token made from it, was given. No role widens or limits this.
    pub scopes: Scopes,
    /// Tags of what it makes.
    pub tags: BTreeSet<Tag>,
    /// Whether it gives these tags and what they own at most, also where its scopes would give any: so
    /// it was asked for with an access token.
    pub narrows_tags: bool,
}

/// Which principal: the same for as long as it exists, whatever it is called and may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PrincipalId {
    /// A user.
    User(UserId),
    /// An OAuth client.
    OAuthClient(KeyId),
    /// A federated identity.
    FederatedIdentity(KeyId),
    /// The holder of an auth key.
    AuthKey(KeyId),
    /// A device.
    Device(DeviceId),
    /// The operator of the server.
    Operator,
    /// The server itself.
    System,
}

impl Principal {
    /// Which principal it is.
    pub const fn id(&self) -> PrincipalId {
        match self {
            Self::User { id, .. } => PrincipalId::User(*id),
            Self::OAuthClient(credential) => PrincipalId::OAuthClient(credential.id),
            Self::FederatedIdentity(credential) => PrincipalId::FederatedIdentity(credential.id),
            Self::AuthKey { id } => PrincipalId::AuthKey(*id),
            Self::Device { id, .. } => PrincipalId::Device(*id),
            Self::Operator => PrincipalId::Operator,
            Self::System => PrincipalId::System,
        }
    }

    /// Whether it may call the API at all. Members use the network and not the API; what devices and
    /// holders of auth keys may do is the control protocol's, and the server calls nobody.
    pub fn may_use_api(&self) -> bool {
        match self {
            Self::User { role, .. } => role.has(Right::UseApi),
            Self::OAuthClient(_) | Self::FederatedIdentity(_) | Self::Operator => true,
            Self::AuthKey { .. } | Self::Device { .. } | Self::System => false,
        }
    }

    /// How audit events name it. `credential`: what it showed.
    pub fn audit_ref(&self, credential: Option<KeyId>) -> ActorRef {
        match self {
            Self::User { id, login, .. } => ActorRef::User {
                id: *id,
                login: login.clone(),
                credential,
            },
            Self::OAuthClient(client) => ActorRef::OAuthClient {
                id: client.id,
                credential,
            },
            Self::FederatedIdentity(identity) => ActorRef::FederatedIdentity {
                id: identity.id,
                credential,
            },
            Self::AuthKey { id } => ActorRef::AuthKey { id: *id },
            Self::Device { id, name } => ActorRef::Device {
                id: *id,
                name: name.clone(),
            },
            Self::Operator => ActorRef::Operator,
            Self::System => ActorRef::System,
        }
    }
}
