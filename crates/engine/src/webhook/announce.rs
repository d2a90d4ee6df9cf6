//! From the events of a change to the notices for the endpoints, in the change's own transaction: an
//! endpoint is told of what is stored, and of nothing else.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

use bowline_model::event::Event;
use bowline_model::id::WebhookId;
use bowline_model::record::RawJson;
use bowline_model::webhook::Notice;
use bowline_netmap::snapshot::Snapshot;
use jiff::Timestamp;

use super::queue::{Queues, expires, notice_id, put};
use super::told::{Context, Told};
use crate::core::draft::{Draft, Noted};
use crate::core::engine::{Handle, Inner, Settings};
use crate::core::failure::StoreFailure;

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
