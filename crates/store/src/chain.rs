//! The chain of audit events: each event has a hash over the one before it.
//!
//! One chain for each tailnet, and one for the server. The hash of an event is the SHA-256 of the bytes
//! that `docs/audit.md` describes; the first event follows 32 zero bytes. Whoever can write to the
//! database could make all hashes anew: against that, the newest hash is shown by
//! `bowline audit verify`, to be kept elsewhere.

use std::collections::BTreeMap;
use std::fmt;

use aws_lc_rs::digest::{Context, SHA256};

use crate::batch::AuditRow;
use crate::checksum;
use crate::owner::Owner;

/// Faults that are listed.
const LISTED: usize = 1000;

/// A hash of the chain.
pub type Hash = [u8; 32];

/// A place in the chain of one owner: an event's number and its hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Link {
    /// The event's number, from 1 and without gaps. `0`: before the first.
    pub number: u64,
    /// The event's hash.
    pub hash: Hash,
}

/// An audit event in its chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditEntry {
    /// Its number among those of its owner, from 1 and without gaps.
    pub number: u64,
    /// The hash of the event before it.
    pub previous: Hash,
    /// Its own hash.
    pub hash: Hash,
    /// The event.
    pub event: AuditRow,
}

/// The newest event that is noted is not the newest.
#[derive(Debug, thiserror::Error)]
#[error("the noted end of the audit log of {0} is behind its events")]
pub(crate) struct BehindItsEvents(pub(crate) Owner);

/// Which end of a chain a row of `audit_ends` tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// The last event that retention removed.
    Removed,
    /// The newest event.
    Newest,
}

impl Place {
    pub(crate) const fn number(self) -> i64 {
        match self {
            Self::Removed => 0,
            Self::Newest => 1,
        }
    }
}

/// The hash of an event that follows another.
pub(crate) fn hash(previous: &[u8], owner: i64, at: i64, id: i64, body: &str) -> Hash {
    let mut context = Context::new(&SHA256);
    context.update(b"bowline audit 1\n");
    context.update(hex(previous).as_bytes());
    context.update(format!("\n{owner}\n{at}\n{id}\n").as_bytes());
    context.update(body.as_bytes());
    let mut hash = Hash::default();
    hash.copy_from_slice(context.finish().as_ref());
    hash
}

/// An event as the row that follows a place in the chain.
pub(crate) struct Row<'a> {
    pub(crate) number: i64,
    pub(crate) at: i64,
    pub(crate) id: i64,
    pub(crate) body: &'a str,
    pub(crate) previous: Hash,
    pub(crate) hash: Hash,
    pub(crate) checksum: i64,
}

/// The rows of a batch's events, and the end that they lead to.
pub(crate) fn append(owner: Owner, mut end: Link, events: &[AuditRow]) -> (Vec<Row<'_>>, Link) {
    let owner = owner.get().cast_signed();
    let mut rows = Vec::with_capacity(events.len());
    for event in events {
        let (at, id, body) = (
            event.at.as_microsecond(),
            event.id.cast_signed(),
            &*event.body,
        );
        let previous = end.hash;
        end = Link {
            number: end.number + 1,
            hash: hash(&previous, owner, at, id, body),
        };
        let (number, hash) = (end.number.cast_signed(), end.hash);
        rows.push(Row {
            number,
            at,
            id,
            body,
            previous,
            hash,
            checksum: checksum::audit(&checksum::Audit {
                owner,
                number,
                at,
                id,
                body,
                previous: &previous,
                hash: &hash,
            }),
        });
    }
    (rows, end)
}

/// Bytes in lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    use fmt::Write as _;
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// What is wrong with a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The event is not what was written.
    Changed,
    /// Events up to this one are not there.
    Missing {
        /// The last that is missing.
        to: u64,
    },
    /// The event does not follow the one before it: they changed places, or one between them was
    /// removed and the others were numbered anew.
    OutOfPlace,
    /// There are events behind the end that the last commit noted.
    BehindTheEnd,
}

/// A fault and its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChainFault {
    /// Whose log: a tailnet's number, or `0` for the server's own.
    pub owner: u64,
    /// The event's number.
    pub number: u64,
    /// What is wrong there.
    pub fault: Fault,
}

impl fmt::Display for ChainFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            owner,
            number,
            fault,
        } = self;
        match fault {
            Fault::Changed => write!(f, "event {number} of tailnet {owner} was changed"),
            Fault::Missing { to } if to == number => {
                write!(f, "event {number} of tailnet {owner} is missing")
            }
            Fault::Missing { to } => {
                write!(f, "events {number} to {to} of tailnet {owner} are missing")
            }
            Fault::OutOfPlace => write!(
                f,
                "event {number} of tailnet {owner} does not follow the one before it"
            ),
            Fault::BehindTheEnd => write!(
                f,
                "event {number} of tailnet {owner} is behind the end of the log"
            ),
        }
    }
}

/// One chain as it was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Chain {
    /// The last event that retention removed.
    pub removed: Link,
    /// The newest event, as the last commit noted it.
    pub newest: Link,
    /// Events that are there.
    pub events: u64,
}

/// Follows chains, event by event, in the order of their numbers.
#[derive(Debug, Default)]
pub(crate) struct Follow {
    pub(crate) chains: BTreeMap<u64, Chain>,
    last: BTreeMap<u64, Link>,
    pub(crate) faults: Vec<ChainFault>,
}

impl Follow {
    pub(crate) fn end(&mut self, owner: u64, place: i64, link: Link) {
        let chain = self.chains.entry(owner).or_default();
        if place == Place::Newest.number() {
            chain.newest = link;
        } else {
            chain.removed = link;
        }
    }

    /// The next event that is there.
    pub(crate) fn event(&mut self, owner: u64, entry: &Found<'_>) {
        let chain = self.chains.entry(owner).or_default();
        chain.events += 1;
        let (removed, newest) = (chain.removed, chain.newest);
        let last = *self.last.entry(owner).or_insert(removed);
        let faults = &mut self.faults;
        let mut fault = |number, fault| {
            if faults.len() < LISTED {
                faults.push(ChainFault {
                    owner,
                    number,
                    fault,
                });
            }
        };
        let number = entry.number;
        if number > last.number + 1 {
            let to = number - 1;
            fault(last.number + 1, Fault::Missing { to });
        } else if entry.previous != last.hash {
            fault(number, Fault::OutOfPlace);
        }
        let owner_number = owner.cast_signed();
        let computed = hash(entry.previous, owner_number, entry.at, entry.id, entry.body);
        if !entry.is_whole || computed != entry.hash {
            fault(number, Fault::Changed);
        }
        if number > newest.number {
            fault(number, Fault::BehindTheEnd);
        }
        let hash = entry.hash.try_into().unwrap_or_default();
        self.last.insert(owner, Link { number, hash });
    }

    /// Compares the last events with the ends that the commits noted.
    pub(crate) fn finish(&mut self) {
        for (owner, chain) in &self.chains {
            let last = self.last.get(owner).copied().unwrap_or(chain.removed);
            let mut fault = |number, fault| {
                self.faults.push(ChainFault {
                    owner: *owner,
                    number,
                    fault,
                });
            };
            if last.number < chain.newest.number {
                let to = chain.newest.number;
                fault(last.number + 1, Fault::Missing { to });
            } else if last.number == chain.newest.number && last.hash != chain.newest.hash {
                fault(last.number, Fault::Changed);
            }
        }
        self.faults.sort_by_key(|one| (one.owner, one.number));
        self.faults.dedup();
    }
}

/// An event as it was found.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Found<'a> {
    pub(crate) number: u64,
    pub(crate) at: i64,
    pub(crate) id: i64,
    pub(crate) body: &'a str,
    pub(crate) previous: &'a [u8],
    pub(crate) hash: &'a [u8],
    /// Whether the row's checksum is right.
    pub(crate) is_whole: bool,
}
