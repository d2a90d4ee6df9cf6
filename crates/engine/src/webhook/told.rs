//! What endpoints are told of an event: its message and its data.
//!
//! Source: `docs/webhooks.md`; the members are those of the official events.

use std::collections::BTreeMap;

use bowline_model::audit::ActorRef;
use bowline_model::device::Device;
use bowline_model::event::{DeviceRef, Event, WebhookEvent};
use bowline_model::id::{DeviceId, KeyId, UserId, WebhookId};
use bowline_model::user::{Role, User};
use bowline_model::webhook::{Farewell, Subscription, WebhookEndpoint};
use bowline_netmap::snapshot::Snapshot;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

/// Who acts where a node key expires by itself. Source: tailscale.com, "Webhooks", the events of node
/// keys.
const EXPIRY_MARKER: &str = "expiring-node-key-marker";

/// What endpoints are told of one event.
pub(crate) struct Told {
    pub(crate) event: WebhookEvent,
    /// For people, in a line.
    pub(crate) message: String,
    pub(crate) data: Value,
    /// Members of `data` that are kept texts, by their hash.
    pub(crate) texts: BTreeMap<String, String>,
    pub(crate) farewell: Option<Farewell>,
}

/// What an event is described with.
pub(crate) struct Context<'a> {
    /// The state that has what the event is about: after the change, and before it.
    pub(crate) states: [&'a Snapshot; 2],
    pub(crate) actor: &'a ActorRef,
    /// What links begin with.
    pub(crate) server_url: &'a str,
}

impl Context<'_> {
    fn actor(&self) -> String {
        match self.actor {
            ActorRef::User { login, .. } => login.clone(),
            ActorRef::OAuthClient { id, .. }
            | ActorRef::FederatedIdentity { id, .. }
            | ActorRef::AuthKey { id } => KeyId::stable(*id),
            ActorRef::Device { name, .. } => name.clone(),
            ActorRef::Operator => "operator".to_owned(),
            ActorRef::System => "system".to_owned(),
        }
    }

    /// Where the API has something.
    fn link(&self, path: &str) -> String {
        format!("{}/api/v2{path}", self.server_url)
    }

    fn device(&self, id: DeviceId) -> Option<&Device> {
        let mut states = self.states.iter();
        states.find_map(|state| state.device(id).map(|entry| &*entry.device))
    }

    fn user(&self, id: UserId) -> Option<&User> {
        let mut states = self.states.iter();
        states.find_map(|state| state.user(id).map(|user| &**user))
    }

    /// The device's MagicDNS name.
    fn fqdn(&self, name: &str) -> String {
        format!("{name}.{}", self.states[0].tailnet().dns_name)
    }

    fn managed_by(&self, device: &Device) -> String {
        if device.tags.is_empty() {
            let user = device.user.and_then(|id| self.user(id));
            return user.map_or_else(String::new, |user| user.login_name.clone());
        }
        let tags: Vec<String> = device.tags.iter().map(ToString::to_string).collect();
        tags.join(",")
    }

    /// Message and data of an event about a device.
    fn of_device(&self, id: DeviceId, name: &str, device: Option<&Device>, what: &str) -> Said {
        let fqdn = self.fqdn(name);
        let mut data = Map::new();
        data.insert("nodeID".to_owned(), json!(id.stable()));
        data.insert(
            "url".to_owned(),
            json!(self.link(&format!("/device/{}", id.stable()))),
        );
        data.insert("deviceName".to_owned(), json!(fqdn));
        let device = device.or_else(|| self.device(id));
        let managed_by = device.map_or_else(String::new, |device| self.managed_by(device));
        data.insert("managedBy".to_owned(), json!(managed_by));
        data.insert("actor".to_owned(), json!(self.actor()));
        Said {
            message: format!("Node {fqdn} {what}"),
            data,
        }
    }

    fn of_ref(&self, device: &DeviceRef, what: &str) -> Said {
        self.of_device(device.id, &device.name, None, what)
    }

    fn of_expiry(&self, device: &DeviceRef, expires: Option<Timestamp>, what: &str) -> Said {
        let mut said = self.of_ref(device, what);
        said.data.insert("expiration".to_owned(), json!(expires));
        if matches!(self.actor, ActorRef::System) {
            said.data.insert("actor".to_owned(), json!(EXPIRY_MARKER));
        }
        said
    }

    fn of_user(&self, id: UserId, login: &str, what: &str) -> Said {
        let mut data = Map::new();
        data.insert("user".to_owned(), json!(login));
        data.insert(
            "url".to_owned(),
            json!(self.link(&format!("/users/{}", id.stable()))),
        );
        data.insert("actor".to_owned(), json!(self.actor()));
        Said {
            message: format!("User {login} {what}"),
            data,
        }
    }

    fn of_endpoint(&self, id: WebhookId, url: &str, what: &str) -> Said {
        let mut data = Map::new();
        data.insert("endpointId".to_owned(), json!(id.stable()));
        data.insert(
            "url".to_owned(),
            json!(self.link(&format!("/webhooks/{}", id.stable()))),
        );
        data.insert("actor".to_owned(), json!(self.actor()));
        Said {
            message: format!("Webhook endpoint {url} {what}"),
            data,
        }
    }

    /// What is told of an event under one type. `None`: that event is not told under this type.
    pub(crate) fn told(&self, event: &Event, kind: WebhookEvent) -> Option<Told> {
        let mut texts = BTreeMap::new();
        let mut farewell = None;
        let said = match event {
            Event::DeviceCreated { device } => {
                let what = match kind {
                    WebhookEvent::NodeNeedsApproval => "needs approval",
                    _ => "created",
                };
                self.of_device(device.id, &device.name, Some(device), what)
            }
            Event::DeviceDeleted { device } => {
                self.of_device(device.id, &device.name, Some(device), "deleted")
            }
            Event::DeviceApproval { device, .. } => self.of_ref(device, "approved"),
            Event::DeviceKeyExpiring { device, expires } => {
                self.of_expiry(device, *expires, "key expiring in less than one day")
            }
            Event::DeviceKeyExpired { device, new, .. }
            | Event::DeviceKeyExpiry { device, new, .. } => {
                self.of_expiry(device, *new, "key recently expired")
            }
            Event::DeviceForwardingOff { device, .. } => self.of_ref(
                device,
                match kind {
                    WebhookEvent::ExitNodeIpForwardingNotEnabled => {
                        "is an exit node without IP forwarding enabled"
                    }
                    _ => "is a subnet router without IP forwarding enabled",
                },
            ),
            Event::UserCreated { user } => {
                let what = match kind {
                    WebhookEvent::UserNeedsApproval => "needs approval",
                    _ => "created",
                };
                self.of_user(user.id, &user.login_name, what)
            }
            Event::UserApproved { user } => self.of_user(user.id, &user.login_name, "approved"),
            Event::UserSuspended { user } => self.of_user(user.id, &user.login_name, "suspended"),
            Event::UserRestored { user } => self.of_user(user.id, &user.login_name, "restored"),
            Event::UserDeleted { user, .. } => self.of_user(user.id, &user.login_name, "deleted"),
            Event::UserRole { user, old, new } => {
                let mut said = self.of_user(user.id, &user.login_name, "role changed");
                let data = &mut said.data;
                data.insert("oldRoles".to_owned(), json!([role_name(*old)]));
                data.insert("newRoles".to_owned(), json!([role_name(*new)]));
                said
            }
            Event::PolicyFile { old, new, .. } => {
                texts.insert("oldPolicy".to_owned(), old.version());
                texts.insert("newPolicy".to_owned(), new.version());
                let mut data = Map::new();
                data.insert("url".to_owned(), json!(self.link("/tailnet/-/acl")));
                data.insert("actor".to_owned(), json!(self.actor()));
                Said {
                    message: "Tailnet policy file updated".to_owned(),
                    data,
                }
            }
            Event::WebhookSubscriptions { endpoint, new, .. } => {
                let mut said =
                    self.of_endpoint(endpoint.id, &endpoint.url, "has other subscriptions");
                let names: Vec<&str> = new.iter().copied().map(Subscription::as_str).collect();
                said.data.insert("subscriptions".to_owned(), json!(names));
                said
            }
            Event::WebhookSecret { endpoint, .. } => {
                self.of_endpoint(endpoint.id, &endpoint.url, "has another secret")
            }
            Event::WebhookDeleted { endpoint } => {
                farewell = Some(farewell_of(endpoint));
                self.of_endpoint(endpoint.id, &endpoint.url, "deleted")
            }
            _ => return None,
        };
        Some(Told {
            event: kind,
            message: said.message,
            data: Value::Object(said.data),
            texts,
            farewell,
        })
    }
}

/// What a role is called where people read it.
const fn role_name(role: Role) -> &'static str {
    match role {
        Role::Owner => "Owner",
        Role::Admin => "Admin",
        Role::NetworkAdmin => "Network admin",
        Role::ItAdmin => "IT admin",
        Role::BillingAdmin => "Billing admin",
        Role::Auditor => "Auditor",
        Role::Member => "Member",
    }
}

fn farewell_of(endpoint: &WebhookEndpoint) -> Farewell {
    Farewell {
        url: endpoint.url.clone(),
        provider: endpoint.provider,
    }
}

struct Said {
    message: String,
    data: Map<String, Value>,
}
