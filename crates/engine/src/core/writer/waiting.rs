//! Changes that wait for a commit.

use tokio::time::Instant;

use crate::core::job::Work;

/// A durable change that has not been answered.
pub(super) struct Waiting {
    pub(super) work: Box<dyn Work>,
    /// When it came.
    pub(super) since: Instant,
    /// How often the database refused an id or address of it that was drawn at random.
    pub(super) redrawn: u8,
}
