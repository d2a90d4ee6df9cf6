//! Jobs.

use jiff::Timestamp;
use tokio_postgres::Row as SqlRow;

use super::Inner;
use super::apply::step;
use super::fail::Failure;
use super::session::Step;
use super::value::{self, Json, count, get, int, json, time, uint, verify};
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
pub(super) fn stored(row: &SqlRow) -> Result<Stored, Failure> {
    let until = moment(row, 8)?;
    let attempts: i64 = get(row, 7)?;
    let stored = Stored {
        owner: value::owner(row, 1)?,
        job: JobRow {
            id: uint(row, 0)?,
            topic: get(row, 2)?,
            lane: get(row, 3)?,
            name: get(row, 4)?,
            at: time(row, 5)?,
            due_at: time(row, 6)?,
            body: json(row, 9)?,
        },
        attempts: u32::try_from(attempts).map_err(value::unreadable)?,
    };
    let sum = stored.job.checksum(stored.owner, stored.attempts, until);
    verify(row, 10, sum, || format!("job {}", stored.job.id))?;
    Ok(stored)
}

fn moment(row: &SqlRow, column: usize) -> Result<Option<Timestamp>, Failure> {
    let moment: Option<i64> = get(row, column)?;
    moment
        .map(Timestamp::from_microsecond)
        .transpose()
        .map_err(value::unreadable)
}

/// Writes a job that nobody has, unless one of its name waits.
pub(super) fn put(owner: Owner, job: &JobRow, attempts: u32) -> Step<'_> {
    let number = int(owner.get());
    step(
        sql::JOB_PUT,
        vec![
            Box::new(int(job.id)),
            Box::new(number),
            Box::new(&*job.topic),
            Box::new(job.lane.as_deref()),
            Box::new(job.name.as_deref()),
            Box::new(job.at.as_microsecond()),
            Box::new(job.due_at.as_microsecond()),
            Box::new(i64::from(attempts)),
            Box::new(None::<i64>),
            Box::new(Json(&job.body)),
            Box::new(job.checksum(owner, attempts, None)),
        ],
    )
}

pub(super) async fn add(inner: &Inner, owner: Owner, job: &JobRow) -> Result<(), Failure> {
    let mut session = inner.begin_write().await?;
    for result in session.run(None, &[put(owner, job, 0)]).await? {
        result.map_err(Failure::from)?;
    }
    session.commit().await
}

pub(super) async fn waiting(inner: &Inner) -> Result<Vec<Waiting>, Failure> {
    let session = inner.session().await?;
    let rows = session.rows(sql::JOBS_WAITING, &[]).await?;
    let waiting = rows.iter().map(|row| {
        Ok(Waiting {
            topic: get(row, 0)?,
            count: uint(row, 1)?,
            next: moment(row, 2)?,
        })
    });
    waiting.collect()
}

pub(super) async fn claim(
    inner: &Inner,
    topic: &str,
    now: Timestamp,
    until: Timestamp,
    limit: usize,
) -> Result<Vec<Claim>, Failure> {
    let session = inner.begin_write().await?;
    // Another process that claims at the same time gets others, and waits for nobody.
    let due = format!("{} FOR UPDATE SKIP LOCKED", sql::JOBS_DUE);
    let rows = session
        .rows(&due, &[&topic, &now.as_microsecond(), &count(limit)])
        .await?;
    let mut claims = Vec::with_capacity(rows.len());
    for row in &rows {
        let stored = stored(row)?;
        let claim = Claim {
            owner: stored.owner,
            job: stored.job,
            attempts: stored.attempts.saturating_add(1),
            until,
        };
        session
            .execute(
                sql::JOB_CLAIM,
                &[
                    &i64::from(claim.attempts),
                    &until.as_microsecond(),
                    &claim.checksum(until),
                    &int(claim.job.id),
                ],
            )
            .await?;
        claims.push(claim);
    }
    session.commit().await?;
    Ok(claims)
}

pub(super) async fn renew(inner: &Inner, claim: &Claim, until: Timestamp) -> Result<bool, Failure> {
    let session = inner.begin_write().await?;
    let count = session
        .execute(
            sql::JOB_RENEW,
            &[
                &until.as_microsecond(),
                &claim.checksum(until),
                &int(claim.job.id),
                &claim.until.as_microsecond(),
            ],
        )
        .await?;
    session.commit().await?;
    Ok(count > 0)
}

/// Ends a claim, unless another has the job by now.
pub(super) async fn end(
    inner: &Inner,
    claim: &Claim,
    again: Option<Again>,
) -> Result<bool, Failure> {
    let mut session = inner.begin_write().await?;
    let params = (int(claim.job.id), claim.until.as_microsecond());
    let count = session
        .execute(sql::JOB_END, &[&params.0, &params.1])
        .await?;
    if let Some(again) = again.filter(|_| count > 0) {
        let job = JobRow {
            due_at: again.due_at,
            ..claim.job.clone()
        };
        let steps = [put(claim.owner, &job, again.attempts)];
        for result in session.run(None, &steps).await? {
            result.map_err(Failure::from)?;
        }
    }
    session.commit().await?;
    Ok(count > 0)
}
