//! What a device reports about itself: endpoints, home relay, host info.
//!
//! Most of it is published at once and stored soon after. What has an effect that is a change of its
//! own, other tags or routes, is decided in a durable change with an audit event.
//!
//! Source: `control-protocol` facts, sections 4.10 and 5.1.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bowline_model::audit::ActorRef;
use bowline_model::device::{Device, HostFacts, Live, WHOLE_HOSTINFO};
use bowline_model::id::{DeviceId, TailnetId};
use bowline_model::key::DiscoKey;
use bowline_model::name;
use bowline_model::record::RawJson;

use serde_json::json;

use crate::admit::{Asking, granted, tag_texts};
use crate::approval::approve_routes;
use crate::device::free_name;
use crate::draft::Draft;
use crate::due::device_target;
use crate::engine::{Engine, Handle};
use crate::failure::StoreFailure;

/// A device's report. Absent: it said nothing of this.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Report {
    /// Capability version.
    pub capability_version: u32,
    /// Path discovery key.
    pub disco_key: Option<DiscoKey>,
    /// Where it may be reached.
    pub endpoints: Option<Vec<SocketAddr>>,
    /// It said more endpoints than are kept.
    pub endpoints_shortened: bool,
    /// Host info without `NetInfo`, and what the server uses of it.
    pub hostinfo: Option<(RawJson, HostFacts)>,
    /// Its host info was too large to be taken: the one before stays.
    pub hostinfo_too_large: bool,
    /// What it says of its network.
    pub net_info: Option<NetReport>,
}

/// What a device says of its network.
#[derive(Debug, Clone, PartialEq)]
pub struct NetReport {
    /// `NetInfo`.
    pub json: RawJson,
    /// The region that it wants to be reached through; 0: not known yet.
    pub home_derp: u32,
    /// Something in it did not fit.
    pub is_shortened: bool,
}

impl Engine {
    /// Takes a report in. Published at once; soft state is flushed in batches, and reported facts
    /// are durable within a second. What did not change changes nothing for anybody.
    pub async fn report(&self, tailnet: TailnetId, device: DeviceId, mut report: Report) {
        let Some(handle) = self.handle(tailnet) else {
            return;
        };
        let is_settled = handle.is_settled(); // before the snapshot is looked at
        let entry = handle.snapshot.load().device(device).cloned();
        // Clients repeat themselves often: most reports end here, unless an earlier report that
        // says otherwise may still be on its way.
        let Some(entry) = entry else { return };
        if is_settled
            && differs(&entry.device, &report).is_none()
            && live(&entry.live, &report).is_none()
        {
            return;
        }
        // What another report says of the host may be on its way: then the order counts.
        let is_decided = !is_settled || asks(&entry.device, &report);
        let facts = report.hostinfo.take_if(|_| is_decided);
        let capability_version = report.capability_version;
        // First, so that it is not later than what a later report says.
        Self::soften(&handle, move |draft| apply(draft, device, &report)).await;
        if facts.is_none() {
            return;
        }
        let asked = Report {
            capability_version,
            hostinfo: facts,
            ..Report::default()
        };
        let on_its_way = OnItsWay::new(handle.clone());
        let again = asked.clone();
        let decided: Result<(), StoreFailure> = self
            .write_as(tailnet, ActorRef::System, move |draft| {
                let _until_the_end = &on_its_way;
                decide(draft, device, &asked);
                Ok(())
            })
            .await;
        if let Err(error) = decided {
            tracing::error!(%error, tailnet.id = %tailnet, device.id = %device, "could not store what a device asks for");
            let soft = move |draft: &mut Draft<'_>| {
                let entry = draft.view().device(device);
                // As if it had not said what it asks for: it is asked again with the next report.
                if entry.is_some_and(|entry| !asks(&entry.device, &again)) {
                    apply(draft, device, &again);
                }
            };
            Self::soften(&handle, soft).await;
        }
    }
}

/// A durable change of what a device reports, counted as a change that is not in the snapshot yet
/// for as long as it is there: until it is, or was given up.
struct OnItsWay(Arc<Handle>);

impl OnItsWay {
    fn new(handle: Arc<Handle>) -> Self {
        handle.soft_pending.fetch_add(1, Ordering::AcqRel);
        Self(handle)
    }
}

impl Drop for OnItsWay {
    fn drop(&mut self) {
        self.0.soft_pending.fetch_sub(1, Ordering::Release);
    }
}

/// Whether a device asks for other tags or advertises other routes than it did.
fn asks(old: &Device, report: &Report) -> bool {
    report.hostinfo.as_ref().is_some_and(|(_, new)| {
        new.request_tags != old.facts.request_tags
            || new.advertised_routes != old.facts.advertised_routes
    })
}

/// Takes host info in that asks for something, and decides about it.
fn decide(draft: &mut Draft<'_>, id: DeviceId, report: &Report) {
    let Some(old) = draft.view().device(id).map(|entry| entry.device.clone()) else {
        return;
    };
    let Some(new) = record(draft, &old, report) else {
        return;
    };
    draft.act_as(ActorRef::Device {
        id,
        name: old.name.clone(),
    });
    match retag(draft, &old, &new) {
        Some(retagged) => draft.put_device(retagged),
        None => draft.report_device(new),
    }
    approve_routes(draft, id);
}

/// The device with the tags that it asks for now, or logged out where it may not have them: then
/// somebody must log in again. `None` where it asks for nothing else.
fn retag(draft: &mut Draft<'_>, old: &Device, device: &Device) -> Option<Device> {
    let asked = &device.facts.request_tags;
    let wanted = tag_texts(asked);
    let own: Vec<String> = device.tags.iter().map(ToString::to_string).collect();
    if wanted == tag_texts(&old.facts.request_tags) || wanted == own || device.expired {
        return None;
    }
    // Its tags alone speak for it. A person's device cannot leave its owner, who may be suspended or
    // know nothing of it, and without tags it would be somebody's: they must log in for that.
    let tags = granted(draft, asked, &Asking::Device(&device.tags))
        .ok()
        .filter(|tags| !tags.is_empty());
    let mut new = device.clone();
    if let Some(tags) = tags {
        draft.audit(
            "UPDATE",
            device_target(device, Some("ACL_TAGS")),
            json!(device.tags),
            json!(tags),
        );
        new.tags = tags;
    } else {
        let now = draft.now();
        draft.audit(
            "EXPIRED",
            device_target(device, Some("KEY_EXPIRY_TIME")),
            json!(device.effective_expiry()),
            json!(now),
        );
        new.key_expiry = Some(now);
        new.key_expiry_disabled = false;
        new.expired = true;
        new.key_ended = true;
    }
    Some(new)
}

fn live(old: &Live, report: &Report) -> Option<Live> {
    let mut live = old.clone();
    if report.disco_key.is_some() {
        live.disco_key = report.disco_key;
    }
    if let Some(endpoints) = &report.endpoints {
        live.endpoints.clone_from(endpoints);
        live.endpoints_shortened = report.endpoints_shortened;
    }
    if let Some(net) = &report.net_info {
        live.net_info = Some(net.json.clone());
        live.net_info_shortened = net.is_shortened;
        if net.home_derp != 0 {
            live.home_derp = net.home_derp;
        }
    }
    (live != *old).then_some(live)
}

fn differs(old: &Device, report: &Report) -> Option<Device> {
    let mut device = old.clone();
    if report.capability_version != 0 {
        device.capability_version = report.capability_version;
    }
    if let Some((json, facts)) = &report.hostinfo {
        device.hostinfo = json.clone();
        device.facts = facts.clone();
    }
    if report.hostinfo_too_large {
        device.facts.shortened.insert(WHOLE_HOSTINFO.to_owned());
    }
    (device != *old).then_some(device)
}

/// The record after a report; `None` where it says nothing new.
fn record(draft: &Draft<'_>, old: &Device, report: &Report) -> Option<Device> {
    let mut device = differs(old, report)?;
    if !device.name_given && device.facts.hostname != old.facts.hostname {
        device.name = free_name(
            draft.view(),
            &name::sanitise(&device.facts.hostname),
            Some(device.id),
        );
    }
    Some(device)
}

fn apply(draft: &mut Draft<'_>, id: DeviceId, report: &Report) {
    let Some(entry) = draft.view().device(id).cloned() else {
        return;
    };
    if let Some(device) = record(draft, &entry.device, report) {
        draft.report_device(device);
    }
    if let Some(live) = live(&entry.live, report) {
        draft.set_live(id, live);
    }
}
