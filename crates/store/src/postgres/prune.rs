//! Removing what is old. The room is the database server's to use again.

use super::Inner;
use super::fail::Failure;
use super::read;
use super::value::{self, count, int, uint};
use crate::chain::{Link, Place};
use crate::checksum;
use crate::prune::{Prune, last_to_go};
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
        Prune::Audit {
            owner,
            before,
            keep,
        } => {
            let newest = read::audit_end(&session, *owner).await?;
            let number = int(owner.get());
            let oldest = session
                .rows(sql::AUDIT_OLDEST, &[&number, &limit_of_rows])
                .await?;
            let oldest = oldest.iter().map(|row| {
                let link = Link {
                    number: uint(row, 0)?,
                    hash: value::hash(row, 2)?,
                };
                Ok((link, value::get(row, 1)?))
            });
            let oldest = oldest.collect::<Result<Vec<_>, Failure>>()?;
            match last_to_go(oldest, newest, *before, *keep) {
                None => 0,
                Some(last) => {
                    let (place, last_number) = (Place::Removed.number(), int(last.number));
                    let sum = checksum::audit_end(number, place, last_number, &last.hash);
                    session
                        .execute(
                            sql::AUDIT_END_PUT,
                            &[&number, &place, &last_number, &&last.hash[..], &sum],
                        )
                        .await?;
                    session
                        .execute(sql::PRUNE_AUDIT, &[&number, &last_number])
                        .await?
                }
            }
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
