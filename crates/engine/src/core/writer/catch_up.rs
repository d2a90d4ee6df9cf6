//! Following what another process wrote.

use std::sync::Arc;

use bowline_model::device::Device;
use bowline_model::id::{DeviceId, KeyId};
use bowline_netmap::snapshot::Snapshot;
use bowline_store::{CatchUp, Kind, Loaded, Owner, Row};

use super::Writer;
use crate::core::draft::{Changes, Draft};
use crate::core::engine::{Inner, OpenError};
use crate::core::load;

/// What of an owner changed after a sequence number. Everything of a tailnet, where something went that a
/// snapshot does not forget piece by piece.
pub(crate) async fn changed_since(
    engine: &Inner,
    owner: impl Into<Owner>,
    since: u64,
) -> Result<CatchUp, bowline_store::Error> {
    let owner = owner.into();
    let found = engine.store.catch_up(owner, since).await?;
    let is_piecewise = |(kind, _): &(Kind, u64)| matches!(kind, Kind::Device | Kind::Key);
    if found.whole || owner == Owner::Server || found.gone.iter().all(is_piecewise) {
        return Ok(found);
    }
    let Loaded { seq, rows, .. } = engine.store.load(owner).await?;
    Ok(CatchUp {
        seq,
        whole: true,
        rows,
        gone: Vec::new(),
    })
}

impl Writer {
    /// Takes in what was read because another process had the database. Not while a commit is under
    /// way: it was made from the state of before, and its end comes first.
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
        if found.seq <= self.current.seq {
            return Ok(());
        }
        if found.whole {
            return self.replace(found);
        }
        let (snapshot, changes) = self.followed(found)?;
        for id in &changes.touched_devices {
            // What the device reported here and was not stored yet is reported again.
            self.reported.remove(id);
        }
        self.publish(snapshot, &changes);
        Ok(())
    }

    /// Applies rows as a draft applies changes, so that the same follows from them.
    fn followed(&self, found: &CatchUp) -> Result<(Snapshot, Changes), OpenError> {
        let engine = Arc::clone(&self.engine);
        let mut draft = Draft::new(
            self.current.clone(),
            engine.clock.now(),
            &engine.ids,
            &*engine.random,
        );
        for (kind, id) in &found.gone {
            match kind {
                Kind::Device => {
                    if let Some(id) = DeviceId::new(*id) {
                        draft.remove_device(id);
                    }
                }
                Kind::Key => {
                    if let Some(id) = KeyId::new(*id) {
                        draft.remove_credential(id);
                    }
                }
                // A snapshot does not forget these piece by piece, and others are the server's.
                _ => {}
            }
        }
        for row in &found.rows {
            self.apply(&mut draft, row)?;
            engine.ids.skip(row.id);
        }
        let (mut snapshot, changes) = (draft.snapshot, draft.changes);
        snapshot.seq = found.seq;
        Ok((snapshot, changes))
    }

    fn apply(&self, draft: &mut Draft<'_>, row: &Row) -> Result<(), OpenError> {
        let tailnet = self.handle.id;
        match row.kind {
            Kind::Tailnet => draft.set_tailnet(load::read(tailnet, row)?),
            Kind::User => draft.put_user(load::read(tailnet, row)?),
            Kind::Device => draft.put_device(load::read(tailnet, row)?),
            Kind::Key => draft.put_credential(load::read(tailnet, row)?),
            Kind::Dns => draft.set_dns(load::read(tailnet, row)?),
            Kind::Policy => draft.set_policy(load::read(tailnet, row)?),
            Kind::WaitingLogin | Kind::SshCheck | Kind::SshConfirmation => {} // the server's
        }
        Ok(())
    }

    /// Builds the snapshot again from all rows: much has changed.
    fn replace(&mut self, found: &CatchUp) -> Result<(), OpenError> {
        let loaded = Loaded {
            seq: found.seq,
            rows: found.rows.clone(),
            presence: Vec::new(),
        };
        let mut snapshot = load::build(self.handle.id, &loaded, self.engine.derp_map.clone())?;
        let mut changes = Changes::default();
        for entry in self.current.devices() {
            changes.touched_devices.insert(entry.device.id);
            snapshot.set_live(entry.device.id, (*entry.live).clone());
            let new = snapshot.device(entry.device.id);
            if new.is_none_or(|new| revokes(&entry.device, &new.device)) {
                changes.revoked.push(entry.device.node_key);
            }
        }
        for row in &found.rows {
            self.engine.ids.skip(row.id);
        }
        changes
            .touched_devices
            .extend(snapshot.devices().map(|entry| entry.device.id));
        changes
            .touched_credentials
            .extend(self.current.credentials().map(|c| c.id));
        changes
            .touched_credentials
            .extend(snapshot.credentials().map(|c| c.id));
        self.reported.clear();
        changes.everything = true;
        self.publish(snapshot, &changes);
        Ok(())
    }
}

/// Whether the node key of the old record is no longer good under the new one.
fn revokes(old: &Device, new: &Device) -> bool {
    old.node_key != new.node_key
        || (new.expired && !old.expired)
        || (!new.authorized && old.authorized)
}
