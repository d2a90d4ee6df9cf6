//! What is done when the files of an open database were removed or replaced.
//!
//! Removed: everything is still in the open files, so it is written out anew. A missing log is
//! copied into the database; a missing database is made again. Only where nothing else has the
//! name. Replaced: somebody put another file there, perhaps a backup, and it is not for this process
//! to overwrite it; what this process has goes into a file beside it, and no change is taken until
//! the server is started again.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rusqlite::Connection;

use super::files::{Files, Found};
use super::open::{self, beside};
use super::read::Readers;
use crate::error::{Condition, Trouble};

/// How long reads under way may hold up the opening of files anew.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between two tries of writing everything out anew.
const RETRY: Duration = Duration::from_secs(2);

/// Keeps the files of an open database.
#[derive(Debug)]
pub(super) struct Keeper {
    path: PathBuf,
    files: Files,
    readers: Arc<Readers>,
    /// What is wrong, for readiness.
    trouble: Arc<Mutex<Option<Trouble>>>,
    tried: Option<Instant>,
    /// What this process has was put beside the file that replaced it.
    is_rescued: bool,
    /// A new database file is written, and has no name yet.
    has_fresh: bool,
    /// The old files are closed, and the new ones not open.
    is_closed: bool,
    opened_anew: bool,
}

/// Why everything could not be written out anew.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
    #[error(transparent)]
    Io(#[from] std::io::Error),
    #[error("reads were still under way")]
    Busy,
}

impl Keeper {
    pub(super) fn new(
        path: PathBuf,
        readers: Arc<Readers>,
        trouble: Arc<Mutex<Option<Trouble>>>,
    ) -> Self {
        Self {
            files: Files::of(&path),
            path,
            readers,
            trouble,
            tried: None,
            is_rescued: false,
            has_fresh: false,
            is_closed: false,
            opened_anew: false,
        }
    }

    /// Looks at the files, and writes them out anew where they were removed. Why no change can be
    /// taken.
    pub(super) fn keep(&mut self, conn: &mut Connection) -> Option<Trouble> {
        if self.is_closed {
            return self.attempt(conn, Self::reopen);
        }
        match self.files.look() {
            Found::Same => {
                self.end();
                None
            }
            Found::Removed(file) => {
                self.begin(&format!("{} was removed", file.display()));
                self.attempt(conn, Self::write_anew)
            }
            Found::Replaced(file) => {
                let rescue = beside(&self.path, ".rescued");
                self.begin(&format!(
                    "{} was replaced; stop the server, decide which file is right, {} or {}, which \
                     has everything that was acknowledged, and start it again",
                    file.display(),
                    self.path.display(),
                    rescue.display()
                ));
                if !self.is_rescued && self.tried.is_none_or(|at| at.elapsed() >= RETRY) {
                    self.tried = Some(Instant::now());
                    match copy(conn, &rescue) {
                        Ok(()) => self.is_rescued = true,
                        Err(error) => {
                            tracing::debug!(%error, "the state could not be put aside yet");
                        }
                    }
                }
                self.current()
            }
        }
    }

    /// Tries again to be whole, now and then. Why it is not.
    fn attempt(
        &mut self,
        conn: &mut Connection,
        attempt: fn(&mut Self, &mut Connection) -> Result<(), Failed>,
    ) -> Option<Trouble> {
        if self.tried.is_some_and(|at| at.elapsed() < RETRY) {
            return self.current();
        }
        self.tried = Some(Instant::now());
        match attempt(self, conn) {
            Ok(()) => {
                self.tried = None;
                self.end();
                None
            }
            Err(error) => {
                tracing::debug!(%error, "the database could not be written out anew yet");
                self.current()
            }
        }
    }

    /// Whether the connections were opened anew since this was asked.
    pub(super) fn opened_anew(&mut self) -> bool {
        std::mem::take(&mut self.opened_anew)
    }

    fn current(&self) -> Option<Trouble> {
        self.trouble
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// One line when it begins.
    fn begin(&self, what: &str) {
        let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        if trouble.is_none() {
            let new = Trouble::of(Condition::Replaced).at(what);
            tracing::error!(
                condition = new.condition.name(),
                "{new}; no change is taken until the database is written out anew"
            );
            *trouble = Some(new);
        }
    }

    /// And one when it ends.
    fn end(&self) {
        let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        if trouble.take().is_some() {
            tracing::warn!(
                database = %self.path.display(),
                "the database's files are whole again, and changes are taken"
            );
        }
    }

    /// Puts everything that the open files have under their names again, and opens those. All
    /// connections are closed for a moment: SQLite shares the index of one file among them.
    fn write_anew(&mut self, conn: &mut Connection) -> Result<(), Failed> {
        open::set_durable(conn, true)?;
        if self.files.has_database() {
            let busy: i32 =
                conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))?;
            if busy != 0 {
                return Err(Failed::Busy);
            }
        } else {
            let fresh = self.fresh();
            let _ = fs::remove_file(&fresh); // of a try before
            copy(conn, &fresh)?;
            self.has_fresh = true;
        }
        if !self.readers.take_all(PATIENCE) {
            return Err(Failed::Busy);
        }
        // Closes the last of the old files, which removes their log and index.
        drop(std::mem::replace(conn, Connection::open_in_memory()?));
        self.is_closed = true;
        self.reopen(conn)
    }

    /// Opens the files under their names, after everything is in them.
    fn reopen(&mut self, conn: &mut Connection) -> Result<(), Failed> {
        if self.has_fresh {
            let fresh = self.fresh();
            // Refuses where something has the name by now.
            fs::hard_link(&fresh, &self.path)?;
            self.has_fresh = false;
            fs::remove_file(&fresh)?;
            File::open(open::parent(&self.path))?.sync_all()?;
        }
        *conn = open::writer(&self.path)?;
        self.readers
            .give(open::readers(&self.path, self.readers.count())?);
        self.files = Files::of(&self.path);
        self.opened_anew = true;
        self.is_closed = false;
        Ok(())
    }

    fn fresh(&self) -> PathBuf {
        beside(&self.path, ".new")
    }
}

/// Writes the whole state of an open database into a new file, durably.
fn copy(conn: &Connection, to: &Path) -> Result<(), Failed> {
    let name = to.to_string_lossy();
    conn.execute("VACUUM INTO ?1", [&*name])?;
    let file = File::open(to)?;
    file.set_permissions(fs::Permissions::from_mode(0o600))?;
    file.sync_all()?;
    Ok(())
}
