//! Writing a backup: an engine makes lines, a thread of its own compresses and writes them.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::Arc;

use aws_lc_rs::digest::{Context, SHA256};
use tokio::sync::mpsc;

use super::{About, FORMAT, Header, Progress, Section, Summary, end};
use crate::error::TransferError;
use crate::migrate;
use crate::table::{Table, Value};
use crate::url::StoreUrl;
use crate::{postgres, sqlite};

/// Bytes that are gathered before they are handed on.
const CHUNK: usize = 64 * 1024;
/// How hard zstd tries: its default, some 5 times smaller at the speed of a disk.
const LEVEL: i32 = 3;

/// What an engine hands on.
enum Part {
    /// Whole lines, and the rows of the table that they belong to.
    Lines {
        text: Vec<u8>,
        rows: u64,
        table: &'static str,
    },
    /// All rows have come.
    End,
}

/// Where an engine puts the rows of a backup.
pub(crate) struct Lines {
    parts: mpsc::Sender<Part>,
    text: Vec<u8>,
    rows: u64,
    table: &'static str,
}

/// The receiver went away: its writer failed, and says why itself.
pub(crate) struct Stopped;

impl Lines {
    fn add(&mut self, line: &impl serde::Serialize) -> Result<(), Stopped> {
        serde_json::to_writer(&mut self.text, line).map_err(|_| Stopped)?;
        self.text.push(b'\n');
        Ok(())
    }

    fn section(&mut self, table: &Table) -> Result<(), Stopped> {
        self.table = table.name;
        self.add(&Section {
            table: table.name.to_owned(),
            columns: table.names().map(str::to_owned).collect(),
        })
    }

    fn row(&mut self, row: &[Value]) -> Result<bool, Stopped> {
        self.add(&row)?;
        self.rows += 1;
        Ok(self.text.len() >= CHUNK)
    }

    fn take(&mut self) -> Part {
        Part::Lines {
            text: std::mem::take(&mut self.text),
            rows: std::mem::take(&mut self.rows),
            table: self.table,
        }
    }

    /// Begins a table, from a thread that may block.
    pub(crate) fn blocking_begin(&mut self, table: &Table) -> Result<(), Stopped> {
        let part = self.take();
        self.parts.blocking_send(part).map_err(|_| Stopped)?;
        self.section(table)
    }

    /// Begins a table.
    pub(crate) async fn begin(&mut self, table: &Table) -> Result<(), Stopped> {
        let part = self.take();
        self.parts.send(part).await.map_err(|_| Stopped)?;
        self.section(table)
    }

    /// Hands a row on, from a thread that may block.
    pub(crate) fn blocking_put(&mut self, row: &[Value]) -> Result<(), Stopped> {
        if self.row(row)? {
            let part = self.take();
            self.parts.blocking_send(part).map_err(|_| Stopped)?;
        }
        Ok(())
    }

    /// Hands a row on.
    pub(crate) async fn put(&mut self, row: &[Value]) -> Result<(), Stopped> {
        if self.row(row)? {
            let part = self.take();
            self.parts.send(part).await.map_err(|_| Stopped)?;
        }
        Ok(())
    }

    /// Says that all rows have come, from a thread that may block.
    pub(crate) fn blocking_finish(mut self) {
        for part in [self.take(), Part::End] {
            let _ = self.parts.blocking_send(part);
        }
    }

    /// Says that all rows have come.
    pub(crate) async fn finish(mut self) {
        for part in [self.take(), Part::End] {
            let _ = self.parts.send(part).await;
        }
    }
}

/// Writes a backup of a database, all of one moment, while a server goes on writing to it, and
/// returns what it was written to, and what is in it. It takes no hold of the database, and works
/// without a server too. What is written is not synced to a disk.
///
/// # Errors
/// See [`TransferError`]. What was written by then ends without the last frame, and no restore
/// takes it.
pub async fn backup<W: Write + Send + 'static>(
    url: &StoreUrl,
    about: About,
    out: W,
    progress: Arc<Progress>,
) -> Result<(W, Summary), TransferError> {
    let (sender, parts) = mpsc::channel(4);
    let lines = Lines {
        parts: sender,
        text: Vec::new(),
        rows: 0,
        table: "",
    };
    let header = Header {
        format: FORMAT,
        release: about.release,
        schema: migrate::KNOWN,
        made: about.made,
        engine: match url {
            StoreUrl::Sqlite(_) => "sqlite",
            StoreUrl::Postgres(_) => "postgresql",
        }
        .to_owned(),
        server: about.server,
    };
    let write = tokio::task::spawn_blocking(move || write(&header, parts, out, &progress));
    let read = async {
        match url {
            StoreUrl::Sqlite(path) => sqlite::dump(path, lines).await,
            StoreUrl::Postgres(url) => postgres::dump(url, lines).await,
        }
    };
    let (read, written) = tokio::join!(read, write);
    let written = written.map_err(io::Error::other)?;
    // Where the disk is full, the reader only sees that nobody takes its rows.
    match (read, written) {
        (Err(error), _) => Err(error),
        (Ok(()), Err(error)) => Err(error.into()),
        (Ok(()), Ok(None)) => Err(TransferError::Stopped),
        (Ok(()), Ok(Some(done))) => Ok(done),
    }
}

/// Compresses and writes what comes. `None` when not all came.
fn write<W: Write>(
    header: &Header,
    mut parts: mpsc::Receiver<Part>,
    out: W,
    progress: &Progress,
) -> io::Result<Option<(W, Summary)>> {
    let mut encoder = zstd::Encoder::new(Hashing::new(out), LEVEL)?;
    encoder.include_checksum(true)?;
    serde_json::to_writer(&mut encoder, header)?;
    encoder.write_all(b"\n")?;
    let mut rows = 0;
    let mut tables: BTreeMap<String, u64> = BTreeMap::new();
    while let Some(part) = parts.blocking_recv() {
        match part {
            Part::Lines {
                text,
                rows: more,
                table,
            } => {
                encoder.write_all(&text)?;
                rows += more;
                if !table.is_empty() {
                    *tables.entry(table.to_owned()).or_default() += more;
                }
                progress.set(rows, encoder.get_ref().bytes);
            }
            Part::End => {
                let Hashing {
                    mut inner,
                    sum,
                    bytes,
                } = encoder.finish()?;
                let frame = end::frame(rows, sum.finish().as_ref());
                inner.write_all(&frame)?;
                inner.flush()?;
                let bytes = bytes + frame.len() as u64;
                progress.set(rows, bytes);
                return Ok(Some((
                    inner,
                    Summary {
                        rows,
                        tables,
                        bytes,
                    },
                )));
            }
        }
    }
    Ok(None)
}

/// Counts and sums what is written.
struct Hashing<W> {
    inner: W,
    sum: Context,
    bytes: u64,
}

impl<W> Hashing<W> {
    fn new(inner: W) -> Self {
        Self {
            inner,
            sum: Context::new(&SHA256),
            bytes: 0,
        }
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.sum.update(&bytes[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
