//! Events: what a change changed, with the old and new values in their own types.
//!
//! A use case says what it did by one [`Event`] for each thing that it changed; everything that
//! somebody is told of a change follows from that, here and nowhere else:
//!
//! - the audit row: [`Event::row`];
//! - the names that filters of the audit log use: [`Name`], the one table of them;
//! - the webhook events: [`Event::webhooks`].
//!
//! Which node keys stop being good does not follow from events but from the records, see
//! [`Device::revoked_by`]: a change that another process made arrives as rows without events, and a
//! key must end whatever was said about it. That nothing ends unsaid is held by [`told`]: a record
//! cannot be stored unless its events tell every member that changed and grants something.
//!
//! ```
//! use bowline_model::event::{DeviceRef, Event};
//! # use bowline_model::id::DeviceId;
//! let device = DeviceRef { id: DeviceId::MIN, name: "printer".to_owned(), ephemeral: false };
//! let event = Event::DeviceApproval { device, old: false, new: true };
//! assert_eq!(event.name().to_string(), "NODE.APPROVE");
//! ```

mod name;
pub mod told;
mod value;
mod webhook;

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use ipnet::IpNet;
use jiff::Timestamp;

use crate::access_token::AccessToken;
use crate::address::is_exit_route;
use crate::audit::Target;
use crate::credential::{Credential, Kind};
use crate::device::{Attribute, Device};
use crate::dns::Dns;
use crate::id::{DeviceId, KeyId, TailnetId, UserId, WebhookId};
use crate::key::NodeKey;
use crate::policy_file::PolicyRef;
use crate::tag::Tag;
use crate::tailnet::Tailnet;
use crate::user::{Role, User};
use crate::webhook::{Subscription, WebhookEndpoint};

pub use name::Name;
pub use webhook::WebhookEvent;

/// A device, as an event names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceRef {
    /// Its id.
    pub id: DeviceId,
    /// Its name at that time.
    pub name: String,
    /// Whether it is ephemeral.
    pub ephemeral: bool,
}

impl DeviceRef {
    /// The device of a record.
    pub fn of(device: &Device) -> Self {
        Self {
            id: device.id,
            name: device.name.clone(),
            ephemeral: device.ephemeral,
        }
    }
}

/// A credential, as an event names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CredentialRef {
    /// Its id.
    pub id: KeyId,
    /// What audit events call its kind.
    pub name: &'static str,
}

impl CredentialRef {
    /// The credential of a record.
    pub const fn of(credential: &Credential) -> Self {
        let name = match credential.kind {
            Kind::Auth(_) => "Auth key",
            Kind::Api => "API access token",
            Kind::Client(_) => "OAuth client",
            Kind::Federated(_) => "Federated identity",
            Kind::Scim => "SCIM key",
        };
        Self {
            id: credential.id,
            name,
        }
    }
}

/// A user, as an event names them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserRef {
    /// Their id.
    pub id: UserId,
    /// Their login name at that time.
    pub login_name: String,
}

impl UserRef {
    /// The user of a record.
    pub fn of(user: &User) -> Self {
        Self {
            id: user.id,
            login_name: user.login_name.clone(),
        }
    }
}

/// A tailnet, as an event names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TailnetRef {
    /// Its id.
    pub id: TailnetId,
    /// Its organisation name at that time.
    pub name: String,
}

impl TailnetRef {
    /// The tailnet of a record.
    pub fn of(tailnet: &Tailnet) -> Self {
        Self {
            id: tailnet.id,
            name: tailnet.name.clone(),
        }
    }
}

/// A webhook endpoint, as an event names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebhookRef {
    /// Its id.
    pub id: WebhookId,
    /// Its URL.
    pub url: String,
}

impl WebhookRef {
    /// The endpoint of a record.
    pub fn of(endpoint: &WebhookEndpoint) -> Self {
        Self {
            id: endpoint.id,
            url: endpoint.url.clone(),
        }
    }
}

/// Why the moment at which a node key expires was set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyExpirySet {
    /// The device asked for an earlier moment.
    Shortened,
    /// An administrator ended the key.
    Ended,
    /// The device logged out.
    LoggedOut,
}

/// An SSH session that waited for somebody's word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SshSessionRef {
    /// Where it comes from.
    pub source: DeviceRef,
    /// The user of the source, if any.
    pub user: Option<UserId>,
    /// Who let the source in; absent: the operator.
    pub registered_by: Option<UserId>,
    /// Tags of the source.
    pub tags: BTreeSet<Tag>,
    /// The local user that it logs in as.
    pub ssh_user: String,
}

/// Something that happened, with what it changed. `old` and `new` are the values before and after.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A tailnet was made.
    TailnetCreated {
        /// Its record.
        tailnet: Box<Tailnet>,
        /// Login name of its owner.
        owner: String,
    },
    /// A user was made.
    UserCreated {
        /// Their record.
        user: Box<User>,
    },
    /// A user has another role.
    UserRole {
        /// The user.
        user: UserRef,
        /// Role before.
        old: Role,
        /// Role since.
        new: Role,
    },
    /// A user who waited for it was approved.
    UserApproved {
        /// The user.
        user: UserRef,
    },
    /// A user was suspended: what they have stays, and is good for nothing until they are restored.
    UserSuspended {
        /// The user.
        user: UserRef,
    },
    /// A user who was suspended may act again.
    UserRestored {
        /// The user.
        user: UserRef,
    },
    /// A user was deleted. That their devices were is an event of each; that their keys and tokens
    /// were revoked is told by this one, as in the official log.
    UserDeleted {
        /// Their last record.
        user: Box<User>,
        /// Their auth keys and API access tokens, which are revoked by it.
        keys: Vec<KeyId>,
    },
    /// A device came in.
    DeviceCreated {
        /// Its record.
        device: Box<Device>,
    },
    /// A device that was there logged in again.
    DeviceLoggedIn {
        /// Its record before.
        old: Box<Device>,
        /// Its record since.
        new: Box<Device>,
    },
    /// A device logged itself out. How its key ended is an event of its own.
    DeviceLoggedOut {
        /// The device.
        device: DeviceRef,
    },
    /// A device was deleted.
    DeviceDeleted {
        /// Its last record.
        device: Box<Device>,
    },
    /// A device was given a name.
    DeviceName {
        /// The device, by its old name.
        device: DeviceRef,
        /// First label before.
        old: String,
        /// First label since.
        new: String,
    },
    /// A device was approved, or its approval was taken away.
    DeviceApproval {
        /// The device.
        device: DeviceRef,
        /// Whether it was approved.
        old: bool,
        /// Whether it is.
        new: bool,
    },
    /// A device has other tags.
    DeviceTags {
        /// The device.
        device: DeviceRef,
        /// Tags before.
        old: BTreeSet<Tag>,
        /// Tags since.
        new: BTreeSet<Tag>,
    },
    /// A device asks for tags that it may not have, or no longer does.
    DeviceTagsRefused {
        /// The device.
        device: DeviceRef,
        /// What was refused before, as the device spells it.
        old: Vec<String>,
        /// What is refused.
        new: Vec<String>,
    },
    /// Somebody set the routes that a device may serve.
    DeviceRoutes {
        /// The device.
        device: DeviceRef,
        /// Enabled routes before.
        old: Vec<IpNet>,
        /// Enabled routes since.
        new: Vec<IpNet>,
    },
    /// The policy approved routes that a device advertises.
    DeviceRoutesApproved {
        /// The device.
        device: DeviceRef,
        /// Enabled routes before.
        old: Vec<IpNet>,
        /// Enabled routes since.
        new: Vec<IpNet>,
    },
    /// A device has another IPv4 address.
    DeviceAddress {
        /// The device.
        device: DeviceRef,
        /// Address before.
        old: Ipv4Addr,
        /// Address since.
        new: Ipv4Addr,
    },
    /// The expiry of a device's node key was disabled or enabled.
    DeviceKeyExpiryDisabled {
        /// The device.
        device: DeviceRef,
        /// Whether it was disabled.
        old: bool,
        /// Whether it is.
        new: bool,
    },
    /// The moment at which a device's node key expires was set.
    DeviceKeyExpiry {
        /// The device.
        device: DeviceRef,
        /// Moment before.
        old: Option<Timestamp>,
        /// Moment since.
        new: Option<Timestamp>,
        /// Why.
        why: KeyExpirySet,
    },
    /// A node key expired: its moment came, or the server ended it.
    DeviceKeyExpired {
        /// The device.
        device: DeviceRef,
        /// The moment that it had, where this is another one.
        old: Option<Timestamp>,
        /// The moment of its expiry.
        new: Option<Timestamp>,
    },
    /// A node key that had expired is good again: the clock that showed a later time was wrong.
    DeviceKeyRestored {
        /// The device.
        device: DeviceRef,
        /// When it expires.
        expires: Option<Timestamp>,
    },
    /// A node key expires within a day.
    DeviceKeyExpiring {
        /// The device.
        device: DeviceRef,
        /// When it expires.
        expires: Option<Timestamp>,
    },
    /// A device says that its system does not forward IP packets, so that routes which it advertises
    /// do not work.
    DeviceForwardingOff {
        /// The device.
        device: DeviceRef,
        /// The routes that it advertises.
        routes: Vec<IpNet>,
    },
    /// A custom posture attribute of a device was set, changed, deleted, or ended.
    DeviceAttribute {
        /// The device.
        device: DeviceRef,
        /// Its key (`custom:…`).
        key: String,
        /// Before; absent: there was none.
        old: Option<Attribute>,
        /// Since; absent: there is none.
        new: Option<Attribute>,
        /// What the caller wrote about it.
        comment: Option<String>,
    },
    /// An attribute that had ended counts again: the clock that showed a later time was wrong.
    DeviceAttributeRestored {
        /// The device.
        device: DeviceRef,
        /// Its key (`custom:…`).
        key: String,
        /// The attribute.
        new: Attribute,
    },
    /// Somebody confirmed an SSH session, or refused it.
    SshSessionDecided {
        /// The device that it goes to.
        device: DeviceRef,
        /// The session.
        session: Box<SshSessionRef>,
        /// Whether it was confirmed.
        accepted: bool,
    },
    /// Somebody refused a device that waited for its login.
    LoginRefused {
        /// Code of the login.
        code: String,
        /// Host name that the device told.
        hostname: String,
        /// Node key that it wanted to register.
        node_key: NodeKey,
    },
    /// An auth key, API access token, OAuth client, federated identity or SCIM key was made.
    CredentialCreated {
        /// Its record.
        credential: Box<Credential>,
    },
    /// A credential was revoked.
    CredentialRevoked {
        /// The credential.
        credential: CredentialRef,
        /// When.
        at: Timestamp,
    },
    /// An OAuth client or a federated identity was given other scopes, tags or rules.
    CredentialChanged {
        /// Its record before.
        old: Box<Credential>,
        /// Its record since.
        new: Box<Credential>,
    },
    /// An access token was made from an OAuth client or a federated identity.
    AccessTokenIssued {
        /// Its record.
        token: Box<AccessToken>,
    },
    /// An access token was revoked by itself. When what it was made from is revoked, that event alone
    /// says so.
    AccessTokenRevoked {
        /// Its id.
        id: KeyId,
        /// When.
        at: Timestamp,
    },
    /// A credential is about to expire: whoever needs it makes another one. Told once for each moment of
    /// expiry.
    CredentialExpiring {
        /// The credential.
        credential: CredentialRef,
        /// When it expires.
        expires: Option<Timestamp>,
    },
    /// The last moment of a credential has come.
    CredentialExpired {
        /// The credential.
        credential: CredentialRef,
        /// That moment.
        expires: Option<Timestamp>,
    },
    /// A credential that had expired is good again: the clock that showed a later time was wrong.
    CredentialRestored {
        /// The credential.
        credential: CredentialRef,
        /// When it expires.
        expires: Option<Timestamp>,
    },
    /// The DNS settings are others.
    DnsConfig {
        /// The tailnet.
        tailnet: TailnetRef,
        /// Before.
        old: Box<Dns>,
        /// Since.
        new: Box<Dns>,
    },
    /// `MagicDNS` was turned on or off. Beside [`Self::DnsConfig`], as in the official log.
    MagicDns {
        /// The tailnet.
        tailnet: TailnetRef,
        /// Whether it was on.
        old: bool,
        /// Whether it is.
        new: bool,
    },
    /// Whether new devices wait for approval was set.
    ApprovalOfDevices {
        /// The tailnet.
        tailnet: TailnetRef,
        /// Whether they did.
        old: bool,
        /// Whether they do.
        new: bool,
    },
    /// Whether new users wait for approval was set.
    ApprovalOfUsers {
        /// The tailnet.
        tailnet: TailnetRef,
        /// Whether they did.
        old: bool,
        /// Whether they do.
        new: bool,
    },
    /// For how long the key of a device that logs in is good was set.
    KeyDuration {
        /// The tailnet.
        tailnet: TailnetRef,
        /// Days before.
        old: u32,
        /// Days since.
        new: u32,
    },
    /// Another policy file is in force.
    PolicyFile {
        /// The tailnet.
        tailnet: TailnetRef,
        /// The version before.
        old: PolicyRef,
        /// The version since.
        new: PolicyRef,
    },
    /// A webhook endpoint was made.
    WebhookCreated {
        /// Its record.
        endpoint: Box<WebhookEndpoint>,
    },
    /// A webhook endpoint subscribed to other events.
    WebhookSubscriptions {
        /// The endpoint.
        endpoint: WebhookRef,
        /// Before.
        old: BTreeSet<Subscription>,
        /// Since.
        new: BTreeSet<Subscription>,
    },
    /// A webhook endpoint has another secret.
    WebhookSecret {
        /// The endpoint.
        endpoint: WebhookRef,
        /// Until when requests are signed with the former one too.
        former_until: Option<Timestamp>,
    },
    /// A webhook endpoint was deleted.
    WebhookDeleted {
        /// Its last record.
        endpoint: Box<WebhookEndpoint>,
    },
    /// Events that a webhook endpoint was not told are to be told again.
    WebhookReplayed {
        /// The endpoint.
        endpoint: WebhookRef,
        /// How many.
        events: u64,
    },
    /// The operator said that the server's clock is right.
    ClockConfirmed {
        /// The tailnet whose log says so; each has the event.
        tailnet: TailnetRef,
        /// The time that the server went by.
        old: Timestamp,
        /// The time that the clock showed.
        new: Timestamp,
    },
    /// Somebody was refused a change for lack of permission.
    RequestRefused {
        /// The operation's name in the API document.
        operation: String,
        /// What was asked: verb and path.
        request: String,
        /// What was answered.
        error: String,
        /// How many of the caller's refusals since the last event had none.
        unnoted: u64,
    },
}

/// What audit events call an access token that was made from another credential.
const ACCESS_TOKEN: &str = "OAuth access token";
/// What an event of a clock that was wrong says beside its values.
const CLOCK_WAS_WRONG: &str = "the clock that showed a later time was wrong";

impl Event {
    /// Its name in the audit log.
    pub const fn name(&self) -> Name {
        match self {
            Self::TailnetCreated { .. } => Name::TailnetCreate,
            Self::UserCreated { .. } => Name::UserCreate,
            Self::UserRole { .. } => Name::UserUpdateUserRole,
            Self::UserApproved { .. } => Name::UserApprove,
            Self::UserSuspended { .. } => Name::UserSuspend,
            Self::UserRestored { .. } => Name::UserRestore,
            Self::UserDeleted { .. } => Name::UserDelete,
            Self::DeviceCreated { .. } => Name::NodeCreate,
            Self::DeviceLoggedIn { .. } => Name::NodeLogin,
            Self::DeviceLoggedOut { .. } => Name::NodeLogout,
            Self::DeviceDeleted { .. } => Name::NodeDelete,
            Self::DeviceName { .. } => Name::NodeUpdateMachineName,
            Self::DeviceApproval { new: true, .. } => Name::NodeApprove,
            Self::DeviceApproval { new: false, .. } => Name::NodeRevoke,
            Self::DeviceTags { .. } => Name::NodeUpdateAclTags,
            Self::DeviceTagsRefused { .. } => Name::NodeDenyAclTags,
            Self::DeviceRoutes { .. } | Self::DeviceAddress { .. } => Name::NodeUpdateAllowedIps,
            Self::DeviceRoutesApproved { .. } => Name::NodeUpdateAutoApprovedRoutes,
            Self::DeviceKeyExpiryDisabled { new: true, .. } => Name::NodeDisableKeyExpiry,
            Self::DeviceKeyExpiryDisabled { new: false, .. } => Name::NodeEnableKeyExpiry,
            Self::DeviceKeyExpiry { .. } => Name::NodeUpdateKeyExpiryTime,
            Self::DeviceKeyExpired { .. } => Name::NodeExpiredKeyExpiryTime,
            Self::DeviceKeyRestored { .. } => Name::NodeRestoredKeyExpiryTime,
            Self::DeviceKeyExpiring { .. } => Name::NodeExpiringKeyExpiryTime,
            Self::DeviceForwardingOff { .. } => Name::NodeWarnIpForwarding,
            Self::WebhookCreated { .. } => Name::WebhookEndpointCreate,
            Self::WebhookSubscriptions { .. } => Name::WebhookEndpointUpdateSubscribedEvents,
            Self::WebhookSecret { .. } => Name::WebhookEndpointUpdateSecret,
            Self::WebhookDeleted { .. } => Name::WebhookEndpointDelete,
            Self::WebhookReplayed { .. } => Name::WebhookEndpointReplay,
            Self::DeviceAttribute { new: None, .. } => Name::NodeDeleteAttributes,
            Self::DeviceAttribute { old: None, .. } => Name::NodeCreateAttributes,
            Self::DeviceAttribute { .. } => Name::NodeUpdateAttributes,
            Self::DeviceAttributeRestored { .. } => Name::NodeRestoredAttributes,
            Self::SshSessionDecided { accepted: true, .. } => Name::NodeApproveSshSession,
            Self::SshSessionDecided {
                accepted: false, ..
            } => Name::NodeDenySshSession,
            Self::LoginRefused { .. } => Name::LoginDeny,
            Self::CredentialCreated { .. } => Name::ApiKeyCreate,
            Self::CredentialRevoked { .. } => Name::ApiKeyRevoke,
            Self::CredentialChanged { .. } => Name::ApiKeyUpdate,
            Self::AccessTokenIssued { .. } => Name::OauthAccessTokenCreate,
            Self::AccessTokenRevoked { .. } => Name::OauthAccessTokenRevoke,
            Self::CredentialExpiring { .. } => Name::ApiKeyExpiring,
            Self::CredentialExpired { .. } => Name::ApiKeyExpired,
            Self::CredentialRestored { .. } => Name::ApiKeyRestored,
            Self::DnsConfig { .. } => Name::TailnetUpdateDnsConfig,
            Self::MagicDns { new: true, .. } => Name::TailnetEnableMagicDns,
            Self::MagicDns { new: false, .. } => Name::TailnetDisableMagicDns,
            Self::ApprovalOfDevices { new: true, .. } => Name::TailnetEnableMachineApprovalNeeded,
            Self::ApprovalOfDevices { new: false, .. } => Name::TailnetDisableMachineApprovalNeeded,
            Self::ApprovalOfUsers { new: true, .. } => Name::TailnetEnableUserApprovalRequired,
            Self::ApprovalOfUsers { new: false, .. } => Name::TailnetDisableUserApprovalRequired,
            Self::KeyDuration { .. } => Name::TailnetUpdateMaxKeyDuration,
            Self::PolicyFile { .. } => Name::TailnetUpdateAcl,
            Self::ClockConfirmed { .. } => Name::TailnetConfirmClock,
            Self::RequestRefused { .. } => Name::FailedRequestUpdate,
        }
    }

    /// What it is about, as the audit log says it.
    pub fn target(&self) -> Target {
        let (id, name, is_ephemeral) = match self {
            Self::TailnetCreated { tailnet, .. } => {
                (tailnet.id.stable(), tailnet.name.clone(), None)
            }
            Self::DnsConfig { tailnet, .. }
            | Self::MagicDns { tailnet, .. }
            | Self::ApprovalOfDevices { tailnet, .. }
            | Self::ApprovalOfUsers { tailnet, .. }
            | Self::KeyDuration { tailnet, .. }
            | Self::PolicyFile { tailnet, .. }
            | Self::ClockConfirmed { tailnet, .. } => {
                (tailnet.id.stable(), tailnet.name.clone(), None)
            }
            Self::UserCreated { user } | Self::UserDeleted { user, .. } => {
                (user.id.stable(), user.login_name.clone(), None)
            }
            Self::UserRole { user, .. }
            | Self::UserApproved { user }
            | Self::UserSuspended { user }
            | Self::UserRestored { user } => (user.id.stable(), user.login_name.clone(), None),
            Self::DeviceCreated { device }
            | Self::DeviceLoggedIn { new: device, .. }
            | Self::DeviceDeleted { device } => (
                device.id.stable(),
                device.name.clone(),
                Some(device.ephemeral),
            ),
            Self::DeviceLoggedOut { device }
            | Self::DeviceName { device, .. }
            | Self::DeviceApproval { device, .. }
            | Self::DeviceTags { device, .. }
            | Self::DeviceTagsRefused { device, .. }
            | Self::DeviceRoutes { device, .. }
            | Self::DeviceRoutesApproved { device, .. }
            | Self::DeviceAddress { device, .. }
            | Self::DeviceKeyExpiryDisabled { device, .. }
            | Self::DeviceKeyExpiry { device, .. }
            | Self::DeviceKeyExpired { device, .. }
            | Self::DeviceKeyRestored { device, .. }
            | Self::DeviceKeyExpiring { device, .. }
            | Self::DeviceForwardingOff { device, .. }
            | Self::DeviceAttribute { device, .. }
            | Self::DeviceAttributeRestored { device, .. }
            | Self::SshSessionDecided { device, .. } => (
                device.id.stable(),
                device.name.clone(),
                Some(device.ephemeral),
            ),
            Self::LoginRefused { code, hostname, .. } => (code.clone(), hostname.clone(), None),
            Self::AccessTokenIssued { token } => (token.id.stable(), ACCESS_TOKEN.to_owned(), None),
            Self::AccessTokenRevoked { id, .. } => (id.stable(), ACCESS_TOKEN.to_owned(), None),
            Self::CredentialCreated { credential }
            | Self::CredentialChanged {
                new: credential, ..
            } => {
                let credential = CredentialRef::of(credential);
                (credential.id.stable(), credential.name.to_owned(), None)
            }
            Self::CredentialRevoked { credential, .. }
            | Self::CredentialExpiring { credential, .. }
            | Self::CredentialExpired { credential, .. }
            | Self::CredentialRestored { credential, .. } => {
                (credential.id.stable(), credential.name.to_owned(), None)
            }
            Self::WebhookCreated { endpoint } | Self::WebhookDeleted { endpoint } => {
                (endpoint.id.stable(), endpoint.url.clone(), None)
            }
            Self::WebhookSubscriptions { endpoint, .. }
            | Self::WebhookSecret { endpoint, .. }
            | Self::WebhookReplayed { endpoint, .. } => {
                (endpoint.id.stable(), endpoint.url.clone(), None)
            }
            Self::RequestRefused {
                operation, request, ..
            } => (operation.clone(), request.clone(), None),
        };
        let kind = self.name();
        Target {
            id,
            name,
            kind: kind.target().to_owned(),
            property: kind.property().map(str::to_owned),
            is_ephemeral,
        }
    }

    /// What the caller, or the server, says about it beside its values.
    pub fn details(&self) -> Option<String> {
        match self {
            Self::DeviceAttribute { comment, .. } => comment.clone(),
            // In the words of the official log.
            Self::AccessTokenIssued { token } => Some(format!("scopes - {}", token.scopes)),
            Self::DeviceKeyRestored { .. }
            | Self::DeviceAttributeRestored { .. }
            | Self::CredentialRestored { .. } => Some(CLOCK_WAS_WRONG.to_owned()),
            Self::RequestRefused { unnoted, .. } if *unnoted > 0 => {
                Some(format!("{unnoted} more were refused before this one"))
            }
            _ => None,
        }
    }

    /// Why it was not done. `None`: it was.
    pub fn error(&self) -> Option<String> {
        match self {
            Self::RequestRefused { error, .. } => Some(error.clone()),
            _ => None,
        }
    }

    /// The webhook events that it is told by.
    ///
    /// Source: `docs/protocol/api-behaviour.md`, section 6.2.
    pub fn webhooks(&self) -> &'static [WebhookEvent] {
        match self {
            Self::UserCreated { user } if user.needs_approval => {
                &[WebhookEvent::UserCreated, WebhookEvent::UserNeedsApproval]
            }
            Self::UserCreated { .. } => &[WebhookEvent::UserCreated],
            Self::UserRole { .. } => &[WebhookEvent::UserRoleUpdated],
            Self::UserApproved { .. } => &[WebhookEvent::UserApproved],
            Self::UserSuspended { .. } => &[WebhookEvent::UserSuspended],
            Self::UserRestored { .. } => &[WebhookEvent::UserRestored],
            Self::UserDeleted { .. } => &[WebhookEvent::UserDeleted],
            Self::DeviceCreated { device } if device.authorized => &[WebhookEvent::NodeCreated],
            Self::DeviceCreated { .. } => {
                &[WebhookEvent::NodeCreated, WebhookEvent::NodeNeedsApproval]
            }
            Self::DeviceApproval { new: true, .. } => &[WebhookEvent::NodeApproved],
            Self::DeviceDeleted { .. } => &[WebhookEvent::NodeDeleted],
            Self::DeviceKeyExpired { .. }
            | Self::DeviceKeyExpiry {
                why: KeyExpirySet::Ended,
                ..
            } => &[WebhookEvent::NodeKeyExpired],
            Self::DeviceKeyExpiring { .. } => &[WebhookEvent::NodeKeyExpiringInOneDay],
            Self::DeviceForwardingOff { routes, .. } => {
                let exit = routes.iter().any(is_exit_route);
                match (exit, routes.iter().any(|route| !is_exit_route(route))) {
                    (true, true) => &[
                        WebhookEvent::SubnetIpForwardingNotEnabled,
                        WebhookEvent::ExitNodeIpForwardingNotEnabled,
                    ],
                    (true, false) => &[WebhookEvent::ExitNodeIpForwardingNotEnabled],
                    (false, true) => &[WebhookEvent::SubnetIpForwardingNotEnabled],
                    (false, false) => &[],
                }
            }
            Self::WebhookSubscriptions { .. } | Self::WebhookSecret { .. } => {
                &[WebhookEvent::WebhookUpdated]
            }
            Self::WebhookDeleted { .. } => &[WebhookEvent::WebhookDeleted],
            Self::PolicyFile { .. } => &[WebhookEvent::PolicyUpdate],
            _ => &[],
        }
    }
}

#[cfg(test)]
mod tests;
