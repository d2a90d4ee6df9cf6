//! The full map: everything a device needs to know, as the first message of its stream.

use std::sync::Arc;

use bowline_model::id::DeviceId;
use bowline_model::key::{MachineKey, NodeKey};
use bowline_wire::capability::CapabilityVersion;
use bowline_wire::derp_map::DerpMap;
use bowline_wire::map_request::Encoding;
use bowline_wire::user::{
    TAGGED_DEVICES_ID, TAGGED_DEVICES_LOGIN, TAGGED_DEVICES_NAME, UserProfile,
};
use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use crate::chunk::{Chunk, Entry, GroupKey, SIZE};
use crate::codec;
use crate::json::{field, push_json};
use crate::message::Message;
use crate::publication::Publication;
use crate::render::{derp, dns, filter, health, node, own, profiles, ssh};
use crate::snapshot::Snapshot;
use crate::view::View;
use crate::viewer::Viewer;

/// The full map of a viewer, or `None` when there is no such device.
///
/// `now` is only told to the client, for the skew of its clock.
pub fn full(viewer: Viewer, publication: &Publication, now: Timestamp) -> Option<Message> {
    full_after(None, viewer, publication, now)
}

/// The full map in a stream that has had maps: `told` is the viewer's entry of which the last one was
/// made. A client keeps the messages that it was told until it is told that they are over.
pub(crate) fn full_after(
    told: Option<&Entry>,
    viewer: Viewer,
    publication: &Publication,
    now: Timestamp,
) -> Option<Message> {
    let snapshot = &**publication.snapshot();
    let entry = snapshot.device(viewer.device)?;
    let encoding = viewer.encoding;
    let mut own = String::with_capacity(4096);
    own.push('{');
    field(&mut own, "Node", &own::node(entry, snapshot));
    field(
        &mut own,
        "DERPMap",
        &derp::map(snapshot.derp_map(), viewer.version),
    );
    field(
        &mut own,
        "DNSConfig",
        &dns::config(snapshot.dns(), &entry.suffix),
    );
    field(&mut own, "Domain", &snapshot.tailnet().name);
    field(&mut own, "CollectServices", &false);
    filter::push(&mut own, &filter::parts(entry, snapshot));
    field(&mut own, "SSHPolicy", &ssh::policy(entry, snapshot));
    let before = told.map(health::messages).unwrap_or_default();
    health::push_change(&mut own, &before, &health::messages(entry), viewer.version);
    if !viewer.log_upload {
        own.push_str(r#""Debug":{"DisableLogTail":true},"#);
    }
    field(&mut own, "ControlTime", &now);

    let mut message = Message::default();
    let own_profile = profiles::of_owner(node::owner_id(&entry.device), snapshot);
    if let Some(perspective) = snapshot.perspective(entry) {
        let view = publication.view(perspective, viewer.device);
        let groups = peer_groups(viewer, snapshot, &view);
        if !groups.is_empty() {
            own.push_str(r#""Peers":["#);
            message.push(codec::encode(own.as_bytes(), encoding));
            for (index, group) in groups.into_iter().enumerate() {
                if index > 0 {
                    message.push(codec::comma(encoding));
                }
                message.push(group);
            }
            own.clear();
            own.push_str("],");
        }
        own.push_str(r#""UserProfiles":["#);
        let profiles = publication.profiles(perspective, &view, encoding);
        if !profiles.owners.contains(&own_profile.id) {
            push_json(&mut own, &own_profile);
            if !profiles.owners.is_empty() {
                own.push(',');
            }
        }
        message.push(codec::encode(own.as_bytes(), encoding));
        if !profiles.owners.is_empty() {
            message.push(profiles.bytes.clone());
        }
        message.push(codec::encode(b"]}", encoding));
    } else {
        own.push_str(r#""UserProfiles":"#);
        push_json(&mut own, &[own_profile]);
        own.push('}');
        message.push(codec::encode(own.as_bytes(), encoding));
    }
    Some(message)
}

/// The last message to a device that was deleted: it is told that its key expired, so that its
/// client logs out at once and says so. `last` is the state that it was sent last.
pub fn farewell(viewer: Viewer, last: &Snapshot, now: Timestamp) -> Option<Message> {
    let entry = last.device(viewer.device)?;
    let mut own = own::node(entry, last);
    own.key_expiry = Some(past(now));
    own.expired = true;
    let mut text = String::from("{");
    field(&mut text, "Node", &own);
    text.truncate(text.len() - 1);
    text.push('}');
    Some(Message::of_text(&text, viewer.encoding))
}

/// The first and last message to a client whose node key nobody knows: the same as a farewell, to
/// a device that was deleted while it was away.
pub fn stranger(
    node_key: NodeKey,
    machine_key: MachineKey,
    (version, encoding): (CapabilityVersion, Encoding),
    derp_map: &DerpMap,
    now: Timestamp,
) -> Message {
    let own = json!({
        "ID": DeviceId::MAX, "StableID": DeviceId::MAX.stable(), "Name": "deleted.invalid.",
        "User": TAGGED_DEVICES_ID, "Key": node_key, "Machine": machine_key,
        "KeyExpiry": past(now), "Expired": true, "MachineAuthorized": true,
        "Addresses": ["100.64.0.0/32", "fd7a:115c:a1e0::/128"],
        "AllowedIPs": ["100.64.0.0/32", "fd7a:115c:a1e0::/128"],
        "Hostinfo": {}, "Created": past(now),
    });
    let mut text = String::from("{");
    field(&mut text, "Node", &own);
    field(&mut text, "DERPMap", &derp::map(derp_map, version));
    text.push_str(r#""DNSConfig":{},"Domain":"deleted.invalid","CollectServices":false,"PacketFilters":{"base":[]},"#);
    text.push_str(r#""UserProfiles":"#);
    let tagged = UserProfile {
        id: TAGGED_DEVICES_ID,
        login_name: TAGGED_DEVICES_LOGIN.to_owned(),
        display_name: TAGGED_DEVICES_NAME.to_owned(),
    };
    push_json(&mut text, &[tagged]);
    text.push('}');
    Message::of_text(&text, encoding)
}

/// A moment that has passed also for a client whose clock is late.
fn past(now: Timestamp) -> Timestamp {
    now.checked_sub(SignedDuration::from_hours(24 * 365))
        .unwrap_or(Timestamp::UNIX_EPOCH)
}

/// The peers of a viewer, a buffer per chunk that has any.
fn peer_groups(viewer: Viewer, snapshot: &Snapshot, view: &View) -> Vec<Bytes> {
    let own_slot = snapshot.devices_by_slot().slot(viewer.device);
    let group = |(index, chunk): (usize, &Arc<Chunk>)| {
        let seen = chunk.visible() & view.mask(index);
        let own = own_slot
            .filter(|slot| slot / SIZE == index)
            .map_or(0, |slot| 1u64 << (slot % SIZE));
        let mask = seen & !own;
        if mask == 0 {
            return None;
        }
        let key = GroupKey {
            mask,
            encoding: viewer.encoding,
            without_ipv4: view.without_ipv4,
            special: view.special_in(index, mask),
        };
        Some(if mask == seen {
            chunk.group(key)
        } else {
            chunk.group_unshared(&key)
        })
    };
    snapshot
        .chunks()
        .iter()
        .enumerate()
        .filter_map(group)
        .collect()
}
