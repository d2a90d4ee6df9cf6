//! Profiles of the owners of all that a class of viewers sees.

use std::collections::BTreeSet;

use bowline_wire::map_request::Encoding;
use bytes::Bytes;

use crate::codec;
use crate::json::push_json;
use crate::render::{node, profiles};
use crate::snapshot::Snapshot;
use crate::view::View;

/// The profiles of the owners that one perspective sees in one snapshot.
#[derive(Debug)]
pub(crate) struct OwnerProfiles {
    pub(crate) owners: BTreeSet<u64>,
    /// With commas between them, encoded.
    pub(crate) bytes: Bytes,
}

impl OwnerProfiles {
    pub(crate) fn of(view: &View, snapshot: &Snapshot, encoding: Encoding) -> Self {
        let owners: BTreeSet<u64> = view
            .entries(snapshot)
            .map(|entry| node::owner_id(&entry.device))
            .collect();
        let mut text = String::new();
        for id in &owners {
            if !text.is_empty() {
                text.push(',');
            }
            push_json(&mut text, &profiles::of_owner(*id, snapshot));
        }
        let bytes = codec::encode(text.as_bytes(), encoding);
        Self { owners, bytes }
    }
}
