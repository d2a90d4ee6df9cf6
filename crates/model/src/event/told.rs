//! What must be told of a record: which of its members grant something, and which event tells each.
//!
//! Every member of every stored record is in one of two lists. A change of one that is [`told`] needs
//! an event that tells it, or the change is refused and nothing is stored; a test fails on a member
//! that is in neither list. So neither a new use case nor a new member can grant something unseen.
//!
//! [`told`]: Told::TOLD

use std::collections::BTreeMap;

use super::Event;
use crate::credential::{Credential, Kind};
use crate::device::Device;
use crate::dns::Dns;
use crate::kind::{ObjectId, Stored};
use crate::policy_file::PolicyFile;
use crate::tailnet::Tailnet;
use crate::user::User;
use crate::webhook::WebhookEndpoint;

/// A member of a record whose change an event must tell.
#[derive(Debug)]
pub struct Member<T> {
    /// Its name in the record's JSON; of a member of a member, `settings.deviceApprovalOn`.
    pub name: &'static str,
    /// Whether the second record grants something else by it than the first.
    pub differs: fn(&T, &T) -> bool,
}

/// A record of which events tell.
pub trait Told: Stored {
    /// Members that grant something, or take it away.
    const TOLD: &'static [Member<Self>];
    /// Members that grant nothing by themselves, each with the reason.
    const UNTOLD: &'static [(&'static str, &'static str)];

    /// Whether its end was told before, so that the record may go without an event.
    fn is_over(&self) -> bool {
        false
    }
}

/// What an event tells of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Telling {
    /// That it is new, and everything in it.
    Created,
    /// That it is gone.
    Removed,
    /// These members, by the names in [`Told::TOLD`].
    Members(&'static [&'static str]),
}

/// A change that no event tells.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{subject} changed without an event that tells it: {what}")]
pub struct Untold {
    /// The record.
    pub subject: ObjectId,
    /// The member, `created` or `removed`.
    pub what: &'static str,
}

/// What the events of one change tell, by record.
#[derive(Debug, Default)]
pub struct Account(BTreeMap<ObjectId, Vec<Telling>>);

impl Account {
    /// Of these events.
    pub fn of<'a>(events: impl IntoIterator<Item = &'a Event>) -> Self {
        let mut account = Self::default();
        for event in events {
            event.tell(&mut |subject, telling| {
                account.0.entry(subject).or_default().push(telling);
            });
        }
        account
    }

    /// Holds the change of a record against the events. Absent: it was not there, or is gone.
    ///
    /// # Errors
    /// With the first thing that no event tells.
    pub fn check<T: Told>(
        &self,
        subject: ObjectId,
        old: Option<&T>,
        new: Option<&T>,
    ) -> Result<(), Untold> {
        let tellings = self.0.get(&subject).map_or(&[][..], Vec::as_slice);
        let untold = |what| Err(Untold { subject, what });
        match (old, new) {
            (None, None) => Ok(()),
            (None, Some(_)) if tellings.contains(&Telling::Created) => Ok(()),
            (None, Some(_)) => untold("created"),
            (Some(_), None) if tellings.contains(&Telling::Removed) => Ok(()),
            (Some(old), None) if old.is_over() => Ok(()),
            (Some(_), None) => untold("removed"),
            (Some(old), Some(new)) => {
                let is_told = |name: &str| {
                    tellings.iter().any(|telling| match telling {
                        Telling::Members(names) => names.contains(&name),
                        Telling::Created => true,
                        Telling::Removed => false,
                    })
                };
                let mut changed = T::TOLD.iter().filter(|member| (member.differs)(old, new));
                match changed.find(|member| !is_told(member.name)) {
                    Some(member) => untold(member.name),
                    None => Ok(()),
                }
            }
        }
    }
}

macro_rules! member {
    ($name:literal, $($field:ident).+) => {
        Member {
            name: $name,
            differs: |old, new| old.$($field).+ != new.$($field).+,
        }
    };
}

impl Told for Tailnet {
    const TOLD: &'static [Member<Self>] = &[
        member!("name", name),
        member!("dnsName", dns_name),
        member!("settings.deviceApprovalOn", settings.device_approval_on),
        member!("settings.usersApprovalOn", settings.users_approval_on),
        member!(
            "settings.devicesKeyDurationDays",
            settings.devices_key_duration_days
        ),
    ];
    const UNTOLD: &'static [(&'static str, &'static str)] =
        &[("id", "never changes"), ("created", "never changes")];
}

impl Told for User {
    const TOLD: &'static [Member<Self>] = &[
        member!("loginName", login_name),
        member!("displayName", display_name),
        member!("role", role),
        member!("status", status),
        member!("needsApproval", needs_approval),
    ];
    const UNTOLD: &'static [(&'static str, &'static str)] =
        &[("id", "never changes"), ("created", "never changes")];
}

impl Told for Device {
    const TOLD: &'static [Member<Self>] = &[
        member!("user", user),
        member!("tags", tags),
        member!("nodeKey", node_key),
        Member {
            name: "name",
            // A name that nobody gave follows what the device reports.
            differs: |old, new| old.name != new.name && (old.name_given || new.name_given),
        },
        member!("ipv4", ipv4),
        member!("ipv6", ipv6),
        member!("keyExpiry", key_expiry),
        member!("keyExpiryDisabled", key_expiry_disabled),
        member!("expired", expired),
        member!("authorized", authorized),
        member!("ephemeral", ephemeral),
        member!("authKey", auth_key),
        member!("registeredBy", registered_by),
        member!("enabledRoutes", enabled_routes),
        member!("attributes", attributes),
        Member {
            name: "refusedTags",
            // That nothing is refused any more follows from the event that settled it.
            differs: |old, new| {
                old.refused_tags != new.refused_tags && !new.refused_tags.is_empty()
            },
        },
    ];
    const UNTOLD: &'static [(&'static str, &'static str)] = &[
        ("id", "never changes"),
        ("machineKey", "never changes"),
        ("created", "never changes"),
        (
            "lockKey",
            "opaque text of the client; tailnet lock is not served",
        ),
        ("nameGiven", "says whether the name follows the host name"),
        ("keyExpiryDisabledForTags", "says who disabled the expiry"),
        ("keyEnded", "says why the key has expired"),
        ("seen", "says what the client has learned"),
        ("replacedKey", "says what the client may not have learned"),
        ("capabilityVersion", "reported"),
        ("hostinfo", "reported"),
        ("facts", "reported; what follows from it has events"),
        ("endedAttributes", "counts for nothing"),
        ("expiryTold", "says what an event told"),
    ];
}

/// A member that a credential has in some of its kinds.
macro_rules! kind_member {
    ($name:literal, $($kind:ident)|+, $field:ident) => {
        Member {
            name: $name,
            differs: |old, new| match (&old.kind, &new.kind) {
                $((Kind::$kind(old), Kind::$kind(new)) => old.$field != new.$field,)+
                // Another kind is told by the type.
                _ => false,
            },
        }
    };
}

impl Told for Credential {
    const TOLD: &'static [Member<Self>] = &[
        Member {
            name: "kind.type",
            differs: |old, new| {
                std::mem::discriminant(&old.kind) != std::mem::discriminant(&new.kind)
            },
        },
        kind_member!("kind.reusable", Auth, reusable),
        kind_member!("kind.ephemeral", Auth, ephemeral),
        kind_member!("kind.preauthorized", Auth, preauthorized),
        kind_member!("kind.tags", Auth | Client | Federated, tags),
        kind_member!("kind.scopes", Client | Federated, scopes),
        kind_member!("kind.issuer", Federated, issuer),
        kind_member!("kind.subject", Federated, subject),
        kind_member!("kind.audience", Federated, audience),
        kind_member!("kind.customClaimRules", Federated, custom_claim_rules),
        kind_member!("kind.maker", Auth, maker),
        kind_member!("kind.used", Auth, used),
        member!("user", user),
        member!("description", description),
        member!("expires", expires),
        Member {
            name: "expired",
            // Of a revoked one nobody is told that its time has come too.
            differs: |old, new| {
                old.expired.is_some() != new.expired.is_some() && new.revoked.is_none()
            },
        },
        member!("revoked", revoked),
    ];
    const UNTOLD: &'static [(&'static str, &'static str)] = &[
        ("id", "never changes"),
        ("hash", "a secret's, and never changes"),
        ("created", "never changes"),
        ("updated", "the event's own time"),
        ("expiryTold", "what the event of it says"),
    ];

    fn is_over(&self) -> bool {
        self.revoked.is_some() || self.expired.is_some()
    }
}

impl Told for Dns {
    const TOLD: &'static [Member<Self>] = &[
        member!("nameservers", nameservers),
        member!("splitDNS", split),
        member!("searchPaths", search_paths),
        member!("magicDNS", magic_dns),
        member!("overrideLocalDNS", override_local_dns),
    ];
    const UNTOLD: &'static [(&'static str, &'static str)] = &[];
}

impl Told for WebhookEndpoint {
    const TOLD: &'static [Member<Self>] = &[
        member!("url", url),
        member!("provider", provider),
        member!("subscriptions", subscriptions),
        member!("hash", hash),
        Member {
            name: "formerUntil",
            // That the former one's time is over follows from that moment.
            differs: |old, new| old.former_until != new.former_until && new.former_until.is_some(),
        },
    ];
    const UNTOLD: &'static [(&'static str, &'static str)] = &[
        ("id", "never changes"),
        ("creator", "never changes"),
        ("created", "never changes"),
        ("updated", "the event's own time"),
    ];
}

impl Told for PolicyFile {
    const TOLD: &'static [Member<Self>] = &[member!("text", text)];
    const UNTOLD: &'static [(&'static str, &'static str)] = &[("updated", "the event's own time")];
}

/// What a login sets of a device.
const LOGIN: Telling = Telling::Members(&[
    "user",
    "tags",
    "nodeKey",
    "keyExpiry",
    "keyExpiryDisabled",
    "expired",
    "authorized",
    "ephemeral",
    "authKey",
    "registeredBy",
]);

/// What can be changed of an OAuth client and a federated identity.
const CHANGED: &[&str] = &[
    "description",
    "kind.scopes",
    "kind.tags",
    "kind.issuer",
    "kind.subject",
    "kind.audience",
    "kind.customClaimRules",
];

impl Event {
    /// Says to `tell` what this event tells of which record.
    pub fn tell(&self, tell: &mut impl FnMut(ObjectId, Telling)) {
        use Telling::{Created, Members, Removed};
        let (device, members): (_, &'static [&'static str]) = match self {
            Self::TailnetCreated { tailnet, .. } => {
                tell(ObjectId::of::<Tailnet>(tailnet.id), Created);
                // These are as in every new tailnet.
                tell(ObjectId::of::<Dns>(tailnet.id), Created);
                return tell(ObjectId::of::<PolicyFile>(tailnet.id), Created);
            }

            Self::UserCreated { user } => return tell(ObjectId::of::<User>(user.id), Created),
            Self::UserRole { user, .. } => {
                return tell(ObjectId::of::<User>(user.id), Members(&["role"]));
            }
            Self::UserApproved { user } => {
                return tell(ObjectId::of::<User>(user.id), Members(&["needsApproval"]));
            }
            Self::UserSuspended { user } | Self::UserRestored { user } => {
                return tell(ObjectId::of::<User>(user.id), Members(&["status"]));
            }
            Self::UserDeleted { user, keys } => {
                tell(ObjectId::of::<User>(user.id), Removed);
                for key in keys {
                    tell(ObjectId::of::<Credential>(*key), Members(&["revoked"]));
                }
                return;
            }
            Self::DeviceCreated { device } | Self::DeviceLoggedIn { new: device, .. } => {
                let is_new = matches!(self, Self::DeviceCreated { .. });
                tell(
                    ObjectId::of::<Device>(device.id),
                    if is_new { Created } else { LOGIN },
                );
                if let Some(key) = device.auth_key {
                    // A one-off key is used up by it.
                    tell(ObjectId::of::<Credential>(key), Members(&["kind.used"]));
                }
                return;
            }
            Self::DeviceDeleted { device } => {
                return tell(ObjectId::of::<Device>(device.id), Removed);
            }
            Self::DeviceName { device, .. } => (device, &["name"]),
            Self::DeviceApproval { device, .. } => (device, &["authorized"]),
            Self::DeviceTags { device, .. } => (device, &["tags"]),
            Self::DeviceTagsRefused { device, .. } => (device, &["refusedTags"]),
            Self::DeviceRoutes { device, .. } | Self::DeviceRoutesApproved { device, .. } => {
                (device, &["enabledRoutes"])
            }
            Self::DeviceAddress { device, .. } => (device, &["ipv4"]),
            // A moment that has passed counts again, or no longer.
            Self::DeviceKeyExpiryDisabled { device, .. } => {
                (device, &["keyExpiryDisabled", "expired"])
            }
            Self::DeviceKeyExpiry { device, .. } | Self::DeviceKeyExpired { device, .. } => {
                (device, &["keyExpiry", "expired"])
            }
            Self::DeviceKeyRestored { device, .. } => (device, &["expired"]),
            Self::DeviceAttribute { device, .. } | Self::DeviceAttributeRestored { device, .. } => {
                (device, &["attributes"])
            }
            Self::CredentialCreated { credential } => {
                return tell(ObjectId::of::<Credential>(credential.id), Created);
            }
            Self::CredentialRevoked { credential, .. } => {
                return tell(
                    ObjectId::of::<Credential>(credential.id),
                    Members(&["revoked"]),
                );
            }
            Self::CredentialChanged { new, .. } => {
                return tell(ObjectId::of::<Credential>(new.id), Members(CHANGED));
            }
            Self::CredentialExpired { credential, .. }
            | Self::CredentialRestored { credential, .. } => {
                return tell(
                    ObjectId::of::<Credential>(credential.id),
                    Members(&["expired"]),
                );
            }
            Self::WebhookCreated { endpoint } => {
                return tell(ObjectId::of::<WebhookEndpoint>(endpoint.id), Created);
            }
            Self::WebhookDeleted { endpoint } => {
                return tell(ObjectId::of::<WebhookEndpoint>(endpoint.id), Removed);
            }
            Self::WebhookSubscriptions { endpoint, .. } => {
                let endpoint = ObjectId::of::<WebhookEndpoint>(endpoint.id);
                return tell(endpoint, Members(&["subscriptions"]));
            }
            Self::WebhookSecret { endpoint, .. } => {
                let endpoint = ObjectId::of::<WebhookEndpoint>(endpoint.id);
                return tell(endpoint, Members(&["hash", "formerUntil"]));
            }
            Self::DnsConfig { tailnet, .. } => {
                let all = &[
                    "nameservers",
                    "splitDNS",
                    "searchPaths",
                    "magicDNS",
                    "overrideLocalDNS",
                ];
                return tell(ObjectId::of::<Dns>(tailnet.id), Members(all));
            }
            Self::MagicDns { tailnet, .. } => {
                return tell(ObjectId::of::<Dns>(tailnet.id), Members(&["magicDNS"]));
            }
            Self::ApprovalOfDevices { tailnet, .. } => {
                return tell(
                    ObjectId::of::<Tailnet>(tailnet.id),
                    Members(&["settings.deviceApprovalOn"]),
                );
            }
            Self::ApprovalOfUsers { tailnet, .. } => {
                return tell(
                    ObjectId::of::<Tailnet>(tailnet.id),
                    Members(&["settings.usersApprovalOn"]),
                );
            }
            Self::KeyDuration { tailnet, .. } => {
                let days = &["settings.devicesKeyDurationDays"];
                return tell(ObjectId::of::<Tailnet>(tailnet.id), Members(days));
            }
            Self::PolicyFile { tailnet, .. } => {
                return tell(ObjectId::of::<PolicyFile>(tailnet.id), Members(&["text"]));
            }
            // Nothing that could be compared changes by these: access tokens are in no state.
            Self::AccessTokenIssued { .. }
            | Self::AccessTokenRevoked { .. }
            | Self::DeviceLoggedOut { .. }
            | Self::DeviceKeyExpiring { .. }
            | Self::CredentialExpiring { .. }
            | Self::DeviceForwardingOff { .. }
            | Self::WebhookReplayed { .. }
            | Self::SshSessionDecided { .. }
            | Self::LoginRefused { .. }
            | Self::ClockConfirmed { .. }
            | Self::RequestRefused { .. } => return,
        };
        tell(ObjectId::of::<Device>(device.id), Members(members));
    }
}
