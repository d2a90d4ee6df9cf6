//! Following what another process wrote.

use bowline_store::Loaded;

use super::Writer;
use crate::draft::Changes;
use crate::engine::OpenError;
use crate::load;

impl Writer {
    /// Another process wrote: builds the snapshot again from the rows, with our soft state.
    pub(super) fn catch_up(&mut self, loaded: &Loaded) -> Result<(), OpenError> {
        let mut snapshot = load::build(self.handle.id, loaded, self.engine.derp_map.clone())?;
        let mut changes = Changes::default();
        for entry in self.current.devices() {
            changes.touched_devices.insert(entry.device.id);
            snapshot.set_live(entry.device.id, (*entry.live).clone());
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
