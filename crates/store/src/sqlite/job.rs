//! Jobs.

use jiff::Timestamp;
use rusqlite::{Connection, Row as SqlRow, params};

use super::apply::{Refusable, int};
use super::read::{Sql, broken, count, owner_of, text, time, uint, verify};
use crate::error::Error;
use crate::job::{Again, Claim, JobRow, Waiting};
use crate::owner::Owner;
use crate::sql;

/// A row of the table.
pub(super) struct Stored {
    pub(super) owner: Owner,
    pub(super) job: JobRow,
    pub(super) attempts: u32,
}

/// Reads the columns of [`sql::JOBS_DUE`].
pub(super) fn stored(row: &SqlRow<'_>) -> Sql<Stored> {
    let until: Option<i64> = row.get(8)?;
    let until = until.map(Timestamp::from_microsecond).transpose();
    let stored = Stored {
        owner: owner_of(row, 1)?,
        job: JobRow {
            id: uint(row, 0)?,
            topic: row.get(2)?,
            lane: row.get(3)?,
            name: row.get(4)?,
            at: time(row, 5)?,
            due_at: time(row, 6)?,
            body: text(row, 9)?,
        },
        attempts: row.get(7)?,
    };
    let until = until.map_err(|error| broken(8, error))?;
    let sum = stored.job.checksum(stored.owner, stored.attempts, until);
    verify(row, 10, sum, || format!("job {}", stored.job.id))?;
    Ok(stored)
}

/// Writes a job that nobody has, unless one of its name waits.
pub(super) fn put(conn: &Connection, owner: Owner, job: &JobRow, attempts: u32) -> Sql<()> {
    let number = int(owner.get());
    conn.prepare_cached(sql::JOB_PUT)?.execute(params![
        int(job.id),
        number,
        job.topic,
        job.lane,
        job.name,
        job.at.as_microsecond(),
        job.due_at.as_microsecond(),
        attempts,
        None::<i64>,
        job.body,
        job.checksum(owner, attempts, None),
    ])?;
    Ok(())
}

pub(super) fn waiting(conn: &Connection) -> Sql<Vec<Waiting>> {
    let mut statement = conn.prepare_cached(sql::JOBS_WAITING)?;
    let rows = statement.query_map([], |row| {
        let next: Option<i64> = row.get(2)?;
        let next = next.map(Timestamp::from_microsecond).transpose();
        Ok(Waiting {
            topic: row.get(0)?,
            count: uint(row, 1)?,
            next: next.map_err(|error| broken(2, error))?,
        })
    })?;
    rows.collect()
}

pub(super) fn claim(
    conn: &Connection,
    topic: &str,
    now: Timestamp,
    until: Timestamp,
    limit: usize,
) -> Refusable<Vec<Claim>, Error> {
    let mut statement = conn.prepare_cached(sql::JOBS_DUE)?;
    let params = params![topic, now.as_microsecond(), count(limit)];
    let due = statement
        .query_map(params, stored)?
        .collect::<Sql<Vec<_>>>()?;
    let mut claims = Vec::with_capacity(due.len());
    for stored in due {
        let claim = Claim {
            owner: stored.owner,
            job: stored.job,
            attempts: stored.attempts.saturating_add(1),
            until,
        };
        let id = int(claim.job.id);
        let params = params![
            claim.attempts,
            until.as_microsecond(),
            claim.checksum(until),
            id
        ];
        conn.prepare_cached(sql::JOB_CLAIM)?.execute(params)?;
        claims.push(claim);
    }
    Ok(Ok(claims))
}

pub(super) fn renew(conn: &Connection, claim: &Claim, until: Timestamp) -> Refusable<bool, Error> {
    let count = conn.prepare_cached(sql::JOB_RENEW)?.execute(params![
        until.as_microsecond(),
        claim.checksum(until),
        int(claim.job.id),
        claim.until.as_microsecond(),
    ])?;
    Ok(Ok(count > 0))
}

/// Ends a claim, unless another has the job by now.
pub(super) fn end(
    conn: &Connection,
    claim: &Claim,
    again: Option<Again>,
) -> Refusable<bool, Error> {
    let params = params![int(claim.job.id), claim.until.as_microsecond()];
    let is_ours = conn.prepare_cached(sql::JOB_END)?.execute(params)? > 0;
    if let Some(again) = again.filter(|_| is_ours) {
        let job = JobRow {
            due_at: again.due_at,
            ..claim.job.clone()
        };
        put(conn, claim.owner, &job, again.attempts)?;
    }
    Ok(Ok(is_ours))
}
