//! What is read back.

use std::fmt::Write;

use bowline_model::kind::Kind;
use jiff::Timestamp;

use crate::batch::Batch;

/// A stored object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The object's kind.
    pub kind: Kind,
    /// The object's id.
    pub id: u64,
    /// Sequence number of the change that wrote this row.
    pub seq: u64,
    /// The object as JSON, as it was given.
    pub body: Box<str>,
}

/// Everything of one owner at one sequence number.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Loaded {
    /// The newest sequence number; `0` when there is no such tailnet.
    pub seq: u64,
    /// All objects, by kind and id.
    pub rows: Vec<Row>,
    /// The last flushed presence of the tailnet's devices, by device.
    pub presence: Vec<Presence>,
}

/// Soft state of one device, as last flushed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Presence {
    /// The device's id.
    pub device: u64,
    /// Whether it was connected then.
    pub online: bool,
    /// When this was true. Kept to the microsecond. An older one never replaces a newer one.
    pub at: Timestamp,
    /// Last seen, endpoints, home DERP and so on, as JSON.
    pub body: Box<str>,
}

/// What happened to a row in a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// It was written.
    Put,
    /// It was removed.
    Delete,
}

/// One row that a change touched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Touched {
    /// The object's kind.
    pub kind: Kind,
    /// The object's id.
    pub id: u64,
    /// Written or removed.
    pub operation: Operation,
}

/// An entry of the change log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The change's sequence number in its tailnet, from 1 and without gaps.
    pub seq: u64,
    /// The id that the committer gave it.
    pub commit_id: [u8; 16],
    /// When the committer made it.
    pub at: Timestamp,
    /// The rows it touched. Kinds that this program does not know are left out.
    pub touched: Vec<Touched>,
}

/// What brings a snapshot of an owner from one sequence number to the newest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CatchUp {
    /// The sequence number that applying this leads to; `0` when there is no such tailnet.
    pub seq: u64,
    /// The change log does not reach back so far (it was pruned, or much has changed): `rows` is
    /// everything the tailnet has, and replaces the snapshot.
    pub whole: bool,
    /// Rows written since, as they are now.
    pub rows: Vec<Row>,
    /// Rows touched since that are no longer there.
    pub gone: Vec<(Kind, u64)>,
}

/// Changes of the server that are kept. Devices that nobody knows cause them, so they have a bound
/// of their own: without one, whoever begins logins again and again would fill the database.
pub(crate) const SERVER_CHANGES: u64 = 100;

/// Changes that are followed one by one; beyond it, loading everything is cheaper.
pub(crate) const CATCH_UP_LIMIT: usize = 1000;

/// Whether these are all changes after `since` up to `seq`.
pub(crate) fn reaches_back(changes: &[Change], since: u64, seq: u64) -> bool {
    changes.len() <= CATCH_UP_LIMIT && since.checked_add(changes.len() as u64) == Some(seq)
}

/// The rows that a batch touches, as the change log keeps them.
pub(crate) fn touched_text(batch: &Batch) -> String {
    let puts = batch
        .puts
        .iter()
        .map(|put| (put.kind, put.id, Operation::Put));
    let deletes = batch
        .deletes
        .iter()
        .map(|delete| (delete.kind, delete.id, Operation::Delete));
    let mut text = String::from("[");
    for (kind, id, operation) in puts.chain(deletes) {
        if text.len() > 1 {
            text.push(',');
        }
        // Names are plain words: nothing to escape.
        let word = if operation == Operation::Put {
            "put"
        } else {
            "delete"
        };
        let _ = write!(text, r#"["{}",{id},"{word}"]"#, kind.name());
    }
    text.push(']');
    text
}

/// Reads what [`touched_text`] wrote. Kinds of a newer release are left out.
pub(crate) fn touched_from(text: &str) -> Result<Vec<Touched>, serde_json::Error> {
    let list: Vec<(String, u64, String)> = serde_json::from_str(text)?;
    let known = list.into_iter().filter_map(|(kind, id, word)| {
        let operation = if word == "delete" {
            Operation::Delete
        } else {
            Operation::Put
        };
        Some(Touched {
            kind: Kind::from_name(&kind)?,
            id,
            operation,
        })
    });
    Ok(known.collect())
}
