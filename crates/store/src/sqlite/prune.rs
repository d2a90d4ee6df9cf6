//! Removing what is old, and giving its room back to the file system.

use rusqlite::{Connection, params};

use super::apply::{Refusable, int};
use super::read::{self, Sql, count};
use crate::chain::Place;
use crate::error::Error;
use crate::prune::{Prune, last_to_go};
use crate::sql;

/// Removes at most so many rows of a log. Returns how many went.
pub(super) fn prune(conn: &Connection, what: &Prune, limit: usize) -> Refusable<u64, Error> {
    let removed = match what {
        Prune::Changes {
            owner,
            before,
            keep,
        } => conn.prepare_cached(sql::PRUNE_CHANGES)?.execute(params![
            int(owner.get()),
            count(limit),
            before.as_microsecond(),
            int(*keep),
        ])?,
        Prune::Audit {
            owner,
            before,
            keep,
        } => {
            let newest = read::audit_end(conn, *owner, Place::Newest)?;
            let oldest = read::audit_oldest(conn, *owner, limit)?;
            match last_to_go(oldest, newest, *before, *keep) {
                None => 0,
                Some(last) => {
                    super::apply::put_end(conn, *owner, Place::Removed, last)?;
                    conn.prepare_cached(sql::PRUNE_AUDIT)?
                        .execute(params![int(owner.get()), int(last.number)])?
                }
            }
        }
        Prune::Texts { owner, texts } => {
            let mut removed = 0;
            for text in texts.iter().take(limit) {
                let params = params![int(owner.get()), text.sha256, text.at.as_microsecond()];
                removed += conn.prepare_cached(sql::PRUNE_TEXT)?.execute(params)?;
            }
            removed
        }
        Prune::Deliveries { before } => conn
            .prepare_cached(sql::PRUNE_DELIVERIES)?
            .execute(params![before.as_microsecond(), count(limit)])?,
        Prune::Expired { kind, at } => match &sql::of(*kind).cold {
            Some(cold) => conn
                .prepare_cached(&cold.expire)?
                .execute(params![at.as_microsecond(), count(limit)])?,
            None => 0,
        },
        Prune::Presence => conn.execute(sql::PRUNE_PRESENCE, [])?,
    };
    Ok(Ok(removed as u64))
}

/// Gives at most so many free pages back to the file system. Returns how many are left.
pub(super) fn give_back(conn: &Connection, pages: u32) -> Refusable<u64, Error> {
    let mut statement = conn.prepare(&format!("PRAGMA incremental_vacuum({pages})"))?;
    let mut steps = statement.query([])?;
    // Each step moves one page.
    while steps.next()?.is_some() {}
    Ok(Ok(free_pages(conn)?))
}

pub(super) fn free_pages(conn: &Connection) -> Sql<u64> {
    conn.pragma_query_value(None, "freelist_count", |row| row.get::<_, i64>(0))
        .map(i64::cast_unsigned)
}
