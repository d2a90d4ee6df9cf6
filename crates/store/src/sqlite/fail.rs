//! What SQLite's errors mean to callers.

use std::path::Path;

use rusqlite::{ErrorCode, ffi};

use crate::error::{Cause, CommitError, Error, OpenError, TransferError};
use crate::kind::{Column, Kind};

/// Why a whole transaction is gone.
#[derive(Debug, Clone)]
pub(super) enum Lost {
    /// No space, or read-only: nothing was written.
    Full,
    /// The disk failed while committing: nobody knows what is on it.
    Unknown(Cause),
    /// Something else: nothing was written.
    Other(Cause),
}

impl From<rusqlite::Error> for Lost {
    fn from(error: rusqlite::Error) -> Self {
        if is_full(&error) {
            Self::Full
        } else if is_sync(&error) {
            Self::Unknown(Cause::new(error))
        } else {
            Self::Other(Cause::new(error))
        }
    }
}

impl From<Lost> for Error {
    fn from(lost: Lost) -> Self {
        match lost {
            Lost::Full => Self::Full,
            Lost::Unknown(cause) | Lost::Other(cause) => Self::Unavailable(cause),
        }
    }
}

impl From<Lost> for CommitError {
    fn from(lost: Lost) -> Self {
        match lost {
            Lost::Full => Self::Full,
            Lost::Unknown(_) => Self::Unknown,
            Lost::Other(cause) => Self::Unavailable(cause),
        }
    }
}

impl From<Lost> for TransferError {
    fn from(lost: Lost) -> Self {
        Self::Store(lost.into())
    }
}

/// Out of space or read-only. A WAL index that cannot grow is an I/O error to SQLite, but it is
/// the same full disk.
pub(super) fn is_full(error: &rusqlite::Error) -> bool {
    match error {
        rusqlite::Error::SqliteFailure(failure, _) => {
            matches!(failure.code, ErrorCode::DiskFull | ErrorCode::ReadOnly)
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
    let rusqlite::Error::SqliteFailure(_, Some(message)) = error else {
        return None;
    };
    let places = message.rsplit(": ").next().unwrap_or_default();
    let spec = kind.spec();
    let found = spec.columns.iter().find(|(_, name)| {
        let wanted = format!("{}.{name}", spec.table);
        places.split(", ").any(|place| place == wanted)
    });
    found.map(|(column, _)| *column)
}

/// What an error means while the database is being opened.
pub(super) fn opening(error: rusqlite::Error, path: &Path) -> OpenError {
    match error.sqlite_error_code() {
        _ if is_full(&error) && error.sqlite_error_code() != Some(ErrorCode::ReadOnly) => {
            OpenError::Full
        }
        Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => {
            OpenError::NotWritable {
                path: path.to_owned(),
                source: std::io::Error::other(error),
            }
        }
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => OpenError::InUse {
            holder: "another program".to_owned(),
        },
        _ => OpenError::Unreadable(Cause::new(error)),
    }
}
