//! What PostgreSQL's errors mean to callers.

use tokio_postgres::error::SqlState;

use crate::error::{Cause, CommitError, Error, OpenError, TransferError};
use crate::kind::{Column, Kind};

/// Why a transaction is gone.
#[derive(Debug, Clone)]
pub(super) enum Failure {
    /// No space, or read-only: nothing was written.
    Full,
    /// Nothing was written, and the same may succeed when it is run again.
    Again(Cause),
    /// The connection was lost during `COMMIT`.
    Unknown(Cause),
    /// Something else: nothing was written.
    Other(Cause),
}

impl From<tokio_postgres::Error> for Failure {
    /// For everything but `COMMIT`.
    fn from(error: tokio_postgres::Error) -> Self {
        let Some(state) = error.code() else {
            // The connection broke, and with it the transaction.
            return Self::Again(Cause::new(error));
        };
        if [SqlState::DISK_FULL, SqlState::READ_ONLY_SQL_TRANSACTION].contains(state) {
            return Self::Full;
        }
        let again = [
            SqlState::T_R_SERIALIZATION_FAILURE,
            SqlState::T_R_DEADLOCK_DETECTED,
            SqlState::ADMIN_SHUTDOWN,
            SqlState::CRASH_SHUTDOWN,
            SqlState::CANNOT_CONNECT_NOW,
            SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT,
        ];
        if again.contains(state) {
            Self::Again(Cause::new(error))
        } else {
            Self::Other(Cause::new(error))
        }
    }
}

/// What a failed `COMMIT` means. Only a rollback that the server reports is certain.
pub(super) fn committing(error: tokio_postgres::Error) -> Failure {
    let certain = [
        SqlState::T_R_SERIALIZATION_FAILURE,
        SqlState::T_R_DEADLOCK_DETECTED,
    ];
    match error.code() {
        Some(state) if certain.contains(state) => Failure::Again(Cause::new(error)),
        _ => Failure::Unknown(Cause::new(error)),
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Full => Self::Full,
            Failure::Again(cause) | Failure::Unknown(cause) | Failure::Other(cause) => {
                Self::Unavailable(cause)
            }
        }
    }
}

impl From<Failure> for CommitError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Full => Self::Full,
            Failure::Unknown(cause) => {
                tracing::warn!(%cause, "the connection was lost during a commit");
                Self::Unknown
            }
            Failure::Again(cause) | Failure::Other(cause) => Self::Unavailable(cause),
        }
    }
}

impl From<Failure> for TransferError {
    fn from(failure: Failure) -> Self {
        Self::Store(failure.into())
    }
}

/// Whether a unique index refused the row.
pub(super) fn is_unique_violation(error: &tokio_postgres::Error) -> bool {
    error.code() == Some(&SqlState::UNIQUE_VIOLATION)
}

/// The column of a kind that refused its row.
pub(super) fn column(error: &tokio_postgres::Error, kind: Kind) -> Option<Column> {
    let index = error.as_db_error().and_then(|error| error.constraint())?;
    let spec = kind.spec();
    let found = spec
        .columns
        .iter()
        .find(|(_, name)| format!("{}_{name}", spec.table) == index);
    found.map(|(column, _)| *column)
}

/// What an error means while the database is being opened.
pub(super) fn opening(error: tokio_postgres::Error) -> OpenError {
    match error.code() {
        Some(state) if *state == SqlState::DISK_FULL => OpenError::Full,
        Some(state) if *state == SqlState::CANNOT_CONNECT_NOW => {
            OpenError::Unreachable(Cause::new(error))
        }
        Some(_) => OpenError::Refused(Cause::new(error)),
        None => OpenError::Unreachable(Cause::new(error)),
    }
}
