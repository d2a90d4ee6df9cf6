//! The draft that a change works on: a copy of the snapshot that notes what was touched.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bowline_model::audit::{ActorRef, EventGroup};
use bowline_model::device::{Device, Live};
use bowline_model::event::Event;
use bowline_model::id::DeviceId;
use bowline_model::key::NodeKey;
use bowline_model::kind::{Cold, Kind, ObjectId};
use bowline_model::policy_file::PolicyFile;
use bowline_model::record::{self, Body, BodyError};
use bowline_model::requirement::Denied;
use bowline_netmap::hot::{Hot, hot};
use bowline_netmap::snapshot::Snapshot;
use bowline_policy::Policy;
use bowline_store::{AuditRow, Delete, JobRow, Put, Row, Sealer, TextRow};
use jiff::Timestamp;

use crate::core::actor::Actor;
use crate::core::clock::{Ids, Random};
use crate::core::failure::StoreFailure;

/// A change in the making.
pub(crate) struct Draft<'a> {
    pub(crate) snapshot: Snapshot,
    pub(crate) changes: Changes,
    actor: Actor,
    /// What the events have in common from here on.
    group: EventGroup,
    now: Timestamp,
    ids: &'a Ids,
    random: &'a dyn Random,
}

/// What a draft has touched.
#[derive(Debug, Clone, Default)]
pub(crate) struct Changes {
    /// Rows to write or to remove.
    pub(crate) rows: BTreeMap<ObjectId, RowChange>,
    /// What was done, in order.
    pub(crate) events: Vec<Noted>,
    /// What is to be done after the change.
    pub(crate) jobs: Vec<JobRow>,
    /// Large texts that events refer to.
    pub(crate) texts: Vec<TextRow>,
    /// Sealed secrets, by name.
    pub(crate) secrets: BTreeMap<String, Option<Vec<u8>>>,
    /// Whose change it is that runs now.
    pub(crate) author: Author,
    /// Devices whose soft state changed.
    pub(crate) soft: BTreeSet<DeviceId>,
    /// Devices whose reported facts changed: durable within a second, not before the answer.
    pub(crate) reported: BTreeSet<DeviceId>,
    /// Every hot object that was touched, or only looked at because it seemed due: when it is due, and
    /// where the directory finds it, may be another.
    pub(crate) touched: BTreeSet<ObjectId>,
    /// Whether all of the snapshot may differ: it was read from the database again.
    pub(crate) everything: bool,
}

/// An event, and who did it when.
#[derive(Debug, Clone)]
pub(crate) struct Noted {
    pub(crate) event: Event,
    pub(crate) at: Timestamp,
    pub(crate) actor: ActorRef,
    pub(crate) group: EventGroup,
}

/// What becomes of one row.
#[derive(Debug, Clone)]
pub(crate) struct RowChange {
    pub(crate) write: Write,
    /// Whose change touched it last.
    pub(crate) author: Author,
}

/// How a row is written.
#[derive(Debug, Clone)]
pub(crate) enum Write {
    /// As the object stands in the snapshot when all closures have run.
    Hot,
    /// Like this: the snapshot does not have it.
    Cold(Put),
    /// Not any more.
    Remove,
}

/// Whose change a row is of, so that a row which the database refuses costs that change alone.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Author {
    /// Nobody waits for it: something fell due, or a device reported it.
    #[default]
    Nobody,
    /// The change in this place of its batch.
    Caller(usize),
}

/// A job that a change makes.
#[derive(Debug, Clone)]
pub(crate) struct Emitted {
    /// What kind of work it is.
    pub(crate) topic: &'static str,
    /// Jobs of one lane are done one after the other.
    pub(crate) lane: Option<String>,
    /// One job of a name waits: a second one changes nothing.
    pub(crate) name: Option<String>,
    /// What is to be done.
    pub(crate) body: serde_json::Value,
}

/// Rows of a draft for the store.
#[derive(Debug, Default)]
pub(crate) struct Rows {
    pub(crate) puts: Vec<Put>,
    /// By place in `puts`.
    pub(crate) authors: Vec<Author>,
    pub(crate) deletes: Vec<Delete>,
}

impl Changes {
    /// Notes that an object was touched, or looked at because it seemed due.
    pub(crate) fn touch<T: Hot>(&mut self, id: T::Id) {
        self.touched.insert(ObjectId::of::<T>(id));
    }

    /// Touched objects of one kind.
    pub(crate) fn touched<T: Hot>(&self) -> impl Iterator<Item = T::Id> {
        self.touched_numbers(T::KIND)
            .filter_map(|number| T::Id::try_from(number).ok())
    }

    /// The same as numbers.
    pub(crate) fn touched_numbers(&self, kind: Kind) -> impl Iterator<Item = u64> {
        let of = |number| ObjectId { kind, number };
        let touched = self.touched.range(of(0)..=of(u64::MAX));
        touched.map(|object| object.number)
    }

    /// Everything that is in one of two states may differ: the second was read from the database again.
    pub(crate) fn all_of(old: &Snapshot, new: &Snapshot) -> Self {
        let mut changes = Self {
            everything: true,
            ..Self::default()
        };
        for kind in Kind::all() {
            let Some(objects) = hot(kind) else { continue };
            let numbers = objects.ids(old).into_iter().chain(objects.ids(new));
            changes
                .touched
                .extend(numbers.map(|number| ObjectId { kind, number }));
        }
        changes
    }

    /// Node keys that were good in one state and are not in the next, where these are the changes
    /// between the two.
    pub(crate) fn ended_node_keys(&self, old: &Snapshot, new: &Snapshot) -> Vec<NodeKey> {
        let ended = |object: &ObjectId| {
            let objects = hot(object.kind);
            objects.map_or_else(Vec::new, |it| it.ended_node_keys(old, new, object.number))
        };
        self.touched.iter().flat_map(ended).collect()
    }
}

impl<'a> Draft<'a> {
    pub(crate) fn new(
        snapshot: Snapshot,
        now: Timestamp,
        ids: &'a Ids,
        random: &'a dyn Random,
    ) -> Self {
        Self {
            actor: Actor::system(snapshot.id()),
            snapshot,
            changes: Changes::default(),
            group: EventGroup::new([0; 16]),
            now,
            ids,
            random,
        }
    }

    /// The state so far, this change included.
    pub(crate) fn view(&self) -> &Snapshot {
        &self.snapshot
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

    fn record(&mut self, id: ObjectId, write: Write) {
        let author = self.changes.author;
        self.changes.rows.insert(id, RowChange { write, author });
    }

    /// Writes an object: a new one, or in the place of the one with its id.
    pub(crate) fn put<T: Hot>(&mut self, object: T) {
        let id = object.id(self.snapshot.id());
        self.record(ObjectId::of::<T>(id), Write::Hot);
        self.changes.touch::<T>(id);
        T::put(&mut self.snapshot, object);
    }

    /// Removes an object, where there is one.
    pub(crate) fn remove<T: Hot>(&mut self, id: T::Id) {
        self.remove_hot(ObjectId::of::<T>(id));
    }

    fn remove_hot(&mut self, id: ObjectId) {
        self.record(id, Write::Remove);
        self.changes.touched.insert(id);
        if let Some(device) = id.get::<Device>() {
            self.changes.reported.remove(&device);
        }
        if let Some(objects) = hot(id.kind) {
            objects.remove(&mut self.snapshot, id.number);
        }
    }

    /// Takes a row in that another process wrote.
    ///
    /// # Errors
    /// When its body cannot be read.
    pub(crate) fn take_in(&mut self, row: &Row) -> Result<(), BodyError> {
        let Some(objects) = hot(row.kind) else {
            return Ok(());
        };
        objects.read(&mut self.snapshot, row.id, &row.body)?;
        let id = ObjectId {
            kind: row.kind,
            number: row.id,
        };
        self.record(id, Write::Hot);
        self.changes.touched.insert(id);
        Ok(())
    }

    /// Takes in that another process removed a row.
    pub(crate) fn take_out(&mut self, kind: Kind, number: u64) {
        self.remove_hot(ObjectId { kind, number });
    }

    /// Writes an object that is in the database only, in the transaction of this change. Until that is
    /// stored, nobody finds it.
    ///
    /// # Errors
    /// When it cannot be written as JSON.
    pub(crate) fn put_cold<T: Cold>(&mut self, body: &Body<T>) -> Result<(), StoreFailure> {
        let text = body
            .encode()
            .map_err(|_| StoreFailure::Defect("an object cannot be encoded"))?;
        let id = ObjectId::of::<T>(body.record.id(self.snapshot.id()));
        let put = Put {
            columns: body.record.columns(),
            expires: body.record.expires(),
            ..Put::new(T::KIND, id.number, text)
        };
        self.record(id, Write::Cold(put));
        Ok(())
    }

    /// Removes an object that is in the database only, where there is one.
    pub(crate) fn remove_cold<T: Cold>(&mut self, id: T::Id) {
        self.record(ObjectId::of::<T>(id), Write::Remove);
    }

    /// Replaces a device's record with what the device itself reported: published at once, durable
    /// within a second, without an audit event.
    pub(crate) fn report_device(&mut self, device: Device) {
        self.changes.reported.insert(device.id);
        self.changes.touch::<Device>(device.id);
        self.snapshot.put_device(device);
    }

    /// Replaces a device's soft state.
    pub(crate) fn set_live(&mut self, id: DeviceId, live: Live) {
        self.changes.soft.insert(id);
        self.changes.touch::<Device>(id);
        self.snapshot.set_live(id, live);
    }

    /// Writes a policy file whose text has been read before.
    pub(crate) fn put_parsed_policy(&mut self, file: PolicyFile, policy: Arc<Policy>) {
        let id = self.snapshot.id();
        self.record(ObjectId::of::<PolicyFile>(id), Write::Hot);
        self.changes.touch::<PolicyFile>(id);
        self.snapshot.set_parsed_policy(file, policy);
    }

    /// Notes what the actor did: the audit row, and whatever else is told of it, follows from it.
    pub(crate) fn audit(&mut self, event: Event) {
        self.changes.events.push(Noted {
            event,
            at: self.now,
            actor: self.actor.audit_ref(),
            group: self.group,
        });
    }

    /// Begins another group of events.
    pub(crate) fn begin_group(&mut self, group: EventGroup) {
        self.group = group;
    }

    /// Lets a job be done after this change, which is made in its transaction: it is there when the
    /// change is, and never without it.
    pub(crate) fn emit(&mut self, job: Emitted) {
        let row = JobRow {
            id: self.new_id(),
            topic: job.topic.to_owned(),
            lane: job.lane,
            name: job.name,
            at: self.now,
            due_at: self.now,
            body: job.body.to_string().into(),
        };
        self.changes.jobs.push(row);
    }

    /// Keeps a large text, so that events can refer to it by its hash.
    pub(crate) fn keep_text(&mut self, text: &str) {
        self.changes.texts.push(TextRow::new(self.now, text));
    }

    /// Seals a secret that the server itself must use again, in the transaction of the object that it
    /// belongs to.
    ///
    /// # Errors
    /// When it is too long to be sealed.
    pub(crate) fn put_secret(
        &mut self,
        sealer: &Sealer,
        name: &str,
        secret: &[u8],
    ) -> Result<(), StoreFailure> {
        let sealed = sealer
            .seal(self.snapshot.id(), name, secret, self.random())
            .map_err(|_| StoreFailure::Defect("a secret cannot be sealed"))?;
        self.changes.secrets.insert(name.to_owned(), Some(sealed));
        Ok(())
    }

    /// Removes a secret with the object that it belongs to.
    pub(crate) fn remove_secret(&mut self, name: &str) {
        self.changes.secrets.insert(name.to_owned(), None);
    }

    /// Who makes this change: with the role, the scopes and the name of this state.
    pub(crate) fn actor(&self) -> &Actor {
        &self.actor
    }

    /// Lets an actor make the change who asked for it earlier: as who they are in this state, and if
    /// they may still do what they asked for.
    ///
    /// # Errors
    /// How they are refused.
    pub(crate) fn let_in(&mut self, asked: &Actor) -> Result<(), Denied> {
        let actor = asked.resolve(&self.snapshot, self.now)?;
        actor.check_change()?;
        self.actor = actor;
        if let Some(group) = asked.group() {
            self.group = group;
        }
        Ok(())
    }

    /// Acts in another name from here on, unchecked.
    pub(crate) fn act_as(&mut self, actor: Actor) {
        self.actor = actor;
    }

    /// The rows of this draft for the store.
    pub(crate) fn rows(&self) -> Result<Rows, BodyError> {
        let mut rows = Rows::default();
        for (id, change) in &self.changes.rows {
            let put = match &change.write {
                Write::Hot => encode(&self.snapshot, *id)?,
                Write::Cold(put) => Some(put.clone()),
                Write::Remove => {
                    rows.deletes.push(Delete {
                        kind: id.kind,
                        id: id.number,
                    });
                    None
                }
            };
            if let Some(put) = put {
                rows.puts.push(put);
                rows.authors.push(change.author);
            }
        }
        Ok(rows)
    }

    pub(crate) fn audit_rows(&self) -> Result<Vec<AuditRow>, BodyError> {
        self.changes
            .events
            .iter()
            .map(|noted| {
                let event = noted.event.row(noted.at, &noted.actor, noted.group);
                Ok(AuditRow {
                    id: self.new_id(),
                    at: noted.at,
                    body: record::encode(&event)?,
                })
            })
            .collect()
    }
}

/// The row of one object as it stands in a snapshot; `None` when it is not there.
pub(crate) fn encode(snapshot: &Snapshot, id: ObjectId) -> Result<Option<Put>, BodyError> {
    let Some(objects) = hot(id.kind) else {
        return Ok(None);
    };
    let encoded = objects.encode(snapshot, id.number)?;
    Ok(encoded.map(|encoded| Put {
        columns: encoded.columns,
        ..Put::new(id.kind, id.number, encoded.body)
    }))
}
