//! Objects of the kinds that have no place of their own in a snapshot.

use std::sync::Arc;

use bowline_model::kind::Stored;
use imbl::OrdMap;

/// Objects of a hot kind, by id.
#[derive(Debug, Clone)]
pub(crate) struct Table<T: Stored>(OrdMap<T::Id, Arc<T>>);

impl<T: Stored> Default for Table<T> {
    fn default() -> Self {
        Self(OrdMap::new())
    }
}

impl<T: Stored> Table<T> {
    /// The object with this id.
    pub(crate) fn get(&self, id: T::Id) -> Option<&Arc<T>> {
        self.0.get(&id)
    }

    /// All objects, by id.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<T>> {
        self.0.values()
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn put(&mut self, id: T::Id, object: T) {
        self.0.insert(id, Arc::new(object));
    }

    pub(crate) fn remove(&mut self, id: T::Id) {
        self.0.remove(&id);
    }
}

macro_rules! define {
    (
        own { $($own:tt)* }
        tables { $($(#[$doc:meta])* $kind:ident($record:ty) $table:ident)* }
        server { $($server:tt)* }
        cold { $($cold:tt)* }
    ) => {
        /// A table for each of these kinds.
        #[derive(Debug, Clone, Default)]
        pub(crate) struct Tables {
            $($(#[$doc])* pub(crate) $table: Table<$record>,)*
        }
    };
}

bowline_model::stored_kinds!(define);
