//! Removing what is old. The room is the database server's to use again.

use jiff::Timestamp;

use super::Inner;
use super::fail::Failure;
use super::value::{count, int, time};
use crate::owner::Owner;
use crate::prune::Prune;
use crate::sql;

/// Removes at most so many rows of a log. Returns how many went.
pub(super) async fn prune(inner: &Inner, what: &Prune, limit: usize) -> Result<u64, Failure> {
    let session = inner.begin_write().await?;
    let limit_of_rows = count(limit);
    let removed = match what {
        Prune::Changes {
            owner,
            before,
            keep,
        } => {
            let (owner, before) = (int(owner.get()), before.as_microsecond());
            session
                .execute(
                    sql::PRUNE_CHANGES,
                    &[&owner, &limit_of_rows, &before, &int(*keep)],
                )
                .await?
        }
        Prune::Audit { owner, before } => {
            let (owner, before) = (int(owner.get()), before.as_microsecond());
            session
                .execute(sql::PRUNE_AUDIT, &[&owner, &before, &limit_of_rows])
                .await?
        }
        Prune::Texts { owner, texts } => {
            let mut removed = 0;
            for text in texts.iter().take(limit) {
                let (owner, at) = (int(owner.get()), text.at.as_microsecond());
                removed += session
                    .execute(sql::PRUNE_TEXT, &[&owner, &&*text.sha256, &at])
                    .await?;
            }
            removed
        }
        Prune::Deliveries { before } => {
            session
                .execute(
                    sql::PRUNE_DELIVERIES,
                    &[&before.as_microsecond(), &limit_of_rows],
                )
                .await?
        }
        Prune::Expired { kind, at } => match &sql::of(*kind).cold {
            Some(cold) => {
                session
                    .execute(&cold.expire, &[&at.as_microsecond(), &limit_of_rows])
                    .await?
            }
            None => 0,
        },
        Prune::Presence => session.execute(sql::PRUNE_PRESENCE, &[]).await?,
    };
    session.commit().await?;
    Ok(removed)
}

pub(super) async fn audit_beyond(
    inner: &Inner,
    owner: Owner,
    keep: u64,
) -> Result<Option<Timestamp>, Failure> {
    let session = inner.session().await?;
    let row = session
        .row(sql::AUDIT_BEYOND, &[&int(owner.get()), &int(keep)])
        .await?;
    row.map(|row| time(&row, 0)).transpose()
}
