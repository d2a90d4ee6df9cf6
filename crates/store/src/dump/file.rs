//! Reading a backup: all of it is verified before any of it is used.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::Arc;

use aws_lc_rs::digest::{Context, SHA256};
use serde::Deserialize;
use tokio::sync::mpsc;

use super::{
    FORMAT, Header, Progress, Record, Section, Summary, TOGETHER, TOGETHER_BYTES, end, weight,
};
use crate::error::TransferError;
use crate::migrate;
use crate::owner::Owner;
use crate::table::{self, Table, Value};
use crate::url::StoreUrl;
use crate::{postgres, sqlite};

/// How a zstd frame begins.
const ZSTD: [u8; 4] = 0xfd2f_b528_u32.to_le_bytes();
/// The longest line, in bytes. Bodies have a few megabytes at most.
const LINE: u64 = 256 * 1024 * 1024;
/// The most memory that a frame may ask for, as a power of two: 128 MiB.
const WINDOW: u32 = 27;

/// A backup that was read to its end and found whole.
#[derive(Debug)]
pub struct Backup {
    file: File,
    header: Header,
    summary: Summary,
    secrets: Vec<SealedSecret>,
}

/// A secret in a database or a backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedSecret {
    /// Whose it is.
    pub owner: Owner,
    /// Its name.
    pub name: String,
    /// What the sealing key opens.
    pub sealed: Vec<u8>,
}

impl SealedSecret {
    fn of(table: &Table, row: &[Value]) -> Self {
        let value = |column| table.value(row, column);
        let owner = value("tailnet").map_or(0, Value::integer).cast_unsigned();
        Self {
            owner: Owner::try_from(owner).unwrap_or(Owner::Server),
            name: value("name").map_or("", Value::text).to_owned(),
            sealed: value("sealed").map_or(&[][..], Value::bytes).to_vec(),
        }
    }
}

/// The sealed secrets of a database, read beside whoever uses it.
///
/// # Errors
/// Those of a backup.
pub async fn secrets(url: &StoreUrl) -> Result<Vec<SealedSecret>, TransferError> {
    let Some(table) = table::find("secrets") else {
        return Ok(Vec::new());
    };
    let rows = match url {
        StoreUrl::Sqlite(path) => sqlite::rows(path, table).await?,
        StoreUrl::Postgres(url) => postgres::rows(url, table).await?,
    };
    Ok(rows
        .iter()
        .map(|row| SealedSecret::of(table, row))
        .collect())
}

/// What reading a line at a time comes upon.
enum Stop {
    Failed(TransferError),
    /// Whoever takes the rows takes no more.
    Taken,
}

impl<E: Into<TransferError>> From<E> for Stop {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

impl Backup {
    /// Reads a file from its beginning to its end, and refuses it unless it is a whole backup that
    /// this program can restore.
    ///
    /// # Errors
    /// Each says what is wrong with the file, and what to do.
    pub async fn open(path: &Path, progress: Arc<Progress>) -> Result<Self, TransferError> {
        let path = path.to_owned();
        let task = tokio::task::spawn_blocking(move || Self::verify(&path, &progress));
        task.await.map_err(io::Error::other)?
    }

    fn verify(path: &Path, progress: &Progress) -> Result<Self, TransferError> {
        let file = File::open(path)?;
        if !file.metadata()?.is_file() {
            return Err(TransferError::NotAFile);
        }
        compare_checksum(&file)?;
        let mut secrets = Vec::new();
        let read = read(&file, progress, |table, row| {
            if table.name == "secrets" {
                secrets.push(SealedSecret::of(table, &row));
            }
            Ok(())
        });
        match read {
            Ok((header, summary)) => Ok(Self {
                file,
                header,
                summary,
                secrets,
            }),
            Err(Stop::Failed(error)) => Err(error),
            Err(Stop::Taken) => Err(TransferError::Stopped),
        }
    }

    /// Its first line.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// What is in it.
    pub fn summary(&self) -> &Summary {
        &self.summary
    }

    /// The sealed secrets in it.
    pub fn secrets(&self) -> &[SealedSecret] {
        &self.secrets
    }

    /// Reads the file again and hands its rows on: `Some` with a few at a time, then `None` when all
    /// have come and the file was still whole. When the channel closes without `None`, nothing may
    /// be kept.
    pub(crate) async fn send(
        &self,
        with_secrets: bool,
        progress: Arc<Progress>,
        records: mpsc::Sender<Option<Vec<Record>>>,
    ) -> Result<(), TransferError> {
        let file = self.file.try_clone()?;
        let task = tokio::task::spawn_blocking(move || {
            let mut together = Vec::new();
            let mut bytes = 0;
            let sent = read(&file, &progress, |table, row| {
                if table.name == "secrets" && !with_secrets {
                    return Ok(());
                }
                bytes += weight(&row);
                together.push((table, row));
                if together.len() < TOGETHER && bytes < TOGETHER_BYTES {
                    return Ok(());
                }
                bytes = 0;
                let sent = records.blocking_send(Some(std::mem::take(&mut together)));
                sent.map_err(|_| Stop::Taken)
            });
            match sent {
                Ok(_) => {
                    for last in [Some(together), None] {
                        let _ = records.blocking_send(last);
                    }
                    Ok(())
                }
                // The database has its own error.
                Err(Stop::Taken) => Ok(()),
                Err(Stop::Failed(error)) => Err(error),
            }
        });
        task.await.map_err(io::Error::other)?
    }
}

/// The beginning of the first line of every format.
#[derive(Deserialize)]
struct AnyHeader {
    bowline_backup: u32,
    #[serde(default)]
    release: String,
}

type Decoder<'f> = zstd::Decoder<'static, BufReader<Hashing<io::Take<&'f File>>>>;

/// A file that is being read from its beginning to its end.
struct Reading<'f> {
    lines: Lines<Decoder<'f>>,
    length: u64,
    /// The last bytes of the file: the frame at the end, unless the file was cut off.
    last: Vec<u8>,
}

impl<'f> Reading<'f> {
    fn begin(mut file: &'f File) -> Result<Self, TransferError> {
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(0))?;
        let mut magic = Vec::new();
        file.take(4).read_to_end(&mut magic)?;
        if !ZSTD.starts_with(&magic) {
            return Err(TransferError::NotABackup);
        }
        let before_last = length.saturating_sub(end::LENGTH as u64);
        let mut last = Vec::new();
        file.seek(SeekFrom::Start(before_last))?;
        file.take(end::LENGTH as u64).read_to_end(&mut last)?;
        let is_whole = end::is_frame(&last);
        file.seek(SeekFrom::Start(0))?;
        let hashing = Hashing {
            inner: file.take(if is_whole { before_last } else { length }),
            sum: Context::new(&SHA256),
            bytes: 0,
        };
        let mut decoder = zstd::Decoder::with_buffer(BufReader::new(hashing))?.single_frame();
        decoder.window_log_max(WINDOW)?;
        Ok(Self {
            lines: Lines {
                text: BufReader::with_capacity(64 * 1024, decoder),
                number: 0,
            },
            length,
            last,
        })
    }

    /// The first line. It is looked for in a file that was cut off too, so that another program's
    /// file is not called a backup.
    fn header(&mut self) -> Result<Header, TransferError> {
        let is_whole = end::is_frame(&self.last);
        let header = header(&mut self.lines, is_whole)?;
        if is_whole {
            Ok(header)
        } else {
            Err(TransferError::CutOff)
        }
    }

    /// Bytes of the file that were read so far.
    fn bytes(&self) -> u64 {
        self.lines.text.get_ref().get_ref().get_ref().bytes
    }

    /// Compares what was read with what the end says.
    fn finish(self, rows: u64) -> Result<u64, TransferError> {
        let mut rest = self.lines.text.into_inner().finish();
        if io::copy(&mut rest, &mut io::sink())? > 0 {
            let problem = "there is something behind its last line";
            return Err(TransferError::damaged(problem));
        }
        let sum = rest.into_inner().sum.finish();
        if self.last == end::frame(rows, sum.as_ref()) {
            Ok(self.length)
        } else {
            Err(TransferError::damaged("its checksum is wrong"))
        }
    }
}

/// Refuses a whole file that is not what was written, before it is believed what its lines say: a
/// changed bit may look like another release's file.
fn compare_checksum(file: &File) -> Result<(), TransferError> {
    let Reading {
        mut lines, last, ..
    } = Reading::begin(file)?;
    if !end::is_frame(&last) {
        return Ok(()); // its first line says whether it is of another format, or cut off
    }
    let raw = lines.text.get_mut().get_mut();
    io::copy(raw, &mut io::sink())?;
    let sum = raw.get_ref().sum.clone().finish();
    if end::has_sum(&last, sum.as_ref()) {
        Ok(())
    } else {
        Err(TransferError::damaged("its checksum is wrong"))
    }
}

/// Reads a whole file and hands each row on, after comparing it with its checksum.
fn read(
    file: &File,
    progress: &Progress,
    mut each: impl FnMut(&'static Table, Vec<Value>) -> Result<(), Stop>,
) -> Result<(Header, Summary), Stop> {
    let mut reading = Reading::begin(file)?;
    let header = reading.header()?;
    let mut rows = 0;
    let mut tables = BTreeMap::new();
    let mut current: Option<&'static Table> = None;
    while let Some(line) = reading.lines.next().map_err(|error| damaged(&error))? {
        let lines = &reading.lines;
        if !line.starts_with('[') {
            let table = section(&line, lines, &header)?;
            if tables.insert(table.name.to_owned(), 0).is_some() {
                return Err(lines.wrong("a table for the second time").into());
            }
            current = Some(table);
            continue;
        }
        let table = current.ok_or_else(|| lines.wrong("a row of no table"))?;
        let row = table
            .row(&line)
            .ok_or_else(|| lines.wrong(&format!("not a row of {}", table.name)))?;
        table
            .verify(&row)
            .map_err(|mismatch| lines.wrong(&mismatch.to_string()))?;
        each(table, row)?;
        rows += 1;
        *tables.entry(table.name.to_owned()).or_default() += 1;
        if rows % 256 == 0 {
            progress.set(rows, reading.bytes());
        }
    }
    let bytes = reading.finish(rows)?;
    if let Some(table) = table::tables()
        .iter()
        .find(|table| !tables.contains_key(table.name))
    {
        let problem = format!("it has no table {}", table.name);
        return Err(TransferError::damaged(&problem).into());
    }
    progress.set(rows, bytes);
    let summary = Summary {
        rows,
        tables,
        bytes,
    };
    Ok((header, summary))
}

fn damaged(error: &io::Error) -> TransferError {
    TransferError::damaged(&error.to_string())
}

/// Reads the first line, of any format that ever was or will be.
fn header<R: Read>(lines: &mut Lines<R>, is_whole: bool) -> Result<Header, TransferError> {
    let line = match lines.next() {
        Ok(Some(line)) => line,
        // Cut off before anything of it could be read.
        Err(_) | Ok(None) if !is_whole => return Err(TransferError::CutOff),
        Ok(None) => return Err(TransferError::NotABackup),
        Err(error) => return Err(damaged(&error)),
    };
    let Ok(any) = serde_json::from_str::<AnyHeader>(&line) else {
        return Err(TransferError::NotABackup);
    };
    if any.bowline_backup > FORMAT {
        return Err(TransferError::NewerFormat {
            format: any.bowline_backup,
            release: any.release,
        });
    }
    let header: Header =
        serde_json::from_str(&line).map_err(|error| TransferError::damaged(&error.to_string()))?;
    if header.schema == migrate::KNOWN {
        return Ok(header);
    }
    Err(TransferError::OtherSchema {
        found: header.schema,
        known: migrate::KNOWN,
        release: header.release,
    })
}

/// The table that a line begins.
fn section<R: Read>(
    line: &str,
    lines: &Lines<R>,
    header: &Header,
) -> Result<&'static Table, TransferError> {
    let section: Section =
        serde_json::from_str(line).map_err(|error| lines.wrong(&error.to_string()))?;
    let table = table::find(&section.table);
    let table = table.filter(|table| table.names().eq(section.columns.iter().map(String::as_str)));
    table.ok_or_else(|| TransferError::OtherSchema {
        found: header.schema,
        known: migrate::KNOWN,
        release: header.release.clone(),
    })
}

/// Lines of a text, none longer than [`LINE`].
struct Lines<R> {
    text: BufReader<R>,
    number: u64,
}

impl<R: Read> Lines<R> {
    /// The next line without its end. `None`: there is none.
    fn next(&mut self) -> io::Result<Option<String>> {
        self.number += 1;
        let mut line = String::new();
        if self.text.by_ref().take(LINE).read_line(&mut line)? == 0 {
            return Ok(None);
        }
        if line.pop() != Some('\n') {
            return Err(io::Error::other(format!("line {} has no end", self.number)));
        }
        Ok(Some(line))
    }

    fn wrong(&self, problem: &str) -> TransferError {
        TransferError::damaged(&format!("line {}: {problem}", self.number))
    }
}

/// Counts and sums what is read.
struct Hashing<R> {
    inner: R,
    sum: Context,
    bytes: u64,
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(bytes)?;
        self.sum.update(&bytes[..read]);
        self.bytes += read as u64;
        Ok(read)
    }
}
