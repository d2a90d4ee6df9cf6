//! Which tailnet holds a node key, a device or a credential: the only look-ups that cross tailnets, for
//! requests that do not know their tailnet yet.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use bowline_model::credential::Credential;
use bowline_model::device::Device;
use bowline_model::id::{DeviceId, KeyId, TailnetId};
use bowline_model::key::{MachineKey, NodeKey};
use bowline_model::record;
use bowline_model::tailnet::Tailnet;
use bowline_netmap::snapshot::Snapshot;
use bowline_store::{Kind, Loaded};

use crate::core::draft::Changes;

/// Indexes over all tailnets of this process.
#[derive(Debug, Default)]
pub(crate) struct Directory {
    node_keys: papaya::HashMap<NodeKey, TailnetId>,
    devices: papaya::HashMap<DeviceId, TailnetId>,
    credentials: papaya::HashMap<KeyId, TailnetId>,
    names: papaya::HashMap<String, TailnetId>,
    /// Each device with its machine key: a machine may have several, in several tailnets.
    machines: Mutex<BTreeSet<(MachineKey, DeviceId)>>,
}

impl Directory {
    pub(crate) fn node_key(&self, key: &NodeKey) -> Option<TailnetId> {
        self.node_keys.pin().get(key).copied()
    }

    pub(crate) fn device(&self, id: DeviceId) -> Option<TailnetId> {
        self.devices.pin().get(&id).copied()
    }

    pub(crate) fn credential(&self, id: KeyId) -> Option<TailnetId> {
        self.credentials.pin().get(&id).copied()
    }

    pub(crate) fn name(&self, name: &str) -> Option<TailnetId> {
        self.names.pin().get(&name.to_lowercase()).copied()
    }

    /// Whether a machine has a device in any tailnet.
    pub(crate) fn has_machine(&self, key: MachineKey) -> bool {
        let machines = self.machines.lock().unwrap_or_else(PoisonError::into_inner);
        let from = machines.range((key, DeviceId::MIN)..).next();
        from.is_some_and(|(found, _)| *found == key)
    }

    /// Adds everything of a tailnet that was just loaded.
    pub(crate) fn add_all(&self, snapshot: &Snapshot) {
        let id = snapshot.id();
        self.names
            .pin()
            .insert(snapshot.tailnet().name.to_lowercase(), id);
        let node_keys = self.node_keys.pin();
        let devices = self.devices.pin();
        let mut machines = self.machines.lock().unwrap_or_else(PoisonError::into_inner);
        for entry in snapshot.devices() {
            machines.insert((entry.device.machine_key, entry.device.id));
            node_keys.insert(entry.device.node_key, id);
            devices.insert(entry.device.id, id);
        }
        drop(machines);
        let credentials = self.credentials.pin();
        for credential in snapshot.credentials() {
            credentials.insert(credential.id, id);
        }
    }

    /// Adds what can be read of the rows of a tailnet that is out of order: its devices and
    /// credentials are told so, instead of that nobody knows them.
    pub(crate) fn add_rows(&self, id: TailnetId, loaded: &Loaded) {
        for row in &loaded.rows {
            match row.kind {
                Kind::Tailnet => {
                    if let Ok(tailnet) = record::decode::<Tailnet>(&row.body) {
                        self.names.pin().insert(tailnet.name.to_lowercase(), id);
                    }
                }
                Kind::Device => {
                    if let Ok(device) = record::decode::<Device>(&row.body) {
                        self.node_keys.pin().insert(device.node_key, id);
                        self.devices.pin().insert(device.id, id);
                    }
                }
                Kind::Key => {
                    if let Some(key) = KeyId::new(row.id) {
                        self.credentials.pin().insert(key, id);
                    }
                }
                _ => {}
            }
        }
    }

    /// Follows a change.
    pub(crate) fn follow(&self, old: &Snapshot, new: &Snapshot, changes: &Changes) {
        let id = new.id();
        let node_keys = self.node_keys.pin();
        let devices = self.devices.pin();
        for device in changes.touched::<Device>() {
            let machine = |snapshot: &Snapshot| {
                let entry = snapshot.device(device)?;
                Some(entry.device.machine_key)
            };
            self.move_machine(device, machine(old), machine(new));
            let before = old.device(device).map(|entry| entry.device.node_key);
            let after = new.device(device).map(|entry| entry.device.node_key);
            match (before, after) {
                (None, Some(_)) => {
                    devices.insert(device, id);
                }
                (Some(_), None) => {
                    devices.remove(&device);
                }
                _ => {}
            }
            if before != after {
                // Only our own entry goes: the key may have moved to another device meanwhile, and
                // that device may be in another tailnet, whose writer was faster.
                if let Some(key) = before
                    && new.device_by_node_key(&key).is_none()
                {
                    let _ = node_keys.remove_if(&key, |_, tailnet| *tailnet == id);
                }
                if let Some(key) = after {
                    node_keys.insert(key, id);
                }
            }
        }
        let credentials = self.credentials.pin();
        for credential in changes.touched::<Credential>() {
            if new.credential(credential).is_some() {
                credentials.insert(credential, id);
            } else {
                credentials.remove(&credential);
            }
        }
        if old.tailnet().name != new.tailnet().name {
            let names = self.names.pin();
            names.remove(&old.tailnet().name.to_lowercase());
            names.insert(new.tailnet().name.to_lowercase(), id);
        }
    }

    fn move_machine(
        &self,
        device: DeviceId,
        before: Option<MachineKey>,
        after: Option<MachineKey>,
    ) {
        if before == after {
            return;
        }
        let mut machines = self.machines.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(key) = before {
            machines.remove(&(key, device));
        }
        if let Some(key) = after {
            machines.insert((key, device));
        }
    }
}
