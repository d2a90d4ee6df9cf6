//! Who is connected: node keys and their connections.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use bowline_model::key::NodeKey;
use smallvec::SmallVec;

use super::{
    outbox::{End, Link},
    stats::{Counters, add, sub},
};

/// Whom a client has sent packets to, with the connection that got them: they are told when the
/// client is gone.
pub(super) type Contacts = HashMap<NodeKey, u64>;

const SHARDS: usize = 64;

/// All connections past the handshake, by key.
///
/// Split into shards with a lock each, held for a look-up only.
#[derive(Debug)]
pub(super) struct Registry {
    shards: Box<[Mutex<HashMap<NodeKey, Station>>]>,
    next_id: AtomicU64,
}

/// The connections of one key.
#[derive(Debug, Default)]
struct Station {
    /// By when they last sent a frame, the latest last: that one gets the traffic. The others stay
    /// open, since a client whose connection is closed comes back at once.
    links: SmallVec<[Arc<Link>; 1]>,
    /// Contacts of connections that ended while the key had others.
    contacts: Option<Box<Contacts>>,
}

impl Default for Registry {
    fn default() -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            next_id: AtomicU64::default(),
        }
    }
}

impl Registry {
    fn shard(&self, key: &NodeKey) -> MutexGuard<'_, HashMap<NodeKey, Station>> {
        // Keys are points of a curve, as good as random in every byte but the last.
        let shard = usize::from(key.as_bytes()[0]) % SHARDS;
        self.shards[shard]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a connection, which is the active one of its key from now on. When the key has `most`
    /// already, the one that was silent for longest is ended.
    pub(super) fn register(&self, key: NodeKey, most: usize, counters: &Counters) -> Arc<Link> {
        let link = Arc::new(Link::new(self.next_id.fetch_add(1, Relaxed), key));
        let mut shard = self.shard(&key);
        let links = &mut shard.entry(key).or_default().links;
        // More than one when those ended before have not left yet.
        let excess = (links.len() + 1).saturating_sub(most.max(1));
        links[..excess]
            .iter()
            .for_each(|link| link.end(End::Superseded));
        links.push(Arc::clone(&link));
        if links.len() > 1 {
            links
                .iter()
                .for_each(|link| link.has_twins.store(true, Relaxed));
            add(
                &counters.duplicate_connections,
                if links.len() == 2 { 2 } else { 1 },
            );
        }
        link
    }

    /// Removes a connection. When its key has no other, gives everyone to be told, which includes
    /// the contacts of the key's earlier connections.
    pub(super) fn remove(
        &self,
        link: &Link,
        contacts: Contacts,
        counters: &Counters,
    ) -> Option<Contacts> {
        let mut shard = self.shard(&link.key);
        let station = shard.get_mut(&link.key)?;
        let before = station.links.len();
        station.links.retain(|other| other.id != link.id);
        match station.links.as_slice() {
            [] => {
                let mut all = shard
                    .remove(&link.key)?
                    .contacts
                    .map(|kept| *kept)
                    .unwrap_or_default();
                all.extend(contacts);
                return Some(all);
            }
            [last] if before == 2 => {
                last.has_twins.store(false, Relaxed);
                sub(&counters.duplicate_connections, 2);
            }
            rest => sub(
                &counters.duplicate_connections,
                (before - rest.len()) as u64,
            ),
        }
        if !contacts.is_empty() {
            station.contacts.get_or_insert_default().extend(contacts);
        }
        None
    }

    /// Makes a connection that just sent a frame the active one of its key.
    pub(super) fn touch(&self, link: &Link) {
        let mut shard = self.shard(&link.key);
        let Some(station) = shard.get_mut(&link.key) else {
            return;
        };
        if let Some(at) = station.links.iter().position(|other| other.id == link.id) {
            station.links[at..].rotate_left(1);
        }
    }

    /// The connection of a key that gets its traffic.
    pub(super) fn active(&self, key: &NodeKey) -> Option<Arc<Link>> {
        self.shard(key).get(key)?.links.last().cloned()
    }

    /// One particular connection of a key, if it is still there.
    pub(super) fn link(&self, key: &NodeKey, id: u64) -> Option<Arc<Link>> {
        self.shard(key)
            .get(key)?
            .links
            .iter()
            .find(|link| link.id == id)
            .cloned()
    }

    /// Ends all connections of a key, and says how many.
    pub(super) fn close(&self, key: &NodeKey) -> usize {
        let shard = self.shard(key);
        let Some(station) = shard.get(key) else {
            return 0;
        };
        station.links.iter().for_each(|link| link.end(End::Revoked));
        station.links.len()
    }
}
