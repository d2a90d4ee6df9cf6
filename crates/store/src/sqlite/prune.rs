//! Removing what is old, and giving its room back to the file system.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, params};

use super::apply::{Refusable, int};
use super::read::{Sql, count, time};
use crate::error::Error;
use crate::owner::Owner;
use crate::prune::Prune;
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
        Prune::Audit { owner, before } => {
            let params = params![int(owner.get()), before.as_microsecond(), count(limit)];
            conn.prepare_cached(sql::PRUNE_AUDIT)?.execute(params)?
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

pub(super) fn audit_beyond(conn: &Connection, owner: Owner, keep: u64) -> Sql<Option<Timestamp>> {
    conn.prepare_cached(sql::AUDIT_BEYOND)?
        .query_row(params![int(owner.get()), int(keep)], |row| time(row, 0))
        .optional()
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
