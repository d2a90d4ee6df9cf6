//! From the events of a change to the notices for the endpoints, in the change's own transaction: an
//! endpoint is told of what is stored, and of nothing else.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::Ordering;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bowline_model::event::Event;
use bowline_model::id::WebhookId;
use bowline_model::record::RawJson;
use bowline_model::webhook::Notice;
use bowline_netmap::snapshot::Snapshot;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::deliver::{self, notice_id};
use super::told::{Context, Told};
use crate::core::draft::{Draft, Emitted, Noted};
use crate::core::engine::{Handle, Inner, Settings};
use crate::core::failure::StoreFailure;
use crate::core::jobs::later;

/// How many events wait for each endpoint of a tailnet, about: what a change adds that is not stored
/// after all is taken back when the endpoint has been told of everything.
#[derive(Debug, Default)]
pub(crate) struct Queues(Mutex<HashMap<WebhookId, u64>>);

impl Queues {
    fn all(&self) -> MutexGuard<'_, HashMap<WebhookId, u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many wait.
    pub(crate) fn waiting(&self, id: WebhookId) -> u64 {
        self.all().get(&id).copied().unwrap_or(0)
    }

    fn add(&self, id: WebhookId) {
        *self.all().entry(id).or_default() += 1;
    }

    /// So many wait no more; where it is known, how many are left.
    pub(crate) fn done(&self, id: WebhookId, count: u64, left: Option<u64>) {
        let mut all = self.all();
        let waiting = all.get(&id).copied().unwrap_or(0).saturating_sub(count);
        match left.unwrap_or(waiting) {
            0 => all.remove(&id),
            left => all.insert(id, left),
        };
    }
}

/// Makes the notices of the events of one change.
pub(crate) fn follow(
    engine: &Inner,
    handle: &Handle,
    draft: &mut Draft<'_>,
    before: &Snapshot,
) -> Result<(), StoreFailure> {
    if draft.view().webhook_count() == 0 && before.webhook_count() == 0 {
        return Ok(());
    }
    let queues = handle.memory.get(Queues::default);
    // The list is not changed meanwhile: notices are no events.
    let events: Vec<Noted> = draft.changes.events.clone();
    for noted in &events {
        for kind in noted.event.webhooks() {
            let mut to: BTreeSet<WebhookId> = match own_endpoint(&noted.event) {
                Some(own) => [own].into(),
                None => draft
                    .view()
                    .webhooks()
                    .filter(|endpoint| endpoint.is_told_of(*kind))
                    .map(|endpoint| endpoint.id)
                    .collect(),
            };
            if !kind.is_about_endpoint() {
                to.retain(|id| has_room(engine, &queues, *id));
            }
            if to.is_empty() {
                continue;
            }
            let context = Context {
                states: [draft.view(), before],
                actor: &noted.actor,
                server_url: &engine.settings.url,
            };
            let Some(told) = context.told(&noted.event, *kind) else {
                continue;
            };
            for id in &to {
                queues.add(*id);
            }
            tell(draft, to, noted.at, told, &engine.settings)?;
        }
    }
    Ok(())
}

/// The endpoint that an event is about, which alone is told of it.
fn own_endpoint(event: &Event) -> Option<WebhookId> {
    match event {
        Event::WebhookSubscriptions { endpoint, .. } | Event::WebhookSecret { endpoint, .. } => {
            Some(endpoint.id)
        }
        Event::WebhookDeleted { endpoint } => Some(endpoint.id),
        _ => None,
    }
}

fn has_room(engine: &Inner, queues: &Queues, id: WebhookId) -> bool {
    let waiting = queues.waiting(id);
    let bound = engine.settings.webhooks.queue;
    if waiting < bound {
        return true;
    }
    let dropped = &engine.counters.webhook_events_dropped;
    dropped.fetch_add(1, Ordering::Relaxed);
    tracing::debug!(webhook.id = %id.stable(), waiting, "an event is not told: too many wait for the endpoint");
    false
}

/// Writes a notice, and has it delivered.
pub(crate) fn tell(
    draft: &mut Draft<'_>,
    to: BTreeSet<WebhookId>,
    at: Timestamp,
    told: Told,
    settings: &Settings,
) -> Result<(), StoreFailure> {
    let data = RawJson::of(&told.data)
        .map_err(|_| StoreFailure::Defect("the data of an event cannot be encoded"))?;
    let notice = Notice {
        id: notice_id(draft)?,
        to,
        at,
        event: told.event.as_str().to_owned(),
        tailnet: draft.view().tailnet().name.clone(),
        message: told.message,
        data,
        texts: told.texts,
        farewell: told.farewell,
        expires: expires(at, settings),
    };
    put(draft, notice)
}

/// Writes a notice as it is, and has it delivered.
pub(crate) fn put(draft: &mut Draft<'_>, notice: Notice) -> Result<(), StoreFailure> {
    for id in &notice.to {
        draft.emit(job(*id));
    }
    draft.put_cold(&notice.into())
}

/// The job that tells an endpoint what waits for it. One of an endpoint waits, and runs after the one
/// that is being done.
pub(crate) fn job(id: WebhookId) -> Emitted {
    let name = format!("{}/{id}", deliver::WORK.topic);
    Emitted {
        topic: deliver::WORK.topic,
        lane: Some(name.clone()),
        name: Some(name),
        body: json!({ "endpoint": id }),
    }
}

/// Until when a notice is kept: longer than somebody may replay it.
pub(crate) fn expires(at: Timestamp, settings: &Settings) -> Timestamp {
    let kept = settings.webhooks.give_up_after.saturating_mul(2);
    let until = later(at, kept.saturating_add(settings.retention.deliveries));
    until.min(Timestamp::MAX - SignedDuration::from_secs(1))
}
