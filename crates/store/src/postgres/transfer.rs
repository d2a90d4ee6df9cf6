//! Dump and restore.

use std::collections::BTreeMap;

use bowline_model::kind::Kind;
use futures_util::TryStreamExt;
use serde_json::value::RawValue;
use tokio::sync::mpsc;
use tokio_postgres::Row;

use super::Inner;
use super::apply::step;
use super::fail::Failure;
use super::session::{Param, Step};
use super::value::{self, Json, get, int, time, uint, verify};
use crate::checksum;
use crate::dump::{
    self, AuditRecord, Bytes, ChangeRecord, Head, Lines, OutboxRecord, PresenceRecord, Record,
    RowRecord, SecretRecord, Stopped,
};
use crate::error::TransferError;
use crate::sql;

/// Records that are written in one round trip.
const PIPELINE: usize = 256;

/// Makes a record of a row.
pub(super) type Read = fn(Option<Kind>, &Row) -> Result<Record, Failure>;

/// Every table of a dump: its name, its rows, its kind, and what makes a record of one after
/// comparing its checksum.
pub(super) fn tables() -> Vec<(&'static str, &'static str, Option<Kind>, Read)> {
    let mut tables: Vec<(&'static str, &'static str, Option<Kind>, Read)> =
        vec![("heads", sql::DUMP_HEADS, None, head)];
    for kind in Kind::all() {
        let dump = &sql::of(kind).dump;
        tables.push((kind.table(), dump, Some(kind), object));
    }
    tables.push(("changes", sql::DUMP_CHANGES, None, change));
    tables.push(("audit", sql::DUMP_AUDIT, None, audit));
    tables.push(("outbox", sql::DUMP_OUTBOX, None, outbox));
    tables.push(("presence", sql::DUMP_PRESENCE, None, presence));
    tables.push(("secrets", sql::DUMP_SECRETS, None, secret));
    tables
}

/// Hands every row of the database to `lines`, all of one moment.
pub(super) async fn dump(inner: &Inner, mut lines: Lines) -> Result<(), Failure> {
    let mut session = inner.session().await?;
    session.begin(super::sql::BEGIN_READ).await?;
    for (_, text, kind, read) in tables() {
        let mut rows = std::pin::pin!(session.stream(text).await?);
        while let Some(row) = rows.try_next().await? {
            if let Err(Stopped) = lines.put(&read(kind, &row)?).await {
                return Ok(());
            }
        }
    }
    session.rollback().await?;
    lines.finish().await;
    Ok(())
}

fn head(_: Option<Kind>, row: &Row) -> Result<Record, Failure> {
    let (tailnet, seq): (i64, i64) = (get(row, 0)?, get(row, 1)?);
    let sum = checksum::head(tailnet, seq);
    verify(row, 2, sum, || format!("head of tailnet {tailnet}"))?;
    Ok(Record::Head(Head {
        tailnet: uint(row, 0)?,
        seq: uint(row, 1)?,
    }))
}

fn object(kind: Option<Kind>, row: &Row) -> Result<Record, Failure> {
    let kind = kind.unwrap_or(Kind::Tailnet); // it is always given for tables of kinds
    value::verify_object(row, 4, kind, (get(row, 0)?, get(row, 1)?, get(row, 2)?))?;
    let mut columns = BTreeMap::new();
    for (index, column) in kind.columns().iter().enumerate() {
        if let Some(value) = get(row, 5 + index)? {
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

fn change(_: Option<Kind>, row: &Row) -> Result<Record, Failure> {
    value::verify_change(row, 1, get(row, 0)?)?;
    Ok(Record::Change(ChangeRecord {
        tailnet: uint(row, 0)?,
        seq: uint(row, 1)?,
        commit_id: Bytes(get(row, 2)?),
        at: time(row, 3)?,
        touched: dump::body(get(row, 4)?).map_err(value::unreadable)?,
    }))
}

fn audit(_: Option<Kind>, row: &Row) -> Result<Record, Failure> {
    let (tailnet, id, at): (i64, i64, i64) = (get(row, 0)?, get(row, 1)?, get(row, 2)?);
    let sum = checksum::audit(tailnet, at, id, get::<Json<'_>>(row, 3)?.0);
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

fn outbox(_: Option<Kind>, row: &Row) -> Result<Record, Failure> {
    let (tailnet, id, topic): (i64, i64, &str) = (get(row, 0)?, get(row, 1)?, get(row, 2)?);
    let sum = checksum::outbox(tailnet, id, topic, get::<Json<'_>>(row, 3)?.0);
    verify(row, 4, sum, || format!("outbox row {id}"))?;
    Ok(Record::Outbox(OutboxRecord {
        tailnet: uint(row, 0)?,
        id: uint(row, 1)?,
        topic: topic.to_owned(),
        body: body(row, 3)?,
    }))
}

fn presence(_: Option<Kind>, row: &Row) -> Result<Record, Failure> {
    let (tailnet, device, online): (i64, i64, bool) = (get(row, 0)?, get(row, 1)?, get(row, 2)?);
    let text = get::<Json<'_>>(row, 4)?.0;
    let sum = checksum::presence(tailnet, device, online, get(row, 3)?, text);
    verify(row, 5, sum, || format!("presence of device {device}"))?;
    Ok(Record::Presence(PresenceRecord {
        tailnet: uint(row, 0)?,
        device: uint(row, 1)?,
        online,
        at: time(row, 3)?,
        body: body(row, 4)?,
    }))
}

fn secret(_: Option<Kind>, row: &Row) -> Result<Record, Failure> {
    let name: String = get(row, 0)?;
    let sealed = value::secret(row, 1, &name)?;
    Ok(Record::Secret(SecretRecord {
        name,
        sealed: Bytes(sealed),
    }))
}

fn body(row: &Row, column: usize) -> Result<Box<RawValue>, Failure> {
    dump::body(get::<Json<'_>>(row, column)?.0).map_err(value::unreadable)
}

/// Writes every record into an empty database.
pub(super) async fn restore(
    inner: &Inner,
    mut records: mpsc::Receiver<Option<Record>>,
) -> Result<(), TransferError> {
    let mut session = inner.begin_write().await?;
    let used = "SELECT EXISTS (SELECT 1 FROM heads) OR EXISTS (SELECT 1 FROM secrets)";
    let used = session.row(used, &[]).await?;
    if used.map_or(Ok(false), |row| get(&row, 0))? {
        return Err(TransferError::NotEmpty);
    }
    let mut done = false;
    while !done {
        let mut group = Vec::with_capacity(PIPELINE);
        while group.len() < PIPELINE && !done {
            match records.recv().await {
                Some(Some(record)) => group.push(record),
                Some(None) => done = true,
                None => return Err(dump::cut_off()),
            }
        }
        let steps = group.iter().filter_map(|record| insert(record).transpose());
        let steps = steps.collect::<Result<Vec<_>, _>>()?;
        for result in session.run(None, &steps).await? {
            result.map_err(Failure::from)?;
        }
    }
    Ok(session.commit().await?)
}

fn insert(record: &Record) -> Result<Option<Step<'_>>, TransferError> {
    let (text, params): (_, Vec<Param<'_>>) = match record {
        Record::Header(_) | Record::End(_) => return Ok(None),
        Record::Head(head) => (
            sql::HEAD_RESTORE,
            vec![
                Box::new(int(head.tailnet)),
                Box::new(int(head.seq)),
                Box::new(checksum::head(int(head.tailnet), int(head.seq))),
            ],
        ),
        Record::Row(row) => {
            let kind = Kind::from_name(&row.kind).ok_or_else(|| dump::unknown(&row.kind))?;
            let columns = || {
                let columns = kind.columns().iter();
                columns.map(|column| row.columns.get(column.name()).map(String::as_str))
            };
            let mut params: Vec<Param<'_>> = vec![
                Box::new(int(row.tailnet)),
                Box::new(int(row.id)),
                Box::new(int(row.seq)),
                Box::new(Json(row.body.get())),
                Box::new(checksum::object(
                    kind,
                    int(row.tailnet),
                    int(row.id),
                    int(row.seq),
                    row.body.get(),
                    columns(),
                )),
            ];
            for column in columns() {
                params.push(Box::new(column));
            }
            (&*sql::of(kind).put, params)
        }
        Record::Change(change) => (
            sql::CHANGE_PUT,
            vec![
                Box::new(int(change.tailnet)),
                Box::new(int(change.seq)),
                Box::new(&*change.commit_id.0),
                Box::new(change.at.as_microsecond()),
                Box::new(change.touched.get()),
                Box::new(checksum::change(
                    int(change.tailnet),
                    int(change.seq),
                    &change.commit_id.0,
                    change.at.as_microsecond(),
                    change.touched.get(),
                )),
            ],
        ),
        Record::Audit(event) => (
            sql::AUDIT_PUT,
            vec![
                Box::new(int(event.tailnet)),
                Box::new(event.at.as_microsecond()),
                Box::new(int(event.id)),
                Box::new(Json(event.body.get())),
                Box::new(checksum::audit(
                    int(event.tailnet),
                    event.at.as_microsecond(),
                    int(event.id),
                    event.body.get(),
                )),
            ],
        ),
        Record::Outbox(row) => (
            sql::OUTBOX_PUT,
            vec![
                Box::new(int(row.id)),
                Box::new(int(row.tailnet)),
                Box::new(&*row.topic),
                Box::new(Json(row.body.get())),
                Box::new(checksum::outbox(
                    int(row.tailnet),
                    int(row.id),
                    &row.topic,
                    row.body.get(),
                )),
            ],
        ),
        Record::Presence(one) => (
            sql::PRESENCE_RESTORE,
            vec![
                Box::new(int(one.device)),
                Box::new(int(one.tailnet)),
                Box::new(one.online),
                Box::new(one.at.as_microsecond()),
                Box::new(Json(one.body.get())),
                Box::new(checksum::presence(
                    int(one.tailnet),
                    int(one.device),
                    one.online,
                    one.at.as_microsecond(),
                    one.body.get(),
                )),
            ],
        ),
        Record::Secret(secret) => (
            sql::SECRET_PUT,
            vec![
                Box::new(&*secret.name),
                Box::new(&*secret.sealed.0),
                Box::new(checksum::secret(&secret.name, &secret.sealed.0)),
            ],
        ),
    };
    Ok(Some(step(text, params)))
}
