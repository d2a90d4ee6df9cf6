//! What waits for endpoints: the log of notices, the job that tells an endpoint of them, and how many
//! wait.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bowline_model::id::{NoticeId, WebhookId};
use bowline_model::webhook::Notice;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use crate::core::draft::{Draft, Emitted};
use crate::core::engine::Settings;
use crate::core::failure::StoreFailure;
use crate::core::jobs::later;

/// The topic of the jobs that deliver.
pub(crate) const TOPIC: &str = "webhook";

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

    /// One more waits.
    pub(crate) fn add(&self, id: WebhookId) {
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

/// A number for a notice. It is greater than that of every notice of the tailnet so far.
pub(crate) fn notice_id(draft: &Draft<'_>) -> Result<NoticeId, StoreFailure> {
    NoticeId::new(draft.new_id()).ok_or(StoreFailure::Defect("ran out of ids"))
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
    let name = format!("{TOPIC}/{id}");
    Emitted {
        topic: TOPIC,
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
