//! Retention: what is old goes, in portions, so that no change waits for it.

use std::time::Duration;

use bowline_model::credential::Credential;
use bowline_model::id::{KeyId, TailnetId};
use bowline_model::kind::Kind;
use bowline_netmap::snapshot::Snapshot;
use bowline_store::{Claim, Owner, Prune, Store};
use jiff::{SignedDuration, Timestamp};

use crate::core::actor::Actor;
use crate::core::draft::{Draft, Emitted};
use crate::core::engine::{Engine, Work};
use crate::core::failure::{Refusal, StoreFailure};
use crate::core::job_log::JobFailed;

/// Rows that one transaction removes.
const PORTION: usize = 500;
/// Pages of 4 KiB that one transaction gives back to the file system.
const PAGES: u32 = 500;
/// Free pages that are left alone: 4 MiB, which the next changes fill again.
const SPARE_PAGES: u64 = 1000;

/// Everything, again and again.
pub(crate) const ALL: Work = Work {
    topic: "retention",
    places: 8,
    lease: Duration::from_mins(2),
    every: Some(Duration::from_mins(10)),
    run: |engine, _| Box::pin(all(engine)),
};

/// What one tailnet has too much of, soon after a change that made it.
pub(crate) const OF_TAILNET: Work = Work {
    topic: "retention.tailnet",
    places: 8,
    lease: Duration::from_mins(2),
    every: None,
    run: |engine, claim| Box::pin(of_tailnet(engine, claim)),
};

/// Says that a change may have left more behind than is kept: it is cleared up right after it, and
/// not when a disk may be full.
pub(crate) fn clear_up_after(draft: &mut Draft<'_>) {
    let name = format!("{}/{}", OF_TAILNET.topic, draft.view().id());
    draft.emit(Emitted {
        topic: OF_TAILNET.topic,
        lane: Some(name.clone()),
        name: Some(name),
        body: serde_json::json!({}),
    });
}

async fn of_tailnet(engine: Engine, claim: Claim) -> Result<(), JobFailed> {
    texts(&engine, claim.owner).await?;
    give_back(&engine.0.store).await
}

async fn all(engine: Engine) -> Result<(), JobFailed> {
    let store = &engine.0.store;
    let retention = &engine.0.settings.retention;
    let tailnets = store.tailnets().await?.into_iter().map(|(id, _)| id);
    let owners = tailnets.map(Owner::from).chain([Owner::Server]);
    for owner in owners.collect::<Vec<_>>() {
        let changes = Prune::Changes {
            owner,
            before: before(&engine, retention.changes),
            keep: retention.changes_kept,
        };
        prune(store, changes).await?;
        audit(&engine, owner).await?;
        texts(&engine, owner).await?;
        if let Owner::Tailnet(tailnet) = owner {
            credentials(&engine, tailnet).await?;
        }
    }
    let deliveries = Prune::Deliveries {
        before: before(&engine, retention.deliveries),
    };
    prune(store, deliveries).await?;
    for kind in Kind::all().filter(|kind| kind.is_cold()) {
        let at = engine.now();
        prune(store, Prune::Expired { kind, at }).await?;
    }
    store.prune(Prune::Presence, PORTION).await?;
    give_back(store).await
}

fn before(engine: &Engine, age: Duration) -> Timestamp {
    SignedDuration::try_from(age)
        .ok()
        .and_then(|age| engine.now().checked_sub(age).ok())
        .unwrap_or(Timestamp::MIN)
}

/// Removes all that may go. Changes come between two portions.
async fn prune(store: &Store, what: Prune) -> Result<(), JobFailed> {
    while store.prune(what.clone(), PORTION).await? == PORTION as u64 {}
    Ok(())
}

async fn audit(engine: &Engine, owner: Owner) -> Result<(), JobFailed> {
    let (store, retention) = (&engine.0.store, &engine.0.settings.retention);
    let what = Prune::Audit {
        owner,
        before: before(engine, retention.audit),
        keep: retention.audit_events,
    };
    prune(store, what).await
}

/// Keeps the newest versions of large texts, as many as the bounds let, and one in any case: it may
/// be in force.
async fn texts(engine: &Engine, owner: Owner) -> Result<(), JobFailed> {
    let (store, retention) = (&engine.0.store, &engine.0.settings.retention);
    let mut bytes = 0;
    let mut kept = 0;
    let mut texts = store.texts(owner).await?;
    texts.retain(|text| {
        bytes += text.bytes;
        let is_kept = kept == 0
            || (kept < retention.policy_versions && bytes <= retention.policy_version_bytes);
        kept += u64::from(is_kept);
        !is_kept
    });
    for portion in texts.chunks(PORTION) {
        let texts = portion.to_vec();
        store.prune(Prune::Texts { owner, texts }, PORTION).await?;
    }
    Ok(())
}

/// Removes credentials of which nobody needs to read any more: their end was told by an event.
async fn credentials(engine: &Engine, tailnet: TailnetId) -> Result<(), JobFailed> {
    let retention = &engine.0.settings.retention;
    loop {
        let Some(snapshot) = engine.snapshot(tailnet) else {
            return Ok(()); // not served: its writer is not there
        };
        let before = before(engine, retention.credentials);
        let mut old = over(&snapshot, before, retention.credentials_kept);
        let is_last = old.len() <= PORTION;
        old.truncate(PORTION);
        if old.is_empty() {
            return Ok(());
        }
        let removed: Result<(), Refusal> = engine
            .write(&Actor::system(tailnet), move |draft| {
                for id in &old {
                    draft.remove::<Credential>(*id);
                }
                Ok(())
            })
            .await;
        match removed {
            Ok(()) => {}
            Err(Refusal::Store(failure)) => return Err(failure.into()),
            Err(_) => return Err(StoreFailure::Defect("retention was refused").into()),
        }
        if is_last {
            return Ok(());
        }
    }
}

/// Credentials that ended before a moment, and those that ended before the newest so many, the
/// oldest first.
fn over(snapshot: &Snapshot, before: Timestamp, keep: u64) -> Vec<KeyId> {
    let mut ended: Vec<(Timestamp, KeyId)> = snapshot
        .credentials()
        .filter_map(|one| Some((one.revoked.or(one.expired)?, one.id)))
        .collect();
    ended.sort_unstable();
    let beyond = ended
        .len()
        .saturating_sub(usize::try_from(keep).unwrap_or(usize::MAX));
    ended
        .into_iter()
        .enumerate()
        .take_while(|(index, (at, _))| *index < beyond || *at <= before)
        .map(|(_, (_, id))| id)
        .collect()
}

/// Gives the room of what was removed back to the file system.
async fn give_back(store: &Store) -> Result<(), JobFailed> {
    if store.free_pages().await? <= SPARE_PAGES {
        return Ok(());
    }
    while store.give_back(PAGES).await? > 0 {}
    Ok(())
}
