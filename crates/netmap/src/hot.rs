//! Hot kinds: the stored objects that are in the snapshot, and what is done with all of them alike.

use std::sync::Arc;

use bowline_model::device::Device;
use bowline_model::dns::Dns;
use bowline_model::event::told::{Account, Told, Untold};
use bowline_model::id::{DeviceId, TailnetId, UserId};
use bowline_model::key::NodeKey;
use bowline_model::kind::{Column, Kind, ObjectId, Stored};
use bowline_model::policy_file::PolicyFile;
use bowline_model::record::{self, Body, BodyError};
use bowline_model::tailnet::Tailnet;
use bowline_model::user::User;

use crate::chunk::Entry;
use crate::snapshot::Snapshot;

/// A stored kind whose objects are all in the snapshot of their tailnet.
pub trait Hot: Told {
    /// The object with this id.
    fn get(snapshot: &Snapshot, id: Self::Id) -> Option<&Arc<Self>>;

    /// Adds the object, or puts it in the place of the one with its id.
    fn put(snapshot: &mut Snapshot, object: Self);

    /// Removes the object, where there is one. What a tailnet has one of is as in a new tailnet then.
    fn remove(snapshot: &mut Snapshot, id: Self::Id);

    /// Puts the object as it is in another state of the same tailnet.
    fn carry(from: &Snapshot, to: &mut Snapshot, object: &Arc<Self>) {
        let _ = from;
        Self::put(to, (**object).clone());
    }

    /// All objects of the kind.
    fn all(snapshot: &Snapshot) -> Box<dyn Iterator<Item = &Arc<Self>> + '_>;

    /// The node keys that stop being good from one state to the next because of the object.
    fn ended_node_keys(_old: &Snapshot, _new: &Snapshot, _id: Self::Id) -> Vec<NodeKey> {
        Vec::new()
    }
}

impl Snapshot {
    /// An object of a hot kind.
    pub fn get<T: Hot>(&self, id: T::Id) -> Option<&Arc<T>> {
        T::get(self, id)
    }
}

/// An object as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoded {
    /// Its body, with the members that this program does not know.
    pub body: Box<str>,
    /// Values of its unique columns.
    pub columns: Vec<(Column, String)>,
}

/// A hot kind whose record is known only when the program runs: [`hot`].
pub trait HotKind: Sync {
    /// Reads a stored body, and puts the object into the snapshot.
    ///
    /// # Errors
    /// When the body cannot be read: the snapshot is as it was.
    fn read(&self, snapshot: &mut Snapshot, id: u64, body: &str) -> Result<(), BodyError>;

    /// The object as it is stored; `None` where there is none.
    ///
    /// # Errors
    /// When it cannot be written as JSON.
    fn encode(&self, snapshot: &Snapshot, id: u64) -> Result<Option<Encoded>, BodyError>;

    /// Makes the object in `to` what it is in `from`, also where it is not there. What is the same
    /// already keeps its place in memory.
    fn copy(&self, from: &Snapshot, to: &mut Snapshot, id: u64);

    /// Removes the object, where there is one.
    fn remove(&self, snapshot: &mut Snapshot, id: u64);

    /// Numbers of all objects of the kind.
    fn ids(&self, snapshot: &Snapshot) -> Vec<u64>;

    /// Checks that the events of a change tell what it changed of the object. `old` is absent where
    /// the tailnet is new.
    ///
    /// # Errors
    /// With what no event tells.
    fn check_told(
        &self,
        account: &Account,
        old: Option<&Snapshot>,
        new: &Snapshot,
        id: u64,
    ) -> Result<(), Untold>;

    /// The node keys that stop being good from one state to the next because of the object.
    fn ended_node_keys(&self, old: &Snapshot, new: &Snapshot, id: u64) -> Vec<NodeKey>;
}

struct Of<T>(std::marker::PhantomData<fn() -> T>);

impl<T: Hot> Of<T> {
    fn object(snapshot: &Snapshot, id: u64) -> Option<&Arc<T>> {
        T::get(snapshot, T::Id::try_from(id).ok()?)
    }
}

impl<T: Hot> HotKind for Of<T> {
    fn read(&self, snapshot: &mut Snapshot, id: u64, body: &str) -> Result<(), BodyError> {
        let body = Body::<T>::decode(body)?;
        T::put(snapshot, body.record);
        snapshot.set_unknown(object_id::<T>(id), body.unknown);
        Ok(())
    }

    fn encode(&self, snapshot: &Snapshot, id: u64) -> Result<Option<Encoded>, BodyError> {
        let Some(object) = Self::object(snapshot, id) else {
            return Ok(None);
        };
        let body = match snapshot.unknown(object_id::<T>(id)) {
            Some(unknown) => record::encode_with(&**object, unknown)?,
            None => record::encode(&**object)?,
        };
        Ok(Some(Encoded {
            body,
            columns: object.columns(),
        }))
    }

    fn copy(&self, from: &Snapshot, to: &mut Snapshot, id: u64) {
        match Self::object(from, id) {
            Some(object) if Self::object(to, id) != Some(object) => T::carry(from, to, object),
            Some(_) => {}
            None => self.remove(to, id),
        }
        let place = object_id::<T>(id);
        to.set_unknown(place, from.unknown(place).cloned().unwrap_or_default());
    }

    fn remove(&self, snapshot: &mut Snapshot, id: u64) {
        if let Ok(own) = T::Id::try_from(id) {
            T::remove(snapshot, own);
            snapshot.set_unknown(object_id::<T>(id), record::Unknown::default());
        }
    }

    fn ids(&self, snapshot: &Snapshot) -> Vec<u64> {
        let tailnet = snapshot.id();
        T::all(snapshot)
            .map(|object| object.id(tailnet).into())
            .collect()
    }

    fn check_told(
        &self,
        account: &Account,
        old: Option<&Snapshot>,
        new: &Snapshot,
        id: u64,
    ) -> Result<(), Untold> {
        let old = old.and_then(|old| Self::object(old, id));
        let new = Self::object(new, id);
        let subject = object_id::<T>(id);
        account.check::<T>(subject, old.map(|old| &**old), new.map(|new| &**new))
    }

    fn ended_node_keys(&self, old: &Snapshot, new: &Snapshot, id: u64) -> Vec<NodeKey> {
        T::Id::try_from(id).map_or_else(|_| Vec::new(), |id| T::ended_node_keys(old, new, id))
    }
}

fn object_id<T: Stored>(number: u64) -> ObjectId {
    ObjectId {
        kind: T::KIND,
        number,
    }
}

macro_rules! define {
    (
        own { $($(#[$own_doc:meta])* $own:ident($own_record:ty))* }
        tables { $($(#[$doc:meta])* $kind:ident($record:ty) $table:ident)* }
        server { $($server:tt)* }
        cold { $($cold:tt)* }
    ) => {
        $(impl Hot for $record {
            fn get(snapshot: &Snapshot, id: Self::Id) -> Option<&Arc<Self>> {
                snapshot.tables().$table.get(id)
            }

            fn put(snapshot: &mut Snapshot, object: Self) {
                let id = object.id(snapshot.id());
                snapshot.tables_mut().$table.put(id, object);
            }

            fn remove(snapshot: &mut Snapshot, id: Self::Id) {
                snapshot.tables_mut().$table.remove(id);
            }

            fn all(snapshot: &Snapshot) -> Box<dyn Iterator<Item = &Arc<Self>> + '_> {
                Box::new(snapshot.tables().$table.iter())
            }
        })*

        /// What is done with objects of a kind; `None` where it is not hot.
        pub fn hot(kind: Kind) -> Option<&'static dyn HotKind> {
            match kind {
                $(Kind::$own => Some(const { &Of::<$own_record>(std::marker::PhantomData) }),)*
                $(Kind::$kind => Some(const { &Of::<$record>(std::marker::PhantomData) }),)*
                _ => None,
            }
        }
    };
}

bowline_model::stored_kinds!(define);

impl Hot for Tailnet {
    fn get(snapshot: &Snapshot, id: TailnetId) -> Option<&Arc<Self>> {
        (id == snapshot.id()).then(|| snapshot.tailnet())
    }

    fn put(snapshot: &mut Snapshot, object: Self) {
        snapshot.set_tailnet(object);
    }

    /// Does nothing: a tailnet goes with its snapshot.
    fn remove(_: &mut Snapshot, _: TailnetId) {}

    fn all(snapshot: &Snapshot) -> Box<dyn Iterator<Item = &Arc<Self>> + '_> {
        Box::new(std::iter::once(snapshot.tailnet()))
    }
}

impl Hot for User {
    fn get(snapshot: &Snapshot, id: UserId) -> Option<&Arc<Self>> {
        snapshot.user(id)
    }

    fn put(snapshot: &mut Snapshot, object: Self) {
        snapshot.put_user(object);
    }

    fn remove(snapshot: &mut Snapshot, id: UserId) {
        snapshot.remove_user(id);
    }

    fn all(snapshot: &Snapshot) -> Box<dyn Iterator<Item = &Arc<Self>> + '_> {
        Box::new(snapshot.users())
    }

    /// Those of the devices whose user may no longer use the network.
    fn ended_node_keys(old: &Snapshot, new: &Snapshot, id: UserId) -> Vec<NodeKey> {
        let is_held = |state: &Snapshot| state.user(id).is_some_and(|user| !user.is_active());
        if !is_held(new) || is_held(old) {
            return Vec::new();
        }
        let ended =
            |entry: &Arc<Entry>| entry.ended_node_key(new.device(entry.device.id).map(|it| &**it));
        old.devices_of(id).filter_map(ended).collect()
    }
}

impl Hot for Device {
    fn get(snapshot: &Snapshot, id: DeviceId) -> Option<&Arc<Self>> {
        snapshot.device(id).map(|entry| &entry.device)
    }

    fn put(snapshot: &mut Snapshot, object: Self) {
        snapshot.put_device(object);
    }

    fn remove(snapshot: &mut Snapshot, id: DeviceId) {
        snapshot.remove_device(id);
    }

    fn all(snapshot: &Snapshot) -> Box<dyn Iterator<Item = &Arc<Self>> + '_> {
        Box::new(snapshot.devices().map(|entry| &entry.device))
    }

    fn ended_node_keys(old: &Snapshot, new: &Snapshot, id: DeviceId) -> Vec<NodeKey> {
        let ended = old.device(id).and_then(|entry| {
            let next = new.device(id);
            entry.ended_node_key(next.map(|next| &**next))
        });
        ended.into_iter().collect()
    }
}

impl Hot for Dns {
    fn get(snapshot: &Snapshot, id: TailnetId) -> Option<&Arc<Self>> {
        (id == snapshot.id()).then(|| snapshot.dns())
    }

    fn put(snapshot: &mut Snapshot, object: Self) {
        snapshot.set_dns(object);
    }

    fn remove(snapshot: &mut Snapshot, _: TailnetId) {
        snapshot.set_dns(Self::default());
    }

    fn all(snapshot: &Snapshot) -> Box<dyn Iterator<Item = &Arc<Self>> + '_> {
        Box::new(std::iter::once(snapshot.dns()))
    }
}

impl Hot for PolicyFile {
    fn get(snapshot: &Snapshot, id: TailnetId) -> Option<&Arc<Self>> {
        (id == snapshot.id()).then(|| snapshot.policy())
    }

    fn put(snapshot: &mut Snapshot, object: Self) {
        snapshot.set_policy(object);
    }

    /// Its text has been read before.
    fn carry(from: &Snapshot, to: &mut Snapshot, object: &Arc<Self>) {
        to.set_parsed_policy((**object).clone(), Arc::clone(from.compiled().policy()));
    }

    fn remove(snapshot: &mut Snapshot, _: TailnetId) {
        snapshot.set_policy(Self::untouched());
    }

    fn all(snapshot: &Snapshot) -> Box<dyn Iterator<Item = &Arc<Self>> + '_> {
        Box::new(std::iter::once(snapshot.policy()))
    }
}
