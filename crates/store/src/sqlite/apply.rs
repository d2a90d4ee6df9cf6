//! Writes, inside the writer's savepoint.

use bowline_model::id::TailnetId;
use bowline_model::kind::Kind;
use jiff::Timestamp;
use rusqlite::{Connection, ToSql, params};

use super::{fail, sql as own};
use crate::batch::{Batch, Put};
use crate::chain::{self, Link, Place};
use crate::checksum;
use crate::error::{CommitError, Error};
use crate::owner::Owner;
use crate::row::{self, Presence};
use crate::sql;

pub(super) type Refusable<T, E> = Result<Result<T, E>, rusqlite::Error>;

/// Writes a batch. A refusal leaves rows behind that the caller rolls back.
pub(super) fn batch(conn: &Connection, batch: &Batch) -> Refusable<u64, CommitError> {
    let written = part(conn, batch)?;
    let mut puts = batch.puts.len();
    for birth in &batch.births {
        match part(conn, birth)? {
            Ok(_) => puts += birth.puts.len(),
            Err(error) => return Ok(Err(error.of_birth(puts))),
        }
    }
    Ok(written)
}

/// Writes a batch without those of tailnets that begin with it.
fn part(conn: &Connection, batch: &Batch) -> Refusable<u64, CommitError> {
    let tailnet = int(batch.owner.get());
    let advanced = if batch.base == 0 {
        conn.prepare_cached(sql::HEAD_CREATE)?.execute(params![
            tailnet,
            1,
            checksum::head(tailnet, 1)
        ])?
    } else {
        let sum = checksum::head(tailnet, int(batch.base + 1));
        conn.prepare_cached(sql::HEAD_ADVANCE)?
            .execute(params![sum, tailnet, int(batch.base)])?
    };
    if advanced == 0 {
        let current = super::read::seq(conn, batch.owner)?;
        return Ok(Err(CommitError::Conflict { current }));
    }
    let seq = batch.base + 1;
    for delete in &batch.deletes {
        let params = params![tailnet, int(delete.id)];
        conn.prepare_cached(&sql::of(delete.kind).delete)?
            .execute(params)?;
        if delete.kind == Kind::Device {
            conn.prepare_cached(sql::PRESENCE_DELETE)?.execute(params)?;
        }
    }
    if let Err(error) = puts(conn, batch, seq)? {
        // Rows of one batch may take over each other's unique values, in any order. That is rare,
        // so the values are only emptied first when the straight way failed.
        if batch.puts.len() < 2 {
            return Ok(Err(error));
        }
        for put in &batch.puts {
            if let Some(clear) = &sql::of(put.kind).clear {
                conn.prepare_cached(clear)?
                    .execute(params![tailnet, int(put.id)])?;
            }
        }
        if let Err(error) = puts(conn, batch, seq)? {
            return Ok(Err(error));
        }
    }
    let (at, touched) = (batch.at.as_microsecond(), row::touched_text(batch));
    let sum = checksum::change(tailnet, int(seq), &batch.commit_id, at, &touched);
    conn.prepare_cached(sql::CHANGE_PUT)?.execute(params![
        tailnet,
        int(seq),
        batch.commit_id,
        at,
        touched,
        sum,
    ])?;
    if batch.owner == Owner::Server {
        let last = int(seq.saturating_sub(row::SERVER_CHANGES));
        conn.prepare_cached(sql::CHANGES_FORGET)?
            .execute(params![tailnet, last])?;
    }
    match logs(conn, batch) {
        Ok(()) => Ok(Ok(seq)),
        Err(error) if fail::is_constraint(&error) => {
            let problem = "an audit event or job with its id is there already";
            Ok(Err(CommitError::Malformed(problem.to_owned())))
        }
        Err(error) => Err(error),
    }
}

fn puts(conn: &Connection, batch: &Batch, seq: u64) -> Refusable<(), CommitError> {
    for (index, put) in batch.puts.iter().enumerate() {
        let column = match write(conn, batch.owner, seq, put) {
            Ok(0) => None, // the id belongs to another tailnet
            Ok(_) => continue,
            Err(error) if fail::is_constraint(&error) => fail::column(&error, put.kind),
            Err(error) => return Err(error),
        };
        return Ok(Err(CommitError::Rejected { put: index, column }));
    }
    Ok(Ok(()))
}

fn write(conn: &Connection, owner: Owner, seq: u64, put: &Put) -> Result<usize, rusqlite::Error> {
    let (tailnet, id, seq) = (int(owner.get()), int(put.id), int(seq));
    let columns: Vec<_> = put
        .kind
        .columns()
        .iter()
        .map(|column| put.column(*column))
        .collect();
    let sum = checksum::object(
        put.kind,
        tailnet,
        id,
        seq,
        &put.body,
        columns.iter().copied(),
        put.expires(),
    );
    let mut params: Vec<&dyn ToSql> = vec![&tailnet, &id, &seq, &put.body, &sum];
    params.extend(columns.iter().map(|value| value as &dyn ToSql));
    let expires = put.expires();
    if put.kind.is_cold() {
        params.push(&expires);
    }
    conn.prepare_cached(&sql::of(put.kind).put)?
        .execute(&*params)
}

fn logs(conn: &Connection, batch: &Batch) -> Result<(), rusqlite::Error> {
    let tailnet = int(batch.owner.get());
    if !batch.audit.is_empty() {
        let end = super::read::audit_end(conn, batch.owner, Place::Newest)?;
        let (rows, end) = chain::append(batch.owner, end, &batch.audit);
        for row in &rows {
            let (previous, hash) = (&row.previous, &row.hash);
            let put = conn.prepare_cached(sql::AUDIT_PUT)?.execute(params![
                tailnet,
                row.number,
                row.at,
                row.id,
                row.body,
                previous,
                hash,
                row.checksum
            ]);
            // The batch has no say in the number, so the database contradicts itself.
            put.map_err(|error| {
                if fail::is_of(&error, "audit.number") {
                    super::read::broken(0, chain::BehindItsEvents(batch.owner))
                } else {
                    error
                }
            })?;
        }
        put_end(conn, batch.owner, Place::Newest, end)?;
    }
    for text in &batch.texts {
        let (at, body) = (text.at.as_microsecond(), text.body.as_bytes());
        let sum = checksum::text(tailnet, &text.sha256, at, body);
        let bytes = int(body.len() as u64);
        let params = params![tailnet, text.sha256, at, bytes, sum, body];
        conn.prepare_cached(sql::TEXT_PUT)?.execute(params)?;
    }
    for secret in &batch.secrets {
        let name = &secret.name;
        if let Some(sealed) = &secret.sealed {
            let params = params![
                tailnet,
                name,
                sealed,
                checksum::secret(tailnet, name, sealed)
            ];
            conn.prepare_cached(sql::SECRET_PUT)?.execute(params)?;
        } else {
            conn.prepare_cached(sql::SECRET_DELETE)?
                .execute(params![tailnet, name])?;
        }
    }
    for row in &batch.jobs {
        super::job::put(conn, batch.owner, row, 0)?;
    }
    Ok(())
}

/// Notes an end of a chain.
pub(super) fn put_end(
    conn: &Connection,
    owner: Owner,
    place: Place,
    end: Link,
) -> Result<(), rusqlite::Error> {
    let (owner, place, number) = (int(owner.get()), place.number(), int(end.number));
    let sum = checksum::audit_end(owner, place, number, &end.hash);
    conn.prepare_cached(sql::AUDIT_END_PUT)?
        .execute(params![owner, place, number, end.hash, sum])?;
    Ok(())
}

/// Writes presence of devices that exist; an older one never replaces a newer one.
pub(super) fn presence(
    conn: &Connection,
    tailnet: TailnetId,
    presence: &[Presence],
) -> Refusable<(), Error> {
    let mut statement = conn.prepare_cached(own::PRESENCE_PUT)?;
    for one in presence {
        let (tailnet, device) = (int(tailnet.get()), int(one.device));
        let at = one.at.as_microsecond();
        let sum = checksum::presence(tailnet, device, one.online, at, &one.body);
        statement.execute(params![one.online, at, one.body, sum, tailnet, device])?;
    }
    Ok(Ok(()))
}

/// Writes a secret unless there is one, and returns the one that is there.
pub(super) fn secret(
    conn: &Connection,
    owner: Owner,
    name: &str,
    sealed: &[u8],
) -> Refusable<Vec<u8>, Error> {
    let number = int(owner.get());
    let params = params![number, name, sealed, checksum::secret(number, name, sealed)];
    conn.prepare_cached(sql::SECRET_PUT_IF_ABSENT)?
        .execute(params)?;
    Ok(Ok(
        super::read::secret(conn, owner, name)?.unwrap_or_default()
    ))
}

/// Writes a moment, in the place of the one that was there.
pub(super) fn moment(conn: &Connection, name: &str, at: Timestamp) -> Refusable<(), Error> {
    let at = at.as_microsecond();
    conn.prepare_cached(sql::MOMENT_PUT)?
        .execute(params![name, at, checksum::moment(name, at)])?;
    Ok(Ok(()))
}

/// With `write`, a row that is written and removed again: its page goes to the disk.
pub(super) fn probe(conn: &Connection, write: bool) -> Refusable<(), Error> {
    if write {
        conn.prepare_cached(sql::SECRET_PUT_IF_ABSENT)?
            .execute(params![0, sql::PROBE, [0_u8; 0], 0])?;
        conn.prepare_cached(sql::PROBE_DELETE)?.execute([])?;
    }
    Ok(Ok(()))
}

/// Ids and sequence numbers are below 2^53, so the sign bit is never set.
pub(super) fn int(number: u64) -> i64 {
    number.cast_signed()
}
