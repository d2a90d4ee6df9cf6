//! Whether the files of an open database are still where they were opened.
//!
//! A file that was removed or replaced under a running process goes on for it: it writes to what
//! nobody will find again. So the names are compared with what was opened, before and after each
//! commit and every few seconds.

use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::open::beside;

/// Device and inode.
type Identity = (u64, u64);

/// The files of an open database.
#[derive(Debug)]
pub(super) struct Files {
    /// The database, its log and its index.
    files: [(PathBuf, Option<Identity>); 3],
}

/// What became of them.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    Same,
    /// A name is gone; nothing else is in its place.
    Removed(PathBuf),
    /// Something else has a name.
    Replaced(PathBuf),
}

impl Files {
    /// The files that a connection has just opened.
    pub(super) fn of(path: &Path) -> Self {
        let files = [path.to_owned(), beside(path, "-wal"), beside(path, "-shm")];
        Self {
            files: files.map(|file| {
                let identity = identity(&file).ok().flatten();
                (file, identity)
            }),
        }
    }

    /// Whether the database itself, and not only its log or index, is where it was.
    pub(super) fn has_database(&self) -> bool {
        let (file, opened) = &self.files[0];
        identity(file).is_ok_and(|found| found == *opened)
    }

    pub(super) fn look(&self) -> Found {
        let mut removed = None;
        for (file, opened) in &self.files {
            match identity(file) {
                Ok(found) if found == *opened => {}
                Ok(None) => {
                    removed.get_or_insert(file);
                }
                Ok(Some(_)) => return Found::Replaced(file.clone()),
                // A directory that cannot be looked into says nothing.
                Err(_) => {}
            }
        }
        removed.map_or(Found::Same, |file| Found::Removed(file.clone()))
    }
}

fn identity(file: &Path) -> std::io::Result<Option<Identity>> {
    match std::fs::metadata(file) {
        Ok(metadata) => Ok(Some((metadata.dev(), metadata.ino()))),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}
