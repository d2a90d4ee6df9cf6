//! What waits for an endpoint and what it was not told: to be seen, and to be replayed.

use std::collections::BTreeSet;

use bowline_model::event::{Event, WebhookRef};
use bowline_model::id::{NoticeId, TailnetId, WebhookId};
use bowline_model::kind::Cold;
use bowline_model::webhook::{Notice, Progress, Undelivered};
use bowline_store::{Condition, Error, Trouble};

use super::queue::{self, notice_id};
use crate::core::actor::Actor;
use crate::core::engine::Engine;
use crate::core::failure::{Refusal, StoreFailure};

/// The most entries of each kind that are shown or replayed at once: the oldest.
pub const SHOWN_MAX: usize = 1000;
/// Rows that are read at once.
const PAGE: usize = 500;

/// How an endpoint is being told.
#[derive(Debug, Clone, PartialEq)]
pub struct Deliveries {
    /// How far it has been told, and how the last attempts went. Absent: nothing was tried yet.
    pub progress: Option<Progress>,
    /// What waits, in the order in which it is told.
    pub waiting: Vec<Notice>,
    /// What was given up, the oldest first.
    pub undelivered: Vec<Undelivered>,
}

fn unreadable(error: Error) -> StoreFailure {
    match error {
        Error::Unavailable(trouble) => StoreFailure::Unavailable(trouble),
        other @ Error::Malformed(_) => {
            StoreFailure::Unavailable(Trouble::new(Condition::Failed, other))
        }
    }
}

impl Engine {
    /// What waits for an endpoint and what it was not told.
    ///
    /// # Errors
    /// `NotFound` where there is none.
    pub async fn webhook_deliveries(
        &self,
        actor: &Actor,
        id: WebhookId,
    ) -> Result<Deliveries, Refusal> {
        self.webhook(actor, id)?;
        let tailnet = actor.tailnet;
        let progress = self.cold::<Progress>(tailnet, id).await;
        let progress = progress.map_err(unreadable)?.map(|body| body.record);
        let after = progress.as_ref().map(|progress| progress.after);
        let waiting = self
            .those(tailnet, after, |notice: &Notice| notice.to.contains(&id))
            .await?;
        let undelivered = self
            .those(tailnet, None, |one: &Undelivered| one.endpoint == id)
            .await?;
        Ok(Deliveries {
            progress,
            waiting,
            undelivered,
        })
    }

    /// Objects of a cold kind that match, by id, at most [`SHOWN_MAX`].
    async fn those<T: Cold<Id = NoticeId>>(
        &self,
        tailnet: TailnetId,
        mut after: Option<NoticeId>,
        matches: impl Fn(&T) -> bool,
    ) -> Result<Vec<T>, Refusal> {
        let mut found = Vec::new();
        loop {
            let page = self.cold_page::<T>(tailnet, after, PAGE).await;
            let page = page.map_err(unreadable)?;
            let is_last = page.len() < PAGE;
            for body in page {
                after = Some(body.record.id(tailnet));
                if matches(&body.record) {
                    found.push(body.record);
                    if found.len() == SHOWN_MAX {
                        return Ok(found);
                    }
                }
            }
            if is_last {
                return Ok(found);
            }
        }
    }

    /// Tells an endpoint again what it was not told: these entries, or all of them (at most
    /// [`SHOWN_MAX`] at once). They go behind what waits already. Returns how many it is told.
    ///
    /// # Errors
    /// `NotFound` where there is no such endpoint, or no such entry of it.
    pub async fn replay_webhook(
        &self,
        actor: &Actor,
        id: WebhookId,
        entries: Option<BTreeSet<NoticeId>>,
    ) -> Result<u64, Refusal> {
        actor.check_change()?;
        let endpoint = WebhookRef::of(&*self.webhook(actor, id)?);
        let tailnet = actor.tailnet;
        let is_asked = |one: &Undelivered| {
            one.endpoint == id && entries.as_ref().is_none_or(|ids| ids.contains(&one.id))
        };
        let found = self.those(tailnet, None, is_asked).await?;
        if entries.is_some_and(|entries| entries.len() > found.len()) {
            return Err(Refusal::NotFound);
        }
        let mut again = Vec::with_capacity(found.len());
        for one in found {
            let notice = self.cold::<Notice>(tailnet, one.notice).await;
            if let Some(notice) = notice.map_err(unreadable)? {
                again.push((one.id, notice.record));
            }
        }
        if again.is_empty() {
            return Ok(0);
        }
        let settings = self.0.settings.clone();
        self.write(actor, move |draft| {
            draft.view().webhook(id).ok_or(Refusal::NotFound)?;
            for (entry, notice) in &again {
                draft.remove_cold::<Undelivered>(*entry);
                let notice = Notice {
                    id: notice_id(draft)?,
                    to: [id].into(),
                    expires: queue::expires(draft.now(), &settings),
                    ..notice.clone()
                };
                queue::put(draft, notice)?;
            }
            let events = again.len() as u64;
            draft.audit(Event::WebhookReplayed {
                endpoint: endpoint.clone(),
                events,
            });
            Ok(events)
        })
        .await
    }
}
