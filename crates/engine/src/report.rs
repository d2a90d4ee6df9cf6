//! What a device reports about itself: endpoints, home relay, host info.

use std::net::SocketAddr;

use bowline_model::device::{Device, HostFacts, Live};
use bowline_model::id::{DeviceId, TailnetId};
use bowline_model::key::DiscoKey;
use bowline_model::name;
use bowline_model::record::RawJson;

use crate::device::free_name;
use crate::draft::Draft;
use crate::engine::Engine;

/// A device's report. Absent: it said nothing of this.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Report {
    /// Capability version.
    pub capability_version: u32,
    /// Path discovery key.
    pub disco_key: Option<DiscoKey>,
    /// Where it may be reached.
    pub endpoints: Option<Vec<SocketAddr>>,
    /// Host info without `NetInfo`, and what the server uses of it.
    pub hostinfo: Option<(RawJson, HostFacts)>,
    /// Its network report, and the region it wants to be reached through (0: not known yet).
    pub net_info: Option<(RawJson, u32)>,
}

impl Engine {
    /// Takes a report in. Published at once; soft state is flushed in batches, and reported facts
    /// are durable within a second. What did not change changes nothing for anybody.
    pub async fn report(&self, tailnet: TailnetId, device: DeviceId, report: Report) {
        let Some(handle) = self.handle(tailnet) else {
            return;
        };
        let is_settled = handle.is_settled(); // before the snapshot is looked at
        let entry = handle.snapshot.load().device(device).cloned();
        // Clients repeat themselves often: most reports end here, unless an earlier report that
        // says otherwise may still be on its way.
        let Some(entry) = entry else { return };
        if is_settled
            && record(&entry.device, &report).is_none()
            && live(&entry.live, &report).is_none()
        {
            return;
        }
        Self::soften(&handle, move |draft| apply(draft, device, &report)).await;
    }
}

fn live(old: &Live, report: &Report) -> Option<Live> {
    let mut live = old.clone();
    if report.disco_key.is_some() {
        live.disco_key = report.disco_key;
    }
    if let Some(endpoints) = &report.endpoints {
        live.endpoints.clone_from(endpoints);
    }
    if let Some((json, home)) = &report.net_info {
        live.net_info = Some(json.clone());
        if *home != 0 {
            live.home_derp = *home;
        }
    }
    (live != *old).then_some(live)
}

fn record(old: &Device, report: &Report) -> Option<Device> {
    let mut device = old.clone();
    if report.capability_version != 0 {
        device.capability_version = report.capability_version;
    }
    if let Some((json, facts)) = &report.hostinfo {
        device.hostinfo = json.clone();
        device.facts = facts.clone();
    }
    (device != *old).then_some(device)
}

fn apply(draft: &mut Draft<'_>, id: DeviceId, report: &Report) {
    let Some(entry) = draft.view().device(id).cloned() else {
        return;
    };
    if let Some(mut device) = record(&entry.device, report) {
        if !device.name_given && device.facts.hostname != entry.device.facts.hostname {
            device.name = free_name(
                draft.view(),
                &name::sanitise(&device.facts.hostname),
                Some(id),
            );
        }
        draft.report_device(device);
    }
    if let Some(live) = live(&entry.live, report) {
        draft.set_live(id, live);
    }
}
