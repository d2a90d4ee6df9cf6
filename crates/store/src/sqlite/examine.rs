//! Looking for damage: the file's structure, its schema, and every row.

use std::path::Path;

use bowline_model::kind::Kind;
use rusqlite::{Connection, OpenFlags};

use super::open::{self, beside};
use super::{fail, transfer};
use crate::checksum;
use crate::error::{Cause, OpenError};
use crate::examine::{Examination, Examiner, Only};
use crate::migrate;
use crate::options::Opening;
use crate::sql;
use crate::table::Table;

/// Up to this size, in bytes, all of a file is looked at when it is opened: 256 MiB, about a second.
const WHOLE: u64 = 256 * 1024 * 1024;
/// Faults of the file's structure that are listed.
const LISTED: u32 = 100;

/// Examines a file without changing it, beside a running server as well.
pub(super) fn examine(path: &Path, only: Only) -> Result<Examination, OpenError> {
    let failed = |error| fail::opening(error, path);
    open::look(path, Opening::Existing)?;
    let look = Look::at(path)?;
    open::refuse_foreign(&look.conn, path)?;
    migrate::refuse_newer(open::newest_migration(&look.conn).map_err(failed)?)?;
    let mut examiner = Examiner::new(path.display().to_string());
    // One moment for everything.
    let transaction = look.conn.unchecked_transaction().map_err(failed)?;
    let part = (only == Only::Audit).then_some("audit");
    match structure(&look.conn, part) {
        Ok(problems) => {
            for problem in problems {
                examiner.find("file", problem);
            }
        }
        Err(error) => examiner.find("file", error.to_string()),
    }
    match schema_fault(&look.conn) {
        Ok(None) => {}
        Ok(Some(problem)) => examiner.find("file", problem),
        Err(error) => examiner.find("file", error.to_string()),
    }
    for table in only.tables() {
        if let Err(error) = read(&look.conn, table, &mut examiner) {
            examiner.broken_table(table.name, error.to_string());
        }
    }
    if only == Only::Everything
        && let Err(error) = moments(&look.conn, &mut examiner)
    {
        examiner.broken_table("moments", error.to_string());
    }
    drop(transaction);
    Ok(examiner.finish())
}

fn read(conn: &Connection, table: &Table, examiner: &mut Examiner) -> Result<(), rusqlite::Error> {
    let mut statement = conn.prepare(&table.select)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        match transfer::values(table, row) {
            Ok(row) => examiner.row(table, &row),
            Err(rusqlite::Error::FromSqlConversionFailure(_, _, cause)) => {
                examiner.broken_row(table.name, cause.to_string());
            }
            Err(error) => examiner.broken_row(table.name, error.to_string()),
        }
    }
    Ok(())
}

/// What no backup has.
fn moments(conn: &Connection, examiner: &mut Examiner) -> Result<(), rusqlite::Error> {
    let mut statement = conn.prepare(sql::MOMENTS)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let (name, at, sum): (String, i64, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
        let name_of = || format!("moment {name}");
        if let Err(mismatch) = checksum::check(sum, checksum::moment(&name, at), name_of) {
            examiner.broken_row("moments", mismatch.to_string());
        }
    }
    Ok(())
}

/// A connection that changes nothing.
pub(super) struct Look {
    pub(super) conn: Connection,
}

impl Look {
    pub(super) fn at(path: &Path) -> Result<Self, OpenError> {
        let failed = |error| fail::opening(error, path);
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let has_log = std::fs::metadata(beside(path, "-wal")).is_ok_and(|log| log.len() > 0);
        // Without a log nobody has it open: SQLite is told so, or it would leave a log and an index
        // behind, which another user's server could not write.
        let conn = if has_log {
            Connection::open_with_flags(path, flags)
        } else {
            let uri = format!("file:{}?immutable=1", encoded(path));
            Connection::open_with_flags(uri, flags | OpenFlags::SQLITE_OPEN_URI)
        }
        .map_err(failed)?;
        conn.busy_timeout(std::time::Duration::from_secs(5))
            .map_err(failed)?;
        Ok(Self { conn })
    }
}

/// A path as a part of a URI.
fn encoded(path: &Path) -> String {
    use std::fmt::Write as _;
    use std::os::unix::ffi::OsStrExt as _;
    let mut text = String::new();
    for byte in path.as_os_str().as_bytes() {
        if byte.is_ascii_alphanumeric() || b"/-_.~".contains(byte) {
            text.push(char::from(*byte));
        } else {
            let _ = write!(text, "%{byte:02X}");
        }
    }
    text
}

/// Refuses a file whose schema or structure cannot be trusted, indexes included. Above a size only
/// the tables that hold the state are looked at, so that the cost follows the state, which is going
/// to be loaded, and not the logs. Rows are compared with their checksums as they are read.
pub(super) fn refuse_damaged(conn: &Connection, path: &Path) -> Result<(), OpenError> {
    let failed = |error| fail::opening(error, path);
    let refused = |problem: String| OpenError::Unreadable {
        place: path.display().to_string(),
        cause: Cause::new(problem),
    };
    if let Some(problem) = schema_fault(conn).map_err(failed)? {
        return Err(refused(problem));
    }
    if std::fs::metadata(path).is_ok_and(|file| file.len() <= WHOLE) {
        return match structure(conn, None).map_err(failed)?.into_iter().next() {
            Some(problem) => Err(refused(problem)),
            None => Ok(()),
        };
    }
    let tables = Kind::all().map(Kind::table);
    for table in tables.chain(["heads", "jobs", "presence", "secrets", "moments"]) {
        if let Some(problem) = structure(conn, Some(table)).map_err(failed)?.first() {
            return Err(refused(format!("{table}: {problem}")));
        }
    }
    Ok(())
}

/// Faults in the structure of one table and its indexes, or of the whole file.
fn structure(conn: &Connection, table: Option<&str>) -> Result<Vec<String>, rusqlite::Error> {
    let text = match table {
        Some(table) => format!("PRAGMA integrity_check({table})"),
        None => format!("PRAGMA integrity_check({LISTED})"),
    };
    let mut statement = conn.prepare(&text)?;
    let lines = statement.query_map([], |row| row.get::<_, String>(0))?;
    let mut problems = lines.collect::<Result<Vec<_>, _>>()?;
    problems.retain(|line| line != "ok");
    problems.extend(broken_indexes(conn, table)?);
    Ok(problems)
}

/// Indexes that cannot be read. The check above passes over the index of an empty table whose page
/// is one of a table.
fn broken_indexes(conn: &Connection, table: Option<&str>) -> Result<Vec<String>, rusqlite::Error> {
    let text = "SELECT tbl_name, name FROM sqlite_master \
                WHERE type = 'index' AND tbl_name = coalesce($1, tbl_name)";
    let mut statement = conn.prepare(text)?;
    let indexes = statement.query_map([table], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let mut problems = Vec::new();
    for index in indexes {
        let (table, name): (String, String) = index?;
        let read = format!("SELECT count(*) FROM {table} INDEXED BY {name}");
        if let Err(error) = conn.query_row(&read, [], |_| Ok(())) {
            problems.push(format!("index {name}: {error}"));
        }
    }
    Ok(problems)
}

/// Refuses a file whose list of migrations is not a part of this program's: running the rest would
/// fail halfway, or a panic of the program that reads the list would be all that is said.
pub(super) fn refuse_wrong_history(conn: &Connection, path: &Path) -> Result<(), OpenError> {
    let failed = |error| fail::opening(error, path);
    let refused = |problem: String| OpenError::Unreadable {
        place: path.display().to_string(),
        cause: Cause::new(problem),
    };
    if let Some(problem) = structure(conn, Some("refinery_schema_history"))
        .map_err(failed)?
        .first()
    {
        return Err(refused(format!("refinery_schema_history: {problem}")));
    }
    let fresh = fresh().map_err(refused)?;
    let known = history(&fresh).map_err(failed)?;
    let found = history(conn).map_err(failed)?;
    if known.starts_with(&found) {
        Ok(())
    } else {
        Err(refused(HISTORY.to_owned()))
    }
}

const HISTORY: &str = "the list of migrations is not the one of this program";

/// An empty database with the present schema.
fn fresh() -> Result<Connection, String> {
    let mut fresh = Connection::open_in_memory().map_err(|error| error.to_string())?;
    migrate::runner(migrate::SQLITE)
        .map_err(|error| error.to_string())?
        .run(&mut fresh)
        .map_err(|error| error.to_string())?;
    Ok(fresh)
}

/// What in the schema is not what the migrations make.
fn schema_fault(conn: &Connection) -> Result<Option<String>, rusqlite::Error> {
    let fresh = match fresh() {
        Ok(fresh) => fresh,
        Err(problem) => return Ok(Some(format!("the schema cannot be compared: {problem}"))),
    };
    if history(&fresh)? != history(conn)? {
        return Ok(Some(HISTORY.to_owned()));
    }
    let (expected, found) = (schema(&fresh)?, schema(conn)?);
    if expected == found {
        return Ok(None);
    }
    let missing = expected.iter().find(|one| !found.contains(one));
    let extra = found.iter().find(|one| !expected.contains(one));
    let name = missing.or(extra).map_or("", |one| one.1.as_str());
    Ok(Some(format!(
        "the schema is not the one that this program made: {name:?} differs"
    )))
}

/// The migrations that were run: number, name, checksum, and whether the time can be read.
fn history(conn: &Connection) -> Result<Vec<(i64, String, String, bool)>, rusqlite::Error> {
    let text = "SELECT version, name, checksum, applied_on FROM refinery_schema_history \
                ORDER BY version";
    let mut statement = conn.prepare(text)?;
    let rows = statement.query_map([], |row| {
        let applied: String = row.get(3)?;
        let is_time = applied.parse::<jiff::Timestamp>().is_ok();
        Ok((row.get(0)?, row.get(1)?, row.get(2)?, is_time))
    })?;
    rows.collect()
}

type Object = (String, String, String);

fn schema(conn: &Connection) -> Result<Vec<Object>, rusqlite::Error> {
    // Statistics and SQLite's own tables may come and go.
    let text = "SELECT type, name, coalesce(sql, '') FROM sqlite_master \
                WHERE name NOT LIKE 'sqlite_stat%' ORDER BY type, name";
    let mut statement = conn.prepare(text)?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    rows.collect()
}
