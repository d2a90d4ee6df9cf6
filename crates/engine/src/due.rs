//! What falls due: time enters the state as a command, and views never look at the clock.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bowline_model::audit::Target;
use bowline_model::credential::Credential;
use bowline_model::device::Device;
use bowline_model::id::{DeviceId, KeyId};
use bowline_netmap::chunk::Entry;
use bowline_netmap::snapshot::Snapshot;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::draft::Draft;
use crate::session::Sessions;

/// How long a revoked or expired credential can still be read.
const CREDENTIAL_RETENTION: SignedDuration = SignedDuration::from_hours(90 * 24);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Device(DeviceId),
    Credential(KeyId),
}

/// The next due moment of everything.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    order: BTreeSet<(Timestamp, Key)>,
    moments: BTreeMap<Key, Timestamp>,
    silence: Silence,
}

/// How long an ephemeral device may be silent.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Silence {
    timeout: Duration,
    /// Since when this process listens: silence before that is the server's own.
    since: Timestamp,
}

impl Queue {
    pub(crate) fn of(snapshot: &Snapshot, timeout: Duration, since: Timestamp) -> Self {
        let silence = Silence { timeout, since };
        let mut queue = Self {
            silence,
            ..Self::default()
        };
        for entry in snapshot.devices() {
            queue.set(Key::Device(entry.device.id), device_due(entry, silence));
        }
        for credential in snapshot.credentials() {
            queue.set(Key::Credential(credential.id), credential_due(credential));
        }
        queue
    }

    /// Looks again at devices and credentials that were touched.
    pub(crate) fn follow(&mut self, snapshot: &Snapshot, changes: &crate::draft::Changes) {
        for id in &changes.touched_devices {
            let due = snapshot
                .device(*id)
                .and_then(|entry| device_due(entry, self.silence));
            self.set(Key::Device(*id), due);
        }
        for id in &changes.touched_credentials {
            self.set(
                Key::Credential(*id),
                snapshot.credential(*id).and_then(|c| credential_due(c)),
            );
        }
    }

    fn set(&mut self, key: Key, due: Option<Timestamp>) {
        if let Some(old) = self.moments.remove(&key) {
            self.order.remove(&(old, key));
        }
        if let Some(due) = due {
            self.moments.insert(key, due);
            self.order.insert((due, key));
        }
    }

    /// The next due moment.
    pub(crate) fn next(&self) -> Option<Timestamp> {
        self.order.first().map(|(due, _)| *due)
    }

    /// Marks everything that is due by the draft's time. Safe to run twice. What it looked at
    /// counts as touched, so that the queue goes on even where nothing changed.
    pub(crate) fn run(&self, draft: &mut Draft<'_>, sessions: &Sessions) {
        let now = draft.now();
        let due: Vec<Key> = self
            .order
            .iter()
            .take_while(|(moment, _)| *moment <= now)
            .map(|(_, key)| *key)
            .collect();
        for key in due {
            match key {
                Key::Device(id) => run_device(draft, id, sessions, self.silence),
                Key::Credential(id) => run_credential(draft, id),
            }
        }
    }
}

fn after(moment: Timestamp, duration: Duration) -> Timestamp {
    SignedDuration::try_from(duration)
        .ok()
        .and_then(|duration| moment.checked_add(duration).ok())
        .unwrap_or(Timestamp::MAX)
}

fn ephemeral_due(entry: &Entry, silence: Silence) -> Option<Timestamp> {
    (entry.device.ephemeral && !entry.live.online).then(|| {
        let heard = entry.live.last_seen.unwrap_or(entry.device.created);
        after(heard.max(silence.since), silence.timeout)
    })
}

fn device_due(entry: &Entry, silence: Silence) -> Option<Timestamp> {
    let device = &entry.device;
    let expiry = if device.expired {
        None
    } else {
        device.effective_expiry()
    };
    let attributes = device
        .attributes
        .values()
        .filter_map(|attribute| attribute.expires);
    attributes
        .chain(expiry)
        .chain(ephemeral_due(entry, silence))
        .min()
}

fn credential_due(credential: &Credential) -> Option<Timestamp> {
    match (credential.revoked, credential.expired) {
        (Some(ended), _) => ended.checked_add(CREDENTIAL_RETENTION).ok(),
        (None, true) => credential.expires.checked_add(CREDENTIAL_RETENTION).ok(),
        (None, false) => Some(credential.expires),
    }
}

pub(crate) fn device_target(device: &Device, property: Option<&str>) -> Target {
    Target {
        id: device.id.stable(),
        name: device.name.clone(),
        kind: "NODE".to_owned(),
        property: property.map(str::to_owned),
    }
}

fn run_device(draft: &mut Draft<'_>, id: DeviceId, sessions: &Sessions, silence: Silence) {
    let now = draft.now();
    draft.changes.touched_devices.insert(id);
    let Some(entry) = draft.view().device(id).cloned() else {
        return;
    };
    if ephemeral_due(&entry, silence).is_some_and(|due| due <= now) && !sessions.is_open(id) {
        draft.audit(
            "DELETE",
            device_target(&entry.device, None),
            json!({"ephemeral": true}),
            Value::Null,
        );
        draft.remove_device(id);
        return;
    }
    let mut device = (*entry.device).clone();
    let mut changed = false;
    let expired: Vec<String> = device
        .attributes
        .iter()
        .filter(|(_, attribute)| attribute.expires.is_some_and(|at| at <= now))
        .map(|(key, _)| key.clone())
        .collect();
    for key in expired {
        let old = device.attributes.remove(&key);
        draft.audit(
            "DELETE",
            device_target(&device, Some("ATTRIBUTES")),
            json!({key: old}),
            Value::Null,
        );
        changed = true;
    }
    if !device.expired && device.effective_expiry().is_some_and(|at| at <= now) {
        device.expired = true;
        draft.audit(
            "EXPIRED",
            device_target(&device, Some("KEY_EXPIRY_TIME")),
            Value::Null,
            json!(device.key_expiry),
        );
        changed = true;
    }
    if changed {
        draft.put_device(device);
    }
}

fn run_credential(draft: &mut Draft<'_>, id: KeyId) {
    let now = draft.now();
    draft.changes.touched_credentials.insert(id);
    let Some(credential) = draft.view().credential(id).cloned() else {
        return;
    };
    let ended = credential.revoked.is_some() || credential.expired;
    if ended && credential_due(&credential).is_some_and(|due| due <= now) {
        draft.remove_credential(id);
    } else if !ended && credential.expires <= now {
        draft.audit(
            "EXPIRED",
            crate::credential::target(&credential),
            Value::Null,
            json!({"expires": credential.expires}),
        );
        draft.put_credential(Credential {
            expired: true,
            ..(*credential).clone()
        });
    }
}
