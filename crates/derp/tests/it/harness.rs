//! A relay in the test's process, and clients of it.

use std::{
    future::Future,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use bowline_derp::{
    Admission, NodeKey, RelayConfig, RelayServer, RelayStats, SecretKey, SessionError, TailnetId,
    client::{self, Client, Event},
};
use tokio::{
    io::DuplexStream,
    task::JoinHandle,
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;

/// Where clients that come through memory say they are.
pub(crate) const PEER: &str = "192.0.2.1:4242";

/// Fails what takes longer. Tests over memory have their clock stopped, so that this costs nothing.
pub(crate) async fn soon<F: Future>(future: F) -> F::Output {
    timeout(Duration::from_secs(5), future)
        .await
        .expect("not within five seconds")
}

/// An admission that a closure decides.
pub(crate) struct AdmitIf<F>(pub(crate) F);

impl<F> Admission for AdmitIf<F>
where
    F: Fn(NodeKey, IpAddr) -> Option<TailnetId> + Send + Sync + 'static,
{
    fn admit(&self, node: NodeKey, source: IpAddr) -> Option<TailnetId> {
        (self.0)(node, source)
    }
}

pub(crate) type Session = JoinHandle<Result<(), SessionError>>;

#[derive(Clone)]
pub(crate) struct TestRelay {
    pub(crate) server: RelayServer,
    pub(crate) shutdown: CancellationToken,
}

/// A client that came through memory, and its session at the relay.
pub(crate) struct Node {
    pub(crate) key: NodeKey,
    pub(crate) client: Client<DuplexStream>,
    pub(crate) session: Session,
}

impl TestRelay {
    pub(crate) fn new() -> Self {
        Self::with(RelayConfig::default())
    }

    pub(crate) fn with(config: RelayConfig) -> Self {
        Self::admitting(config, |_, _| Some(TailnetId::MIN))
    }

    pub(crate) fn admitting(
        config: RelayConfig,
        admit: impl Fn(NodeKey, IpAddr) -> Option<TailnetId> + Send + Sync + 'static,
    ) -> Self {
        let key = SecretKey::from_bytes([200; 32]);
        let server = RelayServer::new(key, Arc::new(AdmitIf(admit)), config);
        Self {
            server,
            shutdown: CancellationToken::new(),
        }
    }

    /// Opens a connection through memory and starts its session; `buffer` is what fits on the way.
    pub(crate) fn open(&self, buffer: usize) -> (DuplexStream, Session) {
        self.open_from(buffer, PEER)
    }

    pub(crate) fn open_from(&self, buffer: usize, peer: &str) -> (DuplexStream, Session) {
        let (near, far) = tokio::io::duplex(buffer);
        let peer: SocketAddr = peer.parse().unwrap();
        let relay = self.clone();
        let session =
            tokio::spawn(async move { relay.server.serve(far, peer, relay.shutdown).await });
        (near, session)
    }

    /// The node number `seed`, connected.
    pub(crate) async fn join(&self, seed: u8) -> Node {
        self.join_through(seed, 64 << 10).await
    }

    pub(crate) async fn join_through(&self, seed: u8, buffer: usize) -> Node {
        let (stream, session) = self.open(buffer);
        let secret = secret(seed);
        let client = client::connect(stream, &secret, &client::Options::default())
            .await
            .unwrap();
        Node {
            key: secret.public(),
            client,
            session,
        }
    }

    /// Waits until the counters are as wanted.
    pub(crate) async fn until(&self, wanted: impl Fn(&RelayStats) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(5);
        while !wanted(&self.server.stats()) {
            assert!(
                Instant::now() < deadline,
                "not reached: {:#?}",
                self.server.stats()
            );
            tokio::task::yield_now().await;
        }
    }
}

pub(crate) fn secret(seed: u8) -> SecretKey {
    SecretKey::from_bytes([seed; 32])
}

impl Node {
    pub(crate) async fn send(&mut self, to: &NodeKey, packet: impl AsRef<[u8]>) {
        soon(self.client.send(to, packet.as_ref())).await.unwrap();
    }

    pub(crate) async fn recv(&mut self) -> Event {
        soon(self.client.recv()).await.unwrap()
    }

    /// Fails unless the next event is this packet.
    pub(crate) async fn expect_packet(&mut self, from: &NodeKey, packet: impl AsRef<[u8]>) {
        let wanted = Event::Packet {
            source: *from,
            packet: bytes::Bytes::copy_from_slice(packet.as_ref()),
        };
        assert_eq!(self.recv().await, wanted);
    }

    /// A round trip to the relay: what this node sent before it has been dealt with, and what the
    /// relay had for this node before it is returned.
    pub(crate) async fn sync(&mut self) -> Vec<Event> {
        let mark = *b"sync....";
        soon(self.client.writer().ping(mark)).await.unwrap();
        let mut events = Vec::new();
        loop {
            match self.recv().await {
                Event::Pong(data) if data == mark => return events,
                event => events.push(event),
            }
        }
    }

    /// Leaves, and gives how the session ended.
    pub(crate) async fn leave(self) -> Result<(), SessionError> {
        drop(self.client);
        soon(self.session).await.unwrap()
    }
}

/// A packet that looks like a disco message.
pub(crate) fn disco(mark: u8) -> Vec<u8> {
    let mut packet = b"TS\xf0\x9f\x92\xac".to_vec();
    packet.resize(6 + 32 + 24, mark);
    packet
}
