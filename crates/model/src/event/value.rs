//! Old and new values of events, as JSON. Never a secret.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::Event;
use crate::audit::{ActorRef, AuditEvent, EventGroup};
use crate::credential::{Credential, Kind};
use crate::device::{Attribute, Device};
use crate::id::{KeyId, UserId};
use crate::tailnet::Tailnet;
use crate::user::{Status, User};
use crate::webhook::WebhookEndpoint;

/// What a device may do, and by whose word.
fn device(device: &Device) -> Value {
    json!({
        "addresses": device.addresses(),
        "nodeKey": device.node_key,
        "expires": device.key_expiry,
        "keyExpiryDisabled": device.key_expiry_disabled,
        "expired": device.expired,
        "ephemeral": device.ephemeral,
        "authorized": device.authorized,
        "user": device.user.map(UserId::stable),
        "maker": device.registered_by.map(UserId::stable),
        "authKey": device.auth_key.map(KeyId::stable),
        "tags": device.tags,
    })
}

/// What a credential is good for, and for whom.
fn credential(credential: &Credential) -> Value {
    let mut told = json!({
        "type": credential.kind.name(),
        "user": credential.user.map(UserId::stable),
        "expires": credential.expires,
        "description": credential.description,
    });
    match &credential.kind {
        Kind::Auth(key) => {
            told["maker"] = json!(key.maker.map(UserId::stable));
            told["reusable"] = json!(key.reusable);
            told["ephemeral"] = json!(key.ephemeral);
            told["preauthorized"] = json!(key.preauthorized);
            told["authTags"] = json!(key.tags);
        }
        Kind::Api | Kind::Scim => {}
        Kind::Client(client) => {
            told["scopes"] = json!(client.scopes);
            told["tags"] = json!(client.tags);
        }
        Kind::Federated(identity) => {
            told["scopes"] = json!(identity.scopes);
            told["tags"] = json!(identity.tags);
            told["issuer"] = json!(identity.issuer);
            told["subject"] = json!(identity.subject);
            told["audience"] = json!(identity.audience);
            told["customClaimRules"] = json!(identity.custom_claim_rules);
        }
    }
    told
}

fn user(user: &User) -> Value {
    json!({
        "loginName": user.login_name,
        "displayName": user.display_name,
        "role": user.role,
        "status": user.status,
        "needsApproval": user.needs_approval,
    })
}

fn webhook(endpoint: &WebhookEndpoint) -> Value {
    json!({
        "endpointUrl": endpoint.url,
        "providerType": endpoint.provider,
        "subscriptions": endpoint.subscriptions,
        "creator": endpoint.creator,
    })
}

fn tailnet(tailnet: &Tailnet, owner: &str) -> Value {
    json!({
        "name": tailnet.name,
        "dnsName": tailnet.dns_name,
        "settings": tailnet.settings,
        "owner": owner,
    })
}

/// `{"custom:key": …}`
fn attribute(key: &str, attribute: Option<&Attribute>) -> Value {
    json!({ key: attribute })
}

impl Event {
    /// The row of the audit log: `actor` did it at that time, in a request with this group.
    pub fn row(&self, at: Timestamp, actor: &ActorRef, group: EventGroup) -> AuditEvent {
        let (old, new) = self.values();
        AuditEvent {
            at,
            origin: actor.origin(),
            event_group_id: group,
            actor: actor.clone(),
            action: self.name().action().to_owned(),
            target: self.target(),
            old,
            new,
            details: self.details(),
            error: self.error(),
        }
    }

    /// The values before and after, as the audit log has them; `null` where there is none.
    pub fn values(&self) -> (Value, Value) {
        let none = Value::Null;
        match self {
            Self::TailnetCreated {
                tailnet: new,
                owner,
            } => (none, tailnet(new, owner)),
            Self::UserCreated { user: new } => (none, user(new)),
            Self::UserRole { old, new, .. } => (json!(old), json!(new)),
            Self::UserApproved { .. } => (json!("needs-approval"), json!("approved")),
            Self::UserSuspended { .. } => (json!(Status::Active), json!(Status::Suspended)),
            Self::UserRestored { .. } => (json!(Status::Suspended), json!(Status::Active)),
            Self::UserDeleted { user: old, keys } => {
                let mut told = user(old);
                told["revokedKeys"] = keys.iter().map(|key| key.stable()).collect();
                (told, none)
            }
            Self::DeviceCreated { device: new } => (none, device(new)),
            Self::DeviceLoggedIn { old, new } => (device(old), device(new)),
            Self::DeviceDeleted { device: old } => (device(old), none),
            Self::DeviceName { old, new, .. } => (json!(old), json!(new)),
            Self::DeviceTags { old, new, .. } => (json!(old), json!(new)),
            Self::DeviceTagsRefused { old, new, .. } => (json!(old), json!(new)),
            Self::DeviceRoutes { old, new, .. } | Self::DeviceRoutesApproved { old, new, .. } => {
                (json!(old), json!(new))
            }
            Self::DeviceAddress { old, new, .. } => (json!(old), json!(new)),
            Self::DeviceApproval { old, new, .. }
            | Self::DeviceKeyExpiryDisabled { old, new, .. }
            | Self::MagicDns { old, new, .. }
            | Self::ApprovalOfDevices { old, new, .. }
            | Self::ApprovalOfUsers { old, new, .. } => (json!(old), json!(new)),
            Self::DeviceKeyExpiry { old, new, .. } | Self::DeviceKeyExpired { old, new, .. } => {
                (json!(old), json!(new))
            }
            Self::DeviceKeyRestored { expires, .. } => (none, json!(expires)),
            Self::DeviceAttribute {
                key,
                old,
                new: None,
                ..
            } => (attribute(key, old.as_ref()), none),
            Self::DeviceAttribute { key, old, new, .. } => {
                (attribute(key, old.as_ref()), attribute(key, new.as_ref()))
            }
            Self::DeviceAttributeRestored { key, new, .. } => (none, attribute(key, Some(new))),
            Self::SshSessionDecided { session, .. } => {
                let new = json!({
                    "source": session.source.id.stable(),
                    "sourceName": session.source.name,
                    "user": session.user.map(UserId::stable),
                    "maker": session.registered_by.map(UserId::stable),
                    "tags": session.tags,
                    "sshUser": session.ssh_user,
                });
                (none, new)
            }
            Self::LoginRefused { node_key, .. } => (none, json!({"nodeKey": node_key})),
            Self::CredentialCreated { credential: new } => (none, credential(new)),
            Self::CredentialChanged { old, new } => (credential(old), credential(new)),
            Self::AccessTokenIssued { token } => {
                let new = json!({
                    "parent": token.parent.stable(),
                    "scopes": token.scopes,
                    "tags": token.tags,
                    "expires": token.expires,
                });
                (none, new)
            }
            Self::CredentialRevoked { at, .. } | Self::AccessTokenRevoked { at, .. } => {
                (none, json!({"revoked": at}))
            }
            Self::CredentialExpired { expires, .. }
            | Self::CredentialRestored { expires, .. }
            | Self::CredentialExpiring { expires, .. }
            | Self::DeviceKeyExpiring { expires, .. } => (none, json!({"expires": expires})),
            Self::DeviceForwardingOff { routes, .. } => (none, json!({"routes": routes})),
            Self::WebhookCreated { endpoint: new } => (none, webhook(new)),
            Self::WebhookSubscriptions { old, new, .. } => (json!(old), json!(new)),
            Self::WebhookSecret { former_until, .. } => {
                (none, json!({"formerSecretUntil": former_until}))
            }
            Self::WebhookDeleted { endpoint: old } => (webhook(old), none),
            Self::WebhookReplayed { events, .. } => (none, json!({"events": events})),
            Self::DnsConfig { old, new, .. } => (json!(old), json!(new)),
            Self::KeyDuration { old, new, .. } => (json!(old), json!(new)),
            Self::PolicyFile { old, new, .. } => (json!(old), json!(new)),
            Self::ClockConfirmed { old, new, .. } => (json!(old), json!(new)),
            Self::DeviceLoggedOut { .. } | Self::RequestRefused { .. } => (none.clone(), none),
        }
    }
}
