//! Dump and restore.

use std::collections::BTreeMap;

use rusqlite::{Connection, Row as SqlRow, ToSql, params};
use tokio::sync::mpsc;

use super::apply::int;
use super::read::{time, uint};
use crate::dump::{
    self, AuditRecord, Bytes, ChangeRecord, Head, Lines, OutboxRecord, PresenceRecord, Record,
    RowRecord, SecretRecord, Stopped,
};
use crate::error::TransferError;
use crate::kind::{Kind, SPECS};
use crate::sql;

type Sql<T> = Result<T, rusqlite::Error>;

/// Makes a record of a row.
type Read = Box<dyn Fn(&SqlRow<'_>) -> Sql<Record>>;

/// Hands every row of the database to `lines`, all of one moment.
pub(super) fn dump(conn: &Connection, mut lines: Lines) -> Sql<()> {
    let mut tables: Vec<(&str, Read)> = vec![(sql::DUMP_HEADS, Box::new(head))];
    for spec in SPECS {
        tables.push((
            &sql::of(spec.kind).dump,
            Box::new(|row| object(spec.kind, row)),
        ));
    }
    tables.push((sql::DUMP_CHANGES, Box::new(change)));
    tables.push((sql::DUMP_AUDIT, Box::new(audit)));
    tables.push((sql::DUMP_OUTBOX, Box::new(outbox)));
    tables.push((sql::DUMP_PRESENCE, Box::new(presence)));
    tables.push((sql::DUMP_SECRETS, Box::new(secret)));
    for (text, record) in tables {
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
    Ok(Record::Head(Head {
        tailnet: uint(row, 0)?,
        seq: uint(row, 1)?,
    }))
}

fn object(kind: Kind, row: &SqlRow<'_>) -> Sql<Record> {
    let mut columns = BTreeMap::new();
    for (index, (_, name)) in kind.spec().columns.iter().enumerate() {
        if let Some(value) = row.get(4 + index)? {
            columns.insert((*name).to_owned(), value);
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
    Ok(Record::Change(ChangeRecord {
        tailnet: uint(row, 0)?,
        seq: uint(row, 1)?,
        commit_id: Bytes(row.get(2)?),
        at: time(row, 3)?,
        touched: body(row, 4)?,
    }))
}

fn audit(row: &SqlRow<'_>) -> Sql<Record> {
    Ok(Record::Audit(AuditRecord {
        tailnet: uint(row, 0)?,
        id: uint(row, 1)?,
        at: time(row, 2)?,
        body: body(row, 3)?,
    }))
}

fn outbox(row: &SqlRow<'_>) -> Sql<Record> {
    Ok(Record::Outbox(OutboxRecord {
        tailnet: uint(row, 0)?,
        id: uint(row, 1)?,
        topic: row.get(2)?,
        body: body(row, 3)?,
    }))
}

fn presence(row: &SqlRow<'_>) -> Sql<Record> {
    Ok(Record::Presence(PresenceRecord {
        tailnet: uint(row, 0)?,
        device: uint(row, 1)?,
        online: row.get(2)?,
        at: time(row, 3)?,
        body: body(row, 4)?,
    }))
}

fn secret(row: &SqlRow<'_>) -> Sql<Record> {
    Ok(Record::Secret(SecretRecord {
        name: row.get(0)?,
        sealed: Bytes(row.get(1)?),
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
            let params = params![int(head.tailnet), int(head.seq)];
            conn.prepare_cached(sql::HEAD_RESTORE)?.execute(params)?;
        }
        Record::Row(row) => {
            let Some(kind) = Kind::from_name(&row.kind) else {
                return Ok(Err(dump::unknown(&row.kind)));
            };
            let (tailnet, id, seq) = (int(row.tailnet), int(row.id), int(row.seq));
            let body = row.body.get();
            let names = kind.spec().columns;
            let values: Vec<_> = names
                .iter()
                .map(|(_, name)| row.columns.get(*name))
                .collect();
            let mut params: Vec<&dyn ToSql> = vec![&tailnet, &id, &seq, &body];
            params.extend(values.iter().map(|value| value as &dyn ToSql));
            conn.prepare_cached(&sql::of(kind).put)?.execute(&*params)?;
        }
        Record::Change(change) => {
            conn.prepare_cached(sql::CHANGE_PUT)?.execute(params![
                int(change.tailnet),
                int(change.seq),
                change.commit_id.0,
                change.at.as_microsecond(),
                change.touched.get(),
            ])?;
        }
        Record::Audit(event) => {
            conn.prepare_cached(sql::AUDIT_PUT)?.execute(params![
                int(event.tailnet),
                event.at.as_microsecond(),
                int(event.id),
                event.body.get(),
            ])?;
        }
        Record::Outbox(row) => {
            let params = params![int(row.id), int(row.tailnet), row.topic, row.body.get()];
            conn.prepare_cached(sql::OUTBOX_PUT)?.execute(params)?;
        }
        Record::Presence(one) => {
            conn.prepare_cached(sql::PRESENCE_RESTORE)?
                .execute(params![
                    int(one.device),
                    int(one.tailnet),
                    one.online,
                    one.at.as_microsecond(),
                    one.body.get(),
                ])?;
        }
        Record::Secret(secret) => {
            let params = params![secret.name, secret.sealed.0];
            conn.prepare_cached(sql::SECRET_PUT)?.execute(params)?;
        }
    }
    Ok(Ok(()))
}
