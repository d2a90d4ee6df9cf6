//! One connection, from greeting to end.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use bowline_admission::{Shown, Ticket};
use bowline_model::{id::TailnetId, key::NodeKey};
use bytes::BytesMut;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _},
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    Relay,
    outbox::{Batch, End, Lane, Link, Pushed, QueueLimits},
    rate::Bucket,
    registry::Contacts,
    stats::{Reason, add, sub},
};
use crate::{
    entropy::NoEntropy,
    frame::{
        Body as _, ClientDetails, ClientInfo, FrameError, FrameType, KeepAlive, MAX_PAYLOAD,
        NotePreferred, PROTOCOL_VERSION, PeerGone, PeerGoneReason, Ping, Pong, SendPacket,
        ServerDetails, ServerInfo, ServerKey,
    },
    frame_buffer::{FrameBuffer, RawFrame, Verdict},
    key::KEY_LEN,
    sealed::{self, NotOpened},
};

/// Frames that one client sends before others get a turn: fewer than a queue holds.
const FRAMES_PER_TURN: usize = 16;

/// Why the relay ended a connection.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// Too many connections have not finished their handshake, and this was the one to go.
    #[error("too many connections are in their handshake")]
    Crowded,
    /// A step of the handshake, or HTTP before it, took too long.
    #[error("the handshake took too long")]
    HandshakeTimeout,
    /// The client left in the middle of the handshake or of a frame.
    #[error("the connection ended in the middle of a frame")]
    CutOff,
    /// The client sent something else than its details first.
    #[error("the handshake has a frame {0:?} out of place")]
    Unexpected(FrameType),
    /// The client does not hold the key that it claims.
    #[error("the client's details are not sealed with its key")]
    NotOpened(#[from] NotOpened),
    /// The client's details are not JSON as expected.
    #[error("the client's details cannot be read")]
    Details(#[source] serde_json::Error),
    /// The key is not that of a node that may use this relay.
    #[error("the node is not admitted")]
    NotAdmitted,
    /// The client is not a mesh peer, and this relay has none.
    #[error("frame {0:?} is for mesh peers only")]
    NotPermitted(FrameType),
    /// A frame that its kind does not allow.
    #[error("the client broke the protocol")]
    Frame(#[from] FrameError),
    /// The client took nothing for too long.
    #[error("the client does not read")]
    WriteTimeout,
    /// [`RelayServer::disconnect`](crate::RelayServer::disconnect).
    #[error("the node is no longer admitted")]
    Revoked,
    /// The key has too many connections; this one was silent for longest.
    #[error("the node has too many connections")]
    Superseded,
    /// The stream failed.
    #[error("the connection failed")]
    Io(#[from] io::Error),
    /// HTTP before the session failed.
    #[error("the HTTP request failed")]
    Http(#[from] hyper::Error),
    /// No randomness for a nonce.
    #[error(transparent)]
    NoEntropy(#[from] NoEntropy),
}

/// Runs a session; see [`RelayServer::serve`](crate::RelayServer::serve).
pub(super) async fn run<S>(
    relay: &Relay,
    ticket: Ticket,
    stream: S,
    peer: SocketAddr,
    shutdown: CancellationToken,
) -> Result<(), SessionError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let (mut reader, mut writer) = tokio::io::split(stream);
    let mut frames = FrameBuffer::new();
    let source = peer.ip().to_canonical();
    // Boxed, so that a client past its handshake does not hold memory for it.
    let handshake = Box::pin(handshake(
        relay,
        &mut frames,
        &mut reader,
        &mut writer,
        source,
    ));
    let registered = tokio::select! {
        biased;
        () = shutdown.cancelled() => return Ok(()),
        () = ticket.ended() => {
            relay.counters.refuse_crowded();
            return Err(SessionError::Crowded);
        }
        registered = handshake => registered,
    };
    if registered.is_ok() {
        ticket.establish(Shown::Device);
    }
    let mut session = registered.inspect_err(|error| count_failed_handshake(relay, error))?;

    let link = Arc::clone(&session.link);
    let ended = tokio::select! {
        ended = read(relay, &link, &mut session.contacts, &mut frames, &mut reader) => ended,
        ended = write(relay, &link, &mut writer) => ended,
        end = link.ended() => Err(end.into()),
        // By nothing that the relay knows of: a known node is not in anybody's way.
        () = ticket.ended() => Err(SessionError::Crowded),
        () = shutdown.cancelled() => Ok(()),
    };
    if shutdown.is_cancelled() {
        // Everyone is about to leave: telling everyone of everyone would be the square of them.
        session.contacts.clear();
    }
    drop(session);
    if let Err(error) = &ended {
        tracing::debug!(peer.address = %peer, %error, "relay ended a session");
    }
    match &ended {
        Err(SessionError::WriteTimeout) => add(&relay.counters.write_timeouts, 1),
        Err(SessionError::Revoked) => add(&relay.counters.revoked, 1),
        Err(SessionError::Frame(_) | SessionError::NotPermitted(_)) => {
            add(&relay.counters.protocol_errors, 1);
        }
        _ => {}
    }
    // A farewell that TLS sends; whether it arrives does not matter.
    let _ = timeout(relay.config.write_timeout, writer.shutdown()).await;
    ended
}

fn count_failed_handshake(relay: &Relay, error: &SessionError) {
    let counter = match error {
        SessionError::NotAdmitted => &relay.counters.refused_not_admitted,
        _ => &relay.counters.handshakes_failed,
    };
    add(counter, 1);
}

impl From<End> for SessionError {
    fn from(end: End) -> Self {
        match end {
            End::Revoked => Self::Revoked,
            End::Superseded => Self::Superseded,
        }
    }
}

/// A connection's entry in the registry, removed when this is dropped.
struct Session<'r> {
    relay: &'r Relay,
    link: Arc<Link>,
    contacts: Contacts,
}

impl<'r> Session<'r> {
    fn register(relay: &'r Relay, key: NodeKey, tailnet: TailnetId, source: IpAddr) -> Self {
        let most = relay.config.connections_per_key;
        let registry = &relay.registry;
        let link = registry.register(key, tailnet, source, most, &relay.counters);
        add(&relay.counters.accepted, 1);
        add(&relay.counters.connections, 1);
        Self {
            relay,
            link,
            contacts: Contacts::new(),
        }
    }
}

impl Drop for Session<'_> {
    fn drop(&mut self) {
        let Self {
            relay,
            link,
            contacts,
        } = self;
        let left = link.close();
        relay.counters.drop_packets(Reason::Disconnected, left);
        sub(&relay.counters.connections, 1);
        if link.is_home.load(Relaxed) {
            sub(&relay.counters.home_connections, 1);
        }
        let contacts = std::mem::take(contacts);
        let to_tell = relay
            .registry
            .remove(link, contacts, &relay.counters)
            .unwrap_or_default();
        let gone = PeerGone {
            peer: link.key,
            reason: PeerGoneReason::DISCONNECTED,
        };
        for (key, id) in to_tell {
            if let Some(other) = relay.registry.link(&key, id)
                && other.push_gone(gone)
            {
                add(&relay.counters.peer_gone_disconnected, 1);
            }
        }
    }
}

/// Greets the client, learns who it is, and registers it.
async fn handshake<'r, R, W>(
    relay: &'r Relay,
    frames: &mut FrameBuffer,
    reader: &mut R,
    writer: &mut W,
    source: IpAddr,
) -> Result<Session<'r>, SessionError>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let step = relay.config.handshake_timeout;
    let late = |_| SessionError::HandshakeTimeout;
    let mut out = BytesMut::new();

    ServerKey { key: relay.public }.encode(&mut out);
    timeout(step, write_out(writer, &out))
        .await
        .map_err(late)??;

    let limit = relay.config.client_info_bytes.min(ClientInfo::MAX);
    let client_info = timeout(step, first_frame(frames, reader, limit))
        .await
        .map_err(late)??;
    let ClientInfo { key, sealed } = ClientInfo::decode(client_info.payload())?;
    let details = sealed::open(&relay.secret, &key, sealed)?;
    let _: ClientDetails = serde_json::from_slice(&details).map_err(SessionError::Details)?;
    let admitted = relay.admission.admit(key, source);
    let tailnet = admitted.ok_or(SessionError::NotAdmitted)?;
    let session = Session::register(relay, key, tailnet, source);
    // Somebody who was removed since the first question was not yet registered when
    // `disconnect` came, so ask again.
    if relay.admission.admit(key, source) != Some(tailnet) {
        return Err(SessionError::NotAdmitted);
    }

    let limit = relay.config.rate_limit;
    let details = ServerDetails {
        version: PROTOCOL_VERSION,
        bytes_per_second: limit.map(|limit| limit.bytes_per_second),
        burst_bytes: limit.map(|limit| limit.burst_bytes),
    };
    let details = serde_json::to_vec(&details).map_err(SessionError::Details)?;
    let sealed = sealed::seal(&relay.secret, &key, &details, &relay.config.entropy)?;
    out.clear();
    ServerInfo { sealed: &sealed }.encode(&mut out);
    timeout(step, write_out(writer, &out))
        .await
        .map_err(late)??;
    Ok(session)
}

async fn write_out<W: AsyncWrite + Unpin>(writer: &mut W, bytes: &[u8]) -> io::Result<()> {
    writer.write_all(bytes).await?;
    writer.flush().await
}

async fn first_frame<R: AsyncRead + Unpin>(
    frames: &mut FrameBuffer,
    reader: &mut R,
    limit: usize,
) -> Result<RawFrame, SessionError> {
    let judge = |kind, len| {
        if kind != FrameType::CLIENT_INFO {
            return Err(SessionError::Unexpected(kind));
        }
        if len > limit {
            return Err(FrameError::Long {
                kind,
                max: limit,
                got: len,
            }
            .into());
        }
        ClientInfo::check_len(len)?;
        Ok(Verdict::Take)
    };
    loop {
        if let Some(frame) = frames.next(judge)? {
            return Ok(frame);
        }
        if !frames.fill(reader).await? {
            return Err(SessionError::CutOff);
        }
    }
}

/// Reads frames until the client leaves.
async fn read<R: AsyncRead + Unpin>(
    relay: &Relay,
    link: &Arc<Link>,
    contacts: &mut Contacts,
    frames: &mut FrameBuffer,
    reader: &mut R,
) -> Result<(), SessionError> {
    let now = Instant::now();
    let mut incoming = Incoming {
        relay,
        link,
        contacts,
        last_contact: None,
        not_here: Bucket::new(1, 3, now),
        limits: QueueLimits {
            packets: relay.config.queue_packets.max(1),
            bytes: relay.config.queue_bytes,
        },
    };
    let mut allowance = relay
        .config
        .rate_limit
        .map(|limit| Bucket::new(limit.bytes_per_second, limit.burst_bytes, now));
    let mut since_yield = 0;
    loop {
        while let Some(frame) = frames.next(|kind, len| judge(relay, kind, len))? {
            // Whoever a packet woke runs on this thread next, and not before this task lets go of
            // it: in time for its queue not to overflow.
            since_yield += 1;
            if since_yield >= FRAMES_PER_TURN {
                since_yield = 0;
                tokio::task::yield_now().await;
            }
            if let Some(allowance) = &mut allowance {
                let wait = allowance.take(frame.payload().len() as u64, Instant::now());
                if !wait.is_zero() {
                    add(&relay.counters.rate_limited, 1);
                    sleep(wait).await;
                }
            }
            incoming.handle(frame)?;
        }
        if !frames.fill(reader).await? {
            let is_complete = frames.is_between_frames();
            return if is_complete {
                Ok(())
            } else {
                Err(SessionError::CutOff)
            };
        }
        if link.has_twins.load(Relaxed) {
            relay.registry.touch(link);
        }
    }
}

fn judge(relay: &Relay, kind: FrameType, len: usize) -> Result<Verdict, SessionError> {
    match kind {
        FrameType::SEND_PACKET => SendPacket::check_len(len)?,
        FrameType::PING => Ping::check_len(len)?,
        FrameType::NOTE_PREFERRED => NotePreferred::check_len(len)?,
        FrameType::FORWARD_PACKET | FrameType::WATCH_CONNS | FrameType::CLOSE_PEER => {
            return Err(SessionError::NotPermitted(kind));
        }
        _ if len > MAX_PAYLOAD => {
            return Err(FrameError::Long {
                kind,
                max: MAX_PAYLOAD,
                got: len,
            }
            .into());
        }
        _ => {
            add(&relay.counters.unknown_frames, 1);
            return Ok(Verdict::Skip);
        }
    }
    Ok(Verdict::Take)
}

/// What a connection's reader needs to deal with a frame.
struct Incoming<'a> {
    relay: &'a Relay,
    link: &'a Arc<Link>,
    contacts: &'a mut Contacts,
    /// The newest entry of `contacts`: most packets go where the one before went.
    last_contact: Option<(NodeKey, u64)>,
    not_here: Bucket,
    limits: QueueLimits,
}

impl Incoming<'_> {
    fn handle(&mut self, frame: RawFrame) -> Result<(), SessionError> {
        match frame.kind {
            FrameType::SEND_PACKET => self.send(frame)?,
            FrameType::PING => {
                let Ping { data } = Ping::decode(frame.payload())?;
                if self.link.push_pong(Pong { data }) {
                    add(&self.relay.counters.pongs, 1);
                }
            }
            FrameType::NOTE_PREFERRED => {
                let NotePreferred { is_home } = NotePreferred::decode(frame.payload())?;
                let homes = &self.relay.counters.home_connections;
                match (self.link.is_home.swap(is_home, Relaxed), is_home) {
                    (false, true) => add(homes, 1),
                    (true, false) => sub(homes, 1),
                    _ => {}
                }
            }
            // `judge` lets nothing else through.
            _ => {}
        }
        Ok(())
    }

    fn send(&mut self, frame: RawFrame) -> Result<(), SessionError> {
        let counters = &self.relay.counters;
        let SendPacket {
            destination,
            packet,
        } = SendPacket::decode(frame.payload())?;
        let lane = if looks_like_disco(packet) {
            Lane::Disco
        } else {
            Lane::Data
        };
        add(&counters.packets_received, 1);
        add(&counters.bytes_received, packet.len() as u64);
        if lane == Lane::Disco {
            add(&counters.disco_packets_received, 1);
        }

        let own = self.link.tailnet;
        let Some(other) = self.relay.registry.active(&destination, own) else {
            counters.drop_packets(Reason::UnknownDestination, 1);
            // Disco only: it is what a client sends to find out whether the peer is there.
            if lane == Lane::Disco && self.not_here.try_take(1, Instant::now()) {
                let gone = PeerGone {
                    peer: destination,
                    reason: PeerGoneReason::NOT_HERE,
                };
                if self.link.push_gone(gone) {
                    add(&counters.peer_gone_not_here, 1);
                }
            }
            return Ok(());
        };
        let frame = frame.readdress(FrameType::RECV_PACKET, &self.link.key);
        match other.push_packet(lane, frame, self.limits) {
            Pushed::Ended => counters.drop_packets(Reason::Disconnected, 1),
            Pushed::Queued { dropped } => {
                counters.drop_packets(Reason::QueueFull, dropped);
                let contact = (destination, other.id);
                if self.last_contact != Some(contact) {
                    self.last_contact = Some(contact);
                    self.contacts.insert(contact.0, contact.1);
                }
            }
        }
        Ok(())
    }
}

/// Whether a packet has the shape of a disco message: six bytes of magic, then a key and a nonce.
///
/// Source: ts-go `disco/disco.go`.
fn looks_like_disco(packet: &[u8]) -> bool {
    const MAGIC: &[u8] = b"TS\xf0\x9f\x92\xac";
    packet.len() >= MAGIC.len() + KEY_LEN + sealed::NONCE_LEN && packet.starts_with(MAGIC)
}

/// Writes what others leave for the connection, and keep-alives.
async fn write<W: AsyncWrite + Unpin>(
    relay: &Relay,
    link: &Link,
    writer: &mut W,
) -> Result<(), SessionError> {
    let period = keep_alive_period(relay)?;
    let mut keep_alive = std::pin::pin!(sleep(period));
    let mut batch = Batch::default();
    loop {
        if link.take(&mut batch) {
            let written = write_batch(relay, &mut batch, writer).await;
            let packets = batch.packets.len() as u64;
            let bytes: usize = batch.packets.drain(..).map(|packet| packet.len()).sum();
            batch.control.clear();
            if let Err(error) = written {
                relay.counters.drop_packets(Reason::Disconnected, packets);
                return Err(error);
            }
            if packets > 0 {
                add(&relay.counters.packets_sent, packets);
                add(&relay.counters.bytes_sent, bytes as u64);
            }
            continue;
        }
        // Idle: hold no buffer.
        batch = Batch::default();
        tokio::select! {
            biased;
            () = &mut keep_alive => {
                keep_alive.as_mut().reset(Instant::now() + period);
                KeepAlive.encode(&mut batch.control);
                write_batch(relay, &mut batch, writer).await?;
                batch.control.clear();
            }
            () = link.work() => {}
        }
    }
}

/// Writes a batch in as few pieces as possible and flushes it.
async fn write_batch<W: AsyncWrite + Unpin>(
    relay: &Relay,
    batch: &mut Batch,
    writer: &mut W,
) -> Result<(), SessionError> {
    let limit = relay.config.write_timeout;
    let Batch {
        control,
        packets,
        pong,
    } = batch;
    let mut bytes: &[u8] = match (packets.as_slice(), pong.take()) {
        ([only], None) if control.is_empty() => only,
        (_, pong) => {
            control.reserve(packets.iter().map(bytes::Bytes::len).sum());
            for packet in packets {
                control.extend_from_slice(packet);
            }
            if let Some(pong) = pong {
                pong.encode(control);
            }
            control
        }
    };
    while !bytes.is_empty() {
        let written = timeout(limit, writer.write(bytes)).await;
        let written = written.map_err(|_| SessionError::WriteTimeout)??;
        if written == 0 {
            return Err(io::Error::from(io::ErrorKind::WriteZero).into());
        }
        bytes = &bytes[written..];
    }
    timeout(limit, writer.flush())
        .await
        .map_err(|_| SessionError::WriteTimeout)??;
    Ok(())
}

/// The period of one connection's keep-alives: each has its own, so that many clients that
/// connected at once do not wake at once for ever.
fn keep_alive_period(relay: &Relay) -> Result<Duration, NoEntropy> {
    let mut random = [0; 2];
    relay.config.entropy.fill(&mut random)?;
    let spread = relay.config.keep_alive_spread / (1 << 16) * u16::from_be_bytes(random).into();
    Ok(relay.config.keep_alive + spread)
}
