//! Why a use case did not happen.

/// Why a change could not be stored. Nothing of it was.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreFailure {
    /// No space left, or read-only: try again later.
    #[error("no space left to store the change; try again when there is")]
    Full,
    /// The database cannot be used now.
    #[error("the database cannot be used now")]
    Unavailable(#[source] bowline_store::CommitError),
    /// The closure panicked, or broke a rule of the engine: a defect.
    #[error("the change was abandoned: {0}")]
    Defect(&'static str),
    /// The server is stopping.
    #[error("the server is stopping")]
    Stopping,
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
    /// The request makes no sense; the text says what is wrong.
    #[error("{0}")]
    Invalid(String),
    /// It could not be stored.
    #[error(transparent)]
    Store(#[from] StoreFailure),
}

impl Refusal {
    /// An invalid request.
    pub fn invalid(text: impl Into<String>) -> Self {
        Self::Invalid(text.into())
    }
}
