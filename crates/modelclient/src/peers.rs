//! The set of peers and how messages change it, in the order in which the Go client does.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use crate::check::{self, Checked, ZERO_TIME};
use crate::node;
use crate::session::Rules;
use crate::violation::{ProtocolViolation, Rule};

const PATCH_FIELDS: &[&str] = &[
    "NodeID",
    "DERPRegion",
    "Cap",
    "CapMap",
    "Endpoints",
    "Key",
    "KeySignature",
    "DiscoKey",
    "Online",
    "LastSeen",
    "KeyExpiry",
];

/// What a full record of a known peer may differ in and still be taken as a patch.
const PATCHABLE: &[&str] = &[
    "Key",
    "KeyExpiry",
    "KeySignature",
    "DiscoKey",
    "Endpoints",
    "HomeDERP",
    "Cap",
    "CapMap",
    "Online",
    "LastSeen",
];

/// Fields in which a difference is not looked at.
const IGNORED: &[&str] = &["Capabilities"];

const ZERO_DISCO: &str =
    "discokey:0000000000000000000000000000000000000000000000000000000000000000";

/// Peers by id, each normalised.
#[derive(Debug, Clone, Default)]
pub(crate) struct Peers(BTreeMap<u64, Map<String, Value>>);

impl Peers {
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, &Map<String, Value>)> {
        self.0.iter().map(|(id, peer)| (*id, peer))
    }

    pub(crate) fn get(&self, id: u64) -> Option<&Map<String, Value>> {
        self.0.get(&id)
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Applies the fields of one message that are about peers.
    pub(crate) fn apply(&mut self, message: &Map<String, Value>, rules: &Rules) -> Checked<()> {
        let all = records("Peers", message, rules)?;
        let changed = records("PeersChanged", message, rules)?;
        let removed = check::list("PeersRemoved", message.get("PeersRemoved"))?
            .iter()
            .map(|id| check::id("PeersRemoved", Some(id)))
            .collect::<Checked<Vec<_>>>()?;
        let mut patches = patches(message)?;
        let seen = check::id_flags("PeerSeenChange", message.get("PeerSeenChange"))?;
        let online = check::id_flags("OnlineChange", message.get("OnlineChange"))?;

        // Before anything else the client turns a full record that differs from the one it has in
        // a few fields only into a patch, which comes last and cannot say "none" in some fields.
        let mut records = Vec::new();
        for record in changed {
            let known = self.0.get(&record.id);
            match known.and_then(|known| patch_between(known, &record)) {
                Some(patch) => patches.push((record.id, patch)),
                None => records.push(record),
            }
        }
        patches.retain(|(id, patch)| !self.is_stale(*id, patch));

        if !all.is_empty() {
            self.0 = all
                .into_iter()
                .map(|record| (record.id, record.node))
                .collect();
            return Ok(());
        }
        for id in removed {
            self.0.remove(&id);
        }
        for record in records {
            self.0.insert(record.id, record.node);
        }
        for (id, is_seen) in seen {
            if let Some(peer) = self.0.get_mut(&id) {
                if is_seen {
                    let now = message.get("ControlTime").cloned();
                    peer.insert("LastSeen".into(), now.unwrap_or_else(|| "now".into()));
                } else {
                    peer.remove("LastSeen");
                }
            }
        }
        for (id, is_online) in online {
            if let Some(peer) = self.0.get_mut(&id) {
                peer.insert("Online".into(), is_online.into());
            }
        }
        for (id, patch) in patches {
            if let Some(peer) = self.0.get_mut(&id) {
                apply_patch(peer, &patch);
            }
        }
        Ok(())
    }

    /// A patch with a disco key for an offline peer that was seen since: the newest clients leave
    /// out all of it.
    fn is_stale(&self, id: u64, patch: &Map<String, Value>) -> bool {
        let known = self
            .0
            .get(&id)
            .and_then(|peer| peer.get("LastSeen"))
            .and_then(Value::as_str);
        let new = patch.get("LastSeen").and_then(Value::as_str);
        patch.contains_key("DiscoKey")
            && patch.get("Online") == Some(&Value::Bool(false))
            && matches!((known, new), (Some(known), Some(new)) if !check::is_later(new, known))
    }
}

/// A full record in a message.
struct Record {
    id: u64,
    node: Map<String, Value>,
    /// `Endpoints` was there, if only as `[]`.
    has_endpoints: bool,
}

fn records(field: &str, message: &Map<String, Value>, rules: &Rules) -> Checked<Vec<Record>> {
    let mut ids = BTreeSet::new();
    let mut records = Vec::new();
    for value in check::list(field, message.get(field))? {
        let raw = check::object(field, value)?;
        node::check(raw, false, rules)?;
        let id = check::id(field, raw.get("ID"))?;
        if !ids.insert(id) {
            return Err(ProtocolViolation::new(
                Rule::DuplicatePeer,
                format!("{field}: {id}"),
            ));
        }
        let has_endpoints = raw.get("Endpoints").is_some_and(Value::is_array);
        records.push(Record {
            id,
            node: node::normalise(raw),
            has_endpoints,
        });
    }
    Ok(records)
}

fn patches(message: &Map<String, Value>) -> Checked<Vec<(u64, Map<String, Value>)>> {
    let field = "PeersChangedPatch";
    let mut patches = Vec::new();
    for value in check::list(field, message.get(field))? {
        let patch = check::object(field, value)?;
        check::known_fields(field, patch, PATCH_FIELDS)?;
        let id = check::id("PeersChangedPatch.NodeID", patch.get("NodeID"))?;
        for endpoint in check::list("Endpoints", patch.get("Endpoints"))? {
            node::check_endpoint(field, endpoint)?;
        }
        if let Some(key) = patch.get("Key").filter(|key| !key.is_null()) {
            check::key(field, key, "nodekey:")?;
        }
        if let Some(key) = patch.get("DiscoKey").filter(|key| !key.is_null()) {
            check::key(field, key, "discokey:")?;
        }
        patches.push((id, patch.clone()));
    }
    Ok(patches)
}

/// The patch that the client makes of a full record, if it makes one. An empty patch: there is no
/// difference that it looks at.
fn patch_between(known: &Map<String, Value>, record: &Record) -> Option<Map<String, Value>> {
    let differs = |field: &str| known.get(field) != record.node.get(field);
    let mut fields: BTreeSet<&str> = known.keys().map(String::as_str).collect();
    fields.extend(record.node.keys().map(String::as_str));
    let mut patch = Map::new();
    for field in fields.into_iter().filter(|field| differs(field)) {
        let new = record.node.get(field);
        match field {
            _ if IGNORED.contains(&field) => {}
            _ if !PATCHABLE.contains(&field) => return None,
            // Present in both or not looked at.
            "Online" | "LastSeen" => {
                if let (Some(_), Some(new)) = (known.get(field), new) {
                    patch.insert(field.into(), new.clone());
                }
            }
            // These can be taken away.
            "KeyExpiry" => {
                patch.insert(
                    field.into(),
                    new.cloned().unwrap_or_else(|| ZERO_TIME.into()),
                );
            }
            "DiscoKey" => {
                patch.insert(
                    field.into(),
                    new.cloned().unwrap_or_else(|| ZERO_DISCO.into()),
                );
            }
            "CapMap" => {
                patch.insert(
                    field.into(),
                    new.cloned().unwrap_or_else(|| Map::new().into()),
                );
            }
            // An absent list of endpoints becomes a patch that says nothing: the client keeps the
            // old ones. Only `[]` takes them away.
            "Endpoints" if new.is_none() && record.has_endpoints => {
                patch.insert(field.into(), Value::Array(vec![]));
            }
            "HomeDERP" => {
                patch.insert("DERPRegion".into(), new.cloned().unwrap_or_default());
            }
            _ => {
                patch.insert(field.into(), new.cloned().unwrap_or_default());
            }
        }
    }
    patch.retain(|_, value| !value.is_null());
    Some(patch)
}

fn apply_patch(peer: &mut Map<String, Value>, patch: &Map<String, Value>) {
    for (field, value) in patch {
        let is_zero = check::is_zero(value);
        match field.as_str() {
            "NodeID" => {}
            _ if value.is_null() => {}
            // Zero means "unchanged".
            "DERPRegion" | "Cap" if is_zero => {}
            "DERPRegion" => {
                peer.insert("HomeDERP".into(), value.clone());
            }
            "Online" => {
                peer.insert(field.clone(), value.clone());
            }
            // The rest is set to what is there, "none" included.
            _ if is_zero => {
                peer.remove(field);
            }
            "CapMap" => {
                let caps = Map::from_iter([(field.clone(), value.clone())]);
                peer.extend(node::normalise(&caps).remove_entry("CapMap"));
            }
            _ => {
                peer.insert(field.clone(), value.clone());
            }
        }
    }
}
