//! Letting a device in: as whose, with which tags, as which device, with which addresses.
//!
//! Source: `docs/protocol/control-protocol.md`, sections 4.3, 4.5 and 4.10; `docs/protocol/api-behaviour.md`, section
//! 4.4; `docs/protocol/policy-language.md`, section 9 (pools of addresses).

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use bowline_model::address;
use bowline_model::credential::{AuthKey, Credential};
use bowline_model::device::{Device, SharedDevice};
use bowline_model::event::{DeviceRef, Event};
use bowline_model::id::{DeviceId, KeyId, UserId};
use bowline_model::key::NodeKey;
use bowline_model::name;
use bowline_model::record::RawJson;
use bowline_model::tag::Tag;
use bowline_policy::{Owner, TagAssigner};
use ipnet::IpNet;
use jiff::SignedDuration;

use crate::core::draft::Draft;
use crate::core::failure::StoreFailure;
use crate::device::approval::approve_routes;
use crate::device::name::free_name;
use crate::device::tag::tag_texts;
use crate::registration::{Registration, RegistrationRefused};

/// On whose behalf a device comes in.
#[derive(Debug, Clone)]
pub(crate) struct Admission {
    /// Who registers it.
    pub(crate) user: Option<UserId>,
    /// Tags that own it from then on; empty: the user does.
    pub(crate) tags: BTreeSet<Tag>,
    pub(crate) ephemeral: bool,
    /// It needs no approval.
    pub(crate) preauthorized: bool,
    pub(crate) auth_key: Option<KeyId>,
    /// A device that is there already keeps the host info that it has: it says too often what is new.
    pub(crate) keeps_hostinfo: bool,
    /// Who lets it in: the maker of the auth key, or who confirms the login. `None`: the operator.
    pub(crate) registered_by: Option<UserId>,
}

impl Admission {
    fn is_tagged(&self) -> bool {
        !self.tags.is_empty()
    }

    /// Whether the device is of precisely this owner.
    fn owns(&self, device: &Device) -> bool {
        if self.is_tagged() {
            device.tags == self.tags
        } else {
            !device.is_tagged() && device.user == self.user
        }
    }

    /// Whether the device, which proves that it is the one of before, may be of this owner from
    /// now on. One person's device never becomes another person's; to tags, between tags and from
    /// tags to whoever logs in then, it keeps its identity.
    fn may_have(&self, device: &Device) -> bool {
        self.is_tagged() || device.is_tagged() || device.user == self.user
    }
}

/// By what right a device asks for tags.
pub(crate) enum Asking<'a> {
    /// An auth key: its own tags; when it has none its user, and whoever made it besides.
    AuthKey(&'a Credential, &'a AuthKey),
    /// Somebody who logs in.
    User(UserId),
}

/// The tags of a device that asks for some, in lower case; those of its key where it asks for none.
///
/// # Errors
/// The tags that the policy does not declare, or that it may not have.
pub(crate) fn granted(
    draft: &Draft<'_>,
    asked: &[String],
    by: &Asking<'_>,
) -> Result<BTreeSet<Tag>, RegistrationRefused> {
    let texts = |tags: &BTreeSet<Tag>| tags.iter().map(ToString::to_string).collect::<Vec<_>>();
    // A key gives its own tags as if they were asked for: the policy may have dropped one since.
    let asked = match (tag_texts(asked), by) {
        (asked, Asking::AuthKey(_, key)) if asked.is_empty() => texts(&key.tags),
        (asked, _) => asked,
    };
    if asked.is_empty() {
        return Ok(BTreeSet::new());
    }
    let own = match by {
        Asking::AuthKey(_, key) => texts(&key.tags),
        Asking::User(_) => Vec::new(),
    };
    let principal = match by {
        Asking::AuthKey(credential, key) if key.tags.is_empty() => {
            credential.user.map(|user| TagAssigner::User(user.get()))
        }
        Asking::AuthKey(..) => Some(TagAssigner::Tags(&own)),
        Asking::User(user) => Some(TagAssigner::User(user.get())),
    };
    let refused = |tags: &[String]| RegistrationRefused::Tags(tags.join(" "));
    // A key that is nobody's and has no tags owns none.
    let principal = principal.ok_or_else(|| refused(&asked))?;
    let maker = match by {
        // Its own tags were the maker's to assign then.
        Asking::AuthKey(_, key) if key.tags.is_empty() => key.maker,
        Asking::AuthKey(..) | Asking::User(_) => None,
    };
    let maker = maker.map(|user| TagAssigner::User(user.get()));
    let net = draft.view().compiled_for_people();
    for principal in [Some(principal), maker].into_iter().flatten() {
        net.may_assign_tags(principal, &asked)
            .map_err(|tags| refused(&tags))?;
    }
    // What a policy declares is a tag.
    asked
        .iter()
        .map(|tag| tag.parse().map_err(|_| refused(std::slice::from_ref(tag))))
        .collect()
}

/// Which device a registration is about.
pub(crate) enum Continued {
    /// One that is there.
    As(Box<Device>),
    /// A new one.
    New,
    /// The node key is of a device of somebody else: with another node key it is a new one.
    SomebodyElse,
}

/// Finds the device that a registration continues, when it is not a new one.
///
/// # Errors
/// When another machine registered the node key.
pub(crate) fn continued(
    draft: &Draft<'_>,
    request: &Registration,
    admission: &Admission,
) -> Result<Continued, RegistrationRefused> {
    let view = draft.view();
    let by_key = |node_key: &NodeKey| {
        view.device_by_node_key(node_key)
            .map(|entry| (*entry.device).clone())
    };
    if let Some(device) = by_key(&request.node_key) {
        if device.machine_key != request.machine_key {
            return Err(RegistrationRefused::OtherMachine);
        }
        return Ok(if admission.may_have(&device) {
            Continued::As(Box::new(device))
        } else {
            Continued::SomebodyElse
        });
    }
    let rotated = request.old_node_key.as_ref().and_then(by_key);
    let own = || {
        view.devices_by_machine_key(request.machine_key)
            .map(|entry| &entry.device)
    };
    let newest = |devices: &mut dyn Iterator<Item = &SharedDevice>| {
        devices
            .max_by_key(|device| device.id)
            .map(|device| (**device).clone())
    };
    let device = rotated
        .filter(|device| device.machine_key == request.machine_key && admission.may_have(device))
        // The same installation logs in again as the same owner, after it forgot its node key.
        .or_else(|| newest(&mut own().filter(|device| admission.owns(device))))
        // The device changed owner but never received our answer, so it still presents its previous
        // node key. Require that key: the same machine may have other users.
        .or_else(|| {
            let still_has = |key| request.node_key == key || request.old_node_key == Some(key);
            newest(&mut own().filter(|device| {
                let is_lost = !device.seen && device.replaced_key.is_some_and(still_has);
                is_lost && admission.may_have(device)
            }))
        });
    Ok(device.map_or(Continued::New, |device| Continued::As(Box::new(device))))
}

/// Puts a device that was let in: a new one, or one that logs in again, with its routes that the
/// policy approves.
pub(crate) fn admit(
    draft: &mut Draft<'_>,
    request: &Registration,
    admission: &Admission,
    old: Option<Device>,
) -> Result<DeviceId, StoreFailure> {
    let is_new = old.is_none();
    let mut device = match old {
        Some(device) => device,
        None => new_device(draft, request, admission)?,
    };
    let previous = device.clone();
    let now = draft.now();
    let days = i64::from(draft.view().tailnet().settings.devices_key_duration_days);
    let expiry = now + SignedDuration::from_hours(24 * days);
    device.user = admission.user;
    device.tags.clone_from(&admission.tags);
    device.node_key = request.node_key;
    if !is_new && previous.node_key != request.node_key {
        if previous.seen {
            device.replaced_key = Some(previous.node_key);
        }
        device.seen = false;
    }
    device.lock_key.clone_from(&request.lock_key);
    device.key_expiry = Some(request.expiry.map_or(expiry, |asked| asked.min(expiry)));
    // Tagged devices never expire: nobody could log them in again. That is the server's own doing and
    // ends when the device returns to a person; an administrator's word stands.
    let was_said = previous.key_expiry_disabled && !previous.key_expiry_disabled_for_tags;
    device.key_expiry_disabled = admission.is_tagged() || was_said;
    device.key_expiry_disabled_for_tags = admission.is_tagged() && !was_said;
    device.expired = false;
    device.key_ended = false;
    device.ephemeral = admission.ephemeral || request.ephemeral;
    device.auth_key = admission.auth_key;
    device.registered_by = admission.registered_by;
    device.authorized |= admission.preauthorized;
    device.capability_version = request.capability_version;
    device.refused_tags = Vec::new();
    if is_new || !admission.keeps_hostinfo {
        device.hostinfo = request.hostinfo.clone();
        if !device.name_given && device.facts.hostname != request.facts.hostname {
            device.name = free_name(
                draft.view(),
                &name::sanitise(&request.facts.hostname),
                Some(device.id),
            );
        }
        device.facts = request.facts.clone();
    } else {
        // Its tags follow from these now.
        device
            .facts
            .request_tags
            .clone_from(&request.facts.request_tags);
    }

    let record = Box::new(device.clone());
    if is_new {
        draft.audit(Event::DeviceCreated { device: record });
    } else {
        let (old, new) = (previous.tags.clone(), device.tags.clone());
        draft.audit(Event::DeviceLoggedIn {
            old: Box::new(previous),
            new: record,
        });
        if old != new {
            let device = DeviceRef::of(&device);
            draft.audit(Event::DeviceTags { device, old, new });
        }
    }
    let id = device.id;
    draft.put(device);
    if !is_new {
        // Its silence ends here and not with its stream, which comes after the answer.
        crate::device::session::heard(draft, id, now);
    }
    approve_routes(draft, id);
    Ok(id)
}

fn new_device(
    draft: &Draft<'_>,
    request: &Registration,
    admission: &Admission,
) -> Result<Device, StoreFailure> {
    let view = draft.view();
    let id = DeviceId::new(draft.new_id()).ok_or(StoreFailure::Defect("ran out of ids"))?;
    // A machine that was approved once needs no approval for another of its users.
    let known = view
        .devices_by_machine_key(request.machine_key)
        .any(|entry| entry.device.authorized);
    let needs_approval = view.tailnet().settings.device_approval_on;
    let ipv4 = free_ipv4(draft, admission)
        .ok_or(StoreFailure::Defect("the tailnet has no free IPv4 address"))?;
    // Unique in the server by its 80 random bits, and the database refuses the improbable rest.
    let ipv6 = (0..1000)
        .find_map(|_| address::ipv6_from_random(draft.random()))
        .ok_or(StoreFailure::Defect("no usable random bytes"))?;
    Ok(Device {
        id,
        user: admission.user,
        tags: admission.tags.clone(),
        machine_key: request.machine_key,
        node_key: request.node_key,
        lock_key: String::new(),
        name: free_name(view, &name::sanitise(&request.facts.hostname), None),
        name_given: false,
        ipv4,
        ipv6,
        created: draft.now(),
        key_expiry: None,
        key_expiry_disabled: false,
        key_expiry_disabled_for_tags: false,
        expired: false,
        key_ended: false,
        authorized: !needs_approval || admission.preauthorized || known,
        ephemeral: false,
        auth_key: None,
        registered_by: None,
        seen: false,
        replaced_key: None,
        capability_version: 0,
        hostinfo: RawJson::empty_object(),
        facts: request.facts.clone(),
        enabled_routes: Vec::new(),
        attributes: std::collections::BTreeMap::new(),
        refused_tags: Vec::new(),
        ended_attributes: std::collections::BTreeMap::new(),
        expiry_told: None,
    })
}

/// An IPv4 address that no device has: from the pools that the policy has for the owner, and from
/// the whole range where it has none.
fn free_ipv4(draft: &Draft<'_>, admission: &Admission) -> Option<Ipv4Addr> {
    let owner = match admission.user {
        Some(user) if !admission.is_tagged() => Owner::User(user.get()),
        _ => Owner::Tags(admission.tags.iter().map(ToString::to_string).collect()),
    };
    let pools = draft.view().compiled_for_people().ip_pools_for(&owner);
    let is_free = |address: &Ipv4Addr| draft.view().device_by_ipv4(*address).is_none();
    let random = || u32::from_le_bytes(draft.random());
    if let Some(address) = pools
        .iter()
        .find_map(|pool| free_in(*pool, random(), &is_free))
    {
        return Some(address);
    }
    if !pools.is_empty() {
        // A device that cannot join at all would be worse than one outside its pool.
        tracing::warn!(tailnet.id = %draft.view().id(), "an address pool of the policy is full");
    }
    (0..1000)
        .filter_map(|_| address::ipv4_from_random(random()))
        .find(is_free)
}

/// A free address of a pool, looked for from a random place on, so that one which was given back is
/// not given out again at once.
fn free_in(pool: IpNet, random: u32, is_free: &impl Fn(&Ipv4Addr) -> bool) -> Option<Ipv4Addr> {
    let IpNet::V4(pool) = pool else { return None };
    let size = 1_u32 << (32 - u32::from(pool.prefix_len())).min(31);
    let first = u32::from(pool.network());
    let at = |index: u32| Ipv4Addr::from(first + index % size);
    let is_good = |address: &Ipv4Addr| address::is_device_ipv4(*address) && is_free(address);
    (0..size)
        .map(|step| at((random % size).wrapping_add(step)))
        .find(is_good)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_gives_out_each_of_its_addresses_and_then_none() {
        let pool: IpNet = "100.64.0.0/29".parse().unwrap();
        let mut taken = BTreeSet::new();
        for random in [3, 7, u32::MAX, 0, 5, 5, 5] {
            let free = |address: &Ipv4Addr| !taken.contains(address);
            let address = free_in(pool, random, &free).unwrap();
            assert!(pool.contains(&IpNet::from(std::net::IpAddr::V4(address))));
            taken.insert(address);
        }
        // The first of the whole range is never given out.
        assert_eq!(taken.len(), 7);
        let free = |address: &Ipv4Addr| !taken.contains(address);
        assert_eq!(free_in(pool, 0, &free), None);
        let single: IpNet = "100.70.0.1/32".parse().unwrap();
        assert_eq!(
            free_in(single, 9, &|_| true),
            Some(Ipv4Addr::new(100, 70, 0, 1))
        );
        let v6: IpNet = "fd7a::/64".parse().unwrap();
        assert_eq!(free_in(v6, 0, &|_| true), None);
    }

    #[test]
    fn tags_are_asked_for_once_each_and_in_lower_case() {
        let asked = ["tag:B", "tag:a", "tag:b"].map(str::to_owned);
        assert_eq!(tag_texts(&asked), ["tag:a", "tag:b"]);
    }
}
