//! What PostgreSQL's errors mean to callers.

use std::error::Error as _;

use bowline_model::kind::{Column, Kind};
use deadpool_postgres::{PoolError, TimeoutType};
use tokio_postgres::error::SqlState;

use crate::error::{Cause, CommitError, Condition, Error, OpenError, TransferError, Trouble};

/// Why a transaction is gone.
#[derive(Debug, Clone)]
pub(super) enum Failure {
    /// Nothing was written, and the same may succeed when it is run again.
    Again(Trouble),
    /// The connection was lost during `COMMIT`.
    Unknown(Cause),
    /// Nothing was written.
    Trouble(Trouble),
}

impl Failure {
    /// The connection is not there any more.
    pub(super) fn gone() -> Self {
        Self::Trouble(Trouble::new(
            Condition::Unreachable,
            "the connection is gone",
        ))
    }
}

/// What an error is called. Not for a failed `COMMIT`.
fn condition(error: &tokio_postgres::Error) -> Condition {
    let Some(state) = error.code() else {
        // Not an answer of the server: the connection broke, or the answer could not be read.
        let is_answer = error
            .source()
            .is_some_and(|source| source.downcast_ref::<std::io::Error>().is_none());
        return if error.is_closed() || !is_answer {
            Condition::Unreachable
        } else {
            Condition::Failed
        };
    };
    match *state {
        SqlState::DISK_FULL => Condition::Full,
        SqlState::READ_ONLY_SQL_TRANSACTION => Condition::ReadOnly,
        SqlState::DATA_CORRUPTED | SqlState::INDEX_CORRUPTED => Condition::Damaged,
        SqlState::LOCK_NOT_AVAILABLE | SqlState::QUERY_CANCELED => Condition::Stalled,
        SqlState::ADMIN_SHUTDOWN
        | SqlState::CRASH_SHUTDOWN
        | SqlState::CANNOT_CONNECT_NOW
        | SqlState::TOO_MANY_CONNECTIONS
        | SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT => Condition::Unreachable,
        _ => Condition::Failed,
    }
}

impl From<tokio_postgres::Error> for Failure {
    /// For everything but `COMMIT`.
    fn from(error: tokio_postgres::Error) -> Self {
        let again = [
            SqlState::T_R_SERIALIZATION_FAILURE,
            SqlState::T_R_DEADLOCK_DETECTED,
            SqlState::ADMIN_SHUTDOWN,
            SqlState::CRASH_SHUTDOWN,
            SqlState::CANNOT_CONNECT_NOW,
            SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT,
        ];
        // Without a code the connection broke, and with it the transaction.
        let again = error.code().is_none_or(|state| again.contains(state));
        let trouble = Trouble::new(condition(&error), error);
        if again {
            Self::Again(trouble)
        } else {
            Self::Trouble(trouble)
        }
    }
}

impl From<PoolError> for Failure {
    fn from(error: PoolError) -> Self {
        let condition = match &error {
            PoolError::Timeout(TimeoutType::Wait | TimeoutType::Recycle) => Condition::Stalled,
            PoolError::Timeout(TimeoutType::Create) => Condition::Unreachable,
            PoolError::Backend(error) => condition(error),
            PoolError::Closed => Condition::Closed,
            PoolError::NoRuntimeSpecified | PoolError::PostCreateHook(_) => Condition::Failed,
        };
        Self::Trouble(Trouble::new(condition, error))
    }
}

/// What a failed `COMMIT` means. Only a rollback that the server reports is certain.
pub(super) fn committing(error: tokio_postgres::Error) -> Failure {
    let certain = [
        SqlState::T_R_SERIALIZATION_FAILURE,
        SqlState::T_R_DEADLOCK_DETECTED,
    ];
    match error.code() {
        Some(state) if certain.contains(state) => {
            Failure::Again(Trouble::new(Condition::Failed, error))
        }
        _ => Failure::Unknown(Cause::new(error)),
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Again(trouble) | Failure::Trouble(trouble) => Self::Unavailable(trouble),
            Failure::Unknown(cause) => {
                Self::Unavailable(Trouble::new(Condition::Unreachable, cause))
            }
        }
    }
}

impl From<Failure> for CommitError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Again(trouble) | Failure::Trouble(trouble) => Self::Unavailable(trouble),
            Failure::Unknown(cause) => {
                tracing::debug!(%cause, "the connection was lost during a commit");
                Self::Unknown
            }
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
    let is_of = |column: &&Column| format!("{}_{}", kind.table(), column.name()) == index;
    kind.columns().iter().find(is_of).copied()
}

/// What an error means while the database is being opened.
pub(super) fn opening(error: tokio_postgres::Error) -> OpenError {
    let said = error.as_db_error().map(|error| error.message().to_owned());
    if let Some(said) = said
        && (said.contains("pooling mode") || said.contains("unsupported startup parameter"))
    {
        return OpenError::Pool { problem: said };
    }
    match error.code() {
        Some(state) if *state == SqlState::DISK_FULL => OpenError::Full,
        Some(state) if *state == SqlState::CANNOT_CONNECT_NOW => {
            OpenError::Unreachable(Cause::new(error))
        }
        Some(_) => OpenError::Refused(Cause::new(error)),
        None => OpenError::Unreachable(Cause::new(error)),
    }
}
