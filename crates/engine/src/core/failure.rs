//! Why a use case did not happen.

use bowline_model::requirement::Denied;
use bowline_store::Column;

/// Why a change was not stored. Nothing of it was, but for [`StoreFailure::Undecided`].
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreFailure {
    /// The database cannot be used now; its condition says why, and what to do.
    #[error(transparent)]
    Unavailable(bowline_store::Trouble),
    /// The database has not answered in time, and the change was not sent to it.
    #[error("the database does not answer; nothing was changed")]
    Stalled,
    /// The change was sent to the database, which has not answered in time. It is either stored or
    /// not once the database answers again, and the state then shows which.
    #[error("the database does not answer; whether the change is stored will show when it does")]
    Undecided,
    /// Another object has this value, which must be unique: in this tailnet, or in another one,
    /// which the draft cannot see.
    #[error("another object has this {0} already")]
    Taken(Column),
    /// The closure panicked, or broke a rule of the engine: a defect.
    #[error("the change was abandoned: {0}")]
    Defect(&'static str),
    /// The task that writes this tailnet's changes has ended by a defect. It is started again.
    #[error("changes of this tailnet cannot be stored until its writer has started again")]
    WriterLost,
    /// The server is stopping.
    #[error("the server is stopping")]
    Stopping,
}

impl StoreFailure {
    /// Whether it is the state of the database or of the process that stopped the change, which the
    /// log has said when it began, and not the change.
    pub fn is_condition(&self) -> bool {
        match self {
            Self::Unavailable(_)
            | Self::Stalled
            | Self::Undecided
            | Self::WriterLost
            | Self::Stopping => true,
            Self::Taken(_) | Self::Defect(_) => false,
        }
    }

    /// A look-up that failed.
    pub(crate) fn of_reading(error: bowline_store::Error) -> Self {
        use bowline_store::{Condition, Error, Trouble};
        match error {
            Error::Unavailable(trouble) => Self::Unavailable(trouble),
            other @ Error::Malformed(_) => {
                Self::Unavailable(Trouble::new(Condition::Failed, other))
            }
        }
    }

    /// The failure with all its causes, for the log.
    pub fn with_causes(&self) -> String {
        crate::core::health::causes(self)
    }
}

impl From<bowline_store::CommitError> for StoreFailure {
    fn from(error: bowline_store::CommitError) -> Self {
        use bowline_store::{CommitError, Condition, Trouble};
        match error {
            CommitError::Unavailable(trouble) => Self::Unavailable(trouble),
            CommitError::Rejected {
                column: Some(column),
                ..
            } => Self::Taken(column),
            CommitError::Rejected { column: None, .. } => {
                Self::Defect("an id of the change belongs to another tailnet")
            }
            CommitError::Malformed(_) => Self::Defect("the rows of the change cannot be stored"),
            other => {
                let condition = other.condition().unwrap_or(Condition::Failed);
                Self::Unavailable(Trouble::new(condition, other))
            }
        }
    }
}

/// Why a use case was refused.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Refusal {
    /// No such object, or the actor may not know of it.
    #[error("not found")]
    NotFound,
    /// The actor's role or scopes do not allow it.
    #[error("calling actor does not have enough permissions to perform this function")]
    NotPermitted,
    /// The actor's credential is not good any more: it was revoked or expired, or their user may not
    /// act, before the change was made.
    #[error("API token invalid")]
    Unauthenticated,
    /// The request makes no sense; the text says what is wrong.
    #[error("{0}")]
    Invalid(String),
    /// It could not be stored.
    #[error(transparent)]
    Store(#[from] StoreFailure),
}

impl From<Denied> for Refusal {
    fn from(denied: Denied) -> Self {
        match denied {
            Denied::Forbidden => Self::NotPermitted,
            Denied::NotFound => Self::NotFound,
            Denied::Unauthenticated => Self::Unauthenticated,
        }
    }
}

impl Refusal {
    /// An invalid request.
    pub fn invalid(text: impl Into<String>) -> Self {
        Self::Invalid(text.into())
    }
}
