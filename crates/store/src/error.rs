//! What can go wrong, as far as a caller can act on it.

use std::error::Error as StdError;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use crate::kind::Column;

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
        /// Index in [`crate::Batch::puts`].
        put: usize,
        /// The column whose value another row has. `None`: the id belongs to another tailnet.
        column: Option<Column>,
    },
    /// The batch is one that no database could store: a defect of the caller. Nothing was written.
    #[error("the batch cannot be stored: {0}")]
    Malformed(String),
    /// The disk is full or read-only. Nothing was written; the store goes on when there is space.
    #[error("the database has no space left or is read-only; free space and try again")]
    Full,
    /// The connection was lost while committing: [`crate::Store::commit_outcome`] decides.
    #[error("the connection was lost during the commit; whether it was written is not known")]
    Unknown,
    /// The database cannot be reached or failed otherwise. Nothing was written.
    #[error("the database cannot be used now")]
    Unavailable(#[source] Cause),
}

fn refused(column: Option<Column>) -> String {
    match column {
        Some(column) => format!(": another row has its {column:?}"),
        None => String::new(),
    }
}

/// Why something else than a commit failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The disk is full or read-only. Nothing was written.
    #[error("the database has no space left or is read-only; free space and try again")]
    Full,
    /// What was given cannot be stored: a defect of the caller. Nothing was written.
    #[error("the rows cannot be stored: {0}")]
    Malformed(String),
    /// The database cannot be reached or failed otherwise. A write may or may not have happened.
    #[error("the database cannot be used now")]
    Unavailable(#[source] Cause),
}

impl From<Error> for CommitError {
    fn from(error: Error) -> Self {
        match error {
            Error::Full => Self::Full,
            Error::Malformed(text) => Self::Malformed(text),
            Error::Unavailable(cause) => Self::Unavailable(cause),
        }
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
    /// The disk is full.
    #[error("cannot open the database: no space left; free some and start again")]
    Full,
    /// Another process has it. Two processes cannot share a database.
    #[error(
        "the database is in use by {holder}; stop that process, or use another database: two \
         servers cannot share one"
    )]
    InUse {
        /// Who has it, as far as known, for instance `process 4711`.
        holder: String,
    },
    /// The file is no database of Bowline.
    #[error("{path} is not a Bowline database; choose another path, or move that file away")]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// The file is damaged, or no database at all.
    #[error("the database is damaged or unreadable; restore the newest backup into a new database")]
    Unreadable(#[source] Cause),
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

/// Why a dump or a restore failed. A restore that failed has written nothing.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// Reading or writing the dump failed.
    #[error("could not read or write the dump")]
    Io(#[from] std::io::Error),
    /// The dump cannot be understood.
    #[error("the dump cannot be read: line {line}: {problem}")]
    Format {
        /// Line number, from 1.
        line: u64,
        /// What is wrong with it.
        problem: String,
    },
    /// A restore goes only into a new database.
    #[error("the database is not empty; restore into a new one")]
    NotEmpty,
    /// The database failed.
    #[error(transparent)]
    Store(#[from] Error),
}
