//! Rows of every table, for backups and examinations, and back.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio_postgres::{Client, Row};

use super::fail::{self, Failure};
use super::open::{self, Connector};
use super::session::{Param, Step};
use super::value::{self, Json, get};
use super::{Inner, sql};
use crate::dump::{self, Lines, Record, Stopped};
use crate::error::{Condition, Error, OpenError, TransferError, Trouble};
use crate::options::Opening;
use crate::table::{self, Table, Type, Value};

/// Rows that are read in the first round trip of a table, and at most.
const FETCH: (usize, usize) = (16, 1024);
/// Bytes that a round trip shall bring: fewer rows the next time where it brought more, and more
/// where it brought much less.
const FETCH_BYTES: usize = 1024 * 1024;
/// How long the database may take for the next rows of a backup.
const ANSWER: Duration = Duration::from_mins(1);

/// Hands every row of a database to `lines`, all of one moment, beside whoever uses it.
pub(super) async fn dump(url: &str, lines: Lines) -> Result<(), TransferError> {
    let client = beside_others(url).await?;
    dump_rows(&client, lines)
        .await
        .map_err(|failure| Error::from(failure).into())
}

/// The rows of a small table, beside whoever uses the database.
pub(super) async fn rows(url: &str, table: &Table) -> Result<Vec<Vec<Value>>, TransferError> {
    let client = beside_others(url).await?;
    let rows = answer(client.query_typed(&table.select, &[])).await;
    let rows = rows.and_then(|rows| rows.iter().map(|row| record(table, row)).collect());
    rows.map_err(|failure| Error::from(failure).into())
}

/// A connection to a database that this program can back up.
async fn beside_others(url: &str) -> Result<Client, TransferError> {
    let connector = Connector::new(url)?;
    let (client, _) = connector.connect().await.map_err(fail::opening)?;
    match open::look(&client, &connector, Opening::Existing).await {
        // A standby can be read all the same.
        Ok(_) | Err(OpenError::ReadOnly { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    let found = open::newest_migration(&client).await;
    dump::refuse_other_schema(found.map_err(fail::opening)?)?;
    Ok(client)
}

async fn dump_rows(client: &Client, mut lines: Lines) -> Result<(), Failure> {
    answer(client.batch_execute(sql::BEGIN_DUMP)).await?;
    for table in table::tables() {
        if lines.begin(table).await.is_err() {
            return Ok(());
        }
        // In portions: the rows of a table need not fit into memory, and a reader of the backup
        // that is slow does not stop the server's answer halfway, which it would end.
        let cursor = format!("{} {}", sql::DUMP_CURSOR, table.select);
        answer(client.batch_execute(&cursor)).await?;
        let mut count = FETCH.0;
        loop {
            let fetch = format!("FETCH FORWARD {count} FROM backup");
            let rows = answer(client.query_typed(&fetch, &[])).await?;
            if rows.is_empty() {
                break;
            }
            let mut bytes = 0;
            for row in rows {
                let row = record(table, &row)?;
                bytes += dump::weight(&row);
                if let Err(Stopped) = lines.put(&row).await {
                    return Ok(());
                }
            }
            if bytes > FETCH_BYTES {
                count = (count / 2).max(1);
            } else if bytes < FETCH_BYTES / 4 {
                count = (count * 2).min(FETCH.1);
            }
        }
        answer(client.batch_execute(sql::DUMP_CLOSE)).await?;
    }
    answer(client.batch_execute("COMMIT")).await?;
    lines.finish().await;
    Ok(())
}

async fn answer<T>(
    answer: impl Future<Output = Result<T, tokio_postgres::Error>>,
) -> Result<T, Failure> {
    match tokio::time::timeout(ANSWER, answer).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(Failure::Trouble(Trouble::of(Condition::Stalled))),
    }
}

/// The values of a row, compared with their checksum.
pub(super) fn record(table: &Table, row: &Row) -> Result<Vec<Value>, Failure> {
    let values = values(table, row)?;
    table.verify(&values).map_err(value::unreadable)?;
    Ok(values)
}

/// The values of a row.
pub(super) fn values(table: &Table, row: &Row) -> Result<Vec<Value>, Failure> {
    let types = table.types().enumerate();
    types.map(|(index, kind)| value(row, index, kind)).collect()
}

fn value(row: &Row, index: usize, kind: Type) -> Result<Value, Failure> {
    let value = match kind {
        Type::Integer => get::<Option<i64>>(row, index)?.map(Value::Integer),
        Type::Flag => get::<Option<bool>>(row, index)?.map(Value::Flag),
        Type::Text => get::<Option<String>>(row, index)?.map(Value::Text),
        Type::Json => {
            get::<Option<Json<'_>>>(row, index)?.map(|json| Value::Text(json.0.to_owned()))
        }
        Type::Bytes => get::<Option<Vec<u8>>>(row, index)?.map(Value::Bytes),
    };
    Ok(value.unwrap_or(Value::Null))
}

/// Writes every record into an empty database.
pub(super) async fn restore(
    inner: &Inner,
    mut records: mpsc::Receiver<Option<Vec<Record>>>,
) -> Result<(), TransferError> {
    let mut session = inner.begin_write().await?;
    // The next rows may be slow to come from the disk that the backup is on.
    session.simple(sql::PATIENT).await?;
    for table in table::tables() {
        let used = session.row(&table.is_used, &[]).await?;
        if used.map_or(Ok(false), |row| get(&row, 0))? {
            return Err(TransferError::NotEmpty);
        }
    }
    loop {
        match records.recv().await {
            // In one round trip.
            Some(Some(together)) => {
                let steps: Vec<_> = together.iter().map(insert).collect();
                for result in session.run(None, &steps).await? {
                    result.map_err(Failure::from)?;
                }
            }
            Some(None) => break,
            None => return Err(TransferError::Stopped),
        }
    }
    Ok(session.commit().await?)
}

fn insert((table, row): &Record) -> Step<'_> {
    let values = row.iter().zip(table.types());
    let params = values.map(|(value, kind)| -> Param<'_> {
        match (value, kind) {
            (Value::Integer(number), _) => Box::new(*number),
            (Value::Flag(flag), _) => Box::new(*flag),
            (Value::Text(text), Type::Json) => Box::new(Json(text)),
            (Value::Text(text), _) => Box::new(text.as_str()),
            (Value::Bytes(bytes), _) => Box::new(bytes.as_slice()),
            (Value::Null, Type::Integer) => Box::new(None::<i64>),
            (Value::Null, Type::Flag) => Box::new(None::<bool>),
            (Value::Null, Type::Text) => Box::new(None::<&str>),
            (Value::Null, Type::Json) => Box::new(None::<Json<'_>>),
            (Value::Null, Type::Bytes) => Box::new(None::<&[u8]>),
        }
    });
    Step {
        text: &table.insert,
        params: params.collect(),
    }
}
