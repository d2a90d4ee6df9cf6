//! What subjects keep in memory beside the snapshots, of a tailnet or of the server: requests that
//! wait, allowances, counts by source. Nothing of it is acknowledged to anybody, and a restart begins
//! anew.

use std::any::{Any, TypeId};
use std::sync::Arc;

/// One value of each type that some subject keeps.
#[derive(Default)]
pub(crate) struct Memory(papaya::HashMap<TypeId, Arc<dyn Any + Send + Sync>>);

impl Memory {
    /// The value of this type, made when it is asked for first.
    pub(crate) fn get<T: Send + Sync + 'static>(&self, make: impl Fn() -> T) -> Arc<T> {
        let values = self.0.pin();
        let value = values.get_or_insert_with(TypeId::of::<T>(), || Arc::new(make()));
        // The key is the type, so the value is of it.
        value
            .clone()
            .downcast()
            .unwrap_or_else(|_| Arc::new(make()))
    }
}
