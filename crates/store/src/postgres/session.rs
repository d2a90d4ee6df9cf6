//! One connection of the pool, and statements in order.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;

use deadpool_postgres::Object;
use futures_util::future::{FutureExt, MaybeDone, join_all, maybe_done};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Error as SqlError, Row};

use super::fail::{self, Failure};

/// A parameter of a [`Step`].
pub(super) type Param<'a> = Box<dyn ToSql + Sync + Send + 'a>;

/// One statement to run.
pub(super) struct Step<'a> {
    pub(super) text: &'static str,
    pub(super) params: Vec<Param<'a>>,
}

/// A connection on loan. In a transaction that was not ended it does not go back into the pool but
/// is closed, so that the next one to use it does not find itself inside.
pub(super) struct Session {
    client: Option<Object>,
    in_transaction: bool,
}

impl Drop for Session {
    fn drop(&mut self) {
        if self.in_transaction
            && let Some(client) = self.client.take()
        {
            drop(Object::take(client));
        }
    }
}

impl Session {
    pub(super) fn new(client: Object) -> Self {
        Self {
            client: Some(client),
            in_transaction: false,
        }
    }

    fn client(&self) -> Result<&Object, Failure> {
        self.client.as_ref().ok_or_else(Failure::gone)
    }

    /// Runs simple statements.
    pub(super) async fn simple(&self, sql: &str) -> Result<(), Failure> {
        Ok(self.client()?.batch_execute(sql).await?)
    }

    /// Starts a transaction.
    pub(super) async fn begin(&mut self, sql: &str) -> Result<(), Failure> {
        self.in_transaction = true;
        self.simple(sql).await
    }

    /// Commits. After an error the connection is closed.
    pub(super) async fn commit(mut self) -> Result<(), Failure> {
        self.client()?
            .batch_execute("COMMIT")
            .await
            .map_err(fail::committing)?;
        self.in_transaction = false;
        Ok(())
    }

    /// Undoes the transaction and keeps the connection.
    pub(super) async fn rollback(&mut self) -> Result<(), Failure> {
        self.simple("ROLLBACK").await?;
        self.in_transaction = false;
        Ok(())
    }

    pub(super) async fn rows(
        &self,
        sql: &str,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, Failure> {
        let client = self.client()?;
        let statement = client.prepare_cached(sql).await?;
        Ok(client.query(&statement, params).await?)
    }

    pub(super) async fn row(
        &self,
        sql: &str,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<Option<Row>, Failure> {
        Ok(self.rows(sql, params).await?.into_iter().next())
    }

    pub(super) async fn execute(
        &self,
        sql: &str,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<u64, Failure> {
        let client = self.client()?;
        let statement = client.prepare_cached(sql).await?;
        Ok(client.execute(&statement, params).await?)
    }

    /// Streams the rows of a statement.
    pub(super) async fn stream(&self, sql: &str) -> Result<tokio_postgres::RowStream, Failure> {
        Ok(self
            .client()?
            .query_raw(sql, std::iter::empty::<i64>())
            .await?)
    }

    /// Runs statements in this order in one round trip (when they are prepared), after `begin` if
    /// there is one. Returns each one's number of rows or error: after the first error of a
    /// transaction the server refuses the rest.
    pub(super) async fn run(
        &mut self,
        begin: Option<&'static str>,
        steps: Vec<Step<'_>>,
    ) -> Result<Vec<Result<u64, SqlError>>, Failure> {
        let mut statements = Vec::with_capacity(steps.len());
        let client = self.client.as_ref();
        let client = client.ok_or_else(Failure::gone)?;
        for step in &steps {
            statements.push(client.prepare_cached(step.text).await?);
        }
        self.in_transaction |= begin.is_some();
        let begin =
            begin.map(|sql| async { client.batch_execute(sql).await.map(|()| 0) }.left_future());
        let steps = statements
            .iter()
            .zip(steps)
            .map(|(statement, step)| client.execute_raw(statement, step.params).right_future());
        let begins = begin.is_some();
        let mut results = in_order(begin.into_iter().chain(steps)).await;
        if begins {
            results.remove(0)?;
        }
        Ok(results)
    }
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
