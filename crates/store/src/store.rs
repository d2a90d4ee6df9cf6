//! The store, whichever engine it stands on.

use std::sync::Arc;

use bowline_model::id::TailnetId;
use bowline_model::kind::Kind;
use jiff::Timestamp;
use tokio::sync::{mpsc, watch};

use crate::batch::{self, AuditRow, Batch};
use crate::chain::AuditEntry;
use crate::dump::{Backup, Progress};
use crate::error::{CommitError, Error, OpenError, TransferError, Trouble};
use crate::job::{Again, Claim, JobRow, Waiting};
use crate::options::Options;
use crate::owner::Owner;
use crate::postgres::Postgres;
use crate::prune::Prune;
use crate::row::{CatchUp, Change, Loaded, Presence, Row};
use crate::sqlite::Sqlite;
use crate::text::{TextRow, TextVersion};
use crate::url::StoreUrl;

/// An open database. Cloning it is cheap, and every clone is the same database.
#[derive(Debug, Clone)]
pub struct Store {
    engine: Arc<Engine>,
}

#[derive(Debug)]
enum Engine {
    Sqlite(Sqlite),
    Postgres(Postgres),
}

macro_rules! on_engine {
    ($store:expr, $engine:ident => $call:expr) => {
        match &*$store.engine {
            Engine::Sqlite($engine) => $call,
            Engine::Postgres($engine) => $call,
        }
    };
}

impl Store {
    /// Opens a database, or makes one where [`Options::opening`] lets it, brings its schema up to
    /// date, and keeps every other process out of it until it is closed.
    ///
    /// # Errors
    /// Each [`OpenError`] says what to do. The schema is then as it was before.
    pub async fn open(url: &StoreUrl, options: Options) -> Result<Self, OpenError> {
        let engine = match url {
            StoreUrl::Sqlite(path) => Engine::Sqlite(Sqlite::open(path, options).await?),
            StoreUrl::Postgres(url) => Engine::Postgres(Postgres::open(url, options).await?),
        };
        Ok(Self {
            engine: Arc::new(engine),
        })
    }

    /// Whether opening made the database: there was none, or an empty one.
    pub fn is_new(&self) -> bool {
        on_engine!(self, engine => engine.is_new())
    }

    /// Whether no other process can have written to the database by this moment. When it is not so,
    /// commits are refused, and what was read before may be out of date. Always so on SQLite, whose
    /// file no second process can open.
    pub fn is_held(&self) -> bool {
        on_engine!(self, engine => engine.is_held())
    }

    /// The number of the hand-over by which this process has the database. When it changes, another
    /// process may have written since: read again before answering from memory. It changes before
    /// [`Store::is_held`] is true again.
    pub fn epochs(&self) -> watch::Receiver<u64> {
        on_engine!(self, engine => engine.epochs())
    }

    /// What is wrong with the database, as far as it is known without a write; for readiness.
    pub fn trouble(&self) -> Option<Trouble> {
        on_engine!(self, engine => engine.trouble())
    }

    /// All tailnets with their newest sequence numbers, by id.
    pub async fn tailnets(&self) -> Result<Vec<(TailnetId, u64)>, Error> {
        on_engine!(self, engine => engine.tailnets().await)
    }

    /// The newest sequence number of an owner; `0` when there is no such tailnet.
    pub async fn seq(&self, owner: impl Into<Owner>) -> Result<u64, Error> {
        on_engine!(self, engine => engine.seq(owner.into()).await)
    }

    /// Everything of an owner, all of one moment. Empty when there is no such tailnet.
    pub async fn load(&self, owner: impl Into<Owner>) -> Result<Loaded, Error> {
        on_engine!(self, engine => engine.load(owner.into()).await)
    }

    /// What of an owner changed after a sequence number, all of one moment. The server's own change
    /// log is short: whoever is far behind gets everything.
    pub async fn catch_up(&self, owner: impl Into<Owner>, since: u64) -> Result<CatchUp, Error> {
        on_engine!(self, engine => engine.catch_up(owner.into(), since).await)
    }

    /// An object of a cold kind, whoever's it is, that is not over `now`, with its owner. `None` for an
    /// object of another kind.
    pub async fn find(
        &self,
        kind: Kind,
        id: u64,
        now: Timestamp,
    ) -> Result<Option<(Owner, Row)>, Error> {
        on_engine!(self, engine => engine.find(kind, id, now).await)
    }

    /// Objects of a cold kind of one owner with an id above `after` that are not over `now`, by id, at
    /// most `limit`.
    pub async fn page(
        &self,
        kind: Kind,
        owner: impl Into<Owner>,
        after: u64,
        now: Timestamp,
        limit: usize,
    ) -> Result<Vec<Row>, Error> {
        on_engine!(self, engine => engine.page(kind, owner.into(), after, now, limit).await)
    }

    /// Writes a batch, all or nothing, and returns the owner's new sequence number, `base + 1`.
    ///
    /// When it returns, the batch is durable. It goes on when the caller stops waiting.
    ///
    /// # Errors
    /// See [`CommitError`]; only after `Unknown` may the batch have been written.
    pub async fn commit(&self, batch: Batch) -> Result<u64, CommitError> {
        batch.check().map_err(CommitError::Malformed)?;
        on_engine!(self, engine => engine.commit(batch).await)
    }

    /// The sequence number that the commit with this id got; `None` when it was not, and will not
    /// be, written.
    pub async fn commit_outcome(
        &self,
        owner: impl Into<Owner>,
        commit_id: [u8; 16],
    ) -> Result<Option<u64>, Error> {
        on_engine!(self, engine => engine.commit_outcome(owner.into(), commit_id).await)
    }

    /// Writes presence of devices. It may be lost in a crash shortly after. Devices that the
    /// tailnet does not have are passed over.
    pub async fn put_presence(
        &self,
        tailnet: TailnetId,
        mut presence: Vec<Presence>,
    ) -> Result<(), Error> {
        for one in &presence {
            batch::id(one.device, "presence").map_err(Error::Malformed)?;
            batch::json(&one.body, "presence").map_err(Error::Malformed)?;
        }
        // One row per device, the newest; in order, so that two flushes do not lock each other out.
        presence.sort_by_key(|one| (one.device, std::cmp::Reverse(one.at)));
        presence.dedup_by_key(|one| one.device);
        on_engine!(self, engine => engine.put_presence(tailnet, presence).await)
    }

    /// Entries of the change log with a sequence number above `after`, oldest first, at most
    /// `limit`.
    pub async fn changes(
        &self,
        owner: impl Into<Owner>,
        after: u64,
        limit: usize,
    ) -> Result<Vec<Change>, Error> {
        on_engine!(self, engine => engine.changes(owner.into(), after, limit).await)
    }

    /// Audit events from `from` on and before `to`, oldest first, at most `limit`.
    pub async fn audit(
        &self,
        owner: impl Into<Owner>,
        from: Timestamp,
        to: Timestamp,
        limit: usize,
    ) -> Result<Vec<AuditRow>, Error> {
        let found = self.audit_after(owner, (from, 0), to, limit).await?;
        Ok(found.into_iter().map(|entry| entry.event).collect())
    }

    /// Audit events behind a place and before `to`, oldest first, at most `limit`. A place is the
    /// moment and the number of an event; with the number 0 it is before all events of the moment.
    pub async fn audit_after(
        &self,
        owner: impl Into<Owner>,
        after: (Timestamp, u64),
        to: Timestamp,
        limit: usize,
    ) -> Result<Vec<AuditEntry>, Error> {
        on_engine!(self, engine => engine.audit(owner.into(), after, to, limit).await)
    }

    /// Adds a job of the server, unless one of its name waits.
    pub async fn add_job(&self, job: JobRow) -> Result<(), Error> {
        batch::job(&job).map_err(Error::Malformed)?;
        on_engine!(self, engine => engine.add_job(Owner::Server, job).await)
    }

    /// What waits of each topic that has jobs.
    pub async fn jobs_waiting(&self) -> Result<Vec<Waiting>, Error> {
        on_engine!(self, engine => engine.jobs_waiting().await)
    }

    /// Takes jobs of a topic that are due, at most `limit`, so that nobody else gets them before
    /// `until`. A job whose claim ran out is due again, since its process may have died.
    pub async fn claim_jobs(
        &self,
        topic: &str,
        now: Timestamp,
        until: Timestamp,
        limit: usize,
    ) -> Result<Vec<Claim>, Error> {
        on_engine!(self, engine => engine.claim_jobs(topic.to_owned(), now, until, limit).await)
    }

    /// Lets a claim hold for longer. `false`: it ran out, and another has the job.
    pub async fn renew_job(&self, claim: &mut Claim, until: Timestamp) -> Result<bool, Error> {
        let renewed = on_engine!(self, engine => engine.renew_job(claim.clone(), until).await)?;
        if renewed {
            claim.until = until;
        }
        Ok(renewed)
    }

    /// Ends a claim: the job is done, or is to be done again. `false`: the claim ran out, another
    /// has the job, and nothing was changed.
    pub async fn end_job(&self, claim: Claim, again: Option<Again>) -> Result<bool, Error> {
        on_engine!(self, engine => engine.end_job(claim, again).await)
    }

    /// A kept text by its hash.
    pub async fn text(
        &self,
        owner: impl Into<Owner>,
        sha256: &str,
    ) -> Result<Option<TextRow>, Error> {
        let (owner, sha256) = (owner.into(), sha256.to_owned());
        on_engine!(self, engine => engine.text(owner, sha256).await)
    }

    /// The kept texts of an owner, the newest first, without the texts themselves.
    pub async fn texts(&self, owner: impl Into<Owner>) -> Result<Vec<TextVersion>, Error> {
        let owner = owner.into();
        on_engine!(self, engine => engine.texts(owner).await)
    }

    /// Removes what is old, at most so many rows, in one transaction. Returns how many went.
    pub async fn prune(&self, what: Prune, limit: usize) -> Result<u64, Error> {
        on_engine!(self, engine => engine.prune(what, limit).await)
    }

    /// Pages of the database's file that hold nothing. PostgreSQL sees to its files itself: `0`.
    pub async fn free_pages(&self) -> Result<u64, Error> {
        match &*self.engine {
            Engine::Sqlite(engine) => engine.free_pages().await,
            Engine::Postgres(_) => Ok(0),
        }
    }

    /// Gives at most so many free pages back to the file system, in one transaction. Returns how
    /// many are left.
    pub async fn give_back(&self, pages: u32) -> Result<u64, Error> {
        match &*self.engine {
            Engine::Sqlite(engine) => engine.give_back(pages).await,
            Engine::Postgres(_) => Ok(0),
        }
    }

    /// A sealed secret.
    pub async fn secret(
        &self,
        owner: impl Into<Owner>,
        name: &str,
    ) -> Result<Option<Vec<u8>>, Error> {
        let owner = owner.into();
        on_engine!(self, engine => engine.secret(owner, name.to_owned()).await)
    }

    /// Writes a sealed secret unless there is one of this name, and returns the one that is there
    /// now, so that whoever was first decides.
    pub async fn put_secret_if_absent(
        &self,
        owner: impl Into<Owner>,
        name: &str,
        sealed: &[u8],
    ) -> Result<Vec<u8>, Error> {
        batch::text(name, "secret").map_err(Error::Malformed)?;
        let (owner, name, sealed) = (owner.into(), name.to_owned(), sealed.to_vec());
        on_engine!(self, engine => engine.put_secret_if_absent(owner, name, sealed).await)
    }

    /// A moment that the server noted; `None` where it never did. No backup has it.
    pub async fn moment(&self, name: &str) -> Result<Option<Timestamp>, Error> {
        on_engine!(self, engine => engine.moment(name.to_owned()).await)
    }

    /// Notes a moment in the place of the earlier one of this name, which may be a later moment. It
    /// may be lost in a crash shortly after.
    pub async fn put_moment(&self, name: &str, at: Timestamp) -> Result<(), Error> {
        batch::text(name, "moment").map_err(Error::Malformed)?;
        on_engine!(self, engine => engine.put_moment(name.to_owned(), at).await)
    }

    /// Writes a backup of either engine into this database, which must be empty, all or nothing;
    /// without its sealed secrets where they are not wanted.
    ///
    /// # Errors
    /// See [`TransferError`]; nothing was written then.
    pub async fn restore(
        &self,
        backup: &Backup,
        with_secrets: bool,
        progress: Arc<Progress>,
    ) -> Result<(), TransferError> {
        let (sender, records) = mpsc::channel(4);
        let send = backup.send(with_secrets, progress, sender);
        let write = async { on_engine!(self, engine => engine.restore(records).await) };
        let (sent, written) = tokio::join!(send, write);
        match (sent, written) {
            // The database only sees that no more rows come.
            (Err(error), _) | (Ok(()), Err(error)) => Err(error),
            (Ok(()), Ok(())) => Ok(()),
        }
    }

    /// Asks whether the database answers and takes writes; with `write` by a change that is durable
    /// when this returns and leaves nothing behind, without by a question that changes nothing.
    ///
    /// # Errors
    /// What a commit would be refused with.
    pub async fn probe(&self, write: bool) -> Result<(), Error> {
        on_engine!(self, engine => engine.probe(write).await)
    }

    /// Gives up memory that only saves reading again, where the engine is in this process.
    pub async fn shed(&self) {
        match &*self.engine {
            Engine::Sqlite(engine) => engine.shed().await,
            Engine::Postgres(_) => {}
        }
    }

    /// The size of the database in bytes, with its write-ahead log on SQLite.
    pub async fn size(&self) -> Result<u64, Error> {
        on_engine!(self, engine => engine.size().await)
    }

    /// Finishes the writes that were sent before, and gives the database up. Clones answer with
    /// `Unavailable` from then on.
    pub async fn close(self) {
        on_engine!(self, engine => engine.close().await);
    }
}
