//! Dump and restore.

use std::collections::BTreeMap;

use bowline_model::kind::Kind;
use rusqlite::{Connection, Row as SqlRow, ToSql, params};
use tokio::sync::mpsc;

use super::apply::int;
use super::read::{time, uint, verify, verify_change, verify_object};
use crate::checksum;
use crate::dump::{
    self, AuditRecord, Bytes, ChangeRecord, Head, Lines, OutboxRecord, PresenceRecord, Record,
    RowRecord, SecretRecord, Stopped,
};
use crate::error::TransferError;
use crate::sql;

type Sql<T> = Result<T, rusqlite::Error>;

/// Makes a record of a row.
pub(super) type Read = Box<dyn Fn(&SqlRow<'_>) -> Sql<Record>>;

/// Every table of a dump: its name, its rows, and what makes a record of one after comparing its
/// checksum.
pub(super) fn tables() -> Vec<(&'static str, &'static str, Read)> {
    let mut tables: Vec<(&str, &str, Read)> = vec![("heads", sql::DUMP_HEADS, Box::new(head))];
    for kind in Kind::all() {
        tables.push((
            kind.table(),
            &sql::of(kind).dump,
            Box::new(move |row| object(kind, row)),
        ));
    }
    tables.push(("changes", sql::DUMP_CHANGES, Box::new(change)));
    tables.push(("audit", sql::DUMP_AUDIT, Box::new(audit)));
    tables.push(("outbox", sql::DUMP_OUTBOX, Box::new(outbox)));
    tables.push(("presence", sql::DUMP_PRESENCE, Box::new(presence)));
    tables.push(("secrets", sql::DUMP_SECRETS, Box::new(secret)));
    tables
}

/// Hands every row of the database to `lines`, all of one moment.
pub(super) fn dump(conn: &Connection, mut lines: Lines) -> Sql<()> {
    for (_, text, record) in tables() {
        let mut statement = conn.prepare(text)?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            if let Err(Stopped) = lines.blocking_put(&record(row)?) {
                return Ok(());
            }
        }
    }
    lines.blocking_finish();
    Ok(())
}

fn head(row: &SqlRow<'_>) -> Sql<Record> {
    let (tailnet, seq): (i64, i64) = (row.get(0)?, row.get(1)?);
    let sum = checksum::head(tailnet, seq);
    verify(row, 2, sum, || format!("head of tailnet {tailnet}"))?;
    Ok(Record::Head(Head {
        tailnet: tailnet.cast_unsigned(),
        seq: seq.cast_unsigned(),
    }))
}

fn object(kind: Kind, row: &SqlRow<'_>) -> Sql<Record> {
    verify_object(row, 4, kind, (row.get(0)?, row.get(1)?, row.get(2)?))?;
    let mut columns = BTreeMap::new();
    for (index, column) in kind.columns().iter().enumerate() {
        if let Some(value) = row.get(5 + index)? {
            columns.insert(column.name().to_owned(), value);
        }
    }
    Ok(Record::Row(RowRecord {
        kind: kind.name().to_owned(),
        tailnet: uint(row, 0)?,
        id: uint(row, 1)?,
        seq: uint(row, 2)?,
        columns,
        body: body(row, 3)?,
    }))
}

fn change(row: &SqlRow<'_>) -> Sql<Record> {
    verify_change(row, 1, row.get(0)?)?;
    Ok(Record::Change(ChangeRecord {
        tailnet: uint(row, 0)?,
        seq: uint(row, 1)?,
        commit_id: Bytes(row.get(2)?),
        at: time(row, 3)?,
        touched: body(row, 4)?,
    }))
}

fn audit(row: &SqlRow<'_>) -> Sql<Record> {
    let (tailnet, id, at): (i64, i64, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
    let sum = checksum::audit(tailnet, at, id, row.get_ref(3)?.as_str()?);
    verify(row, 4, sum, || {
        format!("audit event {id} of tailnet {tailnet}")
    })?;
    Ok(Record::Audit(AuditRecord {
        tailnet: uint(row, 0)?,
        id: uint(row, 1)?,
        at: time(row, 2)?,
        body: body(row, 3)?,
    }))
}

fn outbox(row: &SqlRow<'_>) -> Sql<Record> {
    let (tailnet, id): (i64, i64) = (row.get(0)?, row.get(1)?);
    let (topic, text) = (row.get_ref(2)?.as_str()?, row.get_ref(3)?.as_str()?);
    let sum = checksum::outbox(tailnet, id, topic, text);
    verify(row, 4, sum, || format!("outbox row {id}"))?;
    Ok(Record::Outbox(OutboxRecord {
        tailnet: uint(row, 0)?,
        id: uint(row, 1)?,
        topic: row.get(2)?,
        body: body(row, 3)?,
    }))
}

fn presence(row: &SqlRow<'_>) -> Sql<Record> {
    let (tailnet, device, online): (i64, i64, bool) = (row.get(0)?, row.get(1)?, row.get(2)?);
    let text = row.get_ref(4)?.as_str()?;
    let sum = checksum::presence(tailnet, device, online, row.get(3)?, text);
    verify(row, 5, sum, || format!("presence of device {device}"))?;
    Ok(Record::Presence(PresenceRecord {
        tailnet: uint(row, 0)?,
        device: uint(row, 1)?,
        online,
        at: time(row, 3)?,
        body: body(row, 4)?,
    }))
}

fn secret(row: &SqlRow<'_>) -> Sql<Record> {
    let (name, sealed): (String, Vec<u8>) = (row.get(0)?, row.get(1)?);
    let sum = checksum::secret(&name, &sealed);
    verify(row, 2, sum, || format!("secret {name}"))?;
    Ok(Record::Secret(SecretRecord {
        name,
        sealed: Bytes(sealed),
    }))
}

fn body(row: &SqlRow<'_>, column: usize) -> Sql<Box<serde_json::value::RawValue>> {
    dump::body(row.get_ref(column)?.as_str()?).map_err(|error| {
        let kind = rusqlite::types::Type::Text;
        rusqlite::Error::FromSqlConversionFailure(column, kind, Box::new(error))
    })
}

/// Writes every record into an empty database.
pub(super) fn restore(
    conn: &Connection,
    mut records: mpsc::Receiver<Option<Record>>,
) -> Sql<Result<(), TransferError>> {
    let used: bool = conn.query_row(
        "SELECT EXISTS (SELECT 1 FROM heads) OR EXISTS (SELECT 1 FROM secrets)",
        [],
        |row| row.get(0),
    )?;
    if used {
        return Ok(Err(TransferError::NotEmpty));
    }
    loop {
        match records.blocking_recv() {
            Some(Some(record)) => {
                if let Err(error) = insert(conn, &record)? {
                    return Ok(Err(error));
                }
            }
            Some(None) => return Ok(Ok(())),
            None => return Ok(Err(dump::cut_off())),
        }
    }
}

fn insert(conn: &Connection, record: &Record) -> Sql<Result<(), TransferError>> {
    match record {
        Record::Header(_) | Record::End(_) => {}
        Record::Head(head) => {
            let (tailnet, seq) = (int(head.tailnet), int(head.seq));
            let params = params![tailnet, seq, checksum::head(tailnet, seq)];
            conn.prepare_cached(sql::HEAD_RESTORE)?.execute(params)?;
        }
        Record::Row(row) => {
            let Some(kind) = Kind::from_name(&row.kind) else {
                return Ok(Err(dump::unknown(&row.kind)));
            };
            let (tailnet, id, seq) = (int(row.tailnet), int(row.id), int(row.seq));
            let body = row.body.get();
            let values: Vec<_> = kind
                .columns()
                .iter()
                .map(|column| row.columns.get(column.name()).map(String::as_str))
                .collect();
            let sum = checksum::object(kind, tailnet, id, seq, body, values.iter().copied());
            let mut params: Vec<&dyn ToSql> = vec![&tailnet, &id, &seq, &body, &sum];
            params.extend(values.iter().map(|value| value as &dyn ToSql));
            conn.prepare_cached(&sql::of(kind).put)?.execute(&*params)?;
        }
        Record::Change(change) => {
            let (tailnet, seq) = (int(change.tailnet), int(change.seq));
            let (at, touched) = (change.at.as_microsecond(), change.touched.get());
            let sum = checksum::change(tailnet, seq, &change.commit_id.0, at, touched);
            let params = params![tailnet, seq, change.commit_id.0, at, touched, sum];
            conn.prepare_cached(sql::CHANGE_PUT)?.execute(params)?;
        }
        Record::Audit(event) => {
            let (tailnet, id) = (int(event.tailnet), int(event.id));
            let (at, body) = (event.at.as_microsecond(), event.body.get());
            let sum = checksum::audit(tailnet, at, id, body);
            let params = params![tailnet, at, id, body, sum];
            conn.prepare_cached(sql::AUDIT_PUT)?.execute(params)?;
        }
        Record::Outbox(row) => {
            let (id, tailnet, body) = (int(row.id), int(row.tailnet), row.body.get());
            let sum = checksum::outbox(tailnet, id, &row.topic, body);
            let params = params![id, tailnet, row.topic, body, sum];
            conn.prepare_cached(sql::OUTBOX_PUT)?.execute(params)?;
        }
        Record::Presence(one) => {
            let (device, tailnet) = (int(one.device), int(one.tailnet));
            let (at, body) = (one.at.as_microsecond(), one.body.get());
            let sum = checksum::presence(tailnet, device, one.online, at, body);
            let params = params![device, tailnet, one.online, at, body, sum];
            conn.prepare_cached(sql::PRESENCE_RESTORE)?
                .execute(params)?;
        }
        Record::Secret(secret) => {
            let sum = checksum::secret(&secret.name, &secret.sealed.0);
            let params = params![secret.name, secret.sealed.0, sum];
            conn.prepare_cached(sql::SECRET_PUT)?.execute(params)?;
        }
    }
    Ok(Ok(()))
}
