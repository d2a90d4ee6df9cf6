//! Devices: rename, approve, tag, expire, route, move, delete.

pub(crate) mod allowance;
pub(crate) mod approval;
pub mod attribute;
pub(crate) mod due;
pub(crate) mod name;
pub mod report;
pub mod reported;
pub mod session;
pub(crate) mod tag;

use std::net::Ipv4Addr;
use std::sync::Arc;

use bowline_model::address;
use bowline_model::device::Device;
use bowline_model::event::{DeviceRef, Event, KeyExpirySet};
use bowline_model::id::{DeviceId, TailnetId};
use bowline_model::name as names;
use bowline_netmap::chunk::Entry;
use bowline_netmap::publication::Publication;
use bowline_netmap::snapshot::Snapshot;
use ipnet::IpNet;

use crate::core::actor::Actor;
use crate::core::draft::Draft;
use crate::core::engine::Engine;
use crate::core::failure::Refusal;
use crate::device::approval::{ROUTES_MAX, approve_routes};
use crate::device::name::free_name;
use crate::people::acting;

/// Notes that a key that did not expire does again, where that is so: the official log has an event
/// of its own for it beside the one about the moment.
pub(crate) fn audit_expiry_enabled(draft: &mut Draft<'_>, device: &Device) {
    if device.key_expiry_disabled {
        draft.audit(Event::DeviceKeyExpiryDisabled {
            device: DeviceRef::of(device),
            old: true,
            new: false,
        });
    }
}

fn find(draft: &Draft<'_>, id: DeviceId) -> Result<Device, Refusal> {
    draft
        .view()
        .device(id)
        .map(|entry| (*entry.device).clone())
        .ok_or(Refusal::NotFound)
}

impl Engine {
    /// A device of the actor's tailnet.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn device(
        &self,
        actor: &Actor,
        id: DeviceId,
    ) -> Result<(Arc<Snapshot>, Arc<Entry>), Refusal> {
        actor.check()?;
        let snapshot = self.snapshot(actor.tailnet).ok_or(Refusal::NotFound)?;
        let entry = snapshot.device(id).cloned().ok_or(Refusal::NotFound)?;
        Ok((snapshot, entry))
    }

    /// Gives a device a name: a label, or a full name in the tailnet's domain. Empty: the name
    /// follows the host name again.
    ///
    /// # Errors
    /// `Invalid` for a text that is not a name or for one that another device has.
    pub async fn rename_device(
        &self,
        actor: &Actor,
        id: DeviceId,
        wanted: &str,
    ) -> Result<(), Refusal> {
        let wanted = wanted.trim().trim_end_matches('.').to_lowercase();
        self.write(actor, move |draft| {
            let device = find(draft, id)?;
            let suffix = &draft.view().tailnet().dns_name;
            let label = wanted.strip_suffix(suffix.as_str()).and_then(|l| l.strip_suffix('.')).unwrap_or(&wanted);
            let (label, given) = if label.is_empty() {
                (free_name(draft.view(), &names::sanitise(&device.facts.hostname), Some(id)), false)
            } else {
                (label.to_owned(), true)
            };
            if given && !names::is_label(&label) {
                return Err(Refusal::invalid(format!(
                    "invalid name {label:?}: use 1 to 63 letters, digits and hyphens, beginning and ending with a letter or digit"
                )));
            }
            if draft.view().device_by_name(&label).is_some_and(|other| other.device.id != id) {
                return Err(Refusal::invalid(format!("name {label:?} is already in use by another device")));
            }
            if device.name == label && device.name_given == given {
                return Ok(());
            }
            draft.audit(Event::DeviceName {
                device: DeviceRef::of(&device),
                old: device.name.clone(),
                new: label.clone(),
            });
            draft.put(Device { name: label, name_given: given, ..device });
            Ok(())
        })
        .await
    }

    /// Deletes a device: it is logged out, its peers drop it, its addresses and name are free.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn delete_device(&self, actor: &Actor, id: DeviceId) -> Result<(), Refusal> {
        self.write(actor, move |draft| {
            let device = find(draft, id)?;
            draft.audit(Event::DeviceDeleted {
                device: Box::new(device),
            });
            draft.remove::<Device>(id);
            Ok(())
        })
        .await
    }

    /// Approves a device, or takes the approval away. Stored whether or not the tailnet asks for
    /// approval of new devices.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn authorize_device(
        &self,
        actor: &Actor,
        id: DeviceId,
        authorized: bool,
    ) -> Result<(), Refusal> {
        self.write(actor, move |draft| {
            let device = find(draft, id)?;
            if device.authorized == authorized {
                return Ok(());
            }
            draft.audit(Event::DeviceApproval {
                device: DeviceRef::of(&device),
                old: device.authorized,
                new: authorized,
            });
            draft.put(Device {
                authorized,
                ..device
            });
            approve_routes(draft, id);
            Ok(())
        })
        .await
    }

    /// Expires a device's node key now, disabled expiry or not.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn expire_device(&self, actor: &Actor, id: DeviceId) -> Result<(), Refusal> {
        self.write(actor, move |draft| {
            let device = find(draft, id)?;
            if device.expired {
                return Ok(());
            }
            let now = draft.now();
            audit_expiry_enabled(draft, &device);
            draft.audit(Event::DeviceKeyExpiry {
                device: DeviceRef::of(&device),
                old: device.key_expiry,
                new: Some(now),
                why: KeyExpirySet::Ended,
            });
            draft.put(Device {
                key_expiry: Some(now),
                key_expiry_disabled: false,
                key_expiry_disabled_for_tags: false,
                expired: true,
                key_ended: true,
                ..device
            });
            Ok(())
        })
        .await
    }

    /// Disables or enables the expiry of a device's node key. Its instant is kept; enabled again,
    /// a past one means that the key has expired. `None` changes nothing.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn set_key_expiry_disabled(
        &self,
        actor: &Actor,
        id: DeviceId,
        disabled: Option<bool>,
    ) -> Result<(), Refusal> {
        self.write(actor, move |draft| {
            let device = find(draft, id)?;
            // That a tagged device does not expire is the server's word until somebody says it too.
            let said = device.key_expiry_disabled && !device.key_expiry_disabled_for_tags;
            let is_other =
                |disabled: &bool| *disabled != device.key_expiry_disabled || (*disabled && !said);
            let Some(disabled) = disabled.filter(is_other) else {
                return Ok(());
            };
            let expired = !disabled && device.key_expiry.is_some_and(|at| at <= draft.now());
            draft.audit(Event::DeviceKeyExpiryDisabled {
                device: DeviceRef::of(&device),
                old: device.key_expiry_disabled,
                new: disabled,
            });
            draft.put(Device {
                key_expiry_disabled: disabled,
                key_expiry_disabled_for_tags: false,
                expired,
                key_ended: device.key_ended && expired,
                ..device
            });
            Ok(())
        })
        .await
    }

    /// Replaces the routes that a device may serve, advertised or not. They are kept as given, each
    /// once and sorted; one of the two exit routes alone has no effect.
    ///
    /// # Errors
    /// `Invalid` for a text that is not a prefix or has host bits; `NotFound`.
    pub async fn set_device_routes(
        &self,
        actor: &Actor,
        id: DeviceId,
        routes: &[String],
    ) -> Result<Arc<Entry>, Refusal> {
        if routes.len() > ROUTES_MAX {
            return Err(Refusal::invalid(format!(
                "a device can have at most {ROUTES_MAX} routes"
            )));
        }
        let mut parsed = routes
            .iter()
            .map(|text| {
                address::parse_route(text).ok_or_else(|| {
                    Refusal::invalid(format!("invalid route {text:?}: expected a prefix without host bits, like 10.0.0.0/16"))
                })
            })
            .collect::<Result<Vec<IpNet>, Refusal>>()?;
        address::sort_routes(&mut parsed);
        self.write(actor, move |draft| {
            let device = find(draft, id)?;
            if device.enabled_routes != parsed {
                draft.audit(Event::DeviceRoutes {
                    device: DeviceRef::of(&device),
                    old: device.enabled_routes.clone(),
                    new: parsed.clone(),
                });
                draft.put(Device {
                    enabled_routes: parsed.clone(),
                    ..device
                });
            }
            draft.view().device(id).cloned().ok_or(Refusal::NotFound)
        })
        .await
    }

    /// Gives a device another IPv4 address. `None` changes nothing.
    ///
    /// # Errors
    /// `Invalid` for an address outside the range, a reserved one, or one that another device has.
    pub async fn set_device_ipv4(
        &self,
        actor: &Actor,
        id: DeviceId,
        ipv4: Option<&str>,
    ) -> Result<(), Refusal> {
        let wanted = ipv4
            .filter(|text| !text.is_empty())
            .map(|text| {
                text.parse::<Ipv4Addr>().ok().filter(|address| address::is_device_ipv4(*address)).ok_or_else(|| {
                    Refusal::invalid(format!("invalid IPv4 address {text:?}: expected an unreserved address in 100.64.0.0/10"))
                })
            })
            .transpose()?;
        self.write(actor, move |draft| {
            let device = find(draft, id)?;
            let Some(ipv4) = wanted.filter(|address| *address != device.ipv4) else {
                return Ok(());
            };
            if draft.view().device_by_ipv4(ipv4).is_some() {
                return Err(Refusal::invalid(format!(
                    "IPv4 address {ipv4} is already in use by another device"
                )));
            }
            draft.audit(Event::DeviceAddress {
                device: DeviceRef::of(&device),
                old: device.ipv4,
                new: ipv4,
            });
            draft.put(Device { ipv4, ..device });
            Ok(())
        })
        .await
    }

    /// Replaces a device's tags. The first tag takes the device from its user; removing the last
    /// returns it to the user who registered it, whom the actor must be able to act for. The key
    /// expiry does not change until the next login.
    ///
    /// # Errors
    /// `Invalid` naming the tags that the policy does not let the actor assign, or none where
    /// nobody is left who could own the device; `NotPermitted` where that user is above the actor;
    /// `NotFound`.
    pub async fn set_device_tags(
        &self,
        actor: &Actor,
        id: DeviceId,
        tags: Vec<String>,
    ) -> Result<(), Refusal> {
        tag::check_count(&tags)?;
        self.write(actor, move |draft| {
            let device = find(draft, id)?;
            let tags = tag::permitted(draft.view(), draft.actor(), &tags)?;
            if tags == device.tags {
                return Ok(());
            }
            let user = device.user.filter(|id| draft.view().user(*id).is_some());
            if tags.is_empty() {
                let user = user.ok_or_else(|| tag::refused::<&str>(&[]))?;
                acting::check(draft.view(), draft.actor(), user)?;
            }
            draft.audit(Event::DeviceTags {
                device: DeviceRef::of(&device),
                old: device.tags.clone(),
                new: tags.clone(),
            });
            // What it asked for itself before is settled by this.
            draft.put(Device {
                tags,
                refused_tags: Vec::new(),
                ..device
            });
            approve_routes(draft, id);
            Ok(())
        })
        .await
    }

    /// Whether a node key belongs to a device that may use the relay.
    pub fn admits(&self, key: &bowline_model::key::NodeKey) -> bool {
        self.admitted(key).is_some()
    }

    /// The tailnet of a node key's device, if that device may use the relay. Devices of different
    /// tailnets reach each other on no relay.
    pub fn admitted(&self, key: &bowline_model::key::NodeKey) -> Option<TailnetId> {
        let (tailnet, _, entry) = self.find_device(key)?;
        entry.sees_peers().then_some(tailnet)
    }

    /// Whether a machine has a device in any tailnet.
    pub fn has_device(&self, key: bowline_model::key::MachineKey) -> bool {
        self.0.directory.has_machine(key)
    }

    /// The device of a node key, in whatever tailnet, with the newest state there. For requests that prove their machine key.
    pub fn find_device(
        &self,
        key: &bowline_model::key::NodeKey,
    ) -> Option<(TailnetId, Arc<Publication>, Arc<Entry>)> {
        let tailnet = self.0.directory.node_key(key)?;
        let newest = self.handle(tailnet)?.newest.load_full();
        let entry = newest.snapshot().device_by_node_key(key).cloned()?;
        Some((tailnet, newest, entry))
    }
}
