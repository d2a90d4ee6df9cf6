//! How a store is opened, and where tests take hold of it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

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

/// What opening may make.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Opening {
    /// Open what is there, or make a new database where there is nothing, or an empty one.
    #[default]
    ExistingOrNew,
    /// Open what is there. Missing and empty are errors, and nothing is made.
    Existing,
    /// Make a new database. One that is there and not empty is an error, and nothing is touched.
    New,
}

type Hook = Arc<dyn Fn(Point) -> Option<Fault> + Send + Sync>;
type OnFatal = Arc<dyn Fn(&str) + Send + Sync>;

/// How a store is opened.
#[derive(Clone)]
pub struct Options {
    /// Whether a database may be made, or must be there.
    pub opening: Opening,
    /// Connections for reading (SQLite), or for everything (PostgreSQL). At least 1.
    pub connections: usize,
    /// How long this process may take to renew its hold on a PostgreSQL database before another
    /// takes it over: the fail-over time. At least a second.
    pub lease: Duration,
    /// Names a directory that this process has for itself, different on every machine and at every
    /// start of it. A process that finds its own place in the lease need not wait: the former
    /// process of that directory has ended. PostgreSQL only.
    pub place: Option<String>,
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
            opening: Opening::default(),
            connections: 8,
            lease: Duration::from_secs(15),
            place: None,
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
