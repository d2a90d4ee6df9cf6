//! One Noise connection and the requests inside it.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};

use anyhow::{Context as _, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bowline_control::noise::handshake::REPLY_LEN;
use bowline_control::noise::{Initiator, NoiseStream, early};
use bowline_derp::websocket::ByteStream;
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, Limited, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinHandle;

use super::identity::{Identity, parse_key};
use super::map_stream::{Compression, MapFrames};

/// As much of a whole answer as is read: what real clients take of a registration's.
const ANSWER_LIMIT: usize = 1 << 20;

/// The control protocol's name in requests to upgrade.
const PROTOCOL: &str = "tailscale-control-protocol";
/// Flow-control windows of the Go client, in bytes.
const STREAM_WINDOW: u32 = 4 << 20;
const CONNECTION_WINDOW: u32 = 1 << 30;

/// A server's address and its Noise key.
#[derive(Debug, Clone)]
pub struct Server {
    authority: String,
    noise_key: [u8; 32],
    /// The address that connections come from.
    source: Option<IpAddr>,
    /// Whether the control protocol goes through a WebSocket.
    is_browser: bool,
}

impl Server {
    /// Fetches the Noise key from `/key`. `url` is `http://host:port`; no TLS.
    ///
    /// # Errors
    /// When the server does not answer as real clients need it: exactly 200, both keys there.
    pub async fn discover(url: &str) -> anyhow::Result<Self> {
        let authority = url
            .strip_prefix("http://")
            .map(|rest| rest.trim_end_matches('/'))
            .context("the server's URL must start with http://")?;
        let stream = connect(authority, None).await?;
        let answer = fetch(
            stream,
            authority,
            Method::GET,
            "/key?v=141",
            &[],
            Bytes::new(),
        )
        .await?;
        ensure!(
            answer.status == StatusCode::OK,
            "/key answered {}",
            answer.status
        );
        let keys: Value = answer.json()?;
        let key = |name: &str| {
            keys[name]
                .as_str()
                .with_context(|| format!("/key has no {name}"))
        };
        // The official Rust client fails without it.
        parse_key(key("legacyPublicKey")?, "mkey:")?;
        Ok(Self {
            authority: authority.to_owned(),
            noise_key: parse_key(key("publicKey")?, "mkey:")?,
            source: None,
            is_browser: false,
        })
    }

    /// A server whose key is known, for connections over other streams than TCP.
    pub fn with_key(authority: impl Into<String>, noise_key: [u8; 32]) -> Self {
        Self {
            authority: authority.into(),
            noise_key,
            source: None,
            is_browser: false,
        }
    }

    /// The same server, reached from this address of this machine: on loopback all of 127.0.0.0/8,
    /// so that one test can be several parties.
    #[must_use]
    pub fn from_source(mut self, source: IpAddr) -> Self {
        self.source = Some(source);
        self
    }

    /// The same server, reached as by a client in a browser: the control protocol goes through a
    /// WebSocket.
    #[must_use]
    pub fn as_browser(mut self) -> Self {
        self.is_browser = true;
        self
    }

    /// The same server where another address leads to it, such as a proxy's.
    #[must_use]
    pub fn at(mut self, authority: String) -> Self {
        self.authority = authority;
        self
    }

    /// A TCP connection to it, from its source address where it has one.
    ///
    /// # Errors
    /// When there is no connection.
    pub async fn dial(&self) -> anyhow::Result<TcpStream> {
        connect(&self.authority, self.source).await
    }

    /// `host:port`
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// One request outside Noise on a connection of its own, such as to the API.
    ///
    /// # Errors
    /// When no whole answer comes.
    pub async fn request(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> anyhow::Result<Answer> {
        let stream = self.dial().await?;
        fetch(stream, &self.authority, method, path, headers, body.into()).await
    }
}

/// A whole answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its body, at most 1 MiB.
    pub body: Bytes,
}

impl Answer {
    async fn read(response: Response<Incoming>) -> anyhow::Result<Self> {
        let (parts, body) = response.into_parts();
        let body = Limited::new(body, ANSWER_LIMIT)
            .collect()
            .await
            .map_err(|error| anyhow::anyhow!("no whole answer: {error}"))?;
        Ok(Self {
            status: parts.status,
            body: body.to_bytes(),
        })
    }

    /// The body as JSON.
    ///
    /// # Errors
    /// When it is not JSON; the message has the text.
    pub fn json(&self) -> anyhow::Result<Value> {
        serde_json::from_slice(&self.body).with_context(|| format!("not JSON: {}", self.text()))
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

async fn fetch(
    stream: TcpStream,
    authority: &str,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
    body: Bytes,
) -> anyhow::Result<Answer> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let driver = AbortOnDrop(tokio::spawn(async move {
        let _ = connection.await;
    }));
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, authority);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let answer = Answer::read(sender.send_request(request.body(Full::new(body))?).await?).await;
    drop(driver);
    answer
}

async fn connect(authority: &str, source: Option<IpAddr>) -> anyhow::Result<TcpStream> {
    let connecting = async {
        let Some(source) = source else {
            return TcpStream::connect(authority).await;
        };
        let socket = if source.is_ipv4() {
            TcpSocket::new_v4()?
        } else {
            TcpSocket::new_v6()?
        };
        socket.bind(SocketAddr::new(source, 0))?;
        let address = authority.parse().map_err(std::io::Error::other)?;
        socket.connect(address).await
    };
    let stream = connecting
        .await
        .with_context(|| format!("no connection to {authority}"))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// An open Noise connection with HTTP/2 inside. Dropping it closes it at once.
#[derive(Debug)]
pub struct Connection {
    requests: http2::SendRequest<UnsyncBoxBody<Bytes, Infallible>>,
    authority: String,
    early_payload: Option<Vec<u8>>,
    _driver: AbortOnDrop,
}

impl Connection {
    /// Connects over TCP.
    ///
    /// # Errors
    /// When any step fails or is refused; the message says which.
    pub async fn open(
        server: &Server,
        identity: &Identity,
        protocol_version: u16,
    ) -> anyhow::Result<Self> {
        let stream = server.dial().await?;
        Self::open_over(stream, server, identity, protocol_version).await
    }

    /// Connects over any stream that leads to the server.
    ///
    /// # Errors
    /// When any step fails or is refused; the message says which.
    pub async fn open_over<S>(
        stream: S,
        server: &Server,
        identity: &Identity,
        protocol_version: u16,
    ) -> anyhow::Result<Self>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        Self::open_with_window(stream, server, identity, protocol_version, STREAM_WINDOW).await
    }

    /// Connects over any stream, with another window for what the server may send of one answer
    /// before the client reads it, in bytes. Real clients have 4 MiB.
    ///
    /// # Errors
    /// When any step fails or is refused; the message says which.
    pub async fn open_with_window<S>(
        stream: S,
        server: &Server,
        identity: &Identity,
        protocol_version: u16,
        window: u32,
    ) -> anyhow::Result<Self>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let initiator = Initiator::new(
            identity.machine_secret(),
            &server.noise_key,
            protocol_version,
        )?;
        let mut upgraded = upgrade(stream, server, initiator.initiation()).await?;
        let mut reply = [0; REPLY_LEN];
        upgraded
            .read_exact(&mut reply)
            .await
            .context("no reply to the Noise handshake")?;
        let (tx, rx) = initiator.finish(&reply)?;
        let mut noise = NoiseStream::new(upgraded, tx, rx);
        let early_payload = early::read(&mut noise)
            .await
            .context("the server did not speak first inside Noise")?;
        let (requests, connection) = http2::Builder::new(TokioExecutor::new())
            .initial_stream_window_size(window)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .handshake(TokioIo::new(noise))
            .await
            .context("no HTTP/2 inside Noise")?;
        let driver = AbortOnDrop(tokio::spawn(async move {
            // Its end shows in the requests.
            let _ = connection.await;
        }));
        let authority = server.authority.clone();
        Ok(Self {
            requests,
            authority,
            early_payload,
            _driver: driver,
        })
    }

    /// The JSON that the server sent before HTTP/2, if any.
    pub fn early_payload(&self) -> Option<&[u8]> {
        self.early_payload.as_deref()
    }

    /// One request inside Noise, and its whole answer.
    ///
    /// # Errors
    /// When no whole answer comes; a status of refusal is an answer.
    pub async fn request(
        &self,
        method: Method,
        path: &str,
        body: impl Into<Bytes>,
    ) -> anyhow::Result<Answer> {
        Answer::read(self.send(method, path, body.into()).await?).await
    }

    /// `POST /machine/register`. The answer's `Error` is not looked at.
    ///
    /// # Errors
    /// When the status is not exactly 200.
    pub async fn register(&self, request: &Value) -> anyhow::Result<Value> {
        let answer = self
            .request(Method::POST, "/machine/register", request.to_string())
            .await?;
        ensure!(
            answer.status == StatusCode::OK,
            "register answered {}: {}",
            answer.status,
            answer.text()
        );
        answer.json()
    }

    /// `POST /machine/map` without a stream, as for a lite update.
    ///
    /// # Errors
    /// When the status is not exactly 200.
    pub async fn update(&self, request: &Value) -> anyhow::Result<()> {
        let answer = self
            .request(Method::POST, "/machine/map", request.to_string())
            .await?;
        ensure!(
            answer.status == StatusCode::OK,
            "map answered {}: {}",
            answer.status,
            answer.text()
        );
        Ok(())
    }

    /// `POST /machine/map` with a stream. Its compression is what the request's `Compress` asks.
    ///
    /// # Errors
    /// When the status is not exactly 200.
    pub async fn map(&self, request: &Value) -> anyhow::Result<MapFrames> {
        let compression = match request["Compress"].as_str() {
            Some("zstd") => Compression::Zstd,
            None | Some("") => Compression::None,
            Some(other) => bail!("unknown compression {other}"),
        };
        let body = Bytes::from(request.to_string());
        let response = self.send(Method::POST, "/machine/map", body).await?;
        if response.status() != StatusCode::OK {
            let answer = Answer::read(response).await?;
            bail!("map answered {}: {}", answer.status, answer.text());
        }
        Ok(MapFrames::new(response.into_body(), compression))
    }

    /// A request whose body has no end: after these pieces nothing more comes. Its answer, if the
    /// server does not wait for ever.
    ///
    /// # Errors
    /// When no whole answer comes.
    pub async fn request_without_end(
        &self,
        path: &str,
        pieces: impl IntoIterator<Item = Bytes, IntoIter: Send + 'static>,
    ) -> anyhow::Result<Answer> {
        let pieces = pieces.into_iter().map(|piece| Ok(Frame::data(piece)));
        let body = stream::iter(pieces).chain(stream::pending());
        let body = StreamBody::new(body).boxed_unsync();
        Answer::read(self.send_body(Method::POST, path, body).await?).await
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> anyhow::Result<Response<Incoming>> {
        self.send_body(method, path, Full::new(body).boxed_unsync())
            .await
    }

    async fn send_body(
        &self,
        method: Method,
        path: &str,
        body: UnsyncBoxBody<Bytes, Infallible>,
    ) -> anyhow::Result<Response<Incoming>> {
        let request = Request::builder()
            .method(method)
            .uri(format!("https://{}{path}", self.authority))
            .body(body)?;
        let mut requests = self.requests.clone();
        requests
            .ready()
            .await
            .context("the Noise connection is closed")?;
        requests
            .send_request(request)
            .await
            .with_context(|| format!("no answer to {path}"))
    }
}

/// Asks for the upgrade and gives the stream after the 101.
async fn upgrade<S>(
    stream: S,
    server: &Server,
    initiation: &[u8],
) -> anyhow::Result<Box<dyn Carrier>>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut requests, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // Ends when the upgraded stream has been handed over, or with the connection.
    tokio::spawn(async move {
        let _ = connection.with_upgrades().await;
    });
    let initiation = STANDARD.encode(initiation);
    let request = Request::builder()
        .header(header::HOST, &server.authority)
        .header(header::CONNECTION, "upgrade");
    let request = if server.is_browser {
        let escaped = initiation
            .replace('+', "%2B")
            .replace('/', "%2F")
            .replace('=', "%3D");
        request
            .method(Method::GET)
            .uri(format!("/ts2021?X-Tailscale-Handshake={escaped}"))
            .header(header::ORIGIN, "https://console.example.net")
            .header(header::UPGRADE, "websocket")
            .header(header::SEC_WEBSOCKET_VERSION, "13")
            .header(header::SEC_WEBSOCKET_KEY, "dGhlIHNhbXBsZSBub25jZQ==")
            .header(header::SEC_WEBSOCKET_PROTOCOL, PROTOCOL)
    } else {
        request
            .method(Method::POST)
            .uri("/ts2021")
            .header(header::UPGRADE, PROTOCOL)
            .header("X-Tailscale-Handshake", initiation)
    };
    let request = request.body(Full::new(Bytes::new()))?;
    let response = requests
        .send_request(request)
        .await
        .context("no answer to /ts2021")?;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        let answer = Answer::read(response).await?;
        bail!("/ts2021 answered {}: {}", answer.status, answer.text());
    }
    let (name, wanted) = if server.is_browser {
        (header::SEC_WEBSOCKET_ACCEPT, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
    } else {
        (header::UPGRADE, PROTOCOL)
    };
    let answered = response.headers().get(&name);
    ensure!(
        answered.is_some_and(|value| value == wanted),
        "/ts2021 answered {name} {answered:?}"
    );
    let upgraded = TokioIo::new(hyper::upgrade::on(response).await?);
    if server.is_browser {
        return Ok(Box::new(ByteStream::client(upgraded).await));
    }
    Ok(Box::new(upgraded))
}

/// What carries the control protocol.
trait Carrier: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Carrier for S {}

/// A task that ends with its owner.
#[derive(Debug)]
struct AbortOnDrop(JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}
