//! Looking for damage: every row, all of one moment.

use futures_util::TryStreamExt;
use tokio_postgres::types::Type;

use super::fail::{self, Failure};
use super::open::Connector;
use super::{open, sql, transfer, value};
use crate::checksum;
use crate::error::OpenError;
use crate::examine::{Examination, Examiner, Only};
use crate::options::Opening;
use crate::sql as shared;

/// Examines a database, beside a running server as well.
pub(super) async fn examine(url: &str, only: Only) -> Result<Examination, OpenError> {
    let connector = Connector::new(url)?;
    let (client, _) = connector.connect().await.map_err(fail::opening)?;
    match open::look(&client, &connector, Opening::Existing).await {
        // A database that cannot be written can still be read.
        Ok(_) | Err(OpenError::ReadOnly { .. }) => {}
        Err(error) => return Err(error),
    }
    open::refuse_newer(&client).await?;
    let mut examiner = Examiner::new(connector.place());
    client
        .batch_execute(sql::BEGIN_READ)
        .await
        .map_err(fail::opening)?;
    for table in only.tables() {
        let none = std::iter::empty::<(i64, Type)>();
        let rows = match client.query_typed_raw(&table.select, none).await {
            Ok(rows) => rows,
            Err(error) => {
                // Everything after it would be refused in this transaction.
                examiner.broken_table(table.name, said(&error));
                return Ok(examiner.finish());
            }
        };
        let mut rows = std::pin::pin!(rows);
        loop {
            match rows.try_next().await {
                Ok(None) => break,
                Ok(Some(row)) => match transfer::values(table, &row) {
                    Ok(row) => examiner.row(table, &row),
                    Err(failure) => examiner.broken_row(table.name, problem(&failure)),
                },
                Err(error) => {
                    examiner.broken_table(table.name, said(&error));
                    return Ok(examiner.finish());
                }
            }
        }
    }
    if only == Only::Audit {
        return Ok(examiner.finish());
    }
    match client.query_typed(shared::MOMENTS, &[]).await {
        Ok(rows) => {
            for row in rows {
                if let Err(failure) = moment(&row) {
                    examiner.broken_row("moments", problem(&failure));
                }
            }
        }
        Err(error) => examiner.broken_table("moments", said(&error)),
    }
    Ok(examiner.finish())
}

/// What no backup has.
fn moment(row: &tokio_postgres::Row) -> Result<(), Failure> {
    let (name, at): (String, i64) = (value::get(row, 0)?, value::get(row, 1)?);
    value::verify(row, 2, checksum::moment(&name, at), || {
        format!("moment {name}")
    })
}

fn said(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(said) => said.message().to_owned(),
        None => error.to_string(),
    }
}

fn problem(failure: &Failure) -> String {
    match failure {
        Failure::Again(trouble) | Failure::Trouble(trouble) => std::error::Error::source(trouble)
            .map_or_else(|| trouble.to_string(), ToString::to_string),
        Failure::Unknown(cause) => cause.to_string(),
    }
}
