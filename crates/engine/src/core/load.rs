//! Reading a tailnet from the store.

use std::panic::{AssertUnwindSafe, catch_unwind};

use bowline_model::device::Live;
use bowline_model::id::{DeviceId, TailnetId};
use bowline_model::record;
use bowline_netmap::hot::hot;
use bowline_netmap::snapshot::Snapshot;
use bowline_store::{Kind, Loaded};
use jiff::{SignedDuration, Timestamp};

use crate::core::engine::{Engine, OpenError};

/// Presence is believed when the server was alive this recently; then everybody is expected back.
const PRESENCE_EXPIRY: SignedDuration = SignedDuration::from_mins(5);

impl Engine {
    /// Reads a tailnet's rows.
    pub(crate) async fn read(&self, id: TailnetId) -> Result<Loaded, OpenError> {
        let loaded = self.0.store.load(id).await?;
        // Audit events have ids too, and are not in the snapshot.
        let last = self
            .0
            .store
            .changes(id, loaded.seq.saturating_sub(1), 1)
            .await?;
        if let Some(change) = last.first() {
            self.0.ids.skip_time(change.at);
        }
        Ok(loaded)
    }

    /// Builds a tailnet from its rows and applies its policy, which can take long. `None` where its
    /// stored state panics when it is put into force.
    pub(crate) fn put_into_force(
        &self,
        id: TailnetId,
        loaded: &Loaded,
    ) -> Option<Result<Snapshot, OpenError>> {
        let make = || {
            let mut snapshot = build(id, loaded, self.0.derp_map.clone())?;
            let is_believed = self.0.settings.serves_devices;
            restore_presence(&mut snapshot, loaded, is_believed, self.0.clock.now());
            #[cfg(test)]
            crate::core::writer::panic_on_purpose(&snapshot);
            snapshot.apply_policy();
            Ok(snapshot)
        };
        catch_unwind(AssertUnwindSafe(make)).ok()
    }
}

/// Builds a snapshot from rows: the same as applying the changes that wrote them one by one.
pub(crate) fn build(
    id: TailnetId,
    loaded: &Loaded,
    derp_map: std::sync::Arc<bowline_netmap::DerpMap>,
) -> Result<Snapshot, OpenError> {
    let own = loaded
        .rows
        .iter()
        .find(|row| row.kind == Kind::Tailnet)
        .ok_or(OpenError::NoTailnet(id))?;
    let tailnet =
        record::decode(&own.body).map_err(|error| OpenError::of_row(id.into(), own, error))?;
    let mut snapshot = Snapshot::new(tailnet, derp_map);
    for row in &loaded.rows {
        if let Some(objects) = hot(row.kind) {
            objects
                .read(&mut snapshot, row.id, &row.body)
                .map_err(|error| OpenError::of_row(id.into(), row, error))?;
        }
    }
    snapshot.seq = loaded.seq;
    Ok(snapshot)
}

fn restore_presence(snapshot: &mut Snapshot, loaded: &Loaded, is_believed: bool, now: Timestamp) {
    // While there is a stream, some row is written often: the newest says when the server was
    // last alive.
    let alive = loaded.presence.iter().map(|row| row.at).max();
    let believed = alive.is_some_and(|at| now.duration_since(at) <= PRESENCE_EXPIRY);
    for row in &loaded.presence {
        let Some(id) = DeviceId::new(row.device) else {
            continue;
        };
        // Soft state that cannot be read is soft state that is not known.
        let Ok(mut live) = record::decode::<Live>(&row.body) else {
            continue;
        };
        if live.online && !(believed && is_believed) {
            live.online = false;
            live.last_seen = Some(alive.unwrap_or(row.at));
        }
        snapshot.set_live(id, live);
    }
}

/// Says that a tailnet's policy file is not in force.
pub(crate) fn tell_fault(snapshot: &Snapshot) {
    if let Some(fault) = snapshot.policy_fault() {
        tracing::error!(
            tailnet.id = %snapshot.id(),
            fault,
            "the policy file of a tailnet is not in force, and nothing is allowed there; set another"
        );
    }
}
