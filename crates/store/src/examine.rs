//! The examination of a whole database: every row, and whether rows, heads and change log agree.
//!
//! It changes nothing and needs no hold, so it works beside a running server as well.

use std::collections::{BTreeMap, HashMap, HashSet};

use bowline_model::kind::Kind;

use crate::chain::{Chain, ChainFault, Follow, Found, Link};
use crate::error::OpenError;
use crate::row::{self, Operation};
use crate::table::{self, Table, Value};
use crate::url::StoreUrl;
use crate::{postgres, sqlite};

/// Findings that are listed; more are only counted.
const LISTED: usize = 100;

/// What an examination found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Examination {
    /// The file, or the database's name at the server.
    pub place: String,
    /// Tailnets in it.
    pub tailnets: u64,
    /// Rows that were read, of all tables.
    pub rows: u64,
    /// What is wrong, at most a hundred. Empty: the database is sound.
    pub findings: Vec<Finding>,
    /// Findings beyond those.
    pub more: u64,
    /// The audit logs, by their owners: a tailnet's number, or `0` for the server.
    pub chains: BTreeMap<u64, Chain>,
    /// What is wrong with their chains, at most a thousand; `findings` has these too.
    pub faults: Vec<ChainFault>,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The table, or `file` for the file's structure.
    pub table: String,
    /// What is wrong there.
    pub problem: String,
}

impl Examination {
    /// Whether nothing is wrong.
    pub fn is_sound(&self) -> bool {
        self.findings.is_empty()
    }
}

/// Examines a database, without changing it.
///
/// # Errors
/// When it cannot be looked at: missing, empty, foreign, of a newer release, not reachable. Damage
/// that leaves nothing to look at is [`OpenError::Unreadable`].
pub async fn examine(url: &StoreUrl) -> Result<Examination, OpenError> {
    look(url, Only::Everything).await
}

/// Examines the audit logs of a database alone, without changing it.
///
/// # Errors
/// Those of [`examine`].
pub async fn examine_audit(url: &StoreUrl) -> Result<Examination, OpenError> {
    look(url, Only::Audit).await
}

async fn look(url: &StoreUrl, only: Only) -> Result<Examination, OpenError> {
    match url {
        StoreUrl::Sqlite(path) => sqlite::examine(path, only).await,
        StoreUrl::Postgres(url) => postgres::examine(url, only).await,
    }
}

/// What is examined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Only {
    Everything,
    Audit,
}

impl Only {
    /// The tables that are read.
    pub(crate) fn tables(self) -> impl Iterator<Item = &'static Table> {
        let is_read = move |table: &&Table| self == Self::Everything || is_of_audit(table);
        table::tables().iter().filter(is_read)
    }
}

fn is_of_audit(table: &Table) -> bool {
    ["audit_ends", "audit"].contains(&table.name)
}

/// Gathers what the engines read.
#[derive(Debug, Default)]
pub(crate) struct Examiner {
    result: Examination,
    heads: BTreeMap<u64, u64>,
    objects: HashMap<(u64, Kind, u64), u64>,
    logs: HashMap<u64, Log>,
    touched: HashMap<(u64, Kind, u64), (u64, Operation)>,
    chains: Follow,
    /// Tables that could not be read to their end: what others say of them is not compared.
    broken: HashSet<String>,
}

/// Numbers of one tailnet's change log.
#[derive(Debug, Clone, Copy)]
struct Log {
    first: u64,
    last: u64,
}

impl Examiner {
    pub(crate) fn new(place: String) -> Self {
        Self {
            result: Examination {
                place,
                ..Examination::default()
            },
            ..Self::default()
        }
    }

    /// Notes something that is wrong.
    pub(crate) fn find(&mut self, table: &str, problem: impl Into<String>) {
        if self.result.findings.len() == LISTED {
            self.result.more += 1;
            return;
        }
        self.result.findings.push(Finding {
            table: table.to_owned(),
            problem: problem.into(),
        });
    }

    /// A row could not be read.
    pub(crate) fn broken_row(&mut self, table: &str, problem: impl Into<String>) {
        self.result.rows += 1;
        self.broken.insert(table.to_owned());
        self.find(table, problem);
    }

    /// A table could not be read to its end.
    pub(crate) fn broken_table(&mut self, table: &str, problem: impl Into<String>) {
        self.broken.insert(table.to_owned());
        self.find(table, problem);
    }

    /// A row in the order of a backup, compared with its checksum.
    pub(crate) fn row(&mut self, table: &Table, row: &[Value]) {
        let outcome = table.verify(row);
        if is_of_audit(table) {
            self.follow(table, row, outcome.is_ok());
        }
        if let Err(mismatch) = outcome {
            self.broken_row(table.name, mismatch.to_string());
            return;
        }
        self.result.rows += 1;
        let number = |column| {
            let value = table.value(row, column);
            value.map_or(0, Value::integer).cast_unsigned()
        };
        if let Some(kind) = table.kind {
            self.objects
                .insert((number("tailnet"), kind, number("id")), number("seq"));
        } else if table.name == "heads" {
            self.result.tailnets += u64::from(number("tailnet") != 0);
            self.heads.insert(number("tailnet"), number("seq"));
        } else if table.name == "changes" {
            let touched = table.value(row, "touched").map_or("", Value::text);
            self.change(number("tailnet"), number("seq"), touched);
        }
    }

    fn follow(&mut self, table: &Table, row: &[Value], is_whole: bool) {
        let number = |index: usize| row[index].integer();
        let owner = number(0).cast_unsigned();
        if table.name == "audit" {
            let event = Found {
                number: number(1).cast_unsigned(),
                at: number(2),
                id: number(3),
                body: row[4].text(),
                previous: row[5].bytes(),
                hash: row[6].bytes(),
                is_whole,
            };
            self.chains.event(owner, &event);
        } else {
            let link = Link {
                number: number(2).cast_unsigned(),
                hash: row[3].bytes().try_into().unwrap_or_default(),
            };
            self.chains.end(owner, number(1), link);
        }
    }

    fn change(&mut self, tailnet: u64, seq: u64, touched: &str) {
        let log = self.logs.entry(tailnet).or_insert(Log {
            first: seq,
            last: seq - 1,
        });
        let expected = log.last + 1;
        log.last = seq;
        if seq != expected {
            let problem =
                format!("tailnet {tailnet}: change {seq} follows where {expected} should");
            self.find("changes", problem);
        }
        match row::touched_from(touched) {
            Ok(touched) => {
                for one in touched {
                    self.touched
                        .insert((tailnet, one.kind, one.id), (seq, one.operation));
                }
            }
            Err(error) => self.find("changes", format!("change {seq}: {error}")),
        }
    }

    /// Compares the tables with each other, and gives the result.
    pub(crate) fn finish(mut self) -> Examination {
        let is_broken = |table: &str| self.broken.contains(table);
        let mut found: Vec<(&'static str, String)> = Vec::new();
        if !is_broken("heads") && !is_broken("changes") {
            for (tailnet, seq) in &self.heads {
                let last = self.logs.get(tailnet).map(|log| log.last);
                if last != Some(*seq) {
                    let last = last.map_or("nothing".to_owned(), |last| format!("change {last}"));
                    let problem =
                        format!("tailnet {tailnet} is at change {seq}, and its log ends at {last}");
                    found.push(("heads", problem));
                }
            }
        }
        if !is_broken("heads") {
            let owners = self
                .objects
                .keys()
                .map(|(tailnet, kind, _)| (tailnet, kind));
            let without: HashSet<_> = owners
                .filter(|(tailnet, _)| !self.heads.contains_key(tailnet))
                .collect();
            for (tailnet, kind) in without {
                let problem = format!("belongs to tailnet {tailnet}, which has no head");
                found.push((kind.table(), problem));
            }
        }
        if !is_broken("changes") {
            found.extend(self.compare_with_log());
        }
        self.chains.finish();
        let faults = self.chains.faults.iter();
        found.extend(faults.map(|fault| ("audit", fault.to_string())));
        found.sort();
        for (table, problem) in found {
            self.find(table, problem);
        }
        self.result.chains = self.chains.chains;
        self.result.faults = self.chains.faults;
        self.result
    }

    /// Rows that are older or newer than the log says, are missing, or are there though removed.
    fn compare_with_log(&self) -> Vec<(&'static str, String)> {
        let mut found = Vec::new();
        for ((tailnet, kind, id), (seq, operation)) in &self.touched {
            let table = kind.table();
            if self.broken.contains(table) {
                continue;
            }
            let row = self.objects.get(&(*tailnet, *kind, *id));
            let problem = match (operation, row) {
                (Operation::Put, Some(row)) if row == seq => continue,
                (Operation::Delete, None) => continue,
                (Operation::Put, Some(row)) => {
                    format!("is of change {row}, and change {seq} wrote it")
                }
                // Retention removes what is over, and logs nothing.
                (Operation::Put, None) if kind.is_cold() => continue,
                (Operation::Put, None) => format!("is missing, and change {seq} wrote it"),
                (Operation::Delete, Some(_)) => format!("is there, and change {seq} removed it"),
            };
            found.push((table, format!("{kind} {id} of tailnet {tailnet} {problem}")));
        }
        for ((tailnet, kind, id), seq) in &self.objects {
            let is_logged = self
                .logs
                .get(tailnet)
                .is_some_and(|log| (log.first..=log.last).contains(seq));
            if is_logged && !self.touched.contains_key(&(*tailnet, *kind, *id)) {
                let problem = format!(
                    "{kind} {id} of tailnet {tailnet} is of change {seq}, which did not write it"
                );
                found.push((kind.table(), problem));
            }
        }
        found
    }
}
