//! Following what another process wrote.

use std::sync::Arc;

use bowline_model::device::Device;
use bowline_netmap::snapshot::Snapshot;
use bowline_store::{CatchUp, Loaded};

use super::Writer;
use crate::core::draft::{Changes, Draft};
use crate::core::engine::OpenError;
use crate::core::load;

impl Writer {
    /// Takes in what was read because another process had the database. Not while a commit is under
    /// way: it was made from the earlier state, and its end comes first.
    pub(super) fn follow(&mut self, found: &CatchUp) -> bool {
        if self.in_flight.is_some() {
            return false;
        }
        match self.catch_up(found) {
            Ok(()) => true,
            Err(error) => {
                let cause = crate::core::health::causes(&error);
                tracing::error!(error = cause, tailnet.id = %self.handle.id, "could not follow what another process wrote");
                false
            }
        }
    }

    /// Brings the snapshot to a newer state of the database, with our soft state. What stopped
    /// being good is revoked as if it had been changed here.
    pub(super) fn catch_up(&mut self, found: &CatchUp) -> Result<(), OpenError> {
        if found.seq <= self.current.snapshot().seq {
            return Ok(());
        }
        if found.whole {
            return self.replace(found);
        }
        let (snapshot, changes) = self.followed(found)?;
        for id in changes.touched::<Device>() {
            // What the device reported here and was not stored yet is reported again.
            self.reported.remove(&id);
        }
        self.publish(snapshot, &changes);
        Ok(())
    }

    /// Applies rows as a draft applies changes, so that the same follows from them.
    fn followed(&self, found: &CatchUp) -> Result<(Snapshot, Changes), OpenError> {
        let engine = Arc::clone(&self.engine);
        let mut draft = Draft::new(
            (**self.current.snapshot()).clone(),
            engine.clock.now(),
            &engine.ids,
            &*engine.random,
        );
        for (kind, number) in &found.gone {
            draft.take_out(*kind, *number);
        }
        for row in &found.rows {
            draft
                .take_in(row)
                .map_err(|error| OpenError::of_row(self.handle.id.into(), row, error))?;
            engine.ids.skip(row.id);
        }
        let (mut snapshot, changes) = (draft.snapshot, draft.changes);
        snapshot.seq = found.seq;
        Ok((snapshot, changes))
    }

    /// Builds the snapshot again from all rows: much has changed.
    fn replace(&mut self, found: &CatchUp) -> Result<(), OpenError> {
        let loaded = Loaded {
            seq: found.seq,
            rows: found.rows.clone(),
            presence: Vec::new(),
        };
        let mut snapshot = load::build(self.handle.id, &loaded, self.engine.derp_map.clone())?;
        for entry in self.current.snapshot().devices() {
            snapshot.set_live(entry.device.id, (*entry.live).clone());
        }
        for row in &found.rows {
            self.engine.ids.skip(row.id);
        }
        let changes = Changes::all_of(self.current.snapshot(), &snapshot);
        self.reported.clear();
        self.publish(snapshot, &changes);
        Ok(())
    }
}
