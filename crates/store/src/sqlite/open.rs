//! Opening the file: alone, private, and with the schema that this program knows.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, OptionalExtension};

use super::examine::{refuse_damaged, refuse_wrong_history};
use super::fail;
use crate::error::OpenError;
use crate::migrate;
use crate::options::{Opening, Options};

/// `Bowl`, as the first migration writes it.
const APPLICATION_ID: i64 = 1_114_601_324;

/// The connections of an opened file.
pub(super) struct Opened {
    pub(super) writer: Connection,
    pub(super) readers: Vec<Connection>,
    /// Held as long as the writer lives: the proof that nobody else has the database.
    pub(super) lock: File,
    /// Whether it was made now.
    pub(super) is_new: bool,
}

pub(super) fn open(path: &Path, options: &Options) -> Result<Opened, OpenError> {
    let not_writable = |source| OpenError::NotWritable {
        path: path.to_owned(),
        source,
    };
    // Before anything is made, the lock file included.
    look(path, options.opening)?;
    let lock = lock(path)?;
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(not_writable)?;
    let metadata = file.metadata().map_err(not_writable)?;
    if metadata.permissions().mode() & 0o777 != 0o600 {
        // SQLite gives the -wal and -shm files the mode of the database.
        file.set_permissions(std::fs::Permissions::from_mode(0o600))
            .map_err(not_writable)?;
    }
    drop(file);

    let connected = match connections(path, options, metadata.len(), &Index::File) {
        // The index of the log is a file that needs room, and nothing else here does: it can be in
        // memory, and then what is stored can be read and served.
        Err(OpenError::Full) if metadata.len() > 0 => {
            tracing::warn!(
                "no space is left beside the database: it is opened for this process alone, and other programs cannot read it until the next start"
            );
            connections(path, options, metadata.len(), &Index::Memory)
        }
        connected => connected,
    };
    let (writer, readers, is_new) = connected?;
    Ok(Opened {
        writer,
        readers,
        lock,
        is_new,
    })
}

/// Where the index of the write-ahead log is.
enum Index {
    /// In a file, which other programs share.
    File,
    /// In this process's memory.
    Memory,
}

/// The writer's connection, those for reading, and whether the database was made now.
fn connections(
    path: &Path,
    options: &Options,
    length: u64,
    index: &Index,
) -> Result<(Connection, Vec<Connection>, bool), OpenError> {
    let failed = |error| fail::opening(error, path);
    let mut writer = connect(path, index).map_err(failed)?;
    let is_new = refuse_foreign(&writer, path)?;
    match options.opening {
        Opening::Existing if is_new => return Err(OpenError::Empty { place: place(path) }),
        Opening::New if !is_new => return Err(OpenError::Exists { place: place(path) }),
        _ => {}
    }
    migrate::refuse_newer(newest_migration(&writer).map_err(failed)?)?;
    prepare(&writer).map_err(failed)?;
    if !is_new {
        refuse_wrong_history(&writer, path)?;
    }
    migrate::runner(migrate::SQLITE)?
        .run(&mut writer)
        .map_err(migrate::failed)?;
    if !is_new {
        refuse_damaged(&writer, path)?;
    }
    if length == 0 {
        // The file's own entry in its directory must be durable too.
        File::open(parent(path))
            .and_then(|parent| parent.sync_all())
            .map_err(|source| OpenError::NotWritable {
                path: path.to_owned(),
                source,
            })?;
    }

    let readers = readers_with(path, options.connections.max(1), index).map_err(failed)?;
    Ok((writer, readers, is_new))
}

fn place(path: &Path) -> String {
    path.display().to_string()
}

/// Refuses what can be told from the outside to be the wrong thing to open or to make.
pub(super) fn look(path: &Path, opening: Opening) -> Result<(), OpenError> {
    let place = place(path);
    let length = match std::fs::metadata(path) {
        Ok(metadata) => Some(metadata.len()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(source) => {
            return Err(OpenError::NotWritable {
                path: path.to_owned(),
                source,
            });
        }
    };
    match (opening, length) {
        (Opening::Existing, None) => return Err(OpenError::Missing { place }),
        (Opening::Existing, Some(0)) => return Err(OpenError::Empty { place }),
        (Opening::New, Some(1..)) => return Err(OpenError::Exists { place }),
        _ => {}
    }
    // The log of a database that is gone: making a new one would throw away what is in it.
    let log = beside(path, "-wal");
    let has_log = std::fs::metadata(&log).is_ok_and(|metadata| metadata.len() > 0);
    if length.unwrap_or(0) == 0 && has_log {
        return Err(OpenError::Missing {
            place: format!("{place} (its log {} is there)", log.display()),
        });
    }
    Ok(())
}

/// The file beside a database that has its name and this ending.
pub(super) fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    PathBuf::from(name)
}

/// Opens the writer's connection to a database that is as this program left it.
pub(super) fn writer(path: &Path) -> Result<Connection, rusqlite::Error> {
    let writer = connect(path, &Index::File)?;
    prepare(&writer)?;
    // The log and its index come with the first read.
    writer.query_row("SELECT count(*) FROM heads", [], |_| Ok(()))?;
    Ok(writer)
}

fn prepare(writer: &Connection) -> Result<(), rusqlite::Error> {
    let pages: i64 = writer.pragma_query_value(None, "page_count", |row| row.get(0))?;
    if pages == 0 {
        // Only before anything is in the file: the room of removed rows can be given back.
        writer.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
    }
    writer.pragma_update(None, "journal_mode", "WAL")?;
    set_durable(writer, true)?;
    // macOS: a plain fsync there does not reach the platter.
    writer.pragma_update(None, "fullfsync", true)?;
    // A log that grew in a storm is cut to this once all of it is in the database.
    writer.pragma_update(None, "journal_size_limit", 8 * 1024 * 1024)?;
    writer.pragma_update(None, "cache_size", -16 * 1024)
}

/// Opens connections for reading.
pub(super) fn readers(path: &Path, count: usize) -> Result<Vec<Connection>, rusqlite::Error> {
    readers_with(path, count, &Index::File)
}

fn readers_with(
    path: &Path,
    count: usize,
    index: &Index,
) -> Result<Vec<Connection>, rusqlite::Error> {
    let open = |_| {
        let reader = connect(path, index)?;
        reader.pragma_update(None, "query_only", true)?;
        Ok(reader)
    };
    (0..count).map(open).collect()
}

fn connect(path: &Path, index: &Index) -> Result<Connection, rusqlite::Error> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = match index {
        Index::File => Connection::open_with_flags(path, flags)?,
        Index::Memory => Connection::open_with_flags_and_vfs(path, flags, "unix-excl")?,
    };
    connection.busy_timeout(Duration::from_secs(5))?;
    connection.set_prepared_statement_cache_capacity(128);
    Ok(connection)
}

/// Whether commits wait for the disk.
pub(super) fn set_durable(conn: &Connection, durable: bool) -> Result<(), rusqlite::Error> {
    conn.pragma_update(None, "synchronous", if durable { "FULL" } else { "NORMAL" })
}

/// Takes the lock file beside the database. The system releases it when the process ends, however
/// it ends; the file itself stays, because removing it would race with the next process.
fn lock(path: &Path) -> Result<File, OpenError> {
    let lock_path = beside(path, ".lock");
    let not_writable = |source| OpenError::NotWritable {
        path: path.to_owned(),
        source,
    };
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(lock_path)
        .map_err(not_writable)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut text = String::new();
            let known = file.read_to_string(&mut text).is_ok();
            let holder = match text.trim().parse::<u32>() {
                Ok(process) if known => format!("process {process}"),
                _ => "another process".to_owned(),
            };
            return Err(OpenError::InUse { holder });
        }
        Err(TryLockError::Error(source)) => return Err(not_writable(source)),
    }
    let written = file
        .set_len(0)
        .and_then(|()| file.rewind())
        .and_then(|()| writeln!(file, "{}", std::process::id()));
    // The number only helps a person; a full disk must not keep the store closed.
    if let Err(error) = written {
        tracing::warn!(%error, "could not write the process id into the lock file");
    }
    Ok(file)
}

pub(super) fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Whether there is nothing of ours in it yet.
pub(super) fn refuse_foreign(conn: &Connection, path: &Path) -> Result<bool, OpenError> {
    let failed = |error| fail::opening(error, path);
    let id: i64 = conn
        .pragma_query_value(None, "application_id", |row| row.get(0))
        .map_err(failed)?;
    // A crash may have come between the making of the file and the first migration: then there is
    // at most the table in which migrations are counted.
    let others: i64 = conn
        .query_row(
            "SELECT count(*) FROM sqlite_master \
             WHERE type = 'table' AND name NOT IN ('refinery_schema_history')",
            [],
            |row| row.get(0),
        )
        .map_err(failed)?;
    match (id, others) {
        (APPLICATION_ID, _) => Ok(false),
        (0, 0) => Ok(true),
        _ => Err(OpenError::Foreign { place: place(path) }),
    }
}

pub(super) fn newest_migration(conn: &Connection) -> Result<Option<i64>, rusqlite::Error> {
    let exists = conn
        .query_row(
            "SELECT 1 FROM sqlite_master WHERE name = 'refinery_schema_history'",
            [],
            |row| row.get::<_, i64>(0),
        )
        .optional()?;
    if exists.is_none() {
        return Ok(None);
    }
    conn.query_row(
        "SELECT max(version) FROM refinery_schema_history",
        [],
        |row| row.get(0),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_writer_waits_for_the_disk_and_logs_ahead() {
        let directory = tempfile::tempdir().unwrap();
        let opened = open(&directory.path().join("bowline.db"), &Options::default()).unwrap();
        let setting = |name| {
            let read = |row: &rusqlite::Row<'_>| row.get::<_, rusqlite::types::Value>(0);
            opened.writer.pragma_query_value(None, name, read).unwrap()
        };
        assert_eq!(setting("journal_mode"), "wal".to_owned().into());
        assert_eq!(setting("auto_vacuum"), 2.into()); // INCREMENTAL
        assert_eq!(setting("synchronous"), 2.into()); // FULL
        set_durable(&opened.writer, false).unwrap();
        assert_eq!(setting("synchronous"), 1.into());
        set_durable(&opened.writer, true).unwrap();
        assert_eq!(setting("synchronous"), 2.into());
    }
}
