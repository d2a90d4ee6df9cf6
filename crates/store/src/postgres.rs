//! PostgreSQL: pooled connections, prepared and pipelined statements.
//!
//! A commit is two round trips: everything up to `COMMIT` at once, then `COMMIT`. The server itself
//! commits in groups. Writes run in tasks of their own, so that one goes on when its caller stops
//! waiting.

mod apply;
mod chains;
mod examine;
mod fail;
mod job;
mod lease;
mod open;
mod prune;
mod read;
mod session;
mod sql;
mod transfer;
mod value;

use std::sync::Arc;
use std::time::Duration;

use bowline_model::id::TailnetId;
use bowline_model::kind::Kind;
use deadpool_postgres::Pool;
use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

use self::chains::Chains;
use crate::batch::Batch;
use crate::chain::AuditEntry;
use crate::dump::{Lines, Record};
use crate::error::{CommitError, Condition, Error, OpenError, TransferError, Trouble};
use crate::examine::{Examination, Only};
use crate::job::{Again, Claim, JobRow, Waiting};
use crate::options::Options;
use crate::owner::Owner;
use crate::prune::Prune;
use crate::row::{CatchUp, Change, Loaded, Presence, Row};
use crate::table::{Table, Value};
use crate::text::{TextRow, TextVersion};
use fail::Failure;
use lease::Lease;
use session::{Session, Statements};

/// Tries of a transaction that the database asks to be run again.
const TRIES: u32 = 8;

/// Examines a database without changing it.
pub(crate) async fn examine(url: &str, only: Only) -> Result<Examination, OpenError> {
    examine::examine(url, only).await
}

/// Hands every row of a database to `lines`, beside whoever uses it.
pub(crate) async fn dump(url: &str, lines: Lines) -> Result<(), TransferError> {
    transfer::dump(url, lines).await
}

/// The rows of a small table, beside whoever uses the database.
pub(crate) async fn rows(url: &str, table: &Table) -> Result<Vec<Vec<Value>>, TransferError> {
    transfer::rows(url, table).await
}

/// A PostgreSQL database, used by this process alone.
pub(crate) struct Postgres {
    inner: Arc<Inner>,
}

struct Inner {
    pool: Pool,
    lease: Lease,
    statements: Statements,
    is_new: bool,
    options: Options,
    /// The newest audit event of owners, at a sequence number.
    chains: Chains,
    /// Writes under way.
    writes: TaskTracker,
}

impl Inner {
    /// A connection for a write. None is made while this process does not hold the database.
    async fn writer(&self) -> Result<Session, Failure> {
        if !self.lease.is_held() {
            return Err(self.lease.refusal());
        }
        self.session().await
    }

    /// A connection in a transaction that no takeover can overtake.
    async fn begin_write(&self) -> Result<Session, Failure> {
        let mut session = self.writer().await?;
        session.begin(sql::BEGIN_WRITE).await?;
        match session.row(sql::FENCE, &[&self.lease.epoch()]).await? {
            Some(_) => Ok(session),
            None => Err(self.lease.lost()),
        }
    }

    async fn session(&self) -> Result<Session, Failure> {
        match self.pool.get().await {
            Ok(client) => Ok(Session::new(client, self.statements)),
            Err(error) => Err(error.into()),
        }
    }
}

/// Runs a transaction until the database does not ask for another try. A macro, because an async
/// closure that borrows could not be sent between threads.
macro_rules! retry {
    ($run:expr) => {{
        let mut tries = 1;
        loop {
            match $run {
                Err(Failure::Again(trouble)) if tries == TRIES => {
                    break Err(Failure::Trouble(trouble));
                }
                Err(Failure::Again(_)) => {
                    tokio::time::sleep(Duration::from_millis(5 << tries)).await;
                    tries += 1;
                }
                other => break other,
            }
        }
    }};
}

impl std::fmt::Debug for Postgres {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Postgres").finish_non_exhaustive()
    }
}

impl Postgres {
    pub(crate) async fn open(url: &str, options: Options) -> Result<Self, OpenError> {
        let opened = open::open(url, &options).await?;
        let inner = Inner {
            is_new: opened.is_new,
            pool: opened.pool,
            lease: opened.lease,
            statements: opened.statements,
            options,
            chains: Chains::default(),
            writes: TaskTracker::new(),
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    pub(crate) fn is_new(&self) -> bool {
        self.inner.is_new
    }

    pub(crate) fn is_held(&self) -> bool {
        self.inner.lease.is_held()
    }

    pub(crate) fn epochs(&self) -> tokio::sync::watch::Receiver<u64> {
        self.inner.lease.epochs()
    }

    pub(crate) fn trouble(&self) -> Option<Trouble> {
        self.inner.lease.trouble()
    }

    /// Runs a write in a task of its own.
    async fn write<T, E, F>(&self, run: impl FnOnce(Arc<Inner>) -> F) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<Error> + Send + 'static,
        F: Future<Output = Result<T, E>> + Send + 'static,
    {
        let task = self.inner.writes.spawn(run(Arc::clone(&self.inner)));
        match task.await {
            Ok(result) => result,
            Err(error) => Err(Error::Unavailable(Trouble::new(Condition::Failed, error)).into()),
        }
    }

    pub(crate) async fn tailnets(&self) -> Result<Vec<(TailnetId, u64)>, Error> {
        retry!(read::tailnets(&self.inner).await).map_err(Error::from)
    }

    pub(crate) async fn seq(&self, owner: Owner) -> Result<u64, Error> {
        retry!(read::seq(&self.inner, owner).await).map_err(Error::from)
    }

    pub(crate) async fn load(&self, owner: Owner) -> Result<Loaded, Error> {
        retry!(read::load(&self.inner, owner).await).map_err(Error::from)
    }

    pub(crate) async fn catch_up(&self, owner: Owner, since: u64) -> Result<CatchUp, Error> {
        retry!(read::catch_up(&self.inner, owner, since).await).map_err(Error::from)
    }

    pub(crate) async fn changes(
        &self,
        owner: Owner,
        after: u64,
        limit: usize,
    ) -> Result<Vec<Change>, Error> {
        retry!(read::changes(&self.inner, owner, after, limit).await).map_err(Error::from)
    }

    pub(crate) async fn audit(
        &self,
        owner: Owner,
        after: (Timestamp, u64),
        to: Timestamp,
        limit: usize,
    ) -> Result<Vec<AuditEntry>, Error> {
        retry!(read::audit(&self.inner, owner, after, to, limit).await).map_err(Error::from)
    }

    pub(crate) async fn find(
        &self,
        kind: Kind,
        id: u64,
        now: Timestamp,
    ) -> Result<Option<(Owner, Row)>, Error> {
        retry!(read::find(&self.inner, kind, id, now).await).map_err(Error::from)
    }

    pub(crate) async fn page(
        &self,
        kind: Kind,
        owner: Owner,
        after: u64,
        now: Timestamp,
        limit: usize,
    ) -> Result<Vec<Row>, Error> {
        retry!(read::page(&self.inner, kind, owner, after, now, limit).await).map_err(Error::from)
    }

    pub(crate) async fn add_job(&self, owner: Owner, job: JobRow) -> Result<(), Error> {
        let run = |inner: Arc<Inner>| async move {
            retry!(job::add(&inner, owner, &job).await).map_err(Error::from)
        };
        self.write(run).await
    }

    pub(crate) async fn jobs_waiting(&self) -> Result<Vec<Waiting>, Error> {
        retry!(job::waiting(&self.inner).await).map_err(Error::from)
    }

    pub(crate) async fn claim_jobs(
        &self,
        topic: String,
        now: Timestamp,
        until: Timestamp,
        limit: usize,
    ) -> Result<Vec<Claim>, Error> {
        let run = |inner: Arc<Inner>| async move {
            retry!(job::claim(&inner, &topic, now, until, limit).await).map_err(Error::from)
        };
        self.write(run).await
    }

    pub(crate) async fn renew_job(&self, claim: Claim, until: Timestamp) -> Result<bool, Error> {
        let run = |inner: Arc<Inner>| async move {
            retry!(job::renew(&inner, &claim, until).await).map_err(Error::from)
        };
        self.write(run).await
    }

    pub(crate) async fn end_job(&self, claim: Claim, again: Option<Again>) -> Result<bool, Error> {
        let run = |inner: Arc<Inner>| async move {
            retry!(job::end(&inner, &claim, again).await).map_err(Error::from)
        };
        self.write(run).await
    }

    pub(crate) async fn text(
        &self,
        owner: Owner,
        sha256: String,
    ) -> Result<Option<TextRow>, Error> {
        retry!(read::text(&self.inner, owner, &sha256).await).map_err(Error::from)
    }

    pub(crate) async fn texts(&self, owner: Owner) -> Result<Vec<TextVersion>, Error> {
        retry!(read::texts(&self.inner, owner).await).map_err(Error::from)
    }

    pub(crate) async fn prune(&self, what: Prune, limit: usize) -> Result<u64, Error> {
        let run = |inner: Arc<Inner>| async move {
            retry!(prune::prune(&inner, &what, limit).await).map_err(Error::from)
        };
        self.write(run).await
    }

    pub(crate) async fn secret(
        &self,
        owner: Owner,
        name: String,
    ) -> Result<Option<Vec<u8>>, Error> {
        retry!(read::secret(&self.inner, owner, &name).await).map_err(Error::from)
    }

    pub(crate) async fn moment(&self, name: String) -> Result<Option<Timestamp>, Error> {
        retry!(read::moment(&self.inner, &name).await).map_err(Error::from)
    }

    pub(crate) async fn put_moment(&self, name: String, at: Timestamp) -> Result<(), Error> {
        let run = |inner: Arc<Inner>| async move {
            retry!(apply::moment(&inner, &name, at).await).map_err(Error::from)
        };
        self.write(run).await
    }

    pub(crate) async fn commit_outcome(
        &self,
        owner: Owner,
        commit_id: [u8; 16],
    ) -> Result<Option<u64>, Error> {
        retry!(apply::commit_outcome(&self.inner, owner, &commit_id).await).map_err(Error::from)
    }

    pub(crate) async fn commit(&self, batch: Batch) -> Result<u64, CommitError> {
        let run = |inner: Arc<Inner>| async move {
            retry!(apply::commit(&inner, &batch).await).unwrap_or_else(|lost| Err(lost.into()))
        };
        self.write(run).await
    }

    pub(crate) async fn put_presence(
        &self,
        tailnet: TailnetId,
        presence: Vec<Presence>,
    ) -> Result<(), Error> {
        let run = |inner: Arc<Inner>| async move {
            retry!(apply::presence(&inner, tailnet, &presence).await).map_err(Error::from)
        };
        self.write(run).await
    }

    pub(crate) async fn put_secret_if_absent(
        &self,
        owner: Owner,
        name: String,
        sealed: Vec<u8>,
    ) -> Result<Vec<u8>, Error> {
        let run = |inner: Arc<Inner>| async move {
            retry!(apply::secret(&inner, owner, &name, &sealed).await).map_err(Error::from)
        };
        self.write(run).await
    }

    pub(crate) async fn probe(&self, write: bool) -> Result<(), Error> {
        let run = |inner: Arc<Inner>| async move {
            retry!(apply::probe(&inner, write).await).map_err(Error::from)
        };
        self.write(run).await
    }

    pub(crate) async fn size(&self) -> Result<u64, Error> {
        retry!(read::size(&self.inner).await).map_err(Error::from)
    }

    pub(crate) async fn restore(
        &self,
        records: mpsc::Receiver<Option<Vec<Record>>>,
    ) -> Result<(), TransferError> {
        transfer::restore(&self.inner, records).await
    }

    pub(crate) async fn close(&self) {
        self.inner.writes.close();
        self.inner.writes.wait().await;
        self.inner.pool.close();
        self.inner.lease.release().await;
    }
}
