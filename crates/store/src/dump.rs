//! The one logical format of backups, which both engines write and read.
//!
//! A backup is one zstd frame of JSON lines and, behind it, a zstd skippable frame of fixed length,
//! so that `zstd -dc FILE` prints the lines and any program that reads JSON reads them. The first
//! line is the [`Header`]. Each table begins with a line that names it and its columns,
//! `{"table":"heads","columns":["tailnet","seq","checksum"]}`, and every row of it is a line
//! `[1,5,3735928559]` with the row's own checksum at the end. Bytes are base 64, bodies are texts:
//! they come back byte for byte. Secrets stay sealed.
//!
//! The last frame ([`end`]) has the number of rows and the SHA-256 of every byte before it, so a
//! file that was cut off or changed in any bit is refused before anything is written.

mod file;
mod lines;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use self::file::{Backup, SealedSecret, secrets};
pub use self::lines::backup;
pub(crate) use self::lines::{Lines, Stopped};

use crate::error::TransferError;
use crate::migrate;
use crate::table::{Table, Value};

/// Version of the format that this program writes and reads.
const FORMAT: u32 = 1;

/// A row of a backup on its way into a database, with the table that it belongs to.
pub(crate) type Record = (&'static Table, Vec<Value>);

/// Rows that travel together, and the bytes in them, are not more than this: memory is bounded
/// whatever the rows hold.
const TOGETHER: usize = 256;
const TOGETHER_BYTES: usize = 1024 * 1024;

/// Bytes that the values of a row take.
pub(crate) fn weight(row: &[Value]) -> usize {
    row.iter()
        .map(|value| match value {
            Value::Text(text) => text.len(),
            Value::Bytes(bytes) => bytes.len(),
            Value::Null | Value::Integer(_) | Value::Flag(_) => 8,
        })
        .sum()
}

/// The first line of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// Version of the format; its name is what a backup is known by.
    #[serde(rename = "bowline_backup")]
    pub format: u32,
    /// Release of the program that wrote it.
    pub release: String,
    /// Newest migration of the database.
    pub schema: u32,
    /// When it was begun.
    pub made: Timestamp,
    /// The engine that it was read from: `sqlite` or `postgresql`.
    pub engine: String,
    /// The server whose database it is.
    pub server: Origin,
}

/// Which server a backup is of, as far as it was known.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The URL that its clients use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// The public Noise key by which its clients know it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub noise_key: Option<String>,
    /// The fingerprint of the key that opens its secrets. It says nothing about the key itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seal_key: Option<String>,
}

/// What a backup says of itself beside its rows.
#[derive(Debug, Clone)]
pub struct About {
    /// Release of this program.
    pub release: String,
    /// The time of now.
    pub made: Timestamp,
    /// The server whose database it is.
    pub server: Origin,
}

/// What is in a backup.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary {
    /// Rows of all tables.
    pub rows: u64,
    /// Rows of each table.
    pub tables: BTreeMap<String, u64>,
    /// Size of the file in bytes.
    pub bytes: u64,
}

/// How far a backup or a restore is, for whoever watches.
#[derive(Debug, Default)]
pub struct Progress {
    rows: AtomicU64,
    bytes: AtomicU64,
}

impl Progress {
    /// Rows read or written so far.
    pub fn rows(&self) -> u64 {
        self.rows.load(Ordering::Relaxed)
    }

    /// Bytes of the backup's file that were read or written so far.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    fn set(&self, rows: u64, bytes: u64) {
        self.rows.store(rows, Ordering::Relaxed);
        self.bytes.store(bytes, Ordering::Relaxed);
    }
}

/// A line that begins a table.
#[derive(Debug, Serialize, Deserialize)]
struct Section {
    table: String,
    columns: Vec<String>,
}

/// Refuses to back up a database whose tables this program does not know exactly.
pub(crate) fn refuse_other_schema(found: Option<i64>) -> Result<(), TransferError> {
    migrate::refuse_newer(found)?;
    let found = u32::try_from(found.unwrap_or(0)).unwrap_or(0);
    if found < migrate::KNOWN {
        let known = migrate::KNOWN;
        return Err(TransferError::OldDatabase { found, known });
    }
    Ok(())
}

/// The frame at the end: a zstd skippable frame, which programs that know zstd pass over.
mod end {
    /// Length of the frame's text.
    const TEXT: usize = 120;
    /// Length of the frame.
    pub(super) const LENGTH: usize = 8 + TEXT;
    /// Number of a skippable frame; the last digit is free.
    const MAGIC: u32 = 0x184d_2a5b;
    const NAME: &str = "\nbowline backup end, ";

    /// The frame for so many rows and the digest of everything before it.
    pub(super) fn frame(rows: u64, sha256: &[u8]) -> Vec<u8> {
        use std::fmt::Write as _;
        let mut text = format!("{NAME}{rows:020} rows, ");
        for byte in sha256 {
            let _ = write!(text, "{byte:02x}");
        }
        text.push('\n');
        let mut frame = MAGIC.to_le_bytes().to_vec();
        frame.extend(u32::try_from(TEXT).unwrap_or(0).to_le_bytes());
        frame.extend(format!("{text:<TEXT$}").into_bytes());
        frame
    }

    /// Whether these bytes are such a frame, whatever they say.
    pub(super) fn is_frame(bytes: &[u8]) -> bool {
        let empty = frame(0, &[]);
        let known = 8 + NAME.len();
        bytes.len() == LENGTH && bytes[..known] == empty[..known]
    }

    /// Whether a frame has this digest.
    pub(super) fn has_sum(bytes: &[u8], sha256: &[u8]) -> bool {
        let after_rows = 8 + NAME.len() + 20;
        bytes[after_rows..] == frame(0, sha256)[after_rows..]
    }

    #[cfg(test)]
    mod tests {
        #[test]
        fn the_frame_has_its_length_whatever_it_says() {
            for rows in [0, u64::MAX] {
                let frame = super::frame(rows, &[0xff; 32]);
                assert_eq!(frame.len(), super::LENGTH);
                assert!(super::is_frame(&frame));
            }
            assert!(!super::is_frame(&[0; super::LENGTH]));
        }
    }
}
