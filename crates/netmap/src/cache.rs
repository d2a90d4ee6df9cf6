//! What is made once for many viewers of a publication.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex};

/// The most values that one cache holds: one for each class of viewers, and publication that they
/// come from.
const REMEMBERED: usize = 4096;

/// Values by key. It is emptied when it is full.
#[derive(Debug)]
pub(crate) struct Cache<K, V>(Mutex<HashMap<K, Arc<V>>>);

impl<K, V> Default for Cache<K, V> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Eq + Hash, V> Cache<K, V> {
    /// The value of a key, made where there is none. It is made outside the lock: two viewers may do
    /// the same work once, but none waits for another's.
    pub(crate) fn get_or_make(&self, key: K, make: impl FnOnce() -> V) -> Arc<V> {
        if let Ok(known) = self.0.lock()
            && let Some(found) = known.get(&key)
        {
            return found.clone();
        }
        let made = Arc::new(make());
        if let Ok(mut known) = self.0.lock() {
            if known.len() >= REMEMBERED {
                known.clear();
            }
            known.insert(key, made.clone());
        }
        made
    }
}
