//! The devices of a tailnet in their slots, with indexes of what they are looked up by.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;

use bowline_model::device::{Device, Live};
use bowline_model::id::{DeviceId, UserId};
use bowline_model::key::{MachineKey, NodeKey};
use bowline_model::user::Hold;
use imbl::{HashMap, OrdMap, OrdSet, Vector};

use crate::attribute_index::AttributeIndex;
use crate::chunk::{Chunk, Entry, SIZE};

/// Devices. Each has a slot for as long as it is there; a slot that is free is used again.
#[derive(Debug, Clone)]
pub(crate) struct Devices {
    /// `MagicDNS` suffix of the tailnet: a part of how each device is rendered.
    suffix: Arc<str>,
    chunks: Vector<Arc<Chunk>>,
    free: OrdSet<usize>,
    slots: OrdMap<DeviceId, usize>,
    by_node_key: HashMap<NodeKey, DeviceId>,
    by_machine_key: OrdSet<(MachineKey, DeviceId)>,
    by_name: HashMap<String, DeviceId>,
    by_ipv4: HashMap<Ipv4Addr, DeviceId>,
    /// Devices that belong to a user.
    by_owner: OrdSet<(UserId, DeviceId)>,
    /// Users who may not use the network: each of their devices is rendered as if it were not there.
    holds: OrdMap<UserId, Hold>,
    attributes: AttributeIndex,
}

impl Devices {
    pub(crate) fn new(suffix: &str) -> Self {
        Self {
            suffix: suffix.into(),
            chunks: Vector::new(),
            free: OrdSet::new(),
            slots: OrdMap::new(),
            by_node_key: HashMap::new(),
            by_machine_key: OrdSet::new(),
            by_name: HashMap::new(),
            by_ipv4: HashMap::new(),
            by_owner: OrdSet::new(),
            holds: OrdMap::new(),
            attributes: AttributeIndex::default(),
        }
    }

    /// Replaces the `MagicDNS` suffix. Another one renames every device.
    pub(crate) fn set_suffix(&mut self, suffix: &str) {
        if *self.suffix == *suffix {
            return;
        }
        self.suffix = suffix.into();
        let entries: Vec<_> = self.iter().cloned().collect();
        for entry in entries {
            self.store(&entry.device, &entry.live);
        }
    }

    pub(crate) fn get(&self, id: DeviceId) -> Option<&Arc<Entry>> {
        let slot = self.slot(id)?;
        self.chunks.get(slot / SIZE)?.get(slot % SIZE)
    }

    pub(crate) fn by_node_key(&self, key: &NodeKey) -> Option<&Arc<Entry>> {
        self.get(*self.by_node_key.get(key)?)
    }

    /// The devices of a machine key, by id.
    pub(crate) fn by_machine_key(&self, key: MachineKey) -> impl Iterator<Item = &Arc<Entry>> {
        self.by_machine_key
            .range((key, DeviceId::MIN)..=(key, DeviceId::MAX))
            .filter_map(|(_, id)| self.get(*id))
    }

    pub(crate) fn by_name(&self, name: &str) -> Option<&Arc<Entry>> {
        self.get(*self.by_name.get(name)?)
    }

    pub(crate) fn by_ipv4(&self, address: Ipv4Addr) -> Option<&Arc<Entry>> {
        self.get(*self.by_ipv4.get(&address)?)
    }

    /// The devices that belong to a user, by id.
    pub(crate) fn of_owner(&self, user: UserId) -> impl Iterator<Item = &Arc<Entry>> {
        self.by_owner
            .range((user, DeviceId::MIN)..=(user, DeviceId::MAX))
            .filter_map(|(_, id)| self.get(*id))
    }

    /// Notes whether a user may use the network; the devices for which that is news.
    pub(crate) fn set_hold(&mut self, user: UserId, hold: Option<Hold>) -> Vec<DeviceId> {
        if self.holds.get(&user).copied() == hold {
            return Vec::new();
        }
        match hold {
            Some(hold) => self.holds.insert(user, hold),
            None => self.holds.remove(&user),
        };
        let devices: Vec<_> = self.of_owner(user).cloned().collect();
        for entry in &devices {
            self.store(&entry.device, &entry.live);
        }
        devices.iter().map(|entry| entry.device.id).collect()
    }

    pub(crate) fn attributes(&self) -> &AttributeIndex {
        &self.attributes
    }

    /// All devices, by slot.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<Entry>> {
        self.chunks
            .iter()
            .flat_map(|chunk| chunk.iter().map(|(_, entry)| entry))
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(crate) fn chunks(&self) -> &Vector<Arc<Chunk>> {
        &self.chunks
    }

    pub(crate) fn slot(&self, id: DeviceId) -> Option<usize> {
        self.slots.get(&id).copied()
    }

    /// Adds or replaces a device's record; its soft state stays (a new device starts offline).
    pub(crate) fn put(&mut self, device: Device) {
        let id = device.id;
        let old = self.get(id).cloned();
        let attributes = old.as_ref().map(|old| &old.device.attributes);
        self.attributes
            .follow(attributes.unwrap_or(&BTreeMap::new()), &device.attributes);
        if let Some(old) = &old {
            self.unindex(&old.device, &device);
        } else {
            let slot = self.free.remove_min().unwrap_or(self.chunks.len() * SIZE);
            self.slots.insert(id, slot);
            if slot / SIZE == self.chunks.len() {
                // The new chunk's other slots are free from now on.
                self.chunks.push_back(Arc::default());
                for other in slot + 1..self.chunks.len() * SIZE {
                    self.free.insert(other);
                }
            }
        }
        self.by_node_key.insert(device.node_key, id);
        self.by_machine_key.insert((device.machine_key, id));
        self.by_name.insert(device.name.clone(), id);
        self.by_ipv4.insert(device.ipv4, id);
        if let Some(owner) = device.owner() {
            self.by_owner.insert((owner, id));
        }
        let live = old.map(|old| old.live.clone()).unwrap_or_default();
        self.store(&Arc::new(device), &live);
    }

    /// Replaces a device's soft state.
    pub(crate) fn set_live(&mut self, device: &Arc<Device>, live: Live) {
        self.store(device, &Arc::new(live));
    }

    /// Holds a device in the same place in memory as another state does, where both hold the same.
    pub(crate) fn share(&mut self, entry: &Arc<Entry>) {
        let Some(&slot) = self.slots.get(&entry.device.id) else {
            return;
        };
        let Some(chunk) = self.chunks.get(slot / SIZE) else {
            return;
        };
        let is_same = |own: &Arc<Entry>| !Arc::ptr_eq(own, entry) && own.is_same_as(entry);
        if chunk.get(slot % SIZE).is_some_and(is_same) {
            let with = chunk.with(slot % SIZE, Some(entry.clone()));
            self.chunks.set(slot / SIZE, Arc::new(with));
        }
    }

    fn unindex(&mut self, old: &Device, new: &Device) {
        // What another device has taken over meanwhile is that device's.
        if old.node_key != new.node_key && self.by_node_key.get(&old.node_key) == Some(&old.id) {
            self.by_node_key.remove(&old.node_key);
        }
        if old.machine_key != new.machine_key {
            self.by_machine_key.remove(&(old.machine_key, old.id));
        }
        if old.name != new.name && self.by_name.get(&old.name) == Some(&old.id) {
            self.by_name.remove(&old.name);
        }
        if old.ipv4 != new.ipv4 && self.by_ipv4.get(&old.ipv4) == Some(&old.id) {
            self.by_ipv4.remove(&old.ipv4);
        }
        if old.owner() != new.owner()
            && let Some(owner) = old.owner()
        {
            self.by_owner.remove(&(owner, old.id));
        }
    }

    /// Removes a device; whether there was one. Its addresses and names are free again.
    pub(crate) fn remove(&mut self, id: DeviceId) -> bool {
        let Some(entry) = self.get(id).cloned() else {
            return false;
        };
        let Some(slot) = self.slots.remove(&id) else {
            return false;
        };
        let device = &entry.device;
        self.by_node_key.remove(&device.node_key);
        self.by_machine_key.remove(&(device.machine_key, id));
        self.by_name.remove(&device.name);
        self.by_ipv4.remove(&device.ipv4);
        if let Some(owner) = device.owner() {
            self.by_owner.remove(&(owner, id));
        }
        self.attributes.follow(&device.attributes, &BTreeMap::new());
        if let Some(chunk) = self.chunks.get(slot / SIZE) {
            let without = chunk.with(slot % SIZE, None);
            self.chunks.set(slot / SIZE, Arc::new(without));
        }
        self.free.insert(slot);
        true
    }

    fn store(&mut self, device: &Arc<Device>, live: &Arc<Live>) {
        let Some(&slot) = self.slots.get(&device.id) else {
            return;
        };
        let hold = device.owner().and_then(|user| self.holds.get(&user));
        let entry = Entry::new(
            device.clone(),
            live.clone(),
            self.suffix.clone(),
            hold.copied(),
        );
        if let Some(chunk) = self.chunks.get(slot / SIZE) {
            let with = chunk.with(slot % SIZE, Some(Arc::new(entry)));
            self.chunks.set(slot / SIZE, Arc::new(with));
        }
    }
}
