//! Reads: a few connections, each used on a blocking thread for one read transaction.

use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bowline_model::id::TailnetId;
use bowline_model::kind::Kind;
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row as SqlRow, params};
use tokio::sync::Semaphore;

use super::apply::int;
use super::fail::Lost;
use crate::batch::AuditRow;
use crate::chain::{AuditEntry, Hash, Link, Place};
use crate::checksum;
use crate::error::{Condition, Error, Trouble};
use crate::owner::Owner;
use crate::row::{self, CatchUp, Change, Loaded, Operation, Presence, Row};
use crate::sql;
use crate::text::{TextRow, TextVersion};

pub(super) type Sql<T> = Result<T, rusqlite::Error>;

/// How long a read waits while the writer opens the files anew.
const ANEW: Duration = Duration::from_secs(10);

/// The connections for reading.
#[derive(Debug)]
pub(super) struct Readers {
    permits: Semaphore,
    count: usize,
    /// As many as there are free permits, but for the moments in which the writer has them all.
    idle: Mutex<Vec<Connection>>,
    returned: Condvar,
}

impl Readers {
    pub(super) fn new(connections: Vec<Connection>) -> Self {
        Self {
            permits: Semaphore::new(connections.len()),
            count: connections.len(),
            idle: Mutex::new(connections),
            returned: Condvar::new(),
        }
    }

    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// Takes every connection, once the reads under way have ended; reads that begin wait. `false`
    /// when one did not end in time: then all goes on as before.
    pub(super) fn take_all(&self, limit: Duration) -> bool {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let mut taken = Vec::with_capacity(self.count);
        let until = Instant::now() + limit;
        loop {
            taken.append(&mut idle);
            let left = until.saturating_duration_since(Instant::now());
            if taken.len() == self.count {
                return true;
            }
            if left.is_zero() || self.permits.is_closed() {
                idle.append(&mut taken);
                self.returned.notify_all();
                return false;
            }
            idle = self
                .returned
                .wait_timeout(idle, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    /// Gives connections in the place of those that were taken.
    pub(super) fn give(&self, connections: Vec<Connection>) {
        *self.idle.lock().unwrap_or_else(PoisonError::into_inner) = connections;
        self.returned.notify_all();
    }

    /// Reads in one transaction, so that everything read belongs to one moment.
    pub(super) async fn read<T: Send + 'static>(
        self: &std::sync::Arc<Self>,
        read: impl FnOnce(&Connection) -> Sql<T> + Send + 'static,
    ) -> Result<T, Error> {
        let permit = self.permits.acquire().await.map_err(|_| closed())?;
        permit.forget(); // given back with the connection, however this future ends
        let readers = std::sync::Arc::clone(self);
        let task = tokio::task::spawn_blocking(move || {
            let lease = Lease::take(readers).ok_or_else(closed)?;
            let conn = lease.connection.as_ref().ok_or_else(closed)?;
            let result = conn
                .unchecked_transaction()
                .and_then(|_transaction| read(conn));
            result.map_err(|error| Error::from(Lost::new(error, conn)))
        });
        match task.await {
            Ok(result) => result,
            Err(error) => Err(Error::Unavailable(Trouble::new(Condition::Failed, error))),
        }
    }

    /// Closes the connections; one in use is closed when its read ends.
    pub(super) fn close(&self) {
        self.permits.close();
        self.idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
        self.returned.notify_all();
    }
}

fn closed() -> Error {
    Error::Unavailable(Trouble::of(Condition::Closed))
}

/// A connection on loan; it goes back even when the read panics.
struct Lease {
    readers: std::sync::Arc<Readers>,
    connection: Option<Connection>,
}

impl Lease {
    fn take(readers: std::sync::Arc<Readers>) -> Option<Self> {
        let mut idle = readers.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let until = Instant::now() + ANEW;
        while idle.is_empty() && !readers.permits.is_closed() && Instant::now() < until {
            // The writer has them, to open the files anew.
            idle = readers
                .returned
                .wait_timeout(idle, ANEW)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        let connection = idle.pop()?;
        drop(idle);
        Some(Self {
            readers,
            connection: Some(connection),
        })
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut idle = self
            .readers
            .idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if !self.readers.permits.is_closed() {
            idle.extend(self.connection.take());
            self.readers.permits.add_permits(1);
            self.readers.returned.notify_all();
        }
    }
}

pub(super) fn tailnets(conn: &Connection) -> Sql<Vec<(TailnetId, u64)>> {
    let heads = heads(conn)?.into_iter();
    Ok(heads
        .filter_map(|(owner, seq)| Some((owner.tailnet()?, seq)))
        .collect())
}

pub(super) fn heads(conn: &Connection) -> Sql<Vec<(Owner, u64)>> {
    let mut statement = conn.prepare_cached(sql::HEADS)?;
    let rows = statement.query_map([], |row| {
        let owner = Owner::try_from(uint(row, 0)?).map_err(|error| broken(0, error))?;
        Ok((owner, head(row, 1, owner)?))
    })?;
    rows.collect()
}

/// The newest sequence number; `0` when there is no such tailnet.
pub(super) fn seq(conn: &Connection, owner: Owner) -> Sql<u64> {
    let mut statement = conn.prepare_cached(sql::HEAD)?;
    let seq = statement
        .query_row(params![int(owner.get())], |row| head(row, 0, owner))
        .optional()?;
    Ok(seq.unwrap_or(0))
}

/// A head's number and checksum, from this column on.
fn head(row: &SqlRow<'_>, column: usize, owner: Owner) -> Sql<u64> {
    let seq: i64 = row.get(column)?;
    let sum = checksum::head(int(owner.get()), seq);
    verify(row, column + 1, sum, || format!("head of {owner}"))?;
    Ok(seq.cast_unsigned())
}

/// Compares a row's checksum, which is in this column.
pub(super) fn verify(
    row: &SqlRow<'_>,
    column: usize,
    computed: i64,
    name: impl FnOnce() -> String,
) -> Sql<()> {
    checksum::check(row.get(column)?, computed, name).map_err(|error| broken(column, error))
}

/// The checksum of an object whose body is in the column before `column`, and whose unique columns
/// follow it, compared with the one in it.
pub(super) fn verify_object(
    row: &SqlRow<'_>,
    column: usize,
    kind: Kind,
    (tailnet, id, seq): (i64, i64, i64),
) -> Sql<()> {
    let columns = kind.columns().len();
    let columns = (column + 1..=column + columns)
        .map(|at| Ok(row.get_ref(at)?.as_str_or_null()?))
        .collect::<Sql<Vec<_>>>()?;
    let body = row.get_ref(column - 1)?.as_str()?;
    let expires = if kind.is_cold() {
        row.get(column + 1 + columns.len())?
    } else {
        None
    };
    let sum = checksum::object(kind, tailnet, id, seq, body, columns.into_iter(), expires);
    verify(row, column, sum, || {
        format!("{kind} {id} of tailnet {tailnet}")
    })
}

pub(super) fn load(conn: &Connection, owner: Owner) -> Sql<Loaded> {
    let seq = seq(conn, owner)?;
    let rows = all_rows(conn, owner)?;
    let mut statement = conn.prepare_cached(sql::PRESENCE)?;
    let presence = statement
        .query_map(params![int(owner.get())], |row| {
            let (device, online, at): (i64, bool, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
            let body = row.get_ref(3)?.as_str()?;
            let sum = checksum::presence(int(owner.get()), device, online, at, body);
            verify(row, 4, sum, || format!("presence of device {device}"))?;
            Ok(Presence {
                device: device.cast_unsigned(),
                online,
                at: time(row, 2)?,
                body: body.into(),
            })
        })?
        .collect::<Sql<_>>()?;
    Ok(Loaded {
        seq,
        rows,
        presence,
    })
}

fn all_rows(conn: &Connection, owner: Owner) -> Sql<Vec<Row>> {
    let mut rows = Vec::new();
    for kind in Kind::all().filter(|kind| !kind.is_cold()) {
        let mut statement = conn.prepare_cached(&sql::of(kind).all)?;
        let found = statement.query_map(params![int(owner.get())], |row| {
            let place = (int(owner.get()), row.get(0)?, row.get(1)?);
            verify_object(row, 3, kind, place)?;
            Ok(Row {
                kind,
                id: uint(row, 0)?,
                seq: uint(row, 1)?,
                body: text(row, 2)?,
            })
        })?;
        for row in found {
            rows.push(row?);
        }
    }
    Ok(rows)
}

/// A row of a cold kind, with its owner.
fn cold_row(kind: Kind, row: &SqlRow<'_>) -> Sql<(Owner, Row)> {
    verify_object(row, 4, kind, (row.get(0)?, row.get(1)?, row.get(2)?))?;
    let owner = Owner::try_from(uint(row, 0)?).map_err(|error| broken(0, error))?;
    let row = Row {
        kind,
        id: uint(row, 1)?,
        seq: uint(row, 2)?,
        body: text(row, 3)?,
    };
    Ok((owner, row))
}

pub(super) fn find(
    conn: &Connection,
    kind: Kind,
    id: u64,
    now: Timestamp,
) -> Sql<Option<(Owner, Row)>> {
    let Some(cold) = &sql::of(kind).cold else {
        return Ok(None);
    };
    conn.prepare_cached(&cold.find)?
        .query_row(params![int(id), now.as_microsecond()], |row| {
            cold_row(kind, row)
        })
        .optional()
}

pub(super) fn page(
    conn: &Connection,
    kind: Kind,
    owner: Owner,
    after: u64,
    now: Timestamp,
    limit: usize,
) -> Sql<Vec<Row>> {
    let Some(cold) = &sql::of(kind).cold else {
        return Ok(Vec::new());
    };
    let params = params![
        int(owner.get()),
        int(after),
        now.as_microsecond(),
        count(limit)
    ];
    let mut statement = conn.prepare_cached(&cold.page)?;
    let rows = statement.query_map(params, |row| Ok(cold_row(kind, row)?.1))?;
    rows.collect()
}

pub(super) fn catch_up(conn: &Connection, owner: Owner, since: u64) -> Sql<CatchUp> {
    let seq = seq(conn, owner)?;
    let changes = changes(conn, owner, since, row::CATCH_UP_LIMIT + 1)?;
    if !row::reaches_back(&changes, since, seq) {
        let rows = all_rows(conn, owner)?;
        return Ok(CatchUp {
            seq,
            whole: true,
            rows,
            gone: Vec::new(),
        });
    }
    let mut touched = BTreeMap::new();
    let all = changes.iter().flat_map(|change| &change.touched);
    for one in all.filter(|one| !one.kind.is_cold()) {
        touched.insert((one.kind, one.id), one.operation);
    }
    let mut catch_up = CatchUp {
        seq,
        whole: false,
        rows: Vec::new(),
        gone: Vec::new(),
    };
    for ((kind, id), operation) in touched {
        if operation == Operation::Delete {
            catch_up.gone.push((kind, id));
            continue;
        }
        let mut statement = conn.prepare_cached(&sql::of(kind).get)?;
        catch_up.rows.push(
            statement.query_row(params![int(owner.get()), int(id)], |row| {
                let place = (int(owner.get()), int(id), row.get(0)?);
                verify_object(row, 2, kind, place)?;
                Ok(Row {
                    kind,
                    id,
                    seq: uint(row, 0)?,
                    body: text(row, 1)?,
                })
            })?,
        );
    }
    Ok(catch_up)
}

pub(super) fn changes(
    conn: &Connection,
    owner: Owner,
    after: u64,
    limit: usize,
) -> Sql<Vec<Change>> {
    let mut statement = conn.prepare_cached(sql::CHANGES)?;
    let params = params![int(owner.get()), int(after), count(limit)];
    let changes = statement.query_map(params, |row| {
        verify_change(row, 0, int(owner.get()))?;
        Ok(Change {
            seq: uint(row, 0)?,
            commit_id: row.get(1)?,
            at: time(row, 2)?,
            touched: row::touched_from(row.get_ref(3)?.as_str()?)
                .map_err(|error| broken(3, error))?,
        })
    })?;
    changes.collect()
}

pub(super) fn commit_outcome(
    conn: &Connection,
    owner: Owner,
    commit_id: [u8; 16],
) -> Sql<Option<u64>> {
    conn.prepare_cached(sql::CHANGE_BY_COMMIT)?
        .query_row(params![int(owner.get()), commit_id], |row| uint(row, 0))
        .optional()
}

pub(super) fn audit(
    conn: &Connection,
    owner: Owner,
    after: (Timestamp, u64),
    to: Timestamp,
    limit: usize,
) -> Sql<Vec<AuditEntry>> {
    let mut statement = conn.prepare_cached(sql::AUDIT)?;
    let params = params![
        int(owner.get()),
        after.0.as_microsecond(),
        int(after.1),
        to.as_microsecond(),
        count(limit)
    ];
    let rows = statement.query_map(params, |row| {
        let (number, at, id): (i64, i64, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
        let sum = checksum::audit(&checksum::Audit {
            owner: int(owner.get()),
            number,
            at,
            id,
            body: row.get_ref(3)?.as_str()?,
            previous: row.get_ref(4)?.as_blob()?,
            hash: row.get_ref(5)?.as_blob()?,
        });
        verify(row, 6, sum, || format!("audit event {number} of {owner}"))?;
        Ok(AuditEntry {
            number: uint(row, 0)?,
            previous: row.get(4)?,
            hash: row.get(5)?,
            event: AuditRow {
                id: uint(row, 2)?,
                at: time(row, 1)?,
                body: text(row, 3)?,
            },
        })
    })?;
    rows.collect()
}

/// An end of a chain; before the first event where nothing was noted.
pub(super) fn audit_end(conn: &Connection, owner: Owner, place: Place) -> Sql<Link> {
    let place = place.number();
    let end = conn
        .prepare_cached(sql::AUDIT_END)?
        .query_row(params![int(owner.get()), place], |row| {
            let (number, hash): (i64, Hash) = (row.get(0)?, row.get(1)?);
            let sum = checksum::audit_end(int(owner.get()), place, number, &hash);
            verify(row, 2, sum, || format!("end of the audit log of {owner}"))?;
            Ok(Link {
                number: uint(row, 0)?,
                hash,
            })
        })
        .optional()?;
    Ok(end.unwrap_or_default())
}

/// The oldest events, with their times in microseconds.
pub(super) fn audit_oldest(conn: &Connection, owner: Owner, limit: usize) -> Sql<Vec<(Link, i64)>> {
    let mut statement = conn.prepare_cached(sql::AUDIT_OLDEST)?;
    let rows = statement.query_map(params![int(owner.get()), count(limit)], |row| {
        let link = Link {
            number: uint(row, 0)?,
            hash: row.get(2)?,
        };
        Ok((link, row.get(1)?))
    })?;
    rows.collect()
}

pub(super) fn text_of(conn: &Connection, owner: Owner, sha256: &str) -> Sql<Option<TextRow>> {
    conn.prepare_cached(sql::TEXT)?
        .query_row(params![int(owner.get()), sha256], |row| {
            let body = row.get_ref(2)?.as_blob()?;
            let sum = checksum::text(int(owner.get()), sha256, row.get(0)?, body);
            verify(row, 1, sum, || format!("text {sha256} of {owner}"))?;
            Ok(TextRow {
                sha256: sha256.to_owned(),
                at: time(row, 0)?,
                body: std::str::from_utf8(body)
                    .map_err(|error| broken(2, error))?
                    .into(),
            })
        })
        .optional()
}

pub(super) fn texts(conn: &Connection, owner: Owner) -> Sql<Vec<TextVersion>> {
    let mut statement = conn.prepare_cached(sql::TEXTS)?;
    let rows = statement.query_map(params![int(owner.get())], |row| {
        Ok(TextVersion {
            sha256: row.get(0)?,
            at: time(row, 1)?,
            bytes: uint(row, 2)?,
        })
    })?;
    rows.collect()
}

/// Bytes of the database's file and of its write-ahead log.
pub(super) fn size(conn: &Connection) -> u64 {
    let length = |path: String| std::fs::metadata(path).map_or(0, |file| file.len());
    conn.path().map_or(0, |path| {
        length(path.to_owned()) + length(format!("{path}-wal"))
    })
}

pub(super) fn secret(conn: &Connection, owner: Owner, name: &str) -> Sql<Option<Vec<u8>>> {
    let number = int(owner.get());
    conn.prepare_cached(sql::SECRET)?
        .query_row(params![number, name], |row| {
            let sealed: Vec<u8> = row.get(0)?;
            let sum = checksum::secret(number, name, &sealed);
            verify(row, 1, sum, || format!("secret {name}"))?;
            Ok(sealed)
        })
        .optional()
}

pub(super) fn moment(conn: &Connection, name: &str) -> Sql<Option<Timestamp>> {
    conn.prepare_cached(sql::MOMENT)?
        .query_row(params![name], |row| {
            let sum = checksum::moment(name, row.get(0)?);
            verify(row, 1, sum, || format!("moment {name}"))?;
            time(row, 0)
        })
        .optional()
}

/// Compares the checksum of a change: seq, commit id, time, touched and checksum from this column
/// on.
pub(super) fn verify_change(row: &SqlRow<'_>, first: usize, tailnet: i64) -> Sql<()> {
    let seq: i64 = row.get(first)?;
    let commit_id = row.get_ref(first + 1)?.as_blob()?;
    let touched = row.get_ref(first + 3)?.as_str()?;
    let sum = checksum::change(tailnet, seq, commit_id, row.get(first + 2)?, touched);
    verify(row, first + 4, sum, || {
        format!("change {seq} of tailnet {tailnet}")
    })
}

pub(super) fn uint(row: &SqlRow<'_>, column: usize) -> Sql<u64> {
    row.get::<_, i64>(column).map(i64::cast_unsigned)
}

pub(super) fn text(row: &SqlRow<'_>, column: usize) -> Sql<Box<str>> {
    Ok(row.get_ref(column)?.as_str()?.into())
}

pub(super) fn time(row: &SqlRow<'_>, column: usize) -> Sql<Timestamp> {
    Timestamp::from_microsecond(row.get(column)?).map_err(|error| broken(column, error))
}

pub(super) fn owner_of(row: &SqlRow<'_>, column: usize) -> Sql<Owner> {
    let number = uint(row, column)?;
    Owner::try_from(number).map_err(|error| broken(column, error))
}

pub(super) fn broken(
    column: usize,
    error: impl std::error::Error + Send + Sync + 'static,
) -> rusqlite::Error {
    let kind = rusqlite::types::Type::Integer;
    rusqlite::Error::FromSqlConversionFailure(column, kind, Box::new(error))
}

pub(super) fn count(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}
