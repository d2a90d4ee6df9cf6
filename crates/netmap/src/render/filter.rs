//! The packet filter of a device: the policy's rules, narrowed to it.

use std::collections::BTreeMap;

use bowline_policy::FilterRule;
use bowline_wire::map_response::BASE_FILTER;
use serde_json::json;

use crate::chunk::Entry;
use crate::json::push_json;
use crate::snapshot::Snapshot;

/// The rules of a device by the name of their part. Empty: it accepts nothing, because no rule
/// lets anybody in, or because it waits for approval, its user may not use the network, or its key has expired.
pub(crate) fn parts(entry: &Entry, snapshot: &Snapshot) -> BTreeMap<String, Vec<FilterRule>> {
    let mut parts: BTreeMap<String, Vec<FilterRule>> = BTreeMap::new();
    if !entry.sees_peers() {
        return parts;
    }
    let policy = snapshot.applied_policy();
    let rules = policy.net().placed_filters_for(entry.device.id.get());
    for (place, rule) in rules.unwrap_or_default() {
        parts
            .entry(policy.filter_name(place))
            .or_default()
            .push(rule);
    }
    parts
}

/// Appends `"PacketFilters":{…},`: all parts of a filter. One without rules has a part too, since
/// clients keep the filter that they have when they are sent none.
pub(crate) fn push(text: &mut String, parts: &BTreeMap<String, Vec<FilterRule>>) {
    if parts.is_empty() {
        push_field(text, &json!({ BASE_FILTER: [] }));
    } else {
        push_field(text, parts);
    }
}

/// Appends the parts that are others than before. A part that is gone is sent empty: that is the
/// same to clients, and not all of them can read the `null` that would take its name away.
pub(crate) fn push_changes(
    text: &mut String,
    old: &BTreeMap<String, Vec<FilterRule>>,
    new: &BTreeMap<String, Vec<FilterRule>>,
) {
    let empty = Vec::new();
    let changed = new
        .iter()
        .filter(|(name, rules)| old.get(*name) != Some(rules));
    let gone = old.keys().filter(|name| !new.contains_key(*name));
    let parts: BTreeMap<&String, &Vec<FilterRule>> =
        changed.chain(gone.map(|name| (name, &empty))).collect();
    if !parts.is_empty() {
        push_field(text, &parts);
    }
}

fn push_field<T: serde::Serialize>(text: &mut String, parts: &T) {
    text.push_str(r#""PacketFilters":"#);
    push_json(text, parts);
    text.push(',');
}
