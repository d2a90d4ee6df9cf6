//! One connection of the pool, and statements in order.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;

use deadpool_postgres::Object;
use futures_util::future::{FutureExt, MaybeDone, join_all, maybe_done};
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Error as SqlError, Row, Statement};

use super::fail::{self, Failure};
use super::value::Value;
use crate::error::{Cause, Condition, Trouble};

/// How long the database may take for the answer to one statement. It is longer than any lock may
/// be waited for, so that a stall is told from a crowd.
const ANSWER: Duration = Duration::from_secs(10);
/// The same for reading all rows of a kind.
const LONG_ANSWER: Duration = Duration::from_mins(1);

/// A parameter of a [`Step`].
pub(super) type Param<'a> = Box<dyn Value + Send + 'a>;

/// One statement to run.
pub(super) struct Step<'a> {
    pub(super) text: &'static str,
    pub(super) params: Vec<Param<'a>>,
}

/// Whether a session keeps the statements that were prepared in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Statements {
    /// Prepared once in each connection.
    Prepared,
    /// A connection pool gives every transaction another session: each statement is sent whole.
    Whole,
}

/// A connection on loan. In a transaction that was not ended, or with an answer outstanding, it
/// does not go back into the pool but is closed, so that the next one to use it does not find
/// itself inside or behind.
pub(super) struct Session {
    client: Option<Object>,
    statements: Statements,
    in_transaction: bool,
    is_waiting: AtomicBool,
}

impl Drop for Session {
    fn drop(&mut self) {
        if (self.in_transaction || self.is_waiting.load(Ordering::Relaxed))
            && let Some(client) = self.client.take()
        {
            drop(Object::take(client));
        }
    }
}

impl Session {
    pub(super) fn new(client: Object, statements: Statements) -> Self {
        Self {
            client: Some(client),
            statements,
            in_transaction: false,
            is_waiting: AtomicBool::new(false),
        }
    }

    fn client(&self) -> Result<&Object, Failure> {
        self.client.as_ref().ok_or_else(Failure::gone)
    }

    /// Waits for an answer of the server, not for ever.
    async fn answer<T>(
        &self,
        limit: Duration,
        answer: impl Future<Output = Result<T, SqlError>>,
    ) -> Result<T, Failure> {
        self.is_waiting.store(true, Ordering::Relaxed);
        let Ok(answer) = tokio::time::timeout(limit, answer).await else {
            return Err(Failure::Trouble(Trouble::of(Condition::Stalled)));
        };
        self.is_waiting.store(false, Ordering::Relaxed);
        Ok(answer?)
    }

    /// Runs simple statements.
    pub(super) async fn simple(&self, sql: &str) -> Result<(), Failure> {
        self.answer(ANSWER, self.client()?.batch_execute(sql)).await
    }

    /// Starts a transaction.
    pub(super) async fn begin(&mut self, sql: &str) -> Result<(), Failure> {
        self.in_transaction = true;
        self.simple(sql).await
    }

    /// Commits. After an error the connection is closed.
    pub(super) async fn commit(mut self) -> Result<(), Failure> {
        let commit = self.client()?.batch_execute("COMMIT");
        match tokio::time::timeout(ANSWER, commit).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(fail::committing(error)),
            Err(_) => return Err(Failure::Unknown(Cause::new("the database did not answer"))),
        }
        self.in_transaction = false;
        Ok(())
    }

    /// Undoes the transaction and keeps the connection.
    pub(super) async fn rollback(&mut self) -> Result<(), Failure> {
        self.simple("ROLLBACK").await?;
        self.in_transaction = false;
        Ok(())
    }

    pub(super) async fn rows(&self, sql: &str, params: &[&dyn Value]) -> Result<Vec<Row>, Failure> {
        self.rows_within(ANSWER, sql, params).await
    }

    /// The same for many rows.
    pub(super) async fn all_rows(
        &self,
        sql: &str,
        params: &[&dyn Value],
    ) -> Result<Vec<Row>, Failure> {
        self.rows_within(LONG_ANSWER, sql, params).await
    }

    async fn rows_within(
        &self,
        limit: Duration,
        sql: &str,
        params: &[&dyn Value],
    ) -> Result<Vec<Row>, Failure> {
        let client = self.client()?;
        let answer = async {
            match self.statements {
                Statements::Prepared => {
                    let statement = client.prepare_cached(sql).await?;
                    let params: Vec<_> = params.iter().map(|one| one.sql()).collect();
                    client.query(&statement, &params).await
                }
                Statements::Whole => client.query_typed(sql, &typed(params)).await,
            }
        };
        self.answer(limit, answer).await
    }

    pub(super) async fn row(
        &self,
        sql: &str,
        params: &[&dyn Value],
    ) -> Result<Option<Row>, Failure> {
        Ok(self.rows(sql, params).await?.into_iter().next())
    }

    pub(super) async fn execute(&self, sql: &str, params: &[&dyn Value]) -> Result<u64, Failure> {
        let client = self.client()?;
        let answer = async {
            match self.statements {
                Statements::Prepared => {
                    let statement = client.prepare_cached(sql).await?;
                    let params: Vec<_> = params.iter().map(|one| one.sql()).collect();
                    client.execute(&statement, &params).await
                }
                Statements::Whole => client.execute_typed(sql, &typed(params)).await,
            }
        };
        self.answer(ANSWER, answer).await
    }

    /// Runs statements in this order in one round trip (when they are prepared), after `begin` if
    /// there is one. Returns each one's number of rows or error: after the first error of a
    /// transaction the server refuses the rest.
    pub(super) async fn run(
        &mut self,
        begin: Option<&'static str>,
        steps: &[Step<'_>],
    ) -> Result<Vec<Result<u64, SqlError>>, Failure> {
        self.in_transaction |= begin.is_some();
        let client = self.client()?;
        let answer = async {
            let mut statements = Vec::new();
            if self.statements == Statements::Prepared {
                for step in steps {
                    statements.push(client.prepare_cached(step.text).await?);
                }
            }
            let begin = begin
                .map(|sql| async { client.batch_execute(sql).await.map(|()| 0) }.left_future());
            let begins = begin.is_some();
            let steps = steps.iter().enumerate().map(|(index, step)| {
                let statement = statements.get(index);
                run_step(client, statement, step).right_future()
            });
            let mut results = in_order(begin.into_iter().chain(steps)).await;
            if begins {
                results.remove(0)?;
            }
            Ok(results)
        };
        self.answer(ANSWER, answer).await
    }
}

async fn run_step(
    client: &Object,
    statement: Option<&Statement>,
    step: &Step<'_>,
) -> Result<u64, SqlError> {
    if let Some(statement) = statement {
        let params = step.params.iter().map(|one| one.sql());
        client.execute_raw(statement, params).await
    } else {
        let params = step.params.iter().map(|one| (one.sql(), one.kind()));
        let params: Vec<_> = params.collect();
        client.execute_typed(step.text, &params).await
    }
}

/// Parameters with their types, which a server that prepares nothing must be told.
fn typed<'a>(params: &[&'a dyn Value]) -> Vec<(&'a (dyn ToSql + Sync), Type)> {
    params.iter().map(|one| (one.sql(), one.kind())).collect()
}

/// Polls all futures once in this order, so that their requests are sent in it, and waits for all.
async fn in_order<F: Future>(futures: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut futures: Vec<Pin<Box<MaybeDone<F>>>> =
        futures.map(|one| Box::pin(maybe_done(one))).collect();
    poll_fn(|context| {
        for one in &mut futures {
            let _ = one.as_mut().poll(context);
        }
        Poll::Ready(())
    })
    .await;
    join_all(futures.iter_mut().map(Pin::as_mut)).await;
    futures
        .iter_mut()
        .filter_map(|one| one.as_mut().take_output())
        .collect()
}
