//! Who is connected: node keys and their connections.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use bowline_model::{id::TailnetId, key::NodeKey};
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
    /// already, the one that was silent for longest is ended. Connections that were admitted for
    /// another tailnet are ended: a device is in one, so the key has moved.
    pub(super) fn register(
        &self,
        key: NodeKey,
        tailnet: TailnetId,
        source: IpAddr,
        most: usize,
        counters: &Counters,
    ) -> Arc<Link> {
        let id = self.next_id.fetch_add(1, Relaxed);
        let link = Arc::new(Link::new(id, key, tailnet, source));
        let mut shard = self.shard(&key);
        let links = &mut shard.entry(key).or_default().links;
        links
            .iter()
            .filter(|other| other.tailnet != tailnet)
            .for_each(|other| other.end(End::Revoked));
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

    /// The connection that gets the traffic of a key from its own tailnet. Nothing for a key of
    /// another tailnet: whether it is connected is none of the sender's business.
    pub(super) fn active(&self, key: &NodeKey, tailnet: TailnetId) -> Option<Arc<Link>> {
        let shard = self.shard(key);
        let links = &shard.get(key)?.links;
        let link = links.iter().rev().find(|link| link.tailnet == tailnet)?;
        Some(Arc::clone(link))
    }

    /// Whether a key has a connection, in whatever tailnet.
    pub(super) fn is_connected(&self, key: &NodeKey) -> bool {
        self.shard(key).contains_key(key)
    }

    /// The numbers of the shards, for [`nodes`](Self::nodes).
    pub(super) fn shards(&self) -> std::ops::Range<usize> {
        0..self.shards.len()
    }

    /// What the connections of one shard were admitted as: a key, its tailnet, and a source.
    pub(super) fn nodes(&self, shard: usize) -> Vec<(NodeKey, TailnetId, IpAddr)> {
        let shard = self.shards[shard]
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let links = shard.values().flat_map(|station| &station.links);
        links
            .map(|link| (link.key, link.tailnet, link.source))
            .collect()
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
        self.close_if(key, |_| true)
    }

    /// Ends those that were admitted for one tailnet.
    pub(super) fn close_in(&self, key: &NodeKey, tailnet: TailnetId) -> usize {
        self.close_if(key, |link| link.tailnet == tailnet)
    }

    fn close_if(&self, key: &NodeKey, is_meant: impl Fn(&Link) -> bool) -> usize {
        let shard = self.shard(key);
        let links = shard.get(key).map_or(&[][..], |station| &station.links);
        let meant = links.iter().filter(|link| is_meant(link));
        meant.inspect(|link| link.end(End::Revoked)).count()
    }
}
