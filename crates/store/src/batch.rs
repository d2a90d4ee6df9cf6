//! One change of a tailnet or of the server, as rows.

use std::collections::HashSet;

use bowline_model::id::LIMIT;
use bowline_model::kind::{Column, Kind};
use jiff::Timestamp;
use serde::de::IgnoredAny;

use crate::job::JobRow;
use crate::owner::Owner;
use crate::text::TextRow;

/// A row to write: new, or in place of the row with this kind and id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Put {
    /// The object's kind.
    pub kind: Kind,
    /// The object's id, below 2^53, unique in the whole server for its kind.
    pub id: u64,
    /// The object as JSON.
    pub body: Box<str>,
    /// Values that the database must keep unique. A column that is not named is empty and clashes
    /// with nothing. Only columns of the kind ([`Kind::columns`]), each once.
    pub columns: Vec<(Column, String)>,
    /// When the object is over, for cold kinds ([`Kind::is_cold`]) only; `None`: never. Kept to the
    /// microsecond.
    pub expires: Option<Timestamp>,
}

impl Put {
    /// A row without unique columns.
    pub fn new(kind: Kind, id: u64, body: impl Into<Box<str>>) -> Self {
        Self {
            kind,
            id,
            body: body.into(),
            columns: Vec::new(),
            expires: None,
        }
    }

    /// The row with one more unique column.
    #[must_use]
    pub fn with(mut self, column: Column, value: impl Into<String>) -> Self {
        self.columns.push((column, value.into()));
        self
    }

    /// When it is over, as it is stored.
    pub(crate) fn expires(&self) -> Option<i64> {
        self.expires.map(Timestamp::as_microsecond)
    }

    /// The value of a column, in the order that the kind lists them.
    pub(crate) fn column(&self, column: Column) -> Option<&str> {
        self.columns
            .iter()
            .find(|(own, _)| *own == column)
            .map(|(_, value)| value.as_str())
    }
}

/// A row to remove. Removing a row that is not there is not an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delete {
    /// The object's kind.
    pub kind: Kind,
    /// The object's id.
    pub id: u64,
}

/// One audit event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditRow {
    /// The event's id, below 2^53. Tailnet, time and id together are unique.
    pub id: u64,
    /// When it happened. Kept to the microsecond.
    pub at: Timestamp,
    /// The event as JSON.
    pub body: Box<str>,
}

/// A secret that the server itself must use again, sealed: another one of its name in the place of
/// the former, or none any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretRow {
    /// Its name, unique among the secrets of its owner.
    pub name: String,
    /// What [`crate::Sealer::seal`] made of it. `None` removes it.
    pub sealed: Option<Vec<u8>>,
}

/// One change of a tailnet or of the server: everything in it is written, or nothing.
///
/// Within a batch the order does not matter: rows may swap their unique values.
#[derive(Debug, Clone)]
pub struct Batch {
    /// Whose everything in the batch is, but for what is in `births`.
    pub owner: Owner,
    /// The sequence number that the draft was made from; `0` creates the owner.
    pub base: u64,
    /// Random bytes by which a commit whose outcome is unknown is looked up.
    pub commit_id: [u8; 16],
    /// When, for the change log. Kept to the microsecond.
    pub at: Timestamp,
    /// Rows to write, each kind and id at most once, and none that is also deleted.
    pub puts: Vec<Put>,
    /// Rows to remove. A device's presence goes with it.
    pub deletes: Vec<Delete>,
    /// Audit events of the change.
    pub audit: Vec<AuditRow>,
    /// What is to be done after the change.
    pub jobs: Vec<JobRow>,
    /// Large texts that its audit events refer to.
    pub texts: Vec<TextRow>,
    /// Sealed secrets of its objects, each name at most once.
    pub secrets: Vec<SecretRow>,
    /// Tailnets that begin with this change of the server: for each a batch of its own, with base
    /// `0`, at least one row and no births.
    pub births: Vec<Batch>,
}

impl Batch {
    /// An empty batch, which when committed only takes a sequence number.
    pub fn new(owner: impl Into<Owner>, base: u64, commit_id: [u8; 16], at: Timestamp) -> Self {
        Self {
            owner: owner.into(),
            base,
            commit_id,
            at,
            puts: Vec::new(),
            deletes: Vec::new(),
            audit: Vec::new(),
            jobs: Vec::new(),
            texts: Vec::new(),
            secrets: Vec::new(),
            births: Vec::new(),
        }
    }

    /// The batch and those of the tailnets that begin with it.
    pub(crate) fn parts(&self) -> impl Iterator<Item = &Self> {
        std::iter::once(self).chain(&self.births)
    }

    /// Finds what no database could store, so that both engines refuse the same batches.
    pub(crate) fn check(&self) -> Result<(), String> {
        if self.base >= LIMIT {
            return Err(format!("base {} is not below 2^53", self.base));
        }
        let mut seen = HashSet::with_capacity(self.puts.len() + self.deletes.len());
        for put in &self.puts {
            let place = format_args!("{} {}", put.kind, put.id).to_string();
            if put.kind.is_server_wide() != (self.owner == Owner::Server) {
                return Err(format!("{place} cannot be of {}", self.owner));
            }
            if !seen.insert((put.kind, put.id)) {
                return Err(format!("{place} is written twice"));
            }
            id(put.id, &place)?;
            json(&put.body, &place)?;
            if put.expires.is_some() && !put.kind.is_cold() {
                return Err(format!("{place} cannot expire: its kind is in snapshots"));
            }
            for (index, (column, value)) in put.columns.iter().enumerate() {
                if !put.kind.columns().contains(column) {
                    return Err(format!("{place} has no column {column:?}"));
                }
                if put.columns[..index]
                    .iter()
                    .any(|(other, _)| other == column)
                {
                    return Err(format!("{place} has {column:?} twice"));
                }
                text(value, &place)?;
            }
        }
        for delete in &self.deletes {
            if !seen.insert((delete.kind, delete.id)) {
                return Err(format!(
                    "{} {} is deleted twice or also written",
                    delete.kind, delete.id
                ));
            }
            id(delete.id, "delete")?;
        }
        for event in &self.audit {
            id(event.id, "audit event")?;
            json(&event.body, "audit event")?;
        }
        for row in &self.jobs {
            job(row)?;
        }
        let mut names = HashSet::with_capacity(self.secrets.len());
        for secret in &self.secrets {
            text(&secret.name, "secret")?;
            if !names.insert(&secret.name) {
                return Err(format!("secret {} is written twice", secret.name));
            }
        }
        for (index, birth) in self.births.iter().enumerate() {
            let owner = birth.owner;
            let is_new = birth.base == 0 && birth.births.is_empty() && !birth.puts.is_empty();
            let is_twice = self.births[..index]
                .iter()
                .any(|other| other.owner == owner);
            if self.owner != Owner::Server || owner == Owner::Server || !is_new || is_twice {
                return Err(format!("{owner} cannot begin in this batch"));
            }
            birth.check()?;
        }
        Ok(())
    }
}

pub(crate) fn id(number: u64, place: &str) -> Result<(), String> {
    if number < LIMIT {
        Ok(())
    } else {
        Err(format!("{place}: id {number} is not below 2^53"))
    }
}

pub(crate) fn job(row: &JobRow) -> Result<(), String> {
    id(row.id, "job")?;
    text(&row.topic, "job")?;
    for name in row.lane.iter().chain(&row.name) {
        text(name, "job")?;
    }
    json(&row.body, "job")
}

pub(crate) fn json(body: &str, place: &str) -> Result<(), String> {
    match serde_json::from_str::<IgnoredAny>(body) {
        Ok(_) => Ok(()),
        Err(error) => Err(format!("{place}: body is not JSON: {error}")),
    }
}

/// PostgreSQL has no zero byte in a text.
pub(crate) fn text(value: &str, place: &str) -> Result<(), String> {
    if value.contains('\0') {
        Err(format!("{place}: a text has a zero byte"))
    } else {
        Ok(())
    }
}
