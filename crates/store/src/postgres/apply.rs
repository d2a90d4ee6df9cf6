//! Writes.

use bowline_model::id::TailnetId;
use bowline_model::kind::Kind;
use jiff::Timestamp;

use super::fail::{self, Failure};
use super::read;
use super::session::{Param, Session, Step};
use super::value::{self, Json, Value, int, uint};
use super::{Inner, sql as own};
use crate::batch::{Batch, Put};
use crate::chain::{self, Link, Place};
use crate::checksum;
use crate::error::{Cause, CommitError, Condition, Trouble};
use crate::options::{Fault, Point};
use crate::owner::Owner;
use crate::row::{self, Presence};
use crate::sql;

/// What a commit answers, unless the transaction itself is gone.
type Answer = Result<u64, CommitError>;

/// Whether rows of a batch give up their unique values before they take new ones.
#[derive(Clone, Copy, PartialEq)]
enum Clear {
    No,
    First,
}

/// The events of a part as rows, and the one that they lead to.
type Chained<'a> = (Vec<chain::Row<'a>>, Link);

/// Where the statements of one part of a batch are: its own, or those of a birth.
struct Part {
    head: usize,
    puts: usize,
    logs: usize,
    end: usize,
    /// Rows of the parts before it.
    rows: usize,
}

/// Writes a batch in one transaction.
pub(super) async fn commit(inner: &Inner, batch: &Batch) -> Result<Answer, Failure> {
    let mut session = inner.writer().await?;
    let epoch = inner.lease.epoch();
    let mut chains = Vec::with_capacity(1 + batch.births.len());
    for part in batch.parts() {
        let before = inner.chains.before(&session, part, epoch).await?;
        chains.push(chain::append(part.owner, before, &part.audit));
    }
    let outcome = write(&mut session, batch, &chains, epoch, Clear::No).await?;
    // Rows of one batch may take over each other's unique values, in any order. That is rare, so
    // the values are only emptied first when the straight way failed.
    let outcome = match outcome {
        Some(Err(CommitError::Rejected {
            column: Some(_), ..
        })) if batch.parts().any(|part| part.puts.len() > 1) => {
            session.rollback().await?;
            write(&mut session, batch, &chains, epoch, Clear::First).await?
        }
        other => other,
    };
    match outcome {
        Some(outcome) => {
            let outcome = finish(inner, session, batch.owner, outcome).await?;
            if outcome.is_ok() {
                for (part, (_, newest)) in batch.parts().zip(&chains) {
                    inner.chains.committed(part, epoch, *newest);
                }
            }
            Ok(outcome)
        }
        None => Err(inner.lease.lost()),
    }
}

/// Commits, or undoes what was refused.
async fn finish(
    inner: &Inner,
    mut session: Session,
    owner: Owner,
    outcome: Answer,
) -> Result<Answer, Failure> {
    match outcome {
        Ok(_) => {}
        Err(CommitError::Conflict { .. }) => {
            session.rollback().await?;
            let current = read::seq_in(&session, owner).await?;
            return Ok(Err(CommitError::Conflict { current }));
        }
        Err(_) => {
            session.rollback().await?;
            return Ok(outcome);
        }
    }
    match inner.options.at(Point::BeforeCommit) {
        None => {}
        Some(Fault::Full) => {
            return Err(Failure::Trouble(Trouble::of(Condition::Full)));
        }
        Some(Fault::Io) => return Err(Failure::Unknown(Cause::new("injected"))),
    }
    session.commit().await?;
    let _ = inner.options.at(Point::AfterCommit);
    Ok(outcome)
}

/// Begins a transaction and writes a batch up to `COMMIT`, in one round trip. The lease is checked
/// first; `None` when it is another's.
async fn write(
    session: &mut Session,
    batch: &Batch,
    chains: &[Chained<'_>],
    epoch: i64,
    clear: Clear,
) -> Result<Option<Answer>, Failure> {
    let mut steps = vec![step(own::FENCE, vec![Box::new(epoch)])];
    let mut parts: Vec<Part> = Vec::with_capacity(1 + batch.births.len());
    let mut rows = 0;
    for (one, chained) in batch.parts().zip(chains) {
        parts.push(part(&mut steps, one, chained, clear, rows));
        rows += one.puts.len();
    }
    let puts: Vec<&Put> = batch.parts().flat_map(|one| &one.puts).collect();
    let results = session.run(Some(own::BEGIN_WRITE), &steps).await?;
    let mut parts = parts.into_iter().peekable();
    for (index, result) in results.into_iter().enumerate() {
        parts.next_if(|part| part.end <= index);
        let part = parts.peek().filter(|part| part.head <= index);
        let Some(part) = part else {
            if result? == 0 {
                return Ok(None); // the fence
            }
            continue;
        };
        let refused = |error: CommitError| {
            let is_birth = part.rows > 0 || part.head > 1;
            let error = if is_birth {
                error.of_birth(part.rows)
            } else {
                error
            };
            Ok(Some(Err(error)))
        };
        let put = index.wrapping_sub(part.puts);
        let is_put = (part.puts..part.logs).contains(&index);
        match result {
            Ok(0) if index == part.head => return refused(CommitError::Conflict { current: 0 }),
            // The id belongs to another owner.
            Ok(0) if is_put => return refused(CommitError::Rejected { put, column: None }),
            Ok(_) => {}
            Err(error) if is_put && fail::is_unique_violation(&error) => {
                let column = fail::column(&error, puts[part.rows + put].kind);
                return refused(CommitError::Rejected { put, column });
            }
            Err(error) if index > part.logs && fail::is_unique_violation(&error) => {
                let problem = "an audit event or job with its id is there already";
                return refused(CommitError::Malformed(problem.to_owned()));
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(Some(Ok(batch.base + 1)))
}

/// Adds the statements of a batch, without those of its births.
fn part<'a>(
    steps: &mut Vec<Step<'a>>,
    batch: &'a Batch,
    (events, newest): &'a Chained<'a>,
    clear: Clear,
    rows: usize,
) -> Part {
    let tailnet = int(batch.owner.get());
    let seq = batch.base + 1;
    let head = steps.len();
    steps.push(if batch.base == 0 {
        let sum = checksum::head(tailnet, 1);
        step(
            sql::HEAD_CREATE,
            vec![Box::new(tailnet), Box::new(1_i64), Box::new(sum)],
        )
    } else {
        step(
            sql::HEAD_ADVANCE,
            vec![
                Box::new(checksum::head(tailnet, int(seq))),
                Box::new(tailnet),
                Box::new(int(batch.base)),
            ],
        )
    });
    for delete in &batch.deletes {
        let params = || -> Vec<Param<'_>> { vec![Box::new(tailnet), Box::new(int(delete.id))] };
        steps.push(step(&sql::of(delete.kind).delete, params()));
        if delete.kind == Kind::Device {
            steps.push(step(sql::PRESENCE_DELETE, params()));
        }
    }
    if clear == Clear::First {
        for put in &batch.puts {
            if let Some(text) = &sql::of(put.kind).clear {
                steps.push(step(text, vec![Box::new(tailnet), Box::new(int(put.id))]));
            }
        }
    }
    let puts = steps.len();
    steps.extend(batch.puts.iter().map(|put| put_step(tailnet, seq, put)));
    let logs = steps.len();
    let (at, touched) = (batch.at.as_microsecond(), row::touched_text(batch));
    let sum = checksum::change(tailnet, int(seq), &batch.commit_id, at, &touched);
    steps.push(step(
        sql::CHANGE_PUT,
        vec![
            Box::new(tailnet),
            Box::new(int(seq)),
            Box::new(batch.commit_id.as_slice()),
            Box::new(at),
            Box::new(touched),
            Box::new(sum),
        ],
    ));
    for event in events {
        steps.push(step(
            sql::AUDIT_PUT,
            vec![
                Box::new(tailnet),
                Box::new(event.number),
                Box::new(event.at),
                Box::new(event.id),
                Box::new(Json(event.body)),
                Box::new(event.previous.as_slice()),
                Box::new(event.hash.as_slice()),
                Box::new(event.checksum),
            ],
        ));
    }
    if !events.is_empty() {
        let (place, number) = (Place::Newest.number(), int(newest.number));
        let sum = checksum::audit_end(tailnet, place, number, &newest.hash);
        steps.push(step(
            sql::AUDIT_END_PUT,
            vec![
                Box::new(tailnet),
                Box::new(place),
                Box::new(number),
                Box::new(newest.hash.as_slice()),
                Box::new(sum),
            ],
        ));
    }
    for text in &batch.texts {
        let (at, body) = (text.at.as_microsecond(), text.body.as_bytes());
        steps.push(step(
            sql::TEXT_PUT,
            vec![
                Box::new(tailnet),
                Box::new(&*text.sha256),
                Box::new(at),
                Box::new(int(body.len() as u64)),
                Box::new(checksum::text(tailnet, &text.sha256, at, body)),
                Box::new(body),
            ],
        ));
    }
    for secret in &batch.secrets {
        let name = &*secret.name;
        let place: Vec<Param<'_>> = vec![Box::new(tailnet), Box::new(name)];
        let Some(sealed) = secret.sealed.as_deref() else {
            steps.push(step(sql::SECRET_DELETE, place));
            continue;
        };
        let sum = checksum::secret(tailnet, name, sealed);
        let values: Vec<Param<'_>> = vec![Box::new(sealed), Box::new(sum)];
        let params = place.into_iter().chain(values).collect();
        steps.push(step(sql::SECRET_PUT, params));
    }
    let jobs = batch.jobs.iter();
    steps.extend(jobs.map(|row| super::job::put(batch.owner, row, 0)));
    if batch.owner == Owner::Server {
        let last = int(seq.saturating_sub(row::SERVER_CHANGES));
        steps.push(step(
            sql::CHANGES_FORGET,
            vec![Box::new(tailnet), Box::new(last)],
        ));
    }
    Part {
        head,
        puts,
        logs,
        end: steps.len(),
        rows,
    }
}

pub(super) fn step<'a>(text: &'static str, params: Vec<Param<'a>>) -> Step<'a> {
    Step { text, params }
}

fn put_step(tailnet: i64, seq: u64, put: &Put) -> Step<'_> {
    let columns = || put.kind.columns().iter().map(|column| put.column(*column));
    let sum = checksum::object(
        put.kind,
        tailnet,
        int(put.id),
        int(seq),
        &put.body,
        columns(),
        put.expires(),
    );
    let mut params: Vec<Param<'_>> = vec![
        Box::new(tailnet),
        Box::new(int(put.id)),
        Box::new(int(seq)),
        Box::new(Json(&put.body)),
        Box::new(sum),
    ];
    for column in columns() {
        params.push(Box::new(column));
    }
    if put.kind.is_cold() {
        params.push(Box::new(put.expires()));
    }
    step(&sql::of(put.kind).put, params)
}

/// Looks a commit up, after waiting for it if it is still under way.
pub(super) async fn commit_outcome(
    inner: &Inner,
    owner: Owner,
    commit_id: &[u8; 16],
) -> Result<Option<u64>, Failure> {
    let mut session = inner.session().await?;
    session.begin(own::BEGIN_WRITE).await?;
    let id = int(owner.get());
    // Whoever commits holds the head's row, or is about to insert it: either makes this wait.
    session
        .execute(sql::HEAD_CREATE, &[&id, &0_i64, &0_i64])
        .await?;
    session.row(own::HEAD_LOCK, &[&id]).await?;
    let found = session
        .row(sql::CHANGE_BY_COMMIT, &[&id, &commit_id.as_slice()])
        .await?;
    session.rollback().await?;
    found.map(|row| uint(&row, 0)).transpose()
}

pub(super) async fn presence(
    inner: &Inner,
    tailnet: TailnetId,
    presence: &[Presence],
) -> Result<(), Failure> {
    let session = inner.begin_write().await?;
    session.simple(own::NOT_DURABLE).await?;
    let devices: Vec<i64> = presence.iter().map(|one| int(one.device)).collect();
    let online: Vec<bool> = presence.iter().map(|one| one.online).collect();
    let at: Vec<i64> = presence.iter().map(|one| one.at.as_microsecond()).collect();
    let bodies: Vec<&str> = presence.iter().map(|one| &*one.body).collect();
    let own_id = int(tailnet.get());
    let sums: Vec<i64> = presence
        .iter()
        .map(|one| {
            let at = one.at.as_microsecond();
            checksum::presence(own_id, int(one.device), one.online, at, &one.body)
        })
        .collect();
    let params: [&dyn Value; 6] = [&own_id, &devices, &online, &at, &bodies, &sums];
    session.execute(own::PRESENCE_PUT, &params).await?;
    session.commit().await
}

pub(super) async fn moment(inner: &Inner, name: &str, at: Timestamp) -> Result<(), Failure> {
    let session = inner.begin_write().await?;
    let at = at.as_microsecond();
    session
        .execute(sql::MOMENT_PUT, &[&name, &at, &checksum::moment(name, at)])
        .await?;
    session.commit().await
}

pub(super) async fn secret(
    inner: &Inner,
    owner: Owner,
    name: &str,
    sealed: &[u8],
) -> Result<Vec<u8>, Failure> {
    let session = inner.begin_write().await?;
    let number = int(owner.get());
    let sum = checksum::secret(number, name, sealed);
    session
        .execute(sql::SECRET_PUT_IF_ABSENT, &[&number, &name, &sealed, &sum])
        .await?;
    let kept = session.row(sql::SECRET, &[&number, &name]).await?;
    session.commit().await?;
    kept.map_or(Ok(Vec::new()), |row| value::secret(&row, 0, number, name))
}

/// With `write`, a row that is written and removed again. Without, a write that finds no row: a
/// database that is read-only refuses that too.
pub(super) async fn probe(inner: &Inner, write: bool) -> Result<(), Failure> {
    let session = inner.begin_write().await?;
    if write {
        session
            .execute(
                sql::SECRET_PUT_IF_ABSENT,
                &[&0_i64, &sql::PROBE, &&b""[..], &0_i64],
            )
            .await?;
    }
    session.execute(sql::PROBE_DELETE, &[]).await?;
    session.commit().await
}
