//! How a device joins a tailnet and stays in it: registration, and what lets it in.

use bowline_model::device::HostFacts;
use bowline_model::id::{DeviceId, TailnetId};
use bowline_model::key::{MachineKey, NodeKey};
use bowline_model::record::RawJson;
use bowline_model::requirement::Denied;
use jiff::Timestamp;

use crate::core::failure::StoreFailure;

pub(crate) mod admit;
pub mod register;

/// A request to register.
#[derive(Debug, Clone, PartialEq)]
pub struct Registration {
    /// Machine key that the connection proved.
    pub machine_key: MachineKey,
    /// Node key to register.
    pub node_key: NodeKey,
    /// Node key that it replaces.
    pub old_node_key: Option<NodeKey>,
    /// Tailnet lock key, at most 256 bytes.
    pub lock_key: String,
    /// Auth key, as presented.
    pub auth_key: Option<String>,
    /// Expiry that the client asks for; in the past: log out.
    pub expiry: Option<Timestamp>,
    /// Whether the device is to be ephemeral.
    pub ephemeral: bool,
    /// Capability version.
    pub capability_version: u32,
    /// Host info.
    pub hostinfo: RawJson,
    /// What the server uses of it.
    pub facts: HostFacts,
}

impl From<Denied> for RegistrationRefused {
    /// Of devices and auth keys the control protocol asks nothing but that they are there; of keys
    /// registration says so itself.
    fn from(_: Denied) -> Self {
        Self::DeviceGone
    }
}

/// What became of a registration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Registered {
    /// The device is in.
    In {
        /// Its tailnet.
        tailnet: TailnetId,
        /// The device.
        device: DeviceId,
    },
    /// The device is logged out, as it asked.
    LoggedOut,
    /// The node key has expired: the client makes a new one and tries again.
    KeyExpired,
    /// Somebody must sign in first: there was no auth key.
    NeedsLogin,
}

/// Why a registration was refused. The text is shown to the client's user.
#[derive(Debug, Clone, thiserror::Error)]
pub enum RegistrationRefused {
    /// Another machine registered this node key.
    #[error("node key is registered to another machine")]
    OtherMachine,
    /// No such auth key, or not this secret.
    #[error("invalid auth key: it does not exist here; make a new one")]
    UnknownKey,
    /// The auth key has expired.
    #[error("auth key has expired; make a new one")]
    ExpiredKey,
    /// Somebody revoked the auth key.
    #[error("auth key was revoked; make a new one")]
    RevokedKey,
    /// The one-off key was used by another device or for another login.
    #[error(
        "auth key was already used: it is good for one device only; make a new or a reusable one"
    )]
    UsedKey,
    /// The auth key's owner may not act.
    #[error("the owner of the auth key is suspended or gone")]
    OwnerGone,
    /// The device asked for tags that it may not have.
    #[error("requested tags [{0}] are invalid or not permitted")]
    Tags(String),
    /// Somebody refused the device that waited for its login.
    #[error("the login was refused")]
    LoginRefused,
    /// It tells more of itself than is taken.
    #[error("the device's host info is too large")]
    HostinfoTooLarge,
    /// It asks for tags that were not all read: with some of them it would be another device.
    #[error("the device asks for too many tags: at most 256 of 256 characters")]
    TooManyTags,
    /// The tailnet lock key is longer than any is.
    #[error("the device's tailnet lock key is too long")]
    LockKeyTooLong,
    /// Too many devices wait for their login: on this server, or behind the device's address.
    #[error("too many devices wait for their login; try again later")]
    TooManyLogins,
    /// The device was deleted while its request waited.
    #[error("the device is not known here any more")]
    DeviceGone,
    /// It could not be stored: the client tries again.
    #[error(transparent)]
    Store(#[from] StoreFailure),
}
