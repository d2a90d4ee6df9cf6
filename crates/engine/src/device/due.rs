//! What falls due of a device: the expiry of its node key and of its attributes, and the silence of
//! ephemeral devices.

use std::collections::btree_map::{BTreeMap, Entry as MapEntry};
use std::time::Duration;

use bowline_model::device::{Attribute, Device};
use bowline_model::event::{DeviceRef, Event};
use bowline_model::id::DeviceId;
use bowline_model::kind::Kind;
use bowline_netmap::chunk::Entry;
use bowline_netmap::snapshot::Snapshot;
use jiff::{SignedDuration, Timestamp};

use crate::core::draft::Draft;
use crate::core::due::{Moments, Rule, Spans};
use crate::core::sessions::Sessions;

/// The most posture attributes whose time is over that one device keeps, should the clock have been
/// wrong: the newest.
const ENDED_ATTRIBUTES_MAX: usize = 100;

/// How long before the expiry of a node key an event tells of it. Source: the official webhook event
/// `nodeKeyExpiringInOneDay`.
const EXPIRY_NOTICE: SignedDuration = SignedDuration::from_hours(24);

pub(crate) const RULE: Rule = Rule {
    kind: Kind::Device,
    moments,
    run: |draft, id, sessions, spans| {
        if let Some(id) = DeviceId::new(id) {
            run(draft, id, sessions, spans);
        }
    },
};

fn moments(snapshot: &Snapshot, id: u64, spans: Spans) -> Moments {
    let entry = DeviceId::new(id).and_then(|id| snapshot.device(id));
    entry.map_or_else(Moments::default, |entry| Moments {
        due: device_due(entry, spans),
        told: device_told(&entry.device),
    })
}

fn after(moment: Timestamp, duration: Duration) -> Timestamp {
    SignedDuration::try_from(duration)
        .ok()
        .and_then(|duration| moment.checked_add(duration).ok())
        .unwrap_or(Timestamp::MAX)
}

fn before(moment: Timestamp, duration: SignedDuration) -> Timestamp {
    moment.checked_sub(duration).unwrap_or(Timestamp::MIN)
}

fn ephemeral_due(entry: &Entry, spans: Spans) -> Option<Timestamp> {
    (entry.device.ephemeral && !entry.live.online).then(|| {
        let live = &entry.live;
        let heard = live
            .last_seen
            .max(live.heard)
            .map_or(entry.device.created, |heard| {
                heard.max(entry.device.created)
            });
        after(heard.max(spans.since), spans.silence)
    })
}

fn device_due(entry: &Entry, spans: Spans) -> Option<Timestamp> {
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
        .chain(expiring(device))
        .chain(expiry)
        .chain(ephemeral_due(entry, spans))
        .min()
}

/// When it is told ahead that the node key expires. `None`: it was told, or there is nothing to tell.
fn expiring(device: &Device) -> Option<Timestamp> {
    let expires = device.effective_expiry()?;
    let is_told = device.expired || device.expiry_told == Some(expires);
    (!is_told).then(|| before(expires, EXPIRY_NOTICE))
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

fn run(draft: &mut Draft<'_>, id: DeviceId, sessions: &Sessions, spans: Spans) {
    let now = draft.now();
    draft.changes.touch::<Device>(id);
    let Some(entry) = draft.view().device(id).cloned() else {
        return;
    };
    let is_silent = ephemeral_due(&entry, spans).is_some_and(|due| due <= now);
    if is_silent && !sessions.is_open(id) && !sessions.heard_since(id, now, spans.silence) {
        draft.audit(Event::DeviceDeleted {
            device: Box::new((*entry.device).clone()),
        });
        draft.remove::<Device>(id);
        return;
    }
    let mut device = (*entry.device).clone();
    let ended = end_attributes(draft, &mut device);
    let expired = expire(draft, &mut device);
    let expiring = tell_ahead(draft, &mut device);
    if ended || expired || expiring {
        draft.put(device);
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
    let (told, expires) = (DeviceRef::of(device), device.key_expiry);
    draft.audit(if is_expired {
        Event::DeviceKeyExpired {
            device: told,
            old: None,
            new: expires,
        }
    } else {
        Event::DeviceKeyRestored {
            device: told,
            expires,
        }
    });
    true
}

/// Tells that a node key is about to expire, once for each moment of expiry.
fn tell_ahead(draft: &mut Draft<'_>, device: &mut Device) -> bool {
    if expiring(device).is_none_or(|at| at > draft.now()) {
        return false;
    }
    device.expiry_told = device.effective_expiry();
    draft.audit(Event::DeviceKeyExpiring {
        device: DeviceRef::of(device),
        expires: device.expiry_told,
    });
    true
}

/// Sets attributes aside whose time is over, and brings those back whose time is not.
fn end_attributes(draft: &mut Draft<'_>, device: &mut Device) -> bool {
    let now = draft.now();
    let told = DeviceRef::of(device);
    let is_over = |attribute: &Attribute| attribute.expires.is_some_and(|at| at <= now);
    let early = extract(&mut device.ended_attributes, |one| !is_over(one));
    let over = extract(&mut device.attributes, is_over);
    let changed = !(early.is_empty() && over.is_empty());
    for (key, attribute) in early {
        // One that was set since stands.
        if let MapEntry::Vacant(vacant) = device.attributes.entry(key) {
            draft.audit(Event::DeviceAttributeRestored {
                device: told.clone(),
                key: vacant.key().clone(),
                new: attribute.clone(),
            });
            vacant.insert(attribute);
        }
    }
    for (key, attribute) in over {
        draft.audit(Event::DeviceAttribute {
            device: told.clone(),
            key: key.clone(),
            old: Some(attribute.clone()),
            new: None,
            comment: None,
        });
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
