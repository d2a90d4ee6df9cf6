//! The draft that a change of the server works on.

use std::collections::BTreeMap;

use bowline_model::audit::{ActorRef, AuditEvent, EventGroup};
use bowline_model::event::Event;
use bowline_model::id::TailnetId;
use bowline_model::kind::{Kind, ObjectId};
use bowline_model::policy_file::PolicyFile;
use bowline_model::record::{self, Body, BodyError};
use bowline_netmap::snapshot::Snapshot;
use bowline_store::{AuditRow, Batch, Delete, Owner, Put};
use jiff::Timestamp;

use super::room::Limits;
use super::state::{AllPlaces, InRoom, ServerState};
use crate::core::clock::{Ids, Random};
use crate::core::draft::{self, Draft};

/// A change of the server in the making.
pub(crate) struct ServerDraft<'a> {
    pub(super) state: ServerState,
    pub(super) places: AllPlaces,
    pub(super) changes: ServerChanges,
    actor: ActorRef,
    /// What the events have in common from here on.
    group: EventGroup,
    now: Timestamp,
    ids: &'a Ids,
    random: &'a dyn Random,
}

/// What a draft has touched.
#[derive(Default)]
pub(super) struct ServerChanges {
    /// Records that were written or removed, with the closure that touched each last.
    pub(super) touched: BTreeMap<(Kind, u64), usize>,
    audit: Vec<AuditEvent>,
    pub(super) births: Vec<Birth>,
    /// The closure that runs now.
    pub(super) job: usize,
    /// Counts what closures do, to see whether one did anything.
    pub(super) touches: u64,
}

/// A tailnet that begins.
pub(super) struct Birth {
    pub(super) snapshot: Snapshot,
    batch: Batch,
    job: usize,
}

/// A draft as it was before a closure.
pub(super) struct Saved {
    state: ServerState,
    touched: BTreeMap<(Kind, u64), usize>,
    audit: usize,
    births: usize,
}

/// The transaction of a draft, and the closure that each of its rows came from.
pub(super) struct Transaction {
    pub(super) batch: Batch,
    pub(super) jobs: Vec<usize>,
}

impl<'a> ServerDraft<'a> {
    pub(super) fn new(
        state: ServerState,
        places: AllPlaces,
        now: Timestamp,
        ids: &'a Ids,
        random: &'a dyn Random,
    ) -> Self {
        Self {
            state,
            places,
            changes: ServerChanges::default(),
            actor: ActorRef::System,
            group: EventGroup::new([0; 16]),
            now,
            ids,
            random,
        }
    }

    /// The state so far, this change included.
    pub(crate) fn view(&self) -> &ServerState {
        &self.state
    }

    /// The time of this change.
    pub(crate) fn now(&self) -> Timestamp {
        self.now
    }

    /// A number for a new id.
    pub(crate) fn new_id(&self) -> u64 {
        let mut noise = [0; 2];
        self.random.fill(&mut noise);
        self.ids.next(self.now, u16::from_le_bytes(noise))
    }

    /// Random bytes.
    pub(crate) fn random<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        self.random.fill(&mut bytes);
        bytes
    }

    /// Begins a change by this actor, whose events belong to this group.
    pub(super) fn begin_change(&mut self, actor: ActorRef, group: EventGroup) {
        self.actor = actor;
        self.group = group;
    }

    fn touch(&mut self, kind: Kind, number: u64) {
        self.changes
            .touched
            .insert((kind, number), self.changes.job);
        self.changes.touches += 1;
    }

    /// Lets a newcomer in: where the room or a part of it is full, others go.
    pub(crate) fn enter<T: InRoom>(&mut self, newcomer: T, limits: &Limits<T::Group>) {
        for number in T::room(&self.state).expired(self.now) {
            self.remove::<T>(number);
        }
        loop {
            let room = T::room(&self.state);
            let places = T::places(&self.places);
            let Some(number) = places.in_the_way(room, &newcomer, limits) else {
                break;
            };
            self.remove::<T>(number);
        }
        self.put(newcomer.into());
    }

    /// Changes a record; whether it is there.
    pub(crate) fn change<T: InRoom>(&mut self, id: T::Id, change: impl FnOnce(T) -> T) -> bool {
        let Some(body) = T::room(&self.state).body(id.into()) else {
            return false;
        };
        let Body { record, unknown } = (**body).clone();
        self.put(Body {
            record: change(record),
            unknown,
        });
        true
    }

    fn put<T: InRoom>(&mut self, body: Body<T>) {
        self.touch(T::KIND, body.record.number());
        T::places_mut(&mut self.places).put(&body.record);
        self.state.put(body);
    }

    /// Lets a record go.
    pub(crate) fn remove<T: InRoom>(&mut self, number: u64) {
        self.touch(T::KIND, number);
        T::places_mut(&mut self.places).remove(number);
        self.state.remove_from::<T>(number);
    }

    /// Lets go of everything whose time is over.
    pub(super) fn sweep(&mut self) {
        for (kind, number) in self.state.expired(self.now) {
            self.touch(kind, number);
            self.state.remove(kind, number);
        }
        self.places = AllPlaces::of(&self.state);
    }

    /// The draft as it is now, to go back to.
    pub(super) fn save(&self) -> Saved {
        Saved {
            state: self.state.clone(),
            touched: self.changes.touched.clone(),
            audit: self.changes.audit.len(),
            births: self.changes.births.len(),
        }
    }

    /// Goes back to what the draft was.
    pub(super) fn undo(&mut self, saved: Saved) {
        self.state = saved.state;
        self.places = AllPlaces::of(&self.state);
        self.changes.touched = saved.touched;
        self.changes.audit.truncate(saved.audit);
        self.changes.births.truncate(saved.births);
    }

    /// Notes in the server's own log what the actor did.
    pub(crate) fn audit(&mut self, event: &Event) {
        self.changes.touches += 1;
        let row = event.row(self.now, &self.actor, self.group);
        self.changes.audit.push(row);
    }

    /// A draft of a tailnet that is to begin with this change.
    pub(crate) fn tailnet(&self, empty: Snapshot) -> Draft<'a> {
        let mut draft = Draft::new(empty, self.now, self.ids, self.random);
        draft.begin_group(self.group);
        draft
    }

    /// Whether a tailnet of this name begins with this change.
    pub(crate) fn begins(&self, name: &str) -> bool {
        let mut births = self.changes.births.iter();
        births.any(|birth| birth.snapshot.tailnet().name.eq_ignore_ascii_case(name))
    }

    /// Lets a tailnet begin with this change: its rows, its head and its audit events are stored in
    /// the same transaction.
    ///
    /// # Errors
    /// When an object cannot be encoded.
    pub(crate) fn begin(&mut self, draft: Draft<'_>) -> Result<(), BodyError> {
        let id: TailnetId = draft.view().id();
        let mut batch = Batch::new(id, 0, [0; 16], self.now);
        batch.puts = draft.rows()?.puts;
        // It has one from the start, though nobody has set it.
        if !batch.puts.iter().any(|put| put.kind == Kind::Policy) {
            let policy = draft::encode(&draft.snapshot, ObjectId::of::<PolicyFile>(id))?;
            batch.puts.extend(policy);
        }
        batch.audit = draft.audit_rows()?;
        self.changes.touches += 1;
        self.changes.births.push(Birth {
            snapshot: draft.snapshot,
            batch,
            job: self.changes.job,
        });
        Ok(())
    }

    /// The transaction of this draft, made from `base`; `None` when there is nothing to store.
    pub(super) fn transaction(&self, base: &ServerState) -> Result<Option<Transaction>, BodyError> {
        let mut jobs = Vec::new();
        let mut batch = Batch::new(Owner::Server, base.seq, self.random(), self.now);
        for ((kind, number), job) in &self.changes.touched {
            if let Some(put) = self.state.row(*kind, *number)? {
                batch.puts.push(put);
                jobs.push(*job);
            } else if base.has(*kind, *number) {
                batch.deletes.push(Delete {
                    kind: *kind,
                    id: *number,
                });
            } // else it came and went between two commits
        }
        for birth in &self.changes.births {
            let commit_id = batch.commit_id;
            let own = Batch {
                commit_id,
                ..birth.batch.clone()
            };
            jobs.extend(own.puts.iter().map(|_: &Put| birth.job));
            batch.births.push(own);
        }
        let audit = self.changes.audit.iter().map(|event| {
            Ok(AuditRow {
                id: self.new_id(),
                at: event.at,
                body: record::encode(event)?,
            })
        });
        batch.audit = audit.collect::<Result<_, BodyError>>()?;
        let is_empty = batch.puts.is_empty()
            && batch.deletes.is_empty()
            && batch.audit.is_empty()
            && batch.births.is_empty();
        Ok((!is_empty).then_some(Transaction { batch, jobs }))
    }
}
