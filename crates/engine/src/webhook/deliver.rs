//! Tells endpoints what waits for them: a job for each endpoint, one request at a time.
//!
//! A request carries what comes next in the log of notices. When it was taken, one change notes how far
//! the endpoint has been told and makes the next job; a process that dies in between makes the same
//! request again. So each event arrives at least once, and none before an earlier one was taken or
//! given up.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bowline_model::id::{NoticeId, TailnetId, WebhookId};
use bowline_model::record::Body;
use bowline_model::webhook::{Farewell, Notice, Progress, Provider, Undelivered, WebhookEndpoint};
use bowline_store::{Claim, Owner, SealError};
use jiff::Timestamp;
use serde_json::Value;
use zeroize::Zeroizing;

use super::queue::{self, Queues, TOPIC, notice_id};
use super::request::{self, Shown};
use super::{former_name, secret_name};
use crate::core::actor::Actor;
use crate::core::draft::Draft;
use crate::core::engine::{Engine, Work};
use crate::core::failure::{Refusal, StoreFailure};
use crate::core::job_log::JobFailed;
use crate::core::jobs::{back_off, later};
use crate::core::webhooks::{Courier, Delivery};

/// The most events of one request.
const BATCH: usize = 100;
/// The most bytes of their data, unless one alone has more. Policy files are not counted, which may
/// have megabytes.
const BATCH_BYTES: usize = 256 * 1024;
/// Rows of the log that are read at once.
const PAGE: usize = 200;
/// The wait for a tailnet that is not served yet.
const NOT_SERVED: Duration = Duration::from_mins(1);
/// The longest text that is kept of a failure, in characters.
const ERROR_CHARACTERS: usize = 300;

pub(crate) const WORK: Work = Work {
    topic: TOPIC,
    // Each takes as long as its receiver does, and costs nothing meanwhile.
    places: 256,
    // So long an endpoint waits after the process died that was telling it.
    lease: Duration::from_secs(10),
    every: None,
    run: |engine, claim| Box::pin(run(engine, claim)),
};

/// Who is told.
struct Receiver {
    tailnet: TailnetId,
    id: WebhookId,
    url: String,
    provider: Option<Provider>,
    /// Until when the former secret signs too.
    former_until: Option<Timestamp>,
}

/// What an endpoint is told next.
#[derive(Default)]
struct Next {
    notices: Vec<Notice>,
    /// How far the log was read: up to here there is nothing more for the endpoint.
    read_to: Option<NoticeId>,
    /// Whether the log ends there.
    is_all: bool,
}

async fn run(engine: Engine, claim: Claim) -> Result<(), JobFailed> {
    let Owner::Tailnet(tailnet) = claim.owner else {
        return Ok(());
    };
    let body: Value = serde_json::from_str(&claim.job.body).unwrap_or_default();
    let id = body.get("endpoint").and_then(Value::as_u64);
    let Some(id) = id.and_then(WebhookId::new) else {
        return Ok(());
    };
    let now = engine.now();
    let not_served = JobFailed::NotYet(later(now, NOT_SERVED));
    let Some(handle) = engine.handle(tailnet) else {
        return Err(not_served);
    };
    let courier = super::courier::of(&engine.0.settings);
    let progress = match engine.cold::<Progress>(tailnet, id).await? {
        Some(body) => body,
        None => Progress::of_new(id, NoticeId::MIN).into(),
    };
    let longest = later(now, back_off(u32::MAX));
    // A moment that lies farther away was written by a clock that was ahead.
    let retry_at = progress.record.retry_at.filter(|at| *at <= longest);
    if let Some(retry_at) = retry_at.filter(|at| *at > now) {
        return Err(JobFailed::NotYet(retry_at));
    }
    let endpoint = handle.snapshot().webhook(id).cloned();
    let next = next(&engine, tailnet, id, endpoint.as_deref(), &progress.record).await?;
    let queues = handle.memory.get(Queues::default);
    let Some(receiver) = receiver(tailnet, id, endpoint.as_deref(), &next) else {
        queues.done(id, 0, next.is_all.then_some(0));
        if endpoint.is_none() {
            forget(&engine, tailnet, id).await?;
        }
        return Ok(());
    };
    let count = next.notices.len() as u64;
    match send(&engine, &*courier, &receiver, &next.notices).await? {
        Ok(()) => {
            taken(&engine, &receiver, progress, &next).await?;
            queues.done(id, count, next.is_all.then_some(0));
            Ok(())
        }
        Err(error) => {
            let failed = not_taken(&engine, &receiver, progress, &next, error).await?;
            queues.done(id, failed.given_up, None);
            Err(failed.error)
        }
    }
}

/// The endpoint, or what is left of it where it is to be told of its own end. `None`: there is nothing
/// to be told.
fn receiver(
    tailnet: TailnetId,
    id: WebhookId,
    endpoint: Option<&WebhookEndpoint>,
    next: &Next,
) -> Option<Receiver> {
    let first = next.notices.first()?;
    let of = |url: &str, provider, former_until| Receiver {
        tailnet,
        id,
        url: url.to_owned(),
        provider,
        former_until,
    };
    match (endpoint, &first.farewell) {
        (Some(endpoint), _) => Some(of(&endpoint.url, endpoint.provider, endpoint.former_until)),
        (None, Some(Farewell { url, provider })) => Some(of(url, *provider, None)),
        (None, None) => None,
    }
}

/// Reads what comes next for an endpoint. Of one that was deleted, its end alone.
async fn next(
    engine: &Engine,
    tailnet: TailnetId,
    id: WebhookId,
    endpoint: Option<&WebhookEndpoint>,
    progress: &Progress,
) -> Result<Next, JobFailed> {
    let most = match endpoint {
        Some(WebhookEndpoint { provider: None, .. }) => BATCH,
        // A product's form has one message, and there is one farewell.
        _ => 1,
    };
    let mut next = Next {
        read_to: Some(progress.after),
        ..Next::default()
    };
    let mut bytes = 0;
    loop {
        let page = engine
            .cold_page::<Notice>(tailnet, next.read_to, PAGE)
            .await?;
        let is_last = page.len() < PAGE;
        for Body { record, .. } in page {
            let is_for_it =
                record.to.contains(&id) && (endpoint.is_some() || record.farewell.is_some());
            if is_for_it {
                bytes += record.data.as_str().len() + record.message.len();
                let is_full = next.notices.len() >= most || bytes > BATCH_BYTES;
                if is_full && !next.notices.is_empty() {
                    return Ok(next);
                }
            }
            next.read_to = Some(record.id);
            if is_for_it {
                next.notices.push(record);
            }
        }
        if is_last {
            next.is_all = true;
            return Ok(next);
        }
    }
}

/// Makes a request. The inner error says why it is to be made again.
async fn send(
    engine: &Engine,
    courier: &dyn Courier,
    receiver: &Receiver,
    notices: &[Notice],
) -> Result<Result<(), String>, JobFailed> {
    let mut shown = Vec::with_capacity(notices.len());
    for notice in notices {
        shown.push(data(engine, receiver.tailnet, notice).await?);
    }
    let body = if let (Some(provider), Some(notice), Some(data)) =
        (receiver.provider, notices.first(), shown.first())
    {
        serde_json::to_vec(&request::message(provider, notice, data))
    } else {
        let pairs = notices.iter().zip(shown);
        let events = pairs.map(|(notice, data)| Shown::new(notice, data));
        serde_json::to_vec(&events.collect::<Vec<_>>())
    };
    let Ok(body) = body else {
        return Ok(Err("the events cannot be encoded".to_owned()));
    };
    let now = engine.now();
    let mut secrets = Vec::new();
    let mut names = vec![secret_name(receiver.id)];
    if receiver.former_until.is_some_and(|until| until > now) {
        names.push(former_name(receiver.id));
    }
    for name in names {
        match secret(engine, receiver.tailnet, &name).await? {
            Ok(Some(secret)) => secrets.push(secret),
            Ok(None) => {}
            Err(error) => return Ok(Err(error.to_string())),
        }
    }
    if secrets.is_empty() {
        return Ok(Err("the endpoint's secret is not there".to_owned()));
    }
    // The time of this attempt: receivers refuse what is older than some minutes.
    let signature = request::signature(&secrets, now, &body);
    let delivery = Delivery {
        url: receiver.url.clone(),
        body: body.into(),
        signature,
    };
    Ok(courier.deliver(delivery).await)
}

async fn secret(
    engine: &Engine,
    tailnet: TailnetId,
    name: &str,
) -> Result<Result<Option<Zeroizing<Vec<u8>>>, SealError>, JobFailed> {
    let Some(sealed) = engine.0.store.secret(tailnet, name).await? else {
        return Ok(Ok(None));
    };
    let Some(sealer) = &engine.0.settings.sealer else {
        return Ok(Ok(None));
    };
    Ok(sealer.open(tailnet, name, &sealed).map(Some))
}

/// The data of a notice with its large texts. One that is not kept any more is `null`.
async fn data(engine: &Engine, tailnet: TailnetId, notice: &Notice) -> Result<Value, JobFailed> {
    let mut data: Value = serde_json::from_str(notice.data.as_str()).unwrap_or_default();
    for (member, hash) in &notice.texts {
        let text = engine.0.store.text(tailnet, hash).await?;
        if let Some(data) = data.as_object_mut() {
            let text = text.map_or(Value::Null, |text| Value::String(text.body.into()));
            data.insert(member.clone(), text);
        }
    }
    Ok(data)
}

/// Changes what is known of an endpoint, by the server itself.
async fn change(
    engine: &Engine,
    tailnet: TailnetId,
    mut closure: impl FnMut(&mut Draft<'_>) -> Result<(), StoreFailure> + Send + 'static,
) -> Result<(), JobFailed> {
    let changed: Result<(), Refusal> = engine
        .write(&Actor::system(tailnet), move |draft| Ok(closure(draft)?))
        .await;
    match changed {
        Ok(()) => Ok(()),
        Err(Refusal::Store(failure)) => Err(failure.into()),
        Err(_) => Err(StoreFailure::Defect("a delivery was refused").into()),
    }
}

/// Notes that the endpoint took a request.
async fn taken(
    engine: &Engine,
    receiver: &Receiver,
    progress: Body<Progress>,
    next: &Next,
) -> Result<(), JobFailed> {
    let id = receiver.id;
    if progress.record.failures > 0 {
        tracing::info!(tailnet.id = %receiver.tailnet, webhook.id = %id.stable(), "a webhook endpoint takes events again");
    }
    let progress = Body {
        record: Progress {
            after: next.read_to.unwrap_or(progress.record.after),
            failures: 0,
            retry_at: None,
            error: None,
            delivered: Some(engine.now()),
            ..progress.record
        },
        unknown: progress.unknown,
    };
    let is_all = next.is_all;
    let is_gone = next.notices.iter().any(|notice| notice.farewell.is_some());
    change(engine, receiver.tailnet, move |draft| {
        if is_gone && draft.view().webhook(id).is_none() {
            remove(draft, id);
            return Ok(());
        }
        if !is_all {
            draft.emit(queue::job(id));
        }
        draft.put_cold(&progress)
    })
    .await
}

/// A request that was not taken.
struct NotTaken {
    /// How many of its events were given up.
    given_up: u64,
    error: JobFailed,
}

/// Notes that the endpoint did not take a request, and gives up what is too old to be tried again.
async fn not_taken(
    engine: &Engine,
    receiver: &Receiver,
    progress: Body<Progress>,
    next: &Next,
    error: String,
) -> Result<NotTaken, JobFailed> {
    let settings = &engine.0.settings;
    let now = engine.now();
    let id = receiver.id;
    let error: String = error.chars().take(ERROR_CHARACTERS).collect();
    let failures = progress.record.failures.saturating_add(1);
    let retry_at = later(now, back_off(failures));
    let is_old = |notice: &&Notice| later(notice.at, settings.webhooks.give_up_after) <= now;
    let old: Vec<Notice> = next.notices.iter().take_while(is_old).cloned().collect();
    let last = old.last().map(|notice| notice.id);
    let progress = Body {
        record: Progress {
            after: last.unwrap_or(progress.record.after),
            failures,
            retry_at: Some(retry_at),
            error: Some(error.clone()),
            ..progress.record
        },
        unknown: progress.unknown,
    };
    let given_up = old.len() as u64;
    if given_up > 0 {
        let counter = &engine.0.counters.webhook_events_given_up;
        counter.fetch_add(given_up, Ordering::Relaxed);
        tracing::warn!(
            tailnet.id = %receiver.tailnet, webhook.id = %id.stable(), events = given_up, error,
            "events were given up for a webhook endpoint; they can be replayed"
        );
    }
    let expires = later(now, settings.retention.deliveries);
    let text: Arc<str> = error.as_str().into();
    change(engine, receiver.tailnet, move |draft| {
        for notice in &old {
            let undelivered = Undelivered {
                id: notice_id(draft)?,
                endpoint: id,
                notice: notice.id,
                event: notice.event.clone(),
                at: notice.at,
                given_up: now,
                error: (*text).to_owned(),
                expires,
            };
            draft.put_cold(&undelivered.into())?;
        }
        if draft.view().webhook(id).is_none() && !old.is_empty() {
            // It did not hear of its own end either.
            remove(draft, id);
            return Ok(());
        }
        draft.put_cold(&progress)
    })
    .await?;
    Ok(NotTaken {
        given_up,
        error: JobFailed::Undelivered {
            tailnet: receiver.tailnet,
            endpoint: id.stable(),
            error,
            retry_at,
        },
    })
}

/// Removes what is left of an endpoint that is gone.
async fn forget(engine: &Engine, tailnet: TailnetId, id: WebhookId) -> Result<(), JobFailed> {
    change(engine, tailnet, move |draft| {
        if draft.view().webhook(id).is_none() {
            remove(draft, id);
        }
        Ok(())
    })
    .await
}

fn remove(draft: &mut Draft<'_>, id: WebhookId) {
    draft.remove_cold::<Progress>(id);
    draft.remove_secret(&secret_name(id));
    draft.remove_secret(&former_name(id));
}
