//! How a store is opened, and where tests take hold of it.

use std::fmt;
use std::sync::Arc;

/// A place in a commit where tests kill the process or let it fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Point {
    /// A batch's rows are written, its savepoint is not yet released.
    BeforeRelease,
    /// A batch's savepoint is released.
    AfterRelease,
    /// Everything of the transaction is written, `COMMIT` comes next.
    BeforeCommit,
    /// `COMMIT` has succeeded, nobody has been answered.
    AfterCommit,
}

/// A failure that a [`Options::hook`] asks for in place of the next step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The disk failed.
    Io,
    /// The disk is full.
    Full,
}

type Hook = Arc<dyn Fn(Point) -> Option<Fault> + Send + Sync>;
type OnFatal = Arc<dyn Fn(&str) + Send + Sync>;

/// How a store is opened.
#[derive(Clone)]
pub struct Options {
    /// Connections for reading (SQLite), or for everything (PostgreSQL). At least 1.
    pub connections: usize,
    /// Called when nothing that is in memory can be trusted to be what is on disk: a failed fsync
    /// or another I/O error while committing, or another process that took the database over. The
    /// text says which. It must not return; the default is `std::process::abort`. If it does
    /// return, the store accepts no write any more.
    pub on_fatal: OnFatal,
    /// Called at every [`Point`] of every commit. For tests.
    pub hook: Option<Hook>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            connections: 8,
            on_fatal: Arc::new(|_| std::process::abort()),
            hook: None,
        }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("connections", &self.connections)
            .finish_non_exhaustive()
    }
}

impl Options {
    pub(crate) fn at(&self, point: Point) -> Option<Fault> {
        self.hook.as_ref().and_then(|hook| hook(point))
    }

    /// Reports what cannot be survived.
    pub(crate) fn fatal(&self, text: &str) {
        tracing::error!("{text}");
        (self.on_fatal)(text);
    }
}
