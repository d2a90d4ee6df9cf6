//! The other end: a DERP client, for tests and for simulating many nodes.
//!
//! [`upgrade`] speaks HTTP over a connection, [`connect`] the handshake over what comes out of it.

use std::{io, time::Duration};

use bowline_model::key::NodeKey;
use bytes::{Bytes, BytesMut};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadHalf, WriteHalf},
    time::timeout,
};

use crate::{
    entropy::{Entropy, NoEntropy},
    frame::{
        Body as _, ClientDetails, ClientInfo, Frame, FrameError, FrameType, MAX_PACKET,
        MAX_PAYLOAD, NotePreferred, PeerGone, PeerGoneReason, Ping, Pong, Restarting, SendPacket,
        ServerDetails, ServerInfo, ServerKey,
    },
    frame_buffer::{FrameBuffer, RawFrame, Verdict},
    key::{KEY_LEN, SecretKey},
    sealed::{self, NotOpened},
};

/// How a client introduces itself.
#[derive(Debug, Clone)]
pub struct Options {
    /// What it says of itself.
    pub details: ClientDetails,
    /// Source of its nonce.
    pub entropy: Entropy,
    /// How long the whole handshake may take.
    pub handshake_timeout: Duration,
}

impl Default for Options {
    /// An ordinary client that waits for ten seconds.
    fn default() -> Self {
        Self {
            details: ClientDetails::current(),
            entropy: Entropy::system(),
            handshake_timeout: Duration::from_secs(10),
        }
    }
}

/// What goes wrong on the client's side.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The relay closed the connection, which is also how it refuses a node.
    #[error("the relay closed the connection")]
    Closed,
    /// The handshake took too long.
    #[error("the relay does not answer the handshake")]
    Timeout,
    /// The relay did not switch to DERP.
    #[error("the relay answers {0} instead of switching to DERP")]
    NotUpgraded(http::StatusCode),
    /// The handshake has another frame than it should.
    #[error("the handshake has a frame {0:?} out of place")]
    Unexpected(FrameType),
    /// The relay does not hold the key of its greeting.
    #[error("the relay's details are not sealed with its key")]
    NotOpened(#[from] NotOpened),
    /// The details of either side are not JSON as expected.
    #[error("the details cannot be read or written")]
    Details(#[from] serde_json::Error),
    /// A frame that its kind does not allow.
    #[error("the relay broke the protocol")]
    Frame(#[from] FrameError),
    /// A packet longer than [`MAX_PACKET`].
    #[error("a packet of {0} bytes is too long to be relayed")]
    PacketTooLong(usize),
    /// The stream failed.
    #[error("the connection failed")]
    Io(#[from] io::Error),
    /// HTTP failed.
    #[error("the HTTP request failed")]
    Http(#[from] hyper::Error),
    /// The host is not one.
    #[error("the request cannot be made")]
    Request(#[from] http::Error),
    /// No randomness for a nonce.
    #[error(transparent)]
    NoEntropy(#[from] NoEntropy),
}

/// What a relay sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A packet from another client.
    Packet {
        /// Who sent it.
        source: NodeKey,
        /// The packet.
        packet: Bytes,
    },
    /// A peer cannot be reached here.
    PeerGone {
        /// Who.
        peer: NodeKey,
        /// Why.
        reason: PeerGoneReason,
    },
    /// The connection is alive.
    KeepAlive,
    /// To be answered with [`Writer::pong`].
    Ping([u8; 8]),
    /// The answer to [`Writer::ping`].
    Pong([u8; 8]),
    /// What is wrong with the connection; empty when it is well again.
    Health(String),
    /// The relay is about to restart.
    Restarting(Restarting),
}

/// Asks the relay behind a connection to switch to DERP, over HTTP/1.1 `GET /derp`.
///
/// `host` is the value of the `Host` header.
///
/// # Errors
/// When the relay does not switch, or the connection fails.
pub async fn upgrade<S>(stream: S, host: &str) -> Result<TokioIo<Upgraded>, Error>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let request = http::Request::get("/derp")
        .header(http::header::HOST, host)
        .header(http::header::UPGRADE, "DERP")
        .header(http::header::CONNECTION, "Upgrade")
        .body(http_body_util::Empty::<Bytes>::new())?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let upgrade = async move {
        let response = sender.send_request(request).await?;
        if response.status() != http::StatusCode::SWITCHING_PROTOCOLS {
            return Err(Error::NotUpgraded(response.status()));
        }
        Ok(TokioIo::new(hyper::upgrade::on(response).await?))
    };
    // The connection ends when it hands over the upgraded stream, or with the answer's error.
    let (_, upgraded) = tokio::join!(connection.with_upgrades(), upgrade);
    upgraded
}

/// Does the handshake over a stream that is past HTTP.
///
/// # Errors
/// When the relay refuses the node ([`Error::Closed`]), is not one, or is too slow.
pub async fn connect<S>(stream: S, key: &SecretKey, options: &Options) -> Result<Client<S>, Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    timeout(options.handshake_timeout, handshake(stream, key, options))
        .await
        .map_err(|_| Error::Timeout)?
}

async fn handshake<S>(stream: S, key: &SecretKey, options: &Options) -> Result<Client<S>, Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (read, write) = tokio::io::split(stream);
    let mut reader = Reader {
        frames: FrameBuffer::new(),
        stream: read,
    };
    let mut writer = Writer {
        out: BytesMut::new(),
        stream: write,
    };

    let greeting = reader
        .handshake_frame(FrameType::SERVER_KEY, ServerKey::MAX)
        .await?;
    let ServerKey { key: relay } = ServerKey::decode(greeting.payload())?;
    let details = serde_json::to_vec(&options.details)?;
    let sealed = sealed::seal(key, &relay, &details, &options.entropy)?;
    writer.put(&Frame::ClientInfo(ClientInfo {
        key: key.public(),
        sealed: &sealed,
    }));
    writer.flush().await?;

    let info = reader
        .handshake_frame(FrameType::SERVER_INFO, ServerInfo::MAX)
        .await?;
    let ServerInfo { sealed } = ServerInfo::decode(info.payload())?;
    let details = serde_json::from_slice(&sealed::open(key, &relay, sealed)?)?;
    Ok(Client {
        reader,
        writer,
        relay,
        details,
    })
}

/// A connection to a relay past the handshake.
#[derive(Debug)]
pub struct Client<S> {
    reader: Reader<S>,
    writer: Writer<S>,
    relay: NodeKey,
    details: ServerDetails,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    /// The relay's public key.
    pub fn relay_key(&self) -> NodeKey {
        self.relay
    }

    /// What the relay said of itself.
    pub fn relay_details(&self) -> &ServerDetails {
        &self.details
    }

    /// See [`Reader::recv`].
    ///
    /// # Errors
    /// When the connection ended or the relay broke the protocol.
    pub async fn recv(&mut self) -> Result<Event, Error> {
        self.reader.recv().await
    }

    /// See [`Writer::send`].
    ///
    /// # Errors
    /// When the packet is too long or the connection failed.
    pub async fn send(&mut self, destination: &NodeKey, packet: &[u8]) -> Result<(), Error> {
        self.writer.send(destination, packet).await
    }

    /// The stream, for whoever wants to send what is not DERP. What was read of the next frame is
    /// lost.
    pub fn into_inner(self) -> S
    where
        S: Unpin,
    {
        self.reader.stream.unsplit(self.writer.stream)
    }

    /// Both directions, for use from two tasks.
    pub fn into_split(self) -> (Reader<S>, Writer<S>) {
        (self.reader, self.writer)
    }

    /// The writing side, for what is not a packet.
    pub fn writer(&mut self) -> &mut Writer<S> {
        &mut self.writer
    }
}

/// The receiving half of a [`Client`].
#[derive(Debug)]
pub struct Reader<S> {
    frames: FrameBuffer,
    stream: ReadHalf<S>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Reader<S> {
    /// The next thing that the relay sends. Kinds of frames that a client has no use for are
    /// skipped. Safe to cancel.
    ///
    /// # Errors
    /// [`Error::Closed`] when the relay closed the connection between two frames, other errors
    /// when it broke the protocol or the connection failed.
    pub async fn recv(&mut self) -> Result<Event, Error> {
        loop {
            while let Some(frame) = self.frames.next(judge)? {
                if let Some(event) = event(frame)? {
                    return Ok(event);
                }
            }
            self.fill().await?;
        }
    }

    async fn fill(&mut self) -> Result<(), Error> {
        if self.frames.fill(&mut self.stream).await? {
            Ok(())
        } else if self.frames.is_between_frames() {
            Err(Error::Closed)
        } else {
            Err(Error::Io(io::ErrorKind::UnexpectedEof.into()))
        }
    }

    async fn handshake_frame(&mut self, wanted: FrameType, max: usize) -> Result<RawFrame, Error> {
        let judge = |kind, len| match kind {
            kind if kind != wanted => Err(Error::Unexpected(kind)),
            kind if len > max => Err(FrameError::Long {
                kind,
                max,
                got: len,
            }
            .into()),
            _ => Ok(Verdict::Take),
        };
        loop {
            if let Some(frame) = self.frames.next(judge)? {
                return Ok(frame);
            }
            self.fill().await?;
        }
    }
}

fn judge(kind: FrameType, len: usize) -> Result<Verdict, FrameError> {
    if len > MAX_PAYLOAD {
        return Err(FrameError::Long {
            kind,
            max: MAX_PAYLOAD,
            got: len,
        });
    }
    Ok(Verdict::Take)
}

fn event(frame: RawFrame) -> Result<Option<Event>, FrameError> {
    Ok(Some(match Frame::decode(frame.kind, frame.payload())? {
        Frame::RecvPacket(received) => {
            let source = received.source;
            Event::Packet {
                source,
                packet: frame.into_payload().slice(KEY_LEN..),
            }
        }
        Frame::PeerGone(PeerGone { peer, reason }) => Event::PeerGone { peer, reason },
        Frame::KeepAlive(_) => Event::KeepAlive,
        Frame::Ping(Ping { data }) => Event::Ping(data),
        Frame::Pong(Pong { data }) => Event::Pong(data),
        Frame::Health(health) => {
            Event::Health(String::from_utf8_lossy(health.problem).into_owned())
        }
        Frame::Restarting(restarting) => Event::Restarting(restarting),
        _ => return Ok(None),
    }))
}

/// The sending half of a [`Client`].
///
/// Its methods are not safe to cancel: a frame may be half written.
#[derive(Debug)]
pub struct Writer<S> {
    out: BytesMut,
    stream: WriteHalf<S>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Writer<S> {
    /// Sends a packet.
    ///
    /// # Errors
    /// When the packet is too long or the connection failed.
    pub async fn send(&mut self, destination: &NodeKey, packet: &[u8]) -> Result<(), Error> {
        self.feed(destination, packet)?;
        self.flush().await
    }

    /// Puts a packet into the buffer that [`flush`](Self::flush) writes.
    ///
    /// # Errors
    /// When the packet is too long.
    pub fn feed(&mut self, destination: &NodeKey, packet: &[u8]) -> Result<(), Error> {
        if packet.len() > MAX_PACKET {
            return Err(Error::PacketTooLong(packet.len()));
        }
        self.put(&Frame::SendPacket(SendPacket {
            destination: *destination,
            packet,
        }));
        Ok(())
    }

    /// Puts any frame into the buffer, also one that a client should not send.
    pub fn put(&mut self, frame: &Frame<'_>) {
        frame.encode(&mut self.out);
    }

    /// Puts bytes into the buffer as they are, frames or not.
    pub fn put_raw(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    /// Writes what is in the buffer.
    ///
    /// # Errors
    /// When the connection failed.
    pub async fn flush(&mut self) -> Result<(), Error> {
        self.stream.write_all_buf(&mut self.out).await?;
        self.stream.flush().await?;
        Ok(())
    }

    /// Tells the relay whether it is this client's home.
    ///
    /// # Errors
    /// When the connection failed.
    pub async fn note_preferred(&mut self, is_home: bool) -> Result<(), Error> {
        self.put(&Frame::NotePreferred(NotePreferred { is_home }));
        self.flush().await
    }

    /// Asks the relay for a [`Event::Pong`] with the same bytes.
    ///
    /// # Errors
    /// When the connection failed.
    pub async fn ping(&mut self, data: [u8; 8]) -> Result<(), Error> {
        self.put(&Frame::Ping(Ping { data }));
        self.flush().await
    }

    /// Answers a [`Event::Ping`].
    ///
    /// # Errors
    /// When the connection failed.
    pub async fn pong(&mut self, data: [u8; 8]) -> Result<(), Error> {
        self.put(&Frame::Pong(Pong { data }));
        self.flush().await
    }

    /// Closes the connection.
    ///
    /// # Errors
    /// When it failed already.
    pub async fn close(&mut self) -> Result<(), Error> {
        self.stream.shutdown().await?;
        Ok(())
    }
}
