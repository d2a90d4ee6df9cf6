//! The relay: who is connected, and the way of a packet between two of them.

mod outbox;
mod rate;
mod registry;
mod session;
pub(crate) mod stats;

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use bowline_admission::{Listener, Ticket};
use bowline_model::{id::TailnetId, key::NodeKey};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;

pub use rate::RateLimit;
pub use session::SessionError;
pub use stats::{Dropped, RelayStats};

use crate::{entropy::Entropy, key::SecretKey};
use registry::Registry;
use stats::Counters;

/// Decides who may use the relay.
pub trait Admission: Send + Sync + 'static {
    /// The tailnet of a client that holds the secret half of `node` and may connect from `source`;
    /// `None` when it may not. Clients of different tailnets cannot reach each other.
    ///
    /// Called twice for each connection, without waiting allowed: before the client is registered
    /// and again after, so that a node removed in between (see [`RelayServer::disconnect`]) does
    /// not slip in; and by [`RelayServer::recheck`]. `source` is never an IPv4 address in its IPv6
    /// form.
    fn admit(&self, node: NodeKey, source: IpAddr) -> Option<TailnetId>;
}

/// Limits and times of a relay. The defaults are those of the official relay where it has them.
#[derive(Debug, Clone)]
pub struct RelayConfig {
    /// Packets that wait for one client, for each of its two queues (disco, everything else).
    /// The oldest goes when one more comes. Default 32, at least 1.
    pub queue_packets: usize,
    /// Bytes that each of those queues may hold in all, so that long packets do not add up.
    /// Default 256 KiB; one packet always fits.
    pub queue_bytes: usize,
    /// How long each step of the handshake may take. Default 10 s.
    pub handshake_timeout: Duration,
    /// How long a connection may speak HTTP before it is upgraded or closed. Default 30 s.
    pub http_timeout: Duration,
    /// How long a write may make no progress before the connection is given up. Default 2 s.
    pub write_timeout: Duration,
    /// How often an idle client hears something. Default 60 s; clients give up after 120 s.
    pub keep_alive: Duration,
    /// How much later than that at most, so that clients do not all wake at once. Default 5 s.
    pub keep_alive_spread: Duration,
    /// Connections of one node key. One more closes the one that was silent for longest.
    /// Default 16, at least 1.
    pub connections_per_key: usize,
    /// Longest `ClientInfo` frame in bytes. Default 16 KiB, a hundred times what clients send; the
    /// official relay allows 256 KiB, which is a lot to hold for somebody not known yet.
    pub client_info_bytes: usize,
    /// How much each client may send. Announced to clients, who keep to it; a client that does not
    /// is read more slowly. Default: no limit.
    pub rate_limit: Option<RateLimit>,
    /// Source of nonces and of the keep-alives' spread. Default: the operating system.
    pub entropy: Entropy,
}

impl Default for RelayConfig {
    fn default() -> Self {
        Self {
            queue_packets: 32,
            queue_bytes: 256 << 10,
            handshake_timeout: Duration::from_secs(10),
            http_timeout: Duration::from_secs(30),
            write_timeout: Duration::from_secs(2),
            keep_alive: Duration::from_mins(1),
            keep_alive_spread: Duration::from_secs(5),
            connections_per_key: 16,
            client_info_bytes: 16 << 10,
            rate_limit: None,
            entropy: Entropy::system(),
        }
    }
}

/// The relay. Cheap to clone; all clones are one relay.
///
/// It owns no task: whoever accepts connections runs [`serve`](Self::serve) or
/// [`serve_connection`](Self::serve_connection) for each in a task of its own. Dead peers that
/// never close are noticed only by TCP, so the listener must set keep-alives on its sockets.
#[derive(Clone)]
pub struct RelayServer(Arc<Relay>);

pub(crate) struct Relay {
    secret: SecretKey,
    public: NodeKey,
    admission: Arc<dyn Admission>,
    pub(crate) config: RelayConfig,
    registry: Registry,
    pub(crate) counters: Arc<Counters>,
}

impl RelayServer {
    /// A relay with the given key pair, which has nothing to do with the control server's.
    pub fn new(secret: SecretKey, admission: Arc<dyn Admission>, config: RelayConfig) -> Self {
        let counters = Arc::new(Counters::default());
        let public = secret.public();
        let registry = Registry::default();
        Self(Arc::new(Relay {
            secret,
            public,
            admission,
            config,
            registry,
            counters,
        }))
    }

    /// The relay's public key, as its greeting carries it.
    pub fn public_key(&self) -> NodeKey {
        self.0.public
    }

    /// Runs the session of one client over a stream that is past HTTP, from greeting to end.
    ///
    /// Returns when the client leaves, when `shutdown` is cancelled (both are `Ok`), or when the
    /// connection had to be ended. `shutdown` is that of the whole relay: peers are not told that
    /// the client left. The stream is closed in any case. Cancelling the future is safe:
    /// the client is unregistered.
    ///
    /// # Errors
    /// Why the relay ended the connection.
    pub async fn serve<S>(
        &self,
        stream: S,
        peer: SocketAddr,
        shutdown: CancellationToken,
    ) -> Result<(), SessionError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
    {
        self.serve_in(uncounted(peer)?, stream, peer, shutdown)
            .await
    }

    /// As [`serve`](Self::serve), in a place among the connections of a server: the session ends
    /// when it loses its place, which it may until its handshake is done.
    ///
    /// # Errors
    /// Why the relay ended the connection.
    pub async fn serve_in<S>(
        &self,
        ticket: Ticket,
        stream: S,
        peer: SocketAddr,
        shutdown: CancellationToken,
    ) -> Result<(), SessionError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
    {
        session::run(&self.0, ticket, stream, peer, shutdown).await
    }

    /// Closes all connections of a node, which may be connecting at this moment.
    ///
    /// To be called after the node is no longer admitted: its device was deleted, or its key
    /// expired or was replaced. Returns how many connections there were.
    pub fn disconnect(&self, node: &NodeKey) -> usize {
        self.0.registry.close(node)
    }

    /// Asks again about every node that is connected, and closes the connections of those that are
    /// no longer admitted, or are in another tailnet now. Returns how many connections there were.
    ///
    /// To be called when calls of [`disconnect`](Self::disconnect) may have been missed. Other
    /// tasks get a turn in between, so a call costs them little.
    pub async fn recheck(&self) -> usize {
        let mut closed = 0;
        for shard in self.0.registry.shards() {
            for (key, tailnet, source) in self.0.registry.nodes(shard) {
                if self.0.admission.admit(key, source) != Some(tailnet) {
                    closed += self.0.registry.close_in(&key, tailnet);
                }
            }
            tokio::task::yield_now().await;
        }
        closed
    }

    /// Whether a node has a connection.
    pub fn is_connected(&self, node: &NodeKey) -> bool {
        self.0.registry.is_connected(node)
    }

    /// What the relay counted since it was made.
    pub fn stats(&self) -> RelayStats {
        self.0.counters.snapshot()
    }

    pub(crate) fn relay(&self) -> &Relay {
        &self.0
    }
}

/// A place among no others, for a connection that nobody else has counted.
pub(crate) fn uncounted(peer: SocketAddr) -> Result<Ticket, SessionError> {
    bowline_admission::Admission::unlimited()
        .admit(Listener::Relay, peer.ip(), false, None)
        .map_err(|_| SessionError::Crowded)
}

impl fmt::Debug for RelayServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RelayServer")
            .field("public_key", &self.0.public)
            .finish_non_exhaustive()
    }
}
