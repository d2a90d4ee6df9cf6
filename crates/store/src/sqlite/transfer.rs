//! Rows of every table, for backups and examinations, and back.

use std::path::Path;
use std::time::Duration;

use rusqlite::types::{ToSqlOutput, Type as SqlType, ValueRef};
use rusqlite::{Connection, OpenFlags, Row as SqlRow, ToSql};
use tokio::sync::mpsc;

use super::examine::Look;
use super::fail::{self, Lost};
use super::open::{self, beside};
use super::read::broken;
use crate::dump::{self, Lines, Record, Stopped};
use crate::error::{Error, OpenError, TransferError};
use crate::options::Opening;
use crate::table::{self, Table, Type, Value};

type Sql<T> = Result<T, rusqlite::Error>;

/// Hands every row of a database to `lines`, all of one moment, beside whoever has it open.
pub(super) fn dump(path: &Path, lines: Lines) -> Result<(), TransferError> {
    let conn = beside_others(path)?;
    dump_rows(&conn, lines).map_err(|error| Error::from(Lost::new(error, &conn)).into())
}

/// The rows of a small table, beside whoever has the database open.
pub(super) fn rows(path: &Path, table: &Table) -> Result<Vec<Vec<Value>>, TransferError> {
    let conn = beside_others(path)?;
    let read = || -> Sql<Vec<Vec<Value>>> {
        let mut statement = conn.prepare(&table.select)?;
        let rows = statement.query_map([], |row| record(table, row))?;
        rows.collect()
    };
    read().map_err(|error| Error::from(Lost::new(error, &conn)).into())
}

/// Opens a database that this program can back up.
fn beside_others(path: &Path) -> Result<Connection, TransferError> {
    open::look(path, Opening::Existing)?;
    let conn = attach(path)?;
    open::refuse_foreign(&conn, path)?;
    let found = open::newest_migration(&conn).map_err(|error| fail::opening(error, path))?;
    dump::refuse_other_schema(found)?;
    Ok(conn)
}

/// A connection for reading, which a server may join or leave meanwhile.
///
/// Not one that takes the file for unchanging, as an examination does where there is no log: a
/// server may start at any moment. Only where the file or its directory cannot be written at all
/// nobody else can write to it either.
fn attach(path: &Path) -> Result<Connection, TransferError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let opened = Connection::open_with_flags(path, flags).and_then(|conn| {
        conn.busy_timeout(Duration::from_secs(5))?;
        conn.pragma_update(None, "query_only", true)?;
        // The log and its index come with the first read.
        conn.query_row("SELECT count(*) FROM sqlite_master", [], |_| Ok(()))?;
        Ok(conn)
    });
    match opened {
        Ok(conn) => Ok(conn),
        Err(error) => {
            let has_log = std::fs::metadata(beside(path, "-wal")).is_ok_and(|log| log.len() > 0);
            match fail::opening(error, path) {
                OpenError::NotWritable { .. } if !has_log => Ok(Look::at(path)?.conn),
                // Others only write for moments: see `open`.
                OpenError::InUse { .. } => Err(TransferError::HeldAlone {
                    place: path.display().to_string(),
                }),
                error => Err(error.into()),
            }
        }
    }
}

fn dump_rows(conn: &Connection, mut lines: Lines) -> Sql<()> {
    // One moment for everything.
    let _transaction = conn.unchecked_transaction()?;
    for table in table::tables() {
        if lines.blocking_begin(table).is_err() {
            return Ok(());
        }
        let mut statement = conn.prepare(&table.select)?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            if let Err(Stopped) = lines.blocking_put(&record(table, row)?) {
                return Ok(());
            }
        }
    }
    lines.blocking_finish();
    Ok(())
}

/// The values of a row, compared with their checksum.
pub(super) fn record(table: &Table, row: &SqlRow<'_>) -> Sql<Vec<Value>> {
    let values = values(table, row)?;
    let last = values.len() - 1;
    table
        .verify(&values)
        .map_err(|mismatch| broken(last, mismatch))?;
    Ok(values)
}

/// The values of a row.
pub(super) fn values(table: &Table, row: &SqlRow<'_>) -> Sql<Vec<Value>> {
    let types = table.types().enumerate();
    types.map(|(index, kind)| value(row, index, kind)).collect()
}

fn value(row: &SqlRow<'_>, index: usize, kind: Type) -> Sql<Value> {
    let found = row.get_ref(index)?;
    Ok(match (kind, found) {
        (_, ValueRef::Null) => Value::Null,
        (Type::Integer, ValueRef::Integer(number)) => Value::Integer(number),
        (Type::Flag, ValueRef::Integer(number)) => Value::Flag(number != 0),
        (Type::Text | Type::Json, ValueRef::Text(_)) => Value::Text(found.as_str()?.to_owned()),
        (Type::Bytes, ValueRef::Blob(bytes)) => Value::Bytes(bytes.to_vec()),
        _ => return Err(wrong_type(index, found.data_type())),
    })
}

fn wrong_type(index: usize, found: SqlType) -> rusqlite::Error {
    rusqlite::Error::InvalidColumnType(index, "a column".to_owned(), found)
}

/// Writes every record into an empty database.
pub(super) fn restore(
    conn: &Connection,
    mut records: mpsc::Receiver<Option<Vec<Record>>>,
) -> Sql<Result<(), TransferError>> {
    for table in table::tables() {
        if conn.query_row(&table.is_used, [], |row| row.get(0))? {
            return Ok(Err(TransferError::NotEmpty));
        }
    }
    loop {
        match records.blocking_recv() {
            Some(Some(together)) => {
                for (table, row) in together {
                    conn.prepare_cached(&table.insert)?
                        .execute(rusqlite::params_from_iter(&row))?;
                }
            }
            Some(None) => return Ok(Ok(())),
            None => return Ok(Err(TransferError::Stopped)),
        }
    }
}

impl ToSql for Value {
    fn to_sql(&self) -> Sql<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Null => ValueRef::Null,
            Self::Integer(number) => ValueRef::Integer(*number),
            Self::Flag(flag) => ValueRef::Integer(i64::from(*flag)),
            Self::Text(text) => ValueRef::Text(text.as_bytes()),
            Self::Bytes(bytes) => ValueRef::Blob(bytes),
        }))
    }
}
