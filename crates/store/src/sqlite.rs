//! SQLite: one writer thread with group commit, and a few connections for reading.

mod apply;
mod examine;
mod fail;
mod files;
mod job;
mod keeper;
mod open;
mod prune;
mod read;
mod sql;
mod transfer;
mod writer;

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use bowline_model::id::TailnetId;
use bowline_model::kind::Kind;
use jiff::Timestamp;
use rusqlite::Connection;
use tokio::sync::watch;

use crate::batch::Batch;
use crate::chain::AuditEntry;
use crate::dump::{Lines, Record};
use crate::error::{CommitError, Error, OpenError, TransferError, Trouble};
use crate::examine::{Examination, Only};
use crate::job::{Again, Claim, JobRow, Waiting};
use crate::options::Options;
use crate::owner::Owner;
use crate::prune::Prune;
use crate::row::{CatchUp, Change, Loaded, Presence, Row};
use crate::table::{Table, Value};
use crate::text::{TextRow, TextVersion};
use keeper::Keeper;
use read::Readers;
use writer::Writer;

/// Examines a file without changing it.
pub(crate) async fn examine(path: &Path, only: Only) -> Result<Examination, OpenError> {
    let (path, place) = (path.to_owned(), path.display().to_string());
    let task = tokio::task::spawn_blocking(move || examine::examine(&path, only));
    task.await.unwrap_or_else(|error| {
        let cause = crate::Cause::new(error);
        Err(OpenError::Unreadable { place, cause })
    })
}

/// Hands every row of a file to `lines`, beside whoever has it open.
pub(crate) async fn dump(path: &Path, lines: Lines) -> Result<(), TransferError> {
    let path = path.to_owned();
    let task = tokio::task::spawn_blocking(move || transfer::dump(&path, lines));
    task.await.map_err(std::io::Error::other)?
}

/// The rows of a small table, beside whoever has the file open.
pub(crate) async fn rows(
    path: &Path,
    table: &'static Table,
) -> Result<Vec<Vec<Value>>, TransferError> {
    let path = path.to_owned();
    let task = tokio::task::spawn_blocking(move || transfer::rows(&path, table));
    task.await.map_err(std::io::Error::other)?
}

/// A SQLite file, opened by this process alone.
#[derive(Debug)]
pub(crate) struct Sqlite {
    writer: Writer,
    readers: Arc<Readers>,
    is_new: bool,
    /// What is wrong with the files.
    trouble: Arc<Mutex<Option<Trouble>>>,
    /// It never changes: nobody else can open the file.
    epochs: watch::Sender<u64>,
}

impl Sqlite {
    pub(crate) async fn open(path: &Path, options: Options) -> Result<Self, OpenError> {
        let path = path.to_owned();
        let place = path.display().to_string();
        let task = tokio::task::spawn_blocking(move || {
            let opened = open::open(&path, &options)?;
            let readers = Arc::new(Readers::new(opened.readers));
            let trouble = Arc::new(Mutex::new(None));
            let keeper = Keeper::new(path.clone(), readers.clone(), trouble.clone());
            let writer = Writer::start(opened.writer, opened.lock, options, keeper)
                .map_err(|source| OpenError::NotWritable { path, source })?;
            Ok(Self {
                trouble,
                is_new: opened.is_new,
                epochs: watch::Sender::new(0),
                writer,
                readers,
            })
        });
        let opened: Result<Self, OpenError> = task.await.unwrap_or_else(|error| {
            let cause = crate::Cause::new(error);
            Err(OpenError::Unreadable { place, cause })
        });
        let opened = opened?;
        opened.writer.look_now_and_then();
        Ok(opened)
    }

    pub(crate) fn is_new(&self) -> bool {
        self.is_new
    }

    #[expect(clippy::unused_self, reason = "the other engine looks")]
    pub(crate) fn is_held(&self) -> bool {
        true
    }

    pub(crate) fn epochs(&self) -> watch::Receiver<u64> {
        self.epochs.subscribe()
    }

    pub(crate) fn trouble(&self) -> Option<Trouble> {
        self.trouble
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Connection) -> Result<T, rusqlite::Error> + Send + 'static,
    ) -> Result<T, Error> {
        self.readers.read(read).await
    }

    pub(crate) async fn tailnets(&self) -> Result<Vec<(TailnetId, u64)>, Error> {
        self.read(read::tailnets).await
    }

    pub(crate) async fn seq(&self, owner: Owner) -> Result<u64, Error> {
        self.read(move |conn| read::seq(conn, owner)).await
    }

    pub(crate) async fn load(&self, owner: Owner) -> Result<Loaded, Error> {
        self.read(move |conn| read::load(conn, owner)).await
    }

    pub(crate) async fn catch_up(&self, owner: Owner, since: u64) -> Result<CatchUp, Error> {
        self.read(move |conn| read::catch_up(conn, owner, since))
            .await
    }

    pub(crate) async fn changes(
        &self,
        owner: Owner,
        after: u64,
        limit: usize,
    ) -> Result<Vec<Change>, Error> {
        self.read(move |conn| read::changes(conn, owner, after, limit))
            .await
    }

    pub(crate) async fn commit_outcome(
        &self,
        owner: Owner,
        commit_id: [u8; 16],
    ) -> Result<Option<u64>, Error> {
        self.read(move |conn| read::commit_outcome(conn, owner, commit_id))
            .await
    }

    pub(crate) async fn audit(
        &self,
        owner: Owner,
        after: (Timestamp, u64),
        to: Timestamp,
        limit: usize,
    ) -> Result<Vec<AuditEntry>, Error> {
        self.read(move |conn| read::audit(conn, owner, after, to, limit))
            .await
    }

    pub(crate) async fn find(
        &self,
        kind: Kind,
        id: u64,
        now: Timestamp,
    ) -> Result<Option<(Owner, Row)>, Error> {
        self.read(move |conn| read::find(conn, kind, id, now)).await
    }

    pub(crate) async fn page(
        &self,
        kind: Kind,
        owner: Owner,
        after: u64,
        now: Timestamp,
        limit: usize,
    ) -> Result<Vec<Row>, Error> {
        self.read(move |conn| read::page(conn, kind, owner, after, now, limit))
            .await
    }

    pub(crate) async fn add_job(&self, owner: Owner, job: JobRow) -> Result<(), Error> {
        self.writer
            .write(true, move |conn| Ok(Ok(job::put(conn, owner, &job, 0)?)))
            .await
    }

    pub(crate) async fn jobs_waiting(&self) -> Result<Vec<Waiting>, Error> {
        self.read(job::waiting).await
    }

    pub(crate) async fn claim_jobs(
        &self,
        topic: String,
        now: Timestamp,
        until: Timestamp,
        limit: usize,
    ) -> Result<Vec<Claim>, Error> {
        self.writer
            .write(true, move |conn| {
                job::claim(conn, &topic, now, until, limit)
            })
            .await
    }

    pub(crate) async fn renew_job(&self, claim: Claim, until: Timestamp) -> Result<bool, Error> {
        self.writer
            .write(true, move |conn| job::renew(conn, &claim, until))
            .await
    }

    pub(crate) async fn end_job(&self, claim: Claim, again: Option<Again>) -> Result<bool, Error> {
        self.writer
            .write(true, move |conn| job::end(conn, &claim, again))
            .await
    }

    pub(crate) async fn text(
        &self,
        owner: Owner,
        sha256: String,
    ) -> Result<Option<TextRow>, Error> {
        self.read(move |conn| read::text_of(conn, owner, &sha256))
            .await
    }

    pub(crate) async fn texts(&self, owner: Owner) -> Result<Vec<TextVersion>, Error> {
        self.read(move |conn| read::texts(conn, owner)).await
    }

    pub(crate) async fn prune(&self, what: Prune, limit: usize) -> Result<u64, Error> {
        self.writer
            .write(true, move |conn| prune::prune(conn, &what, limit))
            .await
    }

    pub(crate) async fn free_pages(&self) -> Result<u64, Error> {
        self.read(prune::free_pages).await
    }

    pub(crate) async fn give_back(&self, pages: u32) -> Result<u64, Error> {
        let left = self
            .writer
            .write(true, move |conn| prune::give_back(conn, pages))
            .await?;
        if left == 0 {
            // The file gets shorter when the log is copied into it.
            self.writer.checkpoint().await;
        }
        Ok(left)
    }

    pub(crate) async fn secret(
        &self,
        owner: Owner,
        name: String,
    ) -> Result<Option<Vec<u8>>, Error> {
        self.read(move |conn| read::secret(conn, owner, &name))
            .await
    }

    pub(crate) async fn moment(&self, name: String) -> Result<Option<Timestamp>, Error> {
        self.read(move |conn| read::moment(conn, &name)).await
    }

    pub(crate) async fn put_moment(&self, name: String, at: Timestamp) -> Result<(), Error> {
        self.writer
            .write(false, move |conn| apply::moment(conn, &name, at))
            .await
    }

    pub(crate) async fn commit(&self, batch: Batch) -> Result<u64, CommitError> {
        self.writer
            .write(true, move |conn| apply::batch(conn, &batch))
            .await
    }

    pub(crate) async fn put_presence(
        &self,
        tailnet: TailnetId,
        presence: Vec<Presence>,
    ) -> Result<(), Error> {
        self.writer
            .write(false, move |conn| apply::presence(conn, tailnet, &presence))
            .await
    }

    pub(crate) async fn put_secret_if_absent(
        &self,
        owner: Owner,
        name: String,
        sealed: Vec<u8>,
    ) -> Result<Vec<u8>, Error> {
        self.writer
            .write(true, move |conn| apply::secret(conn, owner, &name, &sealed))
            .await
    }

    pub(crate) async fn probe(&self, write: bool) -> Result<(), Error> {
        self.writer
            .write(write, move |conn| apply::probe(conn, write))
            .await
    }

    /// The writer's pages: all that is worth it, since it alone touches every page that changes.
    pub(crate) async fn shed(&self) {
        let shed = self.writer.write(false, |conn| {
            Ok::<_, rusqlite::Error>(Ok::<_, Error>(conn.execute_batch("PRAGMA shrink_memory")?))
        });
        if let Err(error) = shed.await {
            tracing::debug!(%error, "could not give up memory of the database");
        }
    }

    pub(crate) async fn size(&self) -> Result<u64, Error> {
        self.read(|conn| Ok(read::size(conn))).await
    }

    pub(crate) async fn restore(
        &self,
        records: tokio::sync::mpsc::Receiver<Option<Vec<Record>>>,
    ) -> Result<(), TransferError> {
        self.writer
            .write(true, move |conn| transfer::restore(conn, records))
            .await
    }

    pub(crate) async fn close(&self) {
        self.writer.close().await;
        self.readers.close();
    }
}
