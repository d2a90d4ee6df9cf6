//! What SQLite's errors mean to callers.

use bowline_model::kind::{Column, Kind};
use rusqlite::{Connection, ErrorCode, ffi};

use crate::error::{Cause, CommitError, Condition, Error, OpenError, TransferError, Trouble};

/// Why a whole transaction is gone.
#[derive(Debug, Clone)]
pub(super) enum Lost {
    /// The disk failed while committing: nobody knows what is on it.
    Unknown(Cause),
    /// Nothing was written.
    Trouble(Trouble),
}

impl Lost {
    /// What an error of this connection means.
    pub(super) fn new(error: rusqlite::Error, conn: &Connection) -> Self {
        if is_sync(&error) {
            return Self::Unknown(Cause::new(error));
        }
        Self::Trouble(trouble(error, conn.path()))
    }

    pub(super) fn failed(problem: &'static str) -> Self {
        Self::Trouble(Trouble::new(Condition::Failed, problem))
    }

    /// Whether it concerns one write alone, as long as SQLite did not roll everything back.
    pub(super) fn is_of_one(&self) -> bool {
        match self {
            Self::Unknown(_) => false,
            Self::Trouble(trouble) => {
                matches!(trouble.condition, Condition::Failed | Condition::Damaged)
            }
        }
    }
}

impl From<Lost> for Error {
    fn from(lost: Lost) -> Self {
        match lost {
            Lost::Unknown(cause) => Self::Unavailable(Trouble::new(Condition::Failed, cause)),
            Lost::Trouble(trouble) => Self::Unavailable(trouble),
        }
    }
}

impl From<Lost> for CommitError {
    fn from(lost: Lost) -> Self {
        match lost {
            Lost::Unknown(_) => Self::Unknown,
            Lost::Trouble(trouble) => Self::Unavailable(trouble),
        }
    }
}

impl From<Lost> for TransferError {
    fn from(lost: Lost) -> Self {
        Self::Store(lost.into())
    }
}

/// What an error means, and of which file.
fn trouble(error: rusqlite::Error, path: Option<&str>) -> Trouble {
    let condition = condition(&error);
    let trouble = match error {
        // The cause names the row; the library's text around it names a column by its number.
        rusqlite::Error::FromSqlConversionFailure(_, _, cause) => Trouble::new(condition, cause),
        error => Trouble::new(condition, error),
    };
    match (condition, path) {
        (Condition::Failed, _) | (_, None) => trouble,
        (_, Some(path)) => trouble.at(path),
    }
}

fn condition(error: &rusqlite::Error) -> Condition {
    match error {
        _ if is_full(error) => Condition::Full,
        // A value that this program cannot have written.
        rusqlite::Error::FromSqlConversionFailure(..)
        | rusqlite::Error::IntegralValueOutOfRange(..)
        | rusqlite::Error::Utf8Error(..)
        | rusqlite::Error::InvalidColumnType(..) => Condition::Damaged,
        rusqlite::Error::SqliteFailure(failure, _) => match failure.code {
            ErrorCode::ReadOnly if failure.extended_code == ffi::SQLITE_READONLY_DBMOVED => {
                Condition::Replaced
            }
            ErrorCode::ReadOnly => Condition::ReadOnly,
            ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase => Condition::Damaged,
            _ => Condition::Failed,
        },
        _ => Condition::Failed,
    }
}

/// Out of space. A WAL index that cannot grow is an I/O error to SQLite, but it is the same full
/// disk.
pub(super) fn is_full(error: &rusqlite::Error) -> bool {
    match error {
        rusqlite::Error::SqliteFailure(failure, _) => {
            failure.code == ErrorCode::DiskFull
                || failure.extended_code == ffi::SQLITE_IOERR_SHMSIZE
        }
        _ => false,
    }
}

/// The disk failed. After that nobody knows what a later sync would make durable.
pub(super) fn is_io(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::SystemIoFailure) && !is_full(error)
}

/// A sync failed. It may also be one before `COMMIT`, when the write-ahead log starts over.
fn is_sync(error: &rusqlite::Error) -> bool {
    let code = error.sqlite_error().map(|failure| failure.extended_code);
    matches!(
        code,
        Some(ffi::SQLITE_IOERR_FSYNC | ffi::SQLITE_IOERR_DIR_FSYNC)
    )
}

/// Whether a constraint refused the row.
pub(super) fn is_constraint(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::ConstraintViolation)
}

/// The column of a kind that refused its row. SQLite names it in its text only:
/// `UNIQUE constraint failed: users.tailnet, users.login`.
pub(super) fn column(error: &rusqlite::Error, kind: Kind) -> Option<Column> {
    let found = kind
        .columns()
        .iter()
        .find(|column| is_of(error, &format!("{}.{}", kind.table(), column.name())));
    found.copied()
}

/// Whether it is about a column, `table.column`.
pub(super) fn is_of(error: &rusqlite::Error, column: &str) -> bool {
    let rusqlite::Error::SqliteFailure(_, Some(message)) = error else {
        return false;
    };
    let places = message.rsplit(": ").next().unwrap_or_default();
    is_constraint(error) && places.split(", ").any(|place| place == column)
}

/// What an error means while the database is being opened.
pub(super) fn opening(error: rusqlite::Error, path: &std::path::Path) -> OpenError {
    match error.sqlite_error_code() {
        _ if is_full(&error) => OpenError::Full,
        Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => {
            OpenError::NotWritable {
                path: path.to_owned(),
                source: std::io::Error::other(error),
            }
        }
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => OpenError::InUse {
            holder: "another program".to_owned(),
        },
        _ => OpenError::Unreadable {
            place: path.display().to_string(),
            cause: Cause::new(error),
        },
    }
}
