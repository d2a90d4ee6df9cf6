//! What can go wrong, as far as a caller can act on it.

use std::error::Error as StdError;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use bowline_model::kind::Column;

/// The database's own error, shared so that everybody who waited can be told.
#[derive(Clone)]
pub struct Cause(Arc<dyn StdError + Send + Sync>);

impl Cause {
    /// Wraps an error.
    pub fn new(error: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self(Arc::from(error.into()))
    }
}

impl fmt::Debug for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl StdError for Cause {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source()
    }
}

/// What is wrong with a database, as far as an operator can act on it. A closed set: metrics,
/// readiness and the log name conditions by [`Condition::name`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Condition {
    /// No space is left. Nothing was written; the store goes on when there is some.
    Full,
    /// The database refuses every write: a demoted primary, `default_transaction_read_only`, or a
    /// file system that is mounted read-only.
    ReadOnly,
    /// The database did not answer in time.
    Stalled,
    /// The database server cannot be reached, or is starting or stopping.
    Unreachable,
    /// This process does not hold the database at the moment: another may have taken it over.
    NotHeld,
    /// What is stored is not what was written: a checksum or the file's structure is wrong.
    Damaged,
    /// The database's files were removed or replaced under the running process.
    Replaced,
    /// The store was closed.
    Closed,
    /// Anything else; the cause says what.
    Failed,
}

impl Condition {
    /// Every condition.
    pub const ALL: [Self; 9] = [
        Self::Full,
        Self::ReadOnly,
        Self::Stalled,
        Self::Unreachable,
        Self::NotHeld,
        Self::Damaged,
        Self::Replaced,
        Self::Closed,
        Self::Failed,
    ];

    /// The condition as a label of metrics and a field of the log: lower-case words with `_`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::ReadOnly => "read_only",
            Self::Stalled => "stalled",
            Self::Unreachable => "unreachable",
            Self::NotHeld => "not_held",
            Self::Damaged => "damaged",
            Self::Replaced => "replaced",
            Self::Closed => "closed",
            Self::Failed => "failed",
        }
    }
}

/// What it is and what to do, without a cause.
impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "the database has no space left; free some and try again",
            Self::ReadOnly => {
                "the database is read-only (a demoted primary, or a file system mounted \
                 read-only?); make it writable, or point the server at the primary"
            }
            Self::Stalled => "the database did not answer in time; try again when it answers",
            Self::Unreachable => "the database server cannot be reached; try again later",
            Self::NotHeld => {
                "this server does not hold the database at the moment; try again in a moment"
            }
            Self::Damaged => {
                "the database is damaged; stop the server, run `bowline doctor`, and restore the \
                 newest backup"
            }
            Self::Replaced => {
                "the database's files were removed or replaced under the running server"
            }
            Self::Closed => "the database is closed",
            Self::Failed => "the database cannot be used now",
        })
    }
}

/// Why the database cannot be used: the condition, and what the database itself said.
#[derive(Debug, Clone)]
pub struct Trouble {
    /// What is wrong.
    pub condition: Condition,
    /// Which file, table or row, for a person.
    detail: Option<Arc<str>>,
    cause: Option<Cause>,
}

impl Trouble {
    /// A condition alone.
    pub const fn of(condition: Condition) -> Self {
        Self {
            condition,
            detail: None,
            cause: None,
        }
    }

    /// A condition and its cause.
    pub fn new(condition: Condition, cause: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self {
            cause: Some(Cause::new(cause)),
            ..Self::of(condition)
        }
    }

    /// The same, saying where: a file, a table, a row.
    #[must_use]
    pub fn at(mut self, detail: impl Into<Arc<str>>) -> Self {
        self.detail = Some(detail.into());
        self
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.detail {
            Some(detail) => write!(f, "{}: {detail}", self.condition),
            None => self.condition.fmt(f),
        }
    }
}

impl StdError for Trouble {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.cause.as_ref().map(|cause| cause as &dyn StdError)
    }
}

/// Why a commit was not acknowledged.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CommitError {
    /// The tailnet has moved on: catch up and run the closures again. Nothing was written.
    #[error("the tailnet is at change {current}, the draft was made from another")]
    Conflict {
        /// The newest sequence number; `0` when there is no such tailnet.
        current: u64,
    },
    /// The database refused one row. Nothing was written.
    #[error("the database refused row {put} of the batch{}", refused(*column))]
    Rejected {
        /// Index in [`crate::Batch::puts`], where those of the births follow in their order.
        put: usize,
        /// The column whose value another row has. `None`: the id belongs to another tailnet.
        column: Option<Column>,
    },
    /// The batch is one that no database could store: a defect of the caller. Nothing was written.
    #[error("the batch cannot be stored: {0}")]
    Malformed(String),
    /// The connection was lost while committing: [`crate::Store::commit_outcome`] decides.
    #[error("the connection was lost during the commit; whether it was written is not known")]
    Unknown,
    /// The database cannot be used. Nothing was written.
    #[error(transparent)]
    Unavailable(Trouble),
}

impl CommitError {
    /// What is wrong with the database; `None` when the fault is in the batch or its base.
    pub fn condition(&self) -> Option<Condition> {
        match self {
            Self::Unavailable(trouble) => Some(trouble.condition),
            Self::Unknown => Some(Condition::Unreachable),
            Self::Conflict { .. } | Self::Rejected { .. } | Self::Malformed(_) => None,
        }
    }

    /// The same of a batch with a birth that failed by this, after so many rows of others.
    pub(crate) fn of_birth(self, rows: usize) -> Self {
        match self {
            // There is a tailnet of this id.
            Self::Conflict { .. } => Self::Rejected {
                put: rows,
                column: None,
            },
            Self::Rejected { put, column } => Self::Rejected {
                put: rows + put,
                column,
            },
            other => other,
        }
    }
}

fn refused(column: Option<Column>) -> String {
    match column {
        Some(column) => format!(": another row has its {column}"),
        None => String::new(),
    }
}

/// Why something else than a commit failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// What was given cannot be stored: a defect of the caller. Nothing was written.
    #[error("the rows cannot be stored: {0}")]
    Malformed(String),
    /// The database cannot be used. A write may or may not have happened.
    #[error(transparent)]
    Unavailable(#[from] Trouble),
}

impl Error {
    /// What is wrong with the database; `None` when the fault is in what was given.
    pub fn condition(&self) -> Option<Condition> {
        match self {
            Self::Unavailable(trouble) => Some(trouble.condition),
            Self::Malformed(_) => None,
        }
    }
}

impl From<Error> for CommitError {
    fn from(error: Error) -> Self {
        match error {
            Error::Malformed(text) => Self::Malformed(text),
            Error::Unavailable(trouble) => Self::Unavailable(trouble),
        }
    }
}

impl From<Trouble> for CommitError {
    fn from(trouble: Trouble) -> Self {
        Self::Unavailable(trouble)
    }
}

/// Why a database could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The setting is neither a path nor a PostgreSQL URL.
    #[error("cannot read the database setting: {0}")]
    Setting(String),
    /// The file or its directory cannot be written.
    #[error(
        "cannot write the database {path}; give this user write access to the file and its \
         directory, or choose another data directory"
    )]
    NotWritable {
        /// The database file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// There is none, and it was asked to open one that exists.
    #[error(
        "there is no database at {place}; check the path and that its disk is mounted, or make a \
         new server with `bowline init`"
    )]
    Missing {
        /// The file, or the database's name at the server.
        place: String,
    },
    /// There is an empty file or an empty database, and it was asked to open one that has been
    /// used.
    #[error(
        "the database {place} is empty; put the right one there, restore a backup, or make a new \
         server with `bowline init`"
    )]
    Empty {
        /// The file, or the database's name at the server.
        place: String,
    },
    /// There is one already, and it was asked to make a new one.
    #[error(
        "there is a database at {place} already; choose another place, or start the server with this one"
    )]
    Exists {
        /// The file, or the database's name at the server.
        place: String,
    },
    /// The disk is full.
    #[error("cannot open the database: no space left; free some and start again")]
    Full,
    /// Every write is refused.
    #[error(
        "the database {place} is read-only (a demoted primary, or `default_transaction_read_only`?); \
         point the server at the primary, or make it writable"
    )]
    ReadOnly {
        /// The database's name at the server.
        place: String,
    },
    /// A connection pool between this process and the database works in a mode that cannot be
    /// used.
    #[error(
        "the connection pool in front of the database cannot be used: {problem}; use \
         `pool_mode = transaction` or `session`, or connect to the database itself"
    )]
    Pool {
        /// What does not work.
        problem: String,
    },
    /// Another process has it. Two processes cannot share a database.
    #[error(
        "the database is in use by {holder}; stop that process, or use another database: two \
         servers cannot share one"
    )]
    InUse {
        /// Who has it, as far as known, for instance `process 4711`.
        holder: String,
    },
    /// It holds something else than a Bowline database.
    #[error("{place} is not a Bowline database; choose another, or move that one away")]
    Foreign {
        /// The file, or the database's name at the server.
        place: String,
    },
    /// It is damaged, or not a database at all.
    #[error(
        "the database {place} is damaged or unreadable; keep a copy of it, run `bowline doctor` \
         for the details, and restore the newest backup"
    )]
    Unreadable {
        /// The file, or the database's name at the server.
        place: String,
        /// What is wrong with it.
        #[source]
        cause: Cause,
    },
    /// A newer release has upgraded it.
    #[error(
        "the database has schema {found}, this program knows up to {known}; start the newer \
         release that upgraded it, or restore a backup made before"
    )]
    Newer {
        /// Newest migration in the database.
        found: u32,
        /// Newest migration that this program has.
        known: u32,
    },
    /// An upgrade of the schema failed; it was rolled back.
    #[error("could not bring the database's schema up to date")]
    Migration(#[source] Cause),
    /// The server does not answer.
    #[error("cannot reach the database server; check the address, and that the server runs")]
    Unreachable(#[source] Cause),
    /// The server answers, but refuses.
    #[error("the database server refused; check user, password, database name and permissions")]
    Refused(#[source] Cause),
}

/// Why a backup or a restore failed. A restore that failed has written nothing.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// The system could not read or write the backup.
    #[error("could not read or write the backup")]
    Io(#[from] std::io::Error),
    /// It is another program's file.
    #[error("this is not a backup of Bowline; name a file that `bowline backup` wrote")]
    NotABackup,
    /// It is a directory, a pipe or a device.
    #[error(
        "this is not a regular file, and a restore reads a backup twice; save the backup in a file \
         first"
    )]
    NotAFile,
    /// Its end is missing.
    #[error(
        "the backup is cut off: it was not written to its end, or not copied whole; copy it again, \
         or use another one"
    )]
    CutOff,
    /// It is not what was written.
    #[error("the backup is damaged: {problem}; copy it again, or use another one")]
    Damaged {
        /// What is wrong, and on which line.
        problem: String,
    },
    /// A newer release wrote it in a format of its own.
    #[error(
        "the backup has format {format}, written by release {release}, and this program is older; \
         restore it with that release or a newer one"
    )]
    NewerFormat {
        /// The backup's format.
        format: u32,
        /// The release that wrote it.
        release: String,
    },
    /// A release with other tables wrote it.
    #[error(
        "the backup has schema {found}, written by release {release}, and this program has schema \
         {known} or other tables in it; restore it with that release{}",
        if found < known { ", and upgrade the server afterwards" } else { "" }
    )]
    OtherSchema {
        /// Newest migration of the database that was backed up.
        found: u32,
        /// Newest migration that this program has.
        known: u32,
        /// The release that wrote it.
        release: String,
    },
    /// The database to back up was not upgraded yet.
    #[error(
        "the database has schema {found}, and this program backs up schema {known}; use the release \
         that serves the database, or start the server of this release once"
    )]
    OldDatabase {
        /// Newest migration in the database.
        found: u32,
        /// Newest migration that this program has.
        known: u32,
    },
    /// The file's server has it for itself.
    #[error(
        "the server has the database {place} for itself, since there was no space beside it when it \
         started; free some, restart the server, and back up again"
    )]
    HeldAlone {
        /// The file.
        place: String,
    },
    /// A restore goes only into a new database.
    #[error("the database is not empty; restore into a new one")]
    NotEmpty,
    /// The other side of the transfer ended without an error of its own.
    #[error("the transfer was stopped")]
    Stopped,
    /// The database could not be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] Error),
}

impl TransferError {
    pub(crate) fn damaged(problem: &str) -> Self {
        Self::Damaged {
            problem: problem.to_owned(),
        }
    }
}
