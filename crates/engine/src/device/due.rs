//! What falls due of a device: the expiry of its node key and of its attributes, and the silence of
//! ephemeral devices.

use std::collections::btree_map::{BTreeMap, Entry as MapEntry};
use std::time::Duration;

use bowline_model::device::{Attribute, Device};
use bowline_model::id::DeviceId;
use bowline_model::kind::Kind;
use bowline_netmap::chunk::Entry;
use bowline_netmap::snapshot::Snapshot;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::core::draft::Draft;
use crate::core::due::{Moments, Rule, Silence};
use crate::core::sessions::Sessions;
use crate::device::target::device_target;

/// The most posture attributes whose time is over that one device keeps, should the clock have been
/// wrong: the newest.
const ENDED_ATTRIBUTES_MAX: usize = 100;
/// What the audit log says of a mark that is taken back.
pub(crate) const CLOCK_WAS_WRONG: &str = "the clock that showed a later time was wrong";

pub(crate) const RULE: Rule = Rule {
    kind: Kind::Device,
    moments,
    run: |draft, id, sessions, silence| {
        if let Some(id) = DeviceId::new(id) {
            run(draft, id, sessions, silence);
        }
    },
};

fn moments(snapshot: &Snapshot, id: u64, silence: Silence) -> Moments {
    let entry = DeviceId::new(id).and_then(|id| snapshot.device(id));
    entry.map_or_else(Moments::default, |entry| Moments {
        due: device_due(entry, silence),
        told: device_told(&entry.device),
    })
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

fn run(draft: &mut Draft<'_>, id: DeviceId, sessions: &Sessions, silence: Silence) {
    let now = draft.now();
    draft.changes.touch::<Device>(id);
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
        // An attribute that does not come back, because another was set since, leaves no event.
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
