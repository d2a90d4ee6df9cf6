//! What falls due: time enters the state as a command, and views never look at the clock.
//!
//! What has expired follows from stored moments; the marks in the records say what was told. So each
//! mark is taken back when the clock turns out to have been wrong and shows an earlier time again.

use std::collections::BTreeSet;
use std::collections::btree_map::{BTreeMap, Entry as MapEntry};
use std::time::Duration;

use bowline_model::audit::Target;
use bowline_model::credential::Credential;
use bowline_model::device::{Attribute, Device};
use bowline_model::id::{DeviceId, KeyId};
use bowline_netmap::chunk::Entry;
use bowline_netmap::snapshot::Snapshot;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::core::draft::Draft;
use crate::device::session::Sessions;

/// The most posture attributes whose time is over that one device keeps, should the clock have been
/// wrong: the newest.
const ENDED_ATTRIBUTES_MAX: usize = 100;
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
    /// The newest moment of each that was told to have come: it has not where it is ahead of the
    /// clock.
    told: BTreeSet<(Timestamp, Key)>,
    told_moments: BTreeMap<Key, Timestamp>,
    silence: Silence,
}

/// When what was touched is due next.
#[derive(Debug)]
pub(crate) struct Plan(Vec<Moments>);

/// When one of them is to be looked at.
#[derive(Debug)]
struct Moments {
    key: Key,
    due: Option<Timestamp>,
    /// What was told to have come.
    told: Option<Timestamp>,
}

/// How long an ephemeral device may be silent.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Silence {
    timeout: Duration,
    /// Since when this process listens, and the clock has not stepped: silence before that is the
    /// server's own.
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
            queue.set_device(entry.device.id, Some(entry));
        }
        for credential in snapshot.credentials() {
            queue.set_credential(credential.id, Some(credential));
        }
        queue
    }

    fn set_device(&mut self, id: DeviceId, entry: Option<&Entry>) {
        self.set(device_moments(id, entry, self.silence));
    }

    fn set_credential(&mut self, id: KeyId, credential: Option<&Credential>) {
        self.set(credential_moments(id, credential));
    }

    fn set(&mut self, moments: Moments) {
        let Moments { key, due, told } = moments;
        set(&mut self.order, &mut self.moments, key, due);
        set(&mut self.told, &mut self.told_moments, key, told);
    }

    /// When devices and credentials that were touched are due next.
    pub(crate) fn plan(&self, snapshot: &Snapshot, changes: &crate::core::draft::Changes) -> Plan {
        let device = |id: &DeviceId| {
            let entry = snapshot.device(*id).map(|entry| &**entry);
            device_moments(*id, entry, self.silence)
        };
        let credential =
            |id: &KeyId| credential_moments(*id, snapshot.credential(*id).map(|one| &**one));
        let devices = changes.touched_devices.iter().map(device);
        Plan(
            devices
                .chain(changes.touched_credentials.iter().map(credential))
                .collect(),
        )
    }

    /// Looks at what was touched when it is due next.
    pub(crate) fn follow(&mut self, plan: Plan) {
        for moments in plan.0 {
            self.set(moments);
        }
    }

    /// When something is to be done next: now, where the clock shows an earlier time than one that
    /// was told to have come.
    pub(crate) fn next(&self, now: Timestamp) -> Option<Timestamp> {
        if self.told.last().is_some_and(|(moment, _)| *moment > now) {
            return Some(now);
        }
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
            .chain(self.told.iter().rev().take_while(|(told, _)| *told > now))
            .map(|(_, key)| *key)
            .collect();
        for key in due {
            // What happens to one object has nothing to do with what happens to the next.
            draft.changes.audit_group = None;
            match key {
                Key::Device(id) => run_device(draft, id, sessions, self.silence),
                Key::Credential(id) => run_credential(draft, id),
            }
        }
    }
}

fn device_moments(id: DeviceId, entry: Option<&Entry>, silence: Silence) -> Moments {
    Moments {
        key: Key::Device(id),
        due: entry.and_then(|entry| device_due(entry, silence)),
        told: entry.and_then(|entry| device_told(&entry.device)),
    }
}

fn credential_moments(id: KeyId, credential: Option<&Credential>) -> Moments {
    Moments {
        key: Key::Credential(id),
        due: credential.and_then(credential_due),
        told: credential
            .filter(|credential| credential.expired.is_some())
            .map(|credential| credential.expires),
    }
}

/// Gives a key another moment in an order, or none.
fn set(
    order: &mut BTreeSet<(Timestamp, Key)>,
    moments: &mut BTreeMap<Key, Timestamp>,
    key: Key,
    moment: Option<Timestamp>,
) {
    if let Some(old) = moments.remove(&key) {
        order.remove(&(old, key));
    }
    if let Some(moment) = moment {
        moments.insert(key, moment);
        order.insert((moment, key));
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
        let live = &entry.live;
        let heard = live
            .last_seen
            .max(live.heard)
            .map_or(entry.device.created, |heard| {
                heard.max(entry.device.created)
            });
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

/// The newest moment of a device that it was told to have come.
fn device_told(device: &Device) -> Option<Timestamp> {
    let expiry = device
        .effective_expiry()
        .filter(|_| device.expired && !device.key_ended);
    let attributes = device
        .ended_attributes
        .values()
        .filter_map(|attribute| attribute.expires);
    attributes.chain(expiry).max()
}

fn credential_due(credential: &Credential) -> Option<Timestamp> {
    match credential.revoked.or(credential.expired) {
        Some(ended) => ended.checked_add(CREDENTIAL_RETENTION).ok(),
        None => Some(credential.expires),
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
    let is_silent = ephemeral_due(&entry, silence).is_some_and(|due| due <= now);
    if is_silent && !sessions.is_open(id) && !sessions.heard_since(id, now, silence.timeout) {
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
    let ended = end_attributes(draft, &mut device);
    let expired = expire(draft, &mut device);
    if ended || expired {
        draft.put_device(device);
    }
}

/// What the audit log says of a mark that is taken back.
const CLOCK_WAS_WRONG: &str = "the clock that showed a later time was wrong";

/// Marks a node key that has expired, and takes the mark back where its time has not come after all.
fn expire(draft: &mut Draft<'_>, device: &mut Device) -> bool {
    let is_past = device
        .effective_expiry()
        .is_some_and(|at| at <= draft.now());
    let is_expired = is_past || device.key_ended;
    if device.expired == is_expired {
        return false;
    }
    device.expired = is_expired;
    let target = device_target(device, Some("KEY_EXPIRY_TIME"));
    let expiry = json!(device.key_expiry);
    if is_expired {
        draft.audit("EXPIRED", target, Value::Null, expiry);
    } else {
        let why = Some(CLOCK_WAS_WRONG.to_owned());
        draft.audit_with("RESTORED", target, Value::Null, expiry, why);
    }
    true
}

/// Sets attributes aside whose time is over, and brings those back whose time is not.
fn end_attributes(draft: &mut Draft<'_>, device: &mut Device) -> bool {
    let now = draft.now();
    let target = device_target(device, Some("ATTRIBUTES"));
    let is_over = |attribute: &Attribute| attribute.expires.is_some_and(|at| at <= now);
    let early = extract(&mut device.ended_attributes, |one| !is_over(one));
    let over = extract(&mut device.attributes, is_over);
    let changed = !(early.is_empty() && over.is_empty());
    for (key, attribute) in early {
        // One that was set since stands.
        if let MapEntry::Vacant(vacant) = device.attributes.entry(key) {
            let why = Some(CLOCK_WAS_WRONG.to_owned());
            let new = json!({vacant.key(): &attribute});
            draft.audit_with("RESTORED", target.clone(), Value::Null, new, why);
            vacant.insert(attribute);
        }
    }
    for (key, attribute) in over {
        let old = json!({&key: &attribute});
        draft.audit("DELETE", target.clone(), old, Value::Null);
        device.ended_attributes.insert(key, attribute);
    }
    while device.ended_attributes.len() > ENDED_ATTRIBUTES_MAX {
        let ended = device.ended_attributes.iter();
        let Some(oldest) = ended.min_by_key(|(_, one)| one.expires) else {
            break;
        };
        let key = oldest.0.clone();
        device.ended_attributes.remove(&key);
    }
    if changed {
        // One that does not come back because another was set since is no event.
        draft.changes.audited = true;
    }
    changed
}

/// Takes the attributes out that match.
fn extract(
    attributes: &mut BTreeMap<String, Attribute>,
    matches: impl Fn(&Attribute) -> bool,
) -> Vec<(String, Attribute)> {
    let keys: Vec<String> = attributes
        .iter()
        .filter(|(_, attribute)| matches(attribute))
        .map(|(key, _)| key.clone())
        .collect();
    keys.into_iter()
        .filter_map(|key| attributes.remove_entry(&key))
        .collect()
}

fn run_credential(draft: &mut Draft<'_>, id: KeyId) {
    let now = draft.now();
    draft.changes.touched_credentials.insert(id);
    let Some(credential) = draft.view().credential(id).cloned() else {
        return;
    };
    let is_expired = credential.expires <= now;
    let ended = credential.revoked.is_some() || credential.expired.is_some();
    if ended && credential_due(&credential).is_some_and(|due| due <= now) {
        draft.remove_credential(id);
        return;
    }
    if credential.revoked.is_some() && is_expired || credential.expired.is_some() == is_expired {
        return;
    }
    let target = crate::credential::target(&credential);
    let expires = json!({"expires": credential.expires});
    if is_expired {
        draft.audit("EXPIRED", target, Value::Null, expires);
    } else {
        let why = Some(CLOCK_WAS_WRONG.to_owned());
        draft.audit_with("RESTORED", target, Value::Null, expires, why);
    }
    draft.put_credential(Credential {
        expired: is_expired.then_some(now),
        ..(*credential).clone()
    });
}
