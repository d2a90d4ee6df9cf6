//! The writer thread: group commit.
//!
//! Everything that waits is done in one transaction, each job in a savepoint of its own, and one
//! commit, which is one fsync; then everybody is answered. A job that is refused is rolled back
//! alone. While one group's fsync runs, the next group gathers.

use std::cell::Cell;
use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use super::fail::{self, Lost};
use super::keeper::Keeper;
use super::open;
use crate::error::{Cause, Condition, Trouble};
use crate::options::{Fault, Options, Point};

/// Jobs that may wait for the thread; more wait for a place.
const QUEUE: usize = 4096;
/// Jobs of one transaction. It bounds how long the first waits for the last.
const GROUP: usize = 512;
/// Pages in the WAL after which it is copied into the database: 4 MiB.
const CHECKPOINT_PAGES: i32 = 1024;

/// How often the files are looked at while nothing is written.
const LOOK_EVERY: Duration = Duration::from_secs(2);

thread_local! {
    /// Pages in the WAL after the last commit of this thread.
    static WAL_PAGES: Cell<i32> = const { Cell::new(0) };
}

enum Message {
    Job(Box<dyn Job>),
    /// Look whether the files are still there.
    Look,
    /// Copy the WAL into the database now, and say so.
    Checkpoint(oneshot::Sender<()>),
    Close,
}

/// One write and who waits for it.
trait Job: Send {
    /// Whether its commit must reach the disk.
    fn durable(&self) -> bool;
    /// Does it, inside a savepoint.
    fn apply(&mut self, conn: &Connection) -> Step;
    /// Answers, after the commit, or with what became of the transaction.
    fn answer(self: Box<Self>, lost: Option<&Lost>);
}

enum Step {
    Keep,
    /// Refused: its savepoint is rolled back.
    Undo,
    /// The whole transaction cannot go on.
    Abandon(Lost),
}

struct Task<T, E, F> {
    durable: bool,
    run: Option<F>,
    result: Option<Result<T, E>>,
    answer: oneshot::Sender<Result<T, E>>,
}

impl<T, E, F> Job for Task<T, E, F>
where
    T: Send,
    E: From<Lost> + Send,
    F: FnOnce(&Connection) -> Result<Result<T, E>, rusqlite::Error> + Send,
{
    fn durable(&self) -> bool {
        self.durable
    }

    fn apply(&mut self, conn: &Connection) -> Step {
        let Some(run) = self.run.take() else {
            return Step::Undo;
        };
        let lost = match catch_unwind(AssertUnwindSafe(|| run(conn))) {
            Ok(Ok(Ok(value))) => {
                self.result = Some(Ok(value));
                return Step::Keep;
            }
            Ok(Ok(Err(refusal))) => {
                self.result = Some(Err(refusal));
                return Step::Undo;
            }
            Ok(Err(error)) => Lost::new(error, conn),
            Err(_) => Lost::failed("the closure of this write panicked"),
        };
        // Some errors make SQLite roll back the whole transaction by itself.
        if !lost.is_of_one() || conn.is_autocommit() {
            return Step::Abandon(lost);
        }
        self.result = Some(Err(lost.into()));
        Step::Undo
    }

    fn answer(self: Box<Self>, lost: Option<&Lost>) {
        let result = match (lost, self.result) {
            (None, Some(result)) => result,
            (Some(lost), _) => Err(lost.clone().into()),
            (None, None) => Err(stopped().into()),
        };
        // Nobody may be waiting any more; the write stands all the same.
        let _ = self.answer.send(result);
    }
}

fn stopped() -> Lost {
    Lost::Trouble(Trouble::of(Condition::Closed))
}

/// The way to the writer thread.
#[derive(Debug)]
pub(super) struct Writer {
    queue: mpsc::Sender<Message>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Writer {
    /// Starts the thread, which owns the connection and the lock.
    pub(super) fn start(
        conn: Connection,
        lock: File,
        options: Options,
        keeper: Keeper,
    ) -> Result<Self, std::io::Error> {
        let (queue, jobs) = mpsc::channel(QUEUE);
        let thread = std::thread::Builder::new()
            .name("sqlite-writer".to_owned())
            .spawn(move || {
                let thread = Thread {
                    conn,
                    options,
                    keeper,
                    durable: true,
                    broken: false,
                };
                thread.run(jobs);
                drop(lock); // after the connection: the next process finds the file at rest
            })?;
        Ok(Self {
            queue,
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Runs a write in its turn and waits until it is committed. It is done even when the caller
    /// stops waiting.
    pub(super) async fn write<T, E>(
        &self,
        durable: bool,
        run: impl FnOnce(&Connection) -> Result<Result<T, E>, rusqlite::Error> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<Lost> + Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        let job = Task {
            durable,
            run: Some(run),
            result: None,
            answer,
        };
        if self.queue.send(Message::Job(Box::new(job))).await.is_err() {
            return Err(stopped().into());
        }
        let died = || Lost::Unknown(Cause::new("the writing thread ended"));
        answered.await.unwrap_or_else(|_| Err(died().into()))
    }

    /// Copies the WAL into the database as far as readers allow, which also cuts the file to the
    /// pages that it has.
    pub(super) async fn checkpoint(&self) {
        let (done, is_done) = oneshot::channel();
        if self.queue.send(Message::Checkpoint(done)).await.is_ok() {
            let _ = is_done.await;
        }
    }

    /// Lets the thread look at the files every few seconds, until it ends.
    pub(super) fn look_now_and_then(&self) {
        let queue = self.queue.downgrade();
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(LOOK_EVERY).await;
                let Some(queue) = queue.upgrade() else { return };
                // A full queue looks by itself.
                if matches!(
                    queue.try_send(Message::Look),
                    Err(mpsc::error::TrySendError::Closed(_))
                ) {
                    return;
                }
            }
        });
    }

    /// Finishes what was sent before, and ends the thread.
    pub(super) async fn close(&self) {
        let _ = self.queue.send(Message::Close).await;
        let thread = self
            .thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(thread) = thread {
            let _ = tokio::task::spawn_blocking(move || thread.join()).await;
        }
    }
}

struct Thread {
    conn: Connection,
    options: Options,
    keeper: Keeper,
    /// What `synchronous` is set to.
    durable: bool,
    /// The disk failed: nothing is written any more.
    broken: bool,
}

impl Thread {
    fn run(mut self, mut jobs: mpsc::Receiver<Message>) {
        count_pages(&self.conn);
        let mut checkpoint_at = CHECKPOINT_PAGES;
        let mut closing = false;
        while !closing {
            let Some(first) = jobs.blocking_recv() else {
                break;
            };
            let mut group = Vec::new();
            let mut asked = Vec::new();
            let mut next = Some(first);
            while let Some(message) = next {
                match message {
                    Message::Job(job) => group.push(job),
                    Message::Look => {}
                    Message::Checkpoint(done) => asked.push(done),
                    Message::Close => {
                        closing = true;
                        break;
                    }
                }
                next = if group.len() < GROUP {
                    jobs.try_recv().ok()
                } else {
                    None
                };
            }
            if !group.is_empty() {
                self.commit(group);
            } else if !self.broken {
                self.keep();
            }
            let is_due = WAL_PAGES.get() >= checkpoint_at || !asked.is_empty();
            if is_due && !self.broken {
                checkpoint_at = self.checkpoint();
            }
            for done in asked {
                let _ = done.send(());
            }
        }
        jobs.close();
        while let Ok(message) = jobs.try_recv() {
            if let Message::Job(job) = message {
                job.answer(Some(&stopped()));
            }
        }
        if !self.broken
            && let Err(error) = self
                .conn
                .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
        {
            tracing::warn!(%error, "could not copy the write-ahead log into the database");
        }
    }

    /// Commits a group and answers everybody in it.
    fn commit(&mut self, mut group: Vec<Box<dyn Job>>) {
        let outcome = if self.broken {
            Err(stopped())
        } else if let Some(trouble) = self.keep() {
            Err(Lost::Trouble(trouble))
        } else {
            // What was written to files that nobody finds is not durable.
            match self.transact(&mut group) {
                Ok(()) => self
                    .keep()
                    .map_or(Ok(()), |trouble| Err(Lost::Trouble(trouble))),
                lost => lost,
            }
        };
        if let Err(Lost::Unknown(cause)) = &outcome {
            // Never again: a second fsync may succeed without the pages that the first one lost.
            self.fatal(&format!("the disk failed while committing: {cause}"));
        }
        if outcome.is_err() && !self.conn.is_autocommit() {
            // What fails here failed before; the next BEGIN says so.
            let _ = self.execute("ROLLBACK");
        }
        for job in group {
            job.answer(outcome.as_ref().err());
        }
    }

    /// Sees to it that the files are where they should be; why they are not.
    fn keep(&mut self) -> Option<Trouble> {
        let trouble = self.keeper.keep(&mut self.conn);
        if self.keeper.opened_anew() {
            count_pages(&self.conn);
            self.durable = true;
        }
        trouble
    }

    fn transact(&mut self, group: &mut [Box<dyn Job>]) -> Result<(), Lost> {
        let durable = group.iter().any(|job| job.durable());
        if durable != self.durable {
            open::set_durable(&self.conn, durable).map_err(|error| self.lost(error))?;
            self.durable = durable;
        }
        self.execute("BEGIN IMMEDIATE")?;
        for job in group {
            self.execute("SAVEPOINT job")?;
            match job.apply(&self.conn) {
                Step::Keep => {
                    self.at(Point::BeforeRelease)?;
                    self.execute("RELEASE job")?;
                    self.at(Point::AfterRelease)?;
                }
                Step::Undo => {
                    self.execute("ROLLBACK TO job")?;
                    self.execute("RELEASE job")?;
                }
                Step::Abandon(lost) => return Err(lost),
            }
        }
        let committed = match self.options.at(Point::BeforeCommit) {
            None => self.run_statement("COMMIT"),
            Some(fault) => Err(injected(fault)),
        };
        match committed {
            Ok(()) => {}
            Err(error) if fail::is_io(&error) => return Err(Lost::Unknown(Cause::new(error))),
            Err(error) => return Err(self.lost(error)),
        }
        // The commit stands whatever the hook asks for.
        let _ = self.options.at(Point::AfterCommit);
        Ok(())
    }

    fn at(&self, point: Point) -> Result<(), Lost> {
        match self.options.at(point) {
            None => Ok(()),
            Some(fault) => Err(self.lost(injected(fault))),
        }
    }

    fn lost(&self, error: rusqlite::Error) -> Lost {
        Lost::new(error, &self.conn)
    }

    /// Copies the WAL into the database, after everybody was answered. Returns the size of the WAL
    /// at which to try again: readers may hold back a part of it.
    fn checkpoint(&mut self) -> i32 {
        let result = self
            .conn
            .query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| {
                Ok((row.get::<_, i32>(1)?, row.get::<_, i32>(2)?))
            });
        match result {
            Ok((pages, done)) if pages == done => CHECKPOINT_PAGES,
            Ok((pages, _)) => pages.saturating_add(CHECKPOINT_PAGES),
            Err(error) if fail::is_io(&error) => {
                self.fatal(&format!("the disk failed while checkpointing: {error}"));
                i32::MAX
            }
            Err(error) => {
                tracing::warn!(%error, "could not copy the write-ahead log into the database");
                WAL_PAGES.get().saturating_add(CHECKPOINT_PAGES)
            }
        }
    }

    fn fatal(&mut self, text: &str) {
        self.broken = true;
        self.options.fatal(text);
    }

    fn execute(&self, sql: &str) -> Result<(), Lost> {
        self.run_statement(sql).map_err(|error| self.lost(error))
    }

    fn run_statement(&self, sql: &str) -> Result<(), rusqlite::Error> {
        self.conn.prepare_cached(sql)?.execute([]).map(|_| ())
    }
}

/// Notes how long the log is after each commit of this connection.
fn count_pages(conn: &Connection) {
    conn.wal_hook(Some(|_, pages| {
        WAL_PAGES.set(pages);
        Ok(())
    }));
}

fn injected(fault: Fault) -> rusqlite::Error {
    let code = match fault {
        Fault::Io => rusqlite::ffi::SQLITE_IOERR_FSYNC,
        Fault::Full => rusqlite::ffi::SQLITE_FULL,
    };
    rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(code), None)
}
