//! The one logical format of backups: JSON lines that both engines write and read.
//!
//! The first line is the header, the last one says how many records stand between them, so that a
//! dump that was cut off is noticed. Secrets in it stay sealed.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;

use crate::error::{Condition, Error, TransferError, Trouble};
use crate::migrate;

/// Version of the format that this program writes. Older ones are read as well.
const VERSION: u32 = 1;
/// Bytes that are gathered before they are handed on.
const CHUNK: usize = 64 * 1024;

/// One line of a dump.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Record {
    Header(Header),
    Head(Head),
    Row(RowRecord),
    Change(ChangeRecord),
    Audit(AuditRecord),
    Outbox(OutboxRecord),
    Presence(PresenceRecord),
    Secret(SecretRecord),
    End(End),
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Header {
    /// Version of the format.
    bowline_dump: u32,
    /// Newest migration of the database that was dumped.
    migration: u32,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct End {
    /// Records between the header and this line.
    records: u64,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Head {
    pub(crate) tailnet: u64,
    pub(crate) seq: u64,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct RowRecord {
    pub(crate) kind: String,
    pub(crate) tailnet: u64,
    pub(crate) id: u64,
    pub(crate) seq: u64,
    /// Unique columns that have a value, by their SQL names.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) columns: BTreeMap<String, String>,
    pub(crate) body: Box<RawValue>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ChangeRecord {
    pub(crate) tailnet: u64,
    pub(crate) seq: u64,
    pub(crate) commit_id: Bytes,
    pub(crate) at: Timestamp,
    pub(crate) touched: Box<RawValue>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct AuditRecord {
    pub(crate) tailnet: u64,
    pub(crate) id: u64,
    pub(crate) at: Timestamp,
    pub(crate) body: Box<RawValue>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct OutboxRecord {
    pub(crate) tailnet: u64,
    pub(crate) id: u64,
    pub(crate) topic: String,
    pub(crate) body: Box<RawValue>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct PresenceRecord {
    pub(crate) tailnet: u64,
    pub(crate) device: u64,
    pub(crate) online: bool,
    pub(crate) at: Timestamp,
    pub(crate) body: Box<RawValue>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct SecretRecord {
    pub(crate) name: String,
    pub(crate) sealed: Bytes,
}

/// Bytes, base 64 in a dump.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Bytes(pub(crate) Vec<u8>);

impl Serialize for Bytes {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        STANDARD
            .decode(text)
            .map(Self)
            .map_err(serde::de::Error::custom)
    }
}

/// A stored body as a part of a line. A line break in it can only stand between tokens, where a
/// space means the same.
pub(crate) fn body(text: &str) -> Result<Box<RawValue>, serde_json::Error> {
    RawValue::from_string(text.replace(['\n', '\r'], " "))
}

/// Where an engine puts the records of a dump.
pub(crate) struct Lines {
    chunks: mpsc::Sender<Vec<u8>>,
    gathered: Vec<u8>,
    records: u64,
}

/// The receiver went away: its writer failed, and says why itself.
pub(crate) struct Stopped;

impl Lines {
    /// Adds a record and says whether [`Self::take`] has a chunk to hand on.
    fn add(&mut self, record: &Record) -> Result<bool, serde_json::Error> {
        serde_json::to_writer(&mut self.gathered, record)?;
        self.gathered.push(b'\n');
        self.records += 1;
        Ok(self.gathered.len() >= CHUNK)
    }

    fn end(&mut self) -> Result<(), serde_json::Error> {
        let records = self.records - 1; // without the header
        self.add(&Record::End(End { records })).map(|_| ())
    }

    fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.gathered)
    }

    /// Hands a record on, from a thread that may block.
    pub(crate) fn blocking_put(&mut self, record: &Record) -> Result<(), Stopped> {
        if self.add(record).map_err(|_| Stopped)? {
            let chunk = self.take();
            self.chunks.blocking_send(chunk).map_err(|_| Stopped)?;
        }
        Ok(())
    }

    /// Hands a record on.
    pub(crate) async fn put(&mut self, record: &Record) -> Result<(), Stopped> {
        if self.add(record).map_err(|_| Stopped)? {
            let chunk = self.take();
            self.chunks.send(chunk).await.map_err(|_| Stopped)?;
        }
        Ok(())
    }

    /// Ends the dump, from a thread that may block.
    pub(crate) fn blocking_finish(mut self) {
        if self.end().is_ok() {
            let chunk = self.take();
            let _ = self.chunks.blocking_send(chunk);
        }
    }

    /// Ends the dump.
    pub(crate) async fn finish(mut self) {
        if self.end().is_ok() {
            let chunk = self.take();
            let _ = self.chunks.send(chunk).await;
        }
    }
}

/// Writes a dump while `produce` reads the database. Returns the number of records.
pub(crate) async fn write<W, F>(
    mut writer: W,
    produce: impl FnOnce(Lines) -> F,
) -> Result<(), TransferError>
where
    W: AsyncWrite + Unpin,
    F: Future<Output = Result<(), Error>>,
{
    let (sender, mut chunks) = mpsc::channel::<Vec<u8>>(4);
    let mut lines = Lines {
        chunks: sender,
        gathered: Vec::new(),
        records: 0,
    };
    let header = Header {
        bowline_dump: VERSION,
        migration: migrate::KNOWN,
    };
    lines
        .add(&Record::Header(header))
        .map_err(std::io::Error::from)?;
    let write = async move {
        while let Some(chunk) = chunks.recv().await {
            writer.write_all(&chunk).await?;
        }
        writer.flush().await
    };
    let (produced, written) = tokio::join!(produce(lines), write);
    written?;
    Ok(produced?)
}

/// Reads a dump and hands its records to `consume`: `Some` each, then `None` when all have come.
/// When the channel closes without `None`, the dump is broken, and nothing may be kept.
pub(crate) async fn read<R, F>(
    reader: R,
    consume: impl FnOnce(mpsc::Receiver<Option<Record>>) -> F,
) -> Result<(), TransferError>
where
    R: AsyncBufRead + Unpin,
    F: Future<Output = Result<(), TransferError>>,
{
    let (sender, records) = mpsc::channel(256);
    let (read, consumed) = tokio::join!(parse(reader, sender), consume(records));
    // What the database says comes first: the reader only sees that nobody takes its records.
    match (read, consumed) {
        (Err(read), Err(TransferError::Format { line: 0, .. })) => Err(read),
        (_, Err(consumed)) => Err(consumed),
        (read, Ok(())) => read,
    }
}

/// What `consume` answers when the channel closed without `None`.
pub(crate) fn cut_off() -> TransferError {
    TransferError::Format {
        line: 0,
        problem: "the dump is broken".to_owned(),
    }
}

/// A record that cannot be stored.
pub(crate) fn unknown(what: &str) -> TransferError {
    let problem = format!("{what} is not known; the dump was made by a newer release");
    TransferError::Store(Error::Unavailable(Trouble::new(Condition::Failed, problem)))
}

async fn parse<R: AsyncBufRead + Unpin>(
    mut reader: R,
    sender: mpsc::Sender<Option<Record>>,
) -> Result<(), TransferError> {
    let mut text = String::new();
    let mut line = 0;
    loop {
        text.clear();
        line += 1;
        let wrong = |problem: String| TransferError::Format { line, problem };
        if reader.read_line(&mut text).await? == 0 {
            return Err(wrong("the dump ends too early".to_owned()));
        }
        let record = serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))?;
        match (line, record) {
            (1, Record::Header(header)) if header.bowline_dump > VERSION => {
                let problem = format!("format {} is newer than this program", header.bowline_dump);
                return Err(wrong(problem));
            }
            (1, Record::Header(header)) if header.migration > migrate::KNOWN => {
                return Err(wrong(format!(
                    "made with schema {}, this program knows up to {}",
                    header.migration,
                    migrate::KNOWN
                )));
            }
            (1, Record::Header(_)) => {}
            (1, _) => return Err(wrong("this is not a dump of Bowline".to_owned())),
            (_, Record::Header(_)) => return Err(wrong("a second header".to_owned())),
            (_, Record::End(end)) if end.records + 2 == line => {
                let _ = sender.send(None).await;
                return Ok(());
            }
            (_, Record::End(_)) => return Err(wrong("records are missing".to_owned())),
            // A database that takes no more has its own error.
            (_, record) => {
                if sender.send(Some(record)).await.is_err() {
                    return Ok(());
                }
            }
        }
    }
}
