//! What a device reports about itself: endpoints, home relay, host info.
//!
//! Most of it is published at once and stored soon after. What has an effect that is a change of its
//! own, other tags or routes, is decided in a durable change with an audit event.
//!
//! Source: `docs/protocol/control-protocol.md`, sections 4.10 and 5.1.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bowline_model::device::{Device, Live, REQUEST_TAGS, WHOLE_HOSTINFO};
use bowline_model::event::{DeviceRef, Event};
use bowline_model::id::{DeviceId, TailnetId};
use bowline_model::name;
use bowline_model::tag::Tag;
use bowline_netmap::chunk::Entry;
use bowline_netmap::snapshot::Snapshot;
use bowline_policy::TagAssigner;

use crate::core::actor::Actor;
use crate::core::draft::Draft;
use crate::core::engine::{Engine, Handle};
use crate::core::failure::Refusal;
use crate::core::job::OnItsWay;
use crate::device::allowance::{Rate, Turn, allowances};
use crate::device::approval::approve_routes;
use crate::device::audit_expiry_enabled;
use crate::device::name::free_name;
use crate::device::reported::Report;
use crate::device::tag::tag_texts;

/// How long a device that asks for something waits until it is decided.
const DECIDED_WITHIN: Duration = Duration::from_secs(1);

impl Engine {
    /// Takes a report in. Published at once; soft state is flushed in batches, and reported facts
    /// are durable within a second. What did not change changes nothing for anybody.
    ///
    /// A device that reports changes more often than
    /// [`report_burst`](crate::Settings::report_burst) and
    /// [`report_interval`](crate::Settings::report_interval) let it is heard later, and then of its
    /// newest state.
    pub async fn report(&self, tailnet: TailnetId, device: DeviceId, report: Report) {
        let Some(handle) = self.handle(tailnet) else {
            return;
        };
        let has_no_pending_reports = handle.pending.has_no_pending_reports(device); // before the snapshot is looked at
        let snapshot = handle.snapshot();
        // Clients repeat themselves often: most reports end here, unless an earlier report that
        // says otherwise may still be on its way.
        let Some(entry) = snapshot.device(device) else {
            return;
        };
        let is_news = differs(&entry.device, &report).is_some()
            || live(&entry.live, &report).is_some()
            || may_have_refused(&snapshot, &entry.device, &report);
        if has_no_pending_reports && !is_news && !allowances(&handle).is_holding(device) {
            return;
        }
        let now = tokio::time::Instant::now();
        match allowances(&handle).take(device, report, self.report_rate(), now) {
            Turn::Now { report, rests } => {
                if rests {
                    tracing::info!(tailnet.id = %tailnet, device.id = %device, "a device changes what it reports at a usual rate again");
                }
                self.take_in(&handle, device, *report).await;
            }
            Turn::Later { wait, begins } => {
                self.0.counters.reports_held.fetch_add(1, Ordering::Relaxed);
                if begins {
                    tracing::warn!(tailnet.id = %tailnet, device.id = %device, "a device changes what it reports more often than its peers are told: they hear of its newest state later");
                }
                self.take_in_after(&handle, device, wait);
            }
            Turn::Joined => {
                self.0.counters.reports_held.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    pub(crate) fn report_rate(&self) -> Rate {
        Rate {
            burst: self.0.settings.report_burst,
            interval: self.0.settings.report_interval,
        }
    }

    fn take_in_after(&self, handle: &Arc<Handle>, device: DeviceId, wait: Duration) {
        let (engine, handle, stop) = (self.clone(), handle.clone(), self.0.stop.clone());
        self.0.tasks.spawn(async move {
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = stop.cancelled() => return,
            }
            let now = tokio::time::Instant::now();
            let held = allowances(&handle).release(device, engine.report_rate(), now);
            if let Some(report) = held {
                engine.take_in(&handle, device, report).await;
            }
        });
    }

    async fn take_in(&self, handle: &Arc<Handle>, device: DeviceId, mut report: Report) {
        let tailnet = handle.id;
        let has_no_pending_reports = handle.pending.has_no_pending_reports(device);
        let snapshot = handle.snapshot();
        let Some(entry) = snapshot.device(device) else {
            return;
        };
        self.note_shortened(tailnet, entry, &report);
        // What another report says of the host may be on its way: then the order counts.
        let is_decided = !has_no_pending_reports
            || asks(&entry.device, &report)
            || may_have_refused(&snapshot, &entry.device, &report);
        let facts = report.hostinfo.take_if(|_| is_decided);
        let (capability_version, group) = (report.capability_version, report.group);
        // First, so that it is not later than what a later report says.
        Self::soften(handle, Some(device), move |draft| {
            apply(draft, device, &report);
        })
        .await;
        if facts.is_none() {
            return;
        }
        let asked = Report {
            capability_version,
            hostinfo: facts,
            group,
            ..Report::default()
        };
        let on_its_way = OnItsWay::new(handle.pending.clone(), Some(device));
        let deciding = self
            .clone()
            .decide_report(handle.clone(), device, asked, on_its_way);
        let deciding = self.0.tasks.spawn(deciding);
        // A stream that is opened after this finds what was decided, but a database that does not
        // answer keeps no device from its stream.
        let _ = tokio::time::timeout(DECIDED_WITHIN, deciding).await;
    }

    /// Decides in a durable change about what a device asks for.
    async fn decide_report(
        self,
        handle: Arc<Handle>,
        device: DeviceId,
        asked: Report,
        on_its_way: OnItsWay,
    ) {
        let tailnet = handle.id;
        let again = asked.clone();
        let actor = Actor::device(tailnet, device);
        let actor = match asked.group {
            Some(group) => actor.in_group(group),
            None => actor,
        };
        let decided: Result<(), Refusal> = self
            .write(&actor, move |draft| {
                let _until_the_end = &on_its_way;
                decide(draft, device, &asked);
                Ok(())
            })
            .await;
        // A device that was deleted meanwhile asks for nothing.
        let Err(Refusal::Store(failure)) = decided else {
            return;
        };
        if failure.is_condition() {
            tracing::debug!(error = failure.with_causes(), tailnet.id = %tailnet, device.id = %device, "could not store what a device asks for");
        } else {
            tracing::error!(error = failure.with_causes(), tailnet.id = %tailnet, device.id = %device, "could not store what a device asks for");
        }
        let soft = move |draft: &mut Draft<'_>| {
            let entry = draft.view().device(device);
            // As if it had not said what it asks for: it is asked again with the next report.
            if entry.is_some_and(|entry| !asks(&entry.device, &again)) {
                apply(draft, device, &again);
            }
        };
        Self::soften(&handle, Some(device), soft).await;
    }

    /// A limit that took effect is said, when it begins to.
    fn note_shortened(&self, tailnet: TailnetId, entry: &Entry, report: &Report) {
        let (mut device, mut soft) = (None, None);
        if report.hostinfo.is_some() || report.hostinfo_too_large {
            device = differs(&entry.device, report);
        }
        if report.endpoints_shortened || report.net_info.is_some() {
            soft = live(&entry.live, report);
        }
        let facts = device.as_ref().map(|device| &device.facts.shortened);
        let facts = facts.filter(|names| **names != entry.device.facts.shortened);
        let mut names: Vec<&str> = facts.into_iter().flatten().map(String::as_str).collect();
        if let Some(new) = &soft {
            let begins = |before: bool, after: bool| after && !before;
            let (old, flags) = (&entry.live, new);
            if begins(old.endpoints_shortened, flags.endpoints_shortened) {
                names.push("Endpoints");
            }
            if begins(old.net_info_shortened, flags.net_info_shortened) {
                names.push("NetInfo");
            }
        }
        if !names.is_empty() {
            self.0
                .counters
                .reports_shortened
                .fetch_add(1, Ordering::Relaxed);
            tracing::warn!(
                tailnet.id = %tailnet, device.id = %entry.device.id, members = %names.join(", "),
                "a device reports more than is taken: a part was left out or shortened"
            );
        }
    }
}

/// Whether a device asks for other tags than it did, advertises other routes, or says another thing of
/// whether those work.
fn asks(old: &Device, report: &Report) -> bool {
    report.hostinfo.as_ref().is_some_and(|(_, new)| {
        new.request_tags != old.facts.request_tags
            || new.advertised_routes != old.facts.advertised_routes
            || new.forwarding_off != old.facts.forwarding_off
    })
}

/// Takes host info in that asks for something, and decides about it.
fn decide(draft: &mut Draft<'_>, id: DeviceId, report: &Report) {
    let Some(old) = draft.view().device(id).map(|entry| entry.device.clone()) else {
        return;
    };
    let reconsidered = || may_have_refused(draft.view(), &old, report).then(|| (*old).clone());
    let Some(new) = record(draft, &old, report).or_else(reconsidered) else {
        return;
    };
    warn_of_forwarding(draft, &old, &new);
    match retag(draft, &old, &new) {
        Some(retagged) => draft.put(retagged),
        None => draft.report_device(new),
    }
    approve_routes(draft, id);
}

/// Notes that routes which a device advertises do not work, when it says so first.
fn warn_of_forwarding(draft: &mut Draft<'_>, old: &Device, new: &Device) {
    let is_new =
        !old.facts.forwarding_off || old.facts.advertised_routes != new.facts.advertised_routes;
    if new.facts.forwarding_off && is_new && !new.facts.advertised_routes.is_empty() {
        draft.audit(Event::DeviceForwardingOff {
            device: DeviceRef::of(new),
            routes: new.facts.advertised_routes.clone(),
        });
    }
}

/// The device with the tags that it asks for now. `None`: nothing becomes of it that is a change of
/// its own.
///
/// Tags that nobody may give it leave it as it is, and its user is told; a person's device whose
/// user may have the tags, and a tagged one that wants to be a person's, is logged out, since
/// somebody must log in for that.
fn retag(draft: &mut Draft<'_>, old: &Device, device: &Device) -> Option<Device> {
    let asked = tag_texts(&device.facts.request_tags);
    let own: Vec<String> = device.tags.iter().map(ToString::to_string).collect();
    let is_repeated = asked == tag_texts(&old.facts.request_tags) && old.refused_tags.is_empty();
    // Which tags it means is not known where they were not all read.
    if is_repeated || device.expired || device.facts.shortened.contains(REQUEST_TAGS) {
        return None;
    }
    let settled = || {
        (!device.refused_tags.is_empty()).then(|| Device {
            refused_tags: Vec::new(),
            ..device.clone()
        })
    };
    if asked == own {
        return with_event_of_refusal(draft, device, settled());
    }
    let refused = refused_tags(draft.view(), device, &asked);
    if !refused.is_empty() {
        let refused = (refused != device.refused_tags).then(|| Device {
            refused_tags: refused,
            ..device.clone()
        });
        return with_event_of_refusal(draft, device, refused);
    }
    // What a policy declares is a tag.
    let tags: BTreeSet<Tag> = asked.iter().filter_map(|tag| tag.parse().ok()).collect();
    let mut new = settled().unwrap_or_else(|| device.clone());
    if device.is_tagged() && !tags.is_empty() {
        draft.audit(Event::DeviceTags {
            device: DeviceRef::of(device),
            old: device.tags.clone(),
            new: tags.clone(),
        });
        new.tags = tags;
    } else {
        // A person's device cannot leave its owner, who may be suspended or know nothing of it, and
        // without tags it would be somebody's.
        let now = draft.now();
        audit_expiry_enabled(draft, device);
        draft.audit(Event::DeviceKeyExpired {
            device: DeviceRef::of(device),
            old: device.key_expiry,
            new: Some(now),
        });
        new.key_expiry = Some(now);
        new.key_expiry_disabled = false;
        new.expired = true;
        new.key_ended = true;
    }
    Some(new)
}

/// Notes that tags were refused to a device, or no longer are.
fn with_event_of_refusal(
    draft: &mut Draft<'_>,
    old: &Device,
    new: Option<Device>,
) -> Option<Device> {
    let new = new?;
    draft.audit(Event::DeviceTagsRefused {
        device: DeviceRef::of(old),
        old: old.refused_tags.clone(),
        new: new.refused_tags.clone(),
    });
    Some(new)
}

/// The most refused tags that are kept for a device.
const REFUSED_MAX: usize = 16;

/// The tags that a device asks for and may not have: of a tagged device what its tags do not own,
/// of a person's what its user does not.
fn refused_tags(snapshot: &Snapshot, device: &Device, asked: &[String]) -> Vec<String> {
    if asked.is_empty() {
        return Vec::new();
    }
    let own: Vec<String> = device.tags.iter().map(ToString::to_string).collect();
    let principal = match device.user {
        _ if device.is_tagged() => TagAssigner::Tags(&own),
        Some(user) => TagAssigner::User(user.get()),
        None => return asked.iter().take(REFUSED_MAX).cloned().collect(),
    };
    let judged = snapshot
        .compiled_for_people()
        .may_assign_tags(principal, asked);
    let mut refused = judged.err().unwrap_or_default();
    // Its own tags are refused together with others only: those others are what it cannot have.
    if refused.iter().any(|tag| !own.contains(tag)) {
        refused.retain(|tag| !own.contains(tag));
    }
    refused.truncate(REFUSED_MAX);
    refused
}

/// Whether a device that was refused tags asks for them still and may have them by now: the policy
/// changed, and nothing else would tell.
fn may_have_refused(snapshot: &Snapshot, device: &Device, report: &Report) -> bool {
    let Some((_, facts)) = &report.hostinfo else {
        return false;
    };
    !device.refused_tags.is_empty()
        && refused_tags(snapshot, device, &tag_texts(&facts.request_tags)).is_empty()
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
