//! The client.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::future::{Either, select};
use http::uri::{Authority, Scheme};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body as _, Incoming};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::OnceCell;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::address::Networks;
use crate::failure::Failure;
use crate::resolve::{Resolve, SystemResolver};
use crate::tls::{self, Roots};

/// Addresses of a name that are tried. More only cost time that a caller waits.
const TRIED: usize = 4;
/// Head of an answer, in bytes.
const HEAD_BYTES: usize = 32 << 10;
/// Header fields of an answer.
const HEAD_FIELDS: usize = 100;

/// How long a request may take and how large its answer may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Resolving, connecting and TLS.
    pub connect: Duration,
    /// All of it, connecting included.
    pub whole: Duration,
    /// Bytes of the answer's body; a larger one is a [`Failure::Size`].
    pub answer_bytes: usize,
}

/// One request.
#[derive(Debug, Clone)]
pub struct Request {
    /// How.
    pub method: Method,
    /// Where: `https`, or `http` in a listed network.
    pub url: Uri,
    /// Header fields. `Host`, `User-Agent`, `Connection` and `Accept-Encoding` are set by the client.
    pub headers: HeaderMap,
    /// Body; empty for none.
    pub body: Bytes,
    /// What it may cost.
    pub limits: Limits,
}

impl Request {
    /// A `GET`.
    #[must_use]
    pub fn get(url: Uri, limits: Limits) -> Self {
        Self {
            method: Method::GET,
            url,
            headers: HeaderMap::new(),
            body: Bytes::new(),
            limits,
        }
    }

    /// A `POST` of JSON.
    #[must_use]
    pub fn post_json(url: Uri, body: Bytes, limits: Limits) -> Self {
        let mut headers = HeaderMap::new();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        );
        Self {
            method: Method::POST,
            url,
            headers,
            body,
            limits,
        }
    }
}

/// What came back. A redirect is an answer like any other.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Status.
    pub status: StatusCode,
    /// Header fields.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Bytes,
}

/// Makes requests to addresses that somebody else chose; the crate's documentation says how. Each
/// request has a connection of its own, so none is answered over a connection that another one, or
/// another limit, was checked for.
#[derive(Clone)]
pub struct Client {
    networks: Arc<Networks>,
    resolver: Arc<dyn Resolve>,
    roots: Roots,
    /// Made at the first request over TLS.
    tls: Arc<OnceCell<Arc<ClientConfig>>>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client")
            .field("networks", &self.networks)
            .finish_non_exhaustive()
    }
}

impl Client {
    /// A client that resolves names as this machine does.
    #[must_use]
    pub fn new(networks: Networks, roots: Roots) -> Self {
        Self::with_resolver(networks, roots, SystemResolver::default())
    }

    /// A client with another resolver.
    #[must_use]
    pub fn with_resolver(networks: Networks, roots: Roots, resolver: impl Resolve) -> Self {
        Self {
            networks: Arc::new(networks),
            resolver: Arc::new(resolver),
            roots,
            tls: Arc::default(),
        }
    }

    /// Whether a URL could be asked as far as its text tells: `https` or `http`, a host, no user name,
    /// and an address that requests may go to where the host is one. What a name resolves to shows when
    /// it is asked. For a check where somebody writes the URL, so that they learn it at once.
    ///
    /// # Errors
    /// As [`Self::send`], as far as the text tells.
    pub fn check(&self, url: &Uri) -> Result<(), Failure> {
        let target = Target::of(url)?;
        if let Ok(address) = target.host.parse::<IpAddr>() {
            self.permit(&target, &[address])?;
        }
        Ok(())
    }

    /// Sends a request and reads the whole answer.
    ///
    /// # Errors
    /// See [`Failure`]. An answer of any status is not an error, a redirect included.
    pub async fn send(&self, request: Request) -> Result<Answer, Failure> {
        let limits = request.limits;
        timeout(limits.whole, self.send_unhurried(request))
            .await
            .unwrap_or(Err(Failure::Time))
    }

    async fn send_unhurried(&self, request: Request) -> Result<Answer, Failure> {
        let target = Target::of(&request.url)?;
        let limits = request.limits;
        let stream = timeout(limits.connect, self.connect(&target))
            .await
            .unwrap_or(Err(Failure::ConnectTime))?;
        match stream {
            Stream::Plain(stream) => exchange(stream, request, &target).await,
            Stream::Tls(stream) => exchange(*stream, request, &target).await,
        }
    }

    /// Resolves, checks, and connects to an address that was checked.
    async fn connect(&self, target: &Target) -> Result<Stream, Failure> {
        let found = match target.host.parse::<IpAddr>() {
            // The resolver would give it back, but nobody has to rely on that.
            Ok(address) => vec![address],
            Err(_) => self
                .resolver
                .resolve(target.host.clone())
                .await
                .map_err(Failure::Resolve)?,
        };
        let allowed = self.permit(target, &found)?;
        let stream = connect_any(&allowed, target.port).await?;
        if !target.is_tls {
            return Ok(Stream::Plain(stream));
        }
        let tls = self.tls.get_or_try_init(|| self.set_up_tls()).await?;
        let name = ServerName::try_from(target.host.clone())
            .map_err(|_| Failure::Url("the host is not a name that a certificate can have"))?;
        let stream = TlsConnector::from(tls.clone())
            .connect(name, stream)
            .await
            .map_err(Failure::Tls)?;
        Ok(Stream::Tls(Box::new(stream)))
    }

    async fn set_up_tls(&self) -> Result<Arc<ClientConfig>, Failure> {
        let roots = self.roots.clone();
        // The machine's certificates are some hundred kilobytes of files.
        tokio::task::spawn_blocking(move || tls::config(&roots))
            .await
            .map_err(|error| Failure::Tls(io::Error::other(error)))?
            .map_err(Failure::Tls)
    }

    /// Those addresses that the request may go to.
    fn permit(&self, target: &Target, found: &[IpAddr]) -> Result<Vec<IpAddr>, Failure> {
        let mut allowed: Vec<IpAddr> = found
            .iter()
            .copied()
            .filter(|address| self.networks.may_reach(*address))
            .collect();
        if allowed.is_empty() {
            return Err(Failure::NotAllowed);
        }
        if !target.is_tls {
            allowed.retain(|address| self.networks.is_listed(*address));
            if allowed.is_empty() {
                return Err(Failure::Plain);
            }
        }
        allowed.truncate(TRIED);
        Ok(allowed)
    }
}

/// Where a URL points.
#[derive(Debug)]
struct Target {
    is_tls: bool,
    /// Name or address, without the brackets of an IPv6 address.
    host: String,
    port: u16,
    /// `Host` header field.
    authority: HeaderValue,
    /// Path and query.
    path: Uri,
}

impl Target {
    fn of(url: &Uri) -> Result<Self, Failure> {
        let is_tls = match url.scheme() {
            Some(scheme) if *scheme == Scheme::HTTPS => true,
            Some(scheme) if *scheme == Scheme::HTTP => false,
            _ => return Err(Failure::Url("the URL must begin with https://")),
        };
        let authority = url
            .authority()
            .filter(|authority| !authority.host().is_empty())
            .ok_or(Failure::Url("the URL has no host"))?;
        if authority.as_str().contains('@') {
            return Err(Failure::Url("the URL must have no user name and password"));
        }
        let host = authority.host();
        let host = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'))
            .unwrap_or(host);
        let port = match (host_end(authority), authority.port_u16()) {
            ("", _) => default_port(is_tls),
            (_, Some(port)) if port != 0 => port,
            _ => return Err(Failure::Url("the URL has a port that does not exist")),
        };
        let bad = |_| Failure::Url("the URL can't be sent");
        let path = url.path_and_query().map_or("/", |path| path.as_str());
        Ok(Self {
            is_tls,
            host: host.to_owned(),
            port,
            authority: HeaderValue::from_str(authority.as_str()).map_err(bad)?,
            path: path
                .parse()
                .map_err(|_| Failure::Url("the URL can't be sent"))?,
        })
    }
}

/// What stands behind the host: nothing, or a port.
fn host_end(authority: &Authority) -> &str {
    authority
        .as_str()
        .strip_prefix(authority.host())
        .unwrap_or_default()
}

const fn default_port(is_tls: bool) -> u16 {
    if is_tls { 443 } else { 80 }
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<tokio_rustls::client::TlsStream<TcpStream>>),
}

/// Connects to the first address that answers. A silent one does not use up the time of those after it:
/// each attempt goes on while the next begins.
async fn connect_any(addresses: &[IpAddr], port: u16) -> Result<TcpStream, Failure> {
    use futures_util::stream::{FuturesUnordered, StreamExt as _};

    /// Pause before the next address is tried beside the last (RFC 8305, section 5).
    const PAUSE: Duration = Duration::from_millis(250);

    let mut waiting = addresses.iter();
    let mut attempts = FuturesUnordered::new();
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
    loop {
        let next = waiting.next();
        if let Some(address) = next {
            attempts.push(TcpStream::connect(SocketAddr::new(*address, port)));
        } else if attempts.is_empty() {
            return Err(Failure::Connect(last));
        }
        let ended = if waiting.len() == 0 {
            attempts.next().await
        } else {
            timeout(PAUSE, attempts.next()).await.unwrap_or(None)
        };
        match ended {
            Some(Ok(stream)) => return Ok(stream),
            Some(Err(error)) => last = error,
            None => {}
        }
    }
}

/// Sends the request over a connection and reads the answer.
async fn exchange<S>(stream: S, request: Request, target: &Target) -> Result<Answer, Failure>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let limit = request.limits.answer_bytes;
    let request = outgoing(request, target);
    let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
        .max_buf_size(HEAD_BYTES)
        .max_headers(HEAD_FIELDS)
        .handshake(TokioIo::new(stream))
        .await?;
    let work = pin!(async move {
        let answer = sender.send_request(request).await?;
        let (head, body) = answer.into_parts();
        Ok(Answer {
            status: head.status,
            headers: head.headers,
            body: read(body, limit).await?,
        })
    });
    // The connection is driven here and not by a task, so that giving up on the answer closes it.
    match select(work, pin!(connection)).await {
        Either::Left((answer, _)) => answer,
        Either::Right((_ended, work)) => work.await,
    }
}

fn outgoing(request: Request, target: &Target) -> http::Request<Full<Bytes>> {
    let mut outgoing = http::Request::new(Full::new(request.body));
    *outgoing.method_mut() = request.method;
    *outgoing.uri_mut() = target.path.clone();
    let headers = outgoing.headers_mut();
    *headers = request.headers;
    headers.insert(header::HOST, target.authority.clone());
    headers.insert(header::USER_AGENT, HeaderValue::from_static("bowline"));
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    // A compressed answer could be small on its way and huge here.
    headers.insert(
        header::ACCEPT_ENCODING,
        HeaderValue::from_static("identity"),
    );
    outgoing
}

async fn read(mut body: Incoming, limit: usize) -> Result<Bytes, Failure> {
    let announced = body.size_hint().lower();
    if usize::try_from(announced).map_or(true, |announced| announced > limit) {
        return Err(Failure::Size(limit));
    }
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame?.into_data() {
            if data.len() > limit - whole.len() {
                return Err(Failure::Size(limit));
            }
            whole.extend_from_slice(&data);
        }
    }
    Ok(whole.freeze())
}
