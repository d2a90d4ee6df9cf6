//! The outer endpoints, and the HTTP/2 server inside the encrypted connection.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bowline_engine::Engine;
use bowline_model::key::MachineKey;
use bowline_wire::fields::BadRequest;
use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_TYPE, UPGRADE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::rt::Executor;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::json;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::task::TaskTracker;
use tracing::Instrument;

use crate::limit::Limiter;
use crate::noise::{self, NoiseStream};
use crate::{map, register, ssh_action};

/// Body of every answer of this crate.
pub type Body = UnsyncBoxBody<Bytes, Infallible>;

/// Requests of one kind that a machine may send at once.
const BURST: u32 = 20;

/// How the control protocol is served.
#[derive(Clone)]
pub struct Config {
    /// The server's static Noise secret, 32 bytes.
    pub noise_secret: zeroize::Zeroizing<[u8; 32]>,
    /// What clients call this server, without a slash at the end; where logins are confirmed.
    pub url: String,
    /// Whether clients may upload their logs to Tailscale.
    pub log_upload: bool,
    /// Largest request body in bytes.
    pub body_limit: usize,
    /// Connections that may be at once between their upgrade and their first request.
    pub handshakes: usize,
    /// How long a peer has between its upgrade and the first HTTP/2 request.
    pub half_open_timeout: Duration,
    /// Registrations of one machine key in the long run, per second, and likewise its questions
    /// about SSH sessions. 0: no limit.
    pub registrations_per_second: f64,
}

/// What happened so far, for metrics.
#[derive(Debug, Default)]
pub struct Counters {
    /// Encrypted connections that were opened.
    pub connections: AtomicU64,
    /// Encrypted connections that are open.
    pub open_connections: AtomicU64,
    /// Registrations that were accepted.
    pub registrations: AtomicU64,
    /// Registrations that were refused.
    pub refused_registrations: AtomicU64,
    /// Map streams that were opened.
    pub streams: AtomicU64,
    /// Messages sent on map streams, keep-alives included.
    pub messages: AtomicU64,
    /// Bytes of those messages.
    pub message_bytes: AtomicU64,
}

/// The control protocol of one server. Cheap to clone.
#[derive(Clone)]
pub struct Control(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) engine: Engine,
    pub(crate) config: Config,
    /// Registrations.
    pub(crate) limiter: Limiter,
    /// Questions about SSH sessions, with the same limits: they must not keep a device from
    /// registering.
    pub(crate) ssh_limiter: Limiter,
    pub(crate) counters: Counters,
    public_key: String,
    handshakes: Arc<Semaphore>,
    connections: TaskTracker,
}

/// One encrypted connection.
pub(crate) struct Peer {
    pub(crate) machine_key: MachineKey,
    /// Where it comes from.
    pub(crate) source: IpAddr,
    /// Whether a report came in on this connection: the values of a stream request are then older.
    pub(crate) reported: AtomicBool,
}

/// A connection without a request so far: it has proved nothing but that it can do a handshake,
/// so that there is a limit to how many of them there are.
#[derive(Clone)]
struct HalfOpen(Arc<Mutex<Option<OwnedSemaphorePermit>>>);

impl HalfOpen {
    fn permit(&self) -> MutexGuard<'_, Option<OwnedSemaphorePermit>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self) {
        self.permit().take();
    }

    fn has_ended(&self) -> bool {
        self.permit().is_none()
    }
}

#[derive(Clone)]
struct Spawner(TaskTracker);

impl<F> Executor<F> for Spawner
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, future: F) {
        self.0.spawn(future);
    }
}

impl Control {
    /// A server over an engine.
    ///
    /// # Errors
    /// When the secret is not one.
    pub fn new(engine: Engine, config: Config) -> Result<Self, noise::HandshakeError> {
        let public = noise::handshake::public_key(&config.noise_secret)?;
        Ok(Self(Arc::new(Inner {
            engine,
            public_key: MachineKey::from_bytes(public).to_string(),
            limiter: Limiter::new(BURST, config.registrations_per_second),
            ssh_limiter: Limiter::new(BURST, config.registrations_per_second),
            handshakes: Arc::new(Semaphore::new(config.handshakes)),
            counters: Counters::default(),
            connections: TaskTracker::new(),
            config,
        })))
    }

    /// What happened so far.
    pub fn counters(&self) -> &Counters {
        &self.0.counters
    }

    /// Waits until every connection has ended. They end when the engine stops.
    pub async fn closed(&self) {
        self.0.connections.close();
        self.0.connections.wait().await;
    }

    /// `GET /key?v=<capability version>`: the server's Noise public key. The legacy key is there
    /// because the official Rust client wants to read one.
    pub fn key(&self) -> Response<Body> {
        let zero = MachineKey::ZERO.to_string();
        json_response(
            StatusCode::OK,
            &json!({"legacyPublicKey": zero, "publicKey": self.0.public_key}),
        )
    }

    /// `POST /ts2021`: answers the handshake and serves the encrypted connection.
    pub fn upgrade(&self, mut request: Request<Incoming>, source: IpAddr) -> Response<Body> {
        let initiation = match initiation(&request) {
            Ok(initiation) => initiation,
            Err(problem) => return text_response(StatusCode::BAD_REQUEST, problem),
        };
        let Ok(permit) = self.0.handshakes.clone().try_acquire_owned() else {
            return text_response(
                StatusCode::SERVICE_UNAVAILABLE,
                "too many handshakes at once; try again",
            );
        };
        let responded = match noise::respond(&self.0.config.noise_secret, &initiation) {
            Ok(responded) => responded,
            Err(error) => {
                tracing::debug!(source.ip = %source, error = %error, "refused a handshake");
                return text_response(StatusCode::BAD_REQUEST, &error.to_string());
            }
        };
        let half_open = HalfOpen(Arc::new(Mutex::new(Some(permit))));
        let control = self.clone();
        let upgraded = hyper::upgrade::on(&mut request);
        let span = tracing::debug_span!("control.connection", source.ip = %source, capver = responded.protocol_version);
        let serve = async move {
            let upgraded = match upgraded.await {
                Ok(upgraded) => upgraded,
                Err(error) => return tracing::debug!(error = %error, "upgrade failed"),
            };
            // Without the layers of the HTTP/1 connection where that can be: they hold memory.
            match upgraded.downcast::<TokioIo<TcpStream>>() {
                Ok(parts) if parts.read_buf.is_empty() => {
                    control
                        .serve(parts.io.into_inner(), source, responded, half_open)
                        .await;
                }
                Ok(parts) => {
                    let io = tokio_util_rewind(parts.read_buf, parts.io.into_inner());
                    control.serve(io, source, responded, half_open).await;
                }
                Err(upgraded) => {
                    control
                        .serve(TokioIo::new(upgraded), source, responded, half_open)
                        .await;
                }
            }
        };
        self.0.connections.spawn(serve.instrument(span));
        Response::builder()
            .status(StatusCode::SWITCHING_PROTOCOLS)
            .header(UPGRADE, "tailscale-control-protocol")
            .header(CONNECTION, "upgrade")
            .body(empty())
            .unwrap_or_else(|_| {
                text_response(StatusCode::INTERNAL_SERVER_ERROR, "internal server error")
            })
    }

    async fn serve<S>(
        &self,
        io: S,
        source: IpAddr,
        responded: noise::Responded,
        half_open: HalfOpen,
    ) where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let peer = Arc::new(Peer {
            machine_key: MachineKey::from_bytes(responded.machine_key),
            source,
            reported: AtomicBool::new(false),
        });
        let stream = NoiseStream::server(io, responded);
        let counters = &self.0.counters;
        counters.connections.fetch_add(1, Ordering::Relaxed);
        counters.open_connections.fetch_add(1, Ordering::Relaxed);
        let service = {
            let (control, peer, half_open) = (self.clone(), peer.clone(), half_open.clone());
            service_fn(move |request| {
                half_open.end();
                let (control, peer) = (control.clone(), peer.clone());
                // Boxed, so that its 3 KiB are free again while a map stream is idle.
                Box::pin(async move { Ok::<_, Infallible>(control.inner(request, &peer).await) })
            })
        };
        let mut http =
            hyper::server::conn::http2::Builder::new(Spawner(self.0.connections.clone()));
        http.timer(TokioTimer::new())
            .max_concurrent_streams(128)
            .max_header_list_size(16 * 1024)
            // Clients send small bodies and get large ones: what they may have in flight is small,
            // what waits here for a slow one too.
            .initial_stream_window_size(64 * 1024)
            .initial_connection_window_size(256 * 1024)
            .max_send_buf_size(32 * 1024)
            .max_pending_accept_reset_streams(20)
            .max_local_error_reset_streams(128);
        let connection = http.serve_connection(TokioIo::new(stream), service);
        tokio::pin!(connection);
        let stop = self.0.engine.ending();
        let timeout = tokio::time::sleep(self.0.config.half_open_timeout);
        tokio::pin!(timeout);
        let mut watching = true;
        let outcome = loop {
            tokio::select! {
                outcome = connection.as_mut() => break outcome,
                () = &mut timeout, if watching => {
                    watching = false;
                    if !half_open.has_ended() {
                        tracing::debug!("no request in time");
                        break Ok(());
                    }
                }
                () = stop.cancelled() => {
                    connection.as_mut().graceful_shutdown();
                    // Streams end by themselves; a client that reads no more is not waited for.
                    break tokio::time::timeout(Duration::from_secs(2), connection.as_mut()).await.unwrap_or(Ok(()));
                }
            }
        };
        if let Err(error) = outcome {
            tracing::debug!(error = %error, "connection ended");
        }
        counters.open_connections.fetch_sub(1, Ordering::Relaxed);
    }

    async fn inner(&self, request: Request<Incoming>, peer: &Arc<Peer>) -> Response<Body> {
        let path = request.uri().path();
        // A client whose control URL has a path keeps it in front.
        let endpoint = path
            .find("/machine/")
            .map_or(path, |at| &path[at..])
            .to_owned();
        match (request.method(), endpoint.as_str()) {
            (&Method::POST, "/machine/register") => register::handle(self, request, peer).await,
            (&Method::POST, "/machine/map") => map::handle(self, request, peer).await,
            (&Method::GET, path) if path.starts_with(ssh_action::PATH) => {
                ssh_action::handle(self, request, path, peer).await
            }
            (_, "/machine/register" | "/machine/map") => {
                text_response(StatusCode::METHOD_NOT_ALLOWED, "use POST")
            }
            // Clients of 1.80 to 1.88 report their health; nothing here uses it, and without an
            // answer they would report again and again.
            (_, "/machine/update-health") => Response::builder()
                .status(StatusCode::NO_CONTENT)
                .body(empty())
                .unwrap_or_else(|_| Response::new(empty())),
            (_, "/machine/whoami") => {
                text_response(StatusCode::OK, &format!("{}\n", peer.machine_key))
            }
            _ => text_response(
                StatusCode::NOT_IMPLEMENTED,
                "this server does not offer that",
            ),
        }
    }
}

/// Bytes that were read ahead, then the rest.
fn tokio_util_rewind(
    ahead: Bytes,
    io: TcpStream,
) -> impl AsyncRead + AsyncWrite + Unpin + Send + 'static {
    let (read, write) = io.into_split();
    tokio::io::join(
        tokio::io::AsyncReadExt::chain(std::io::Cursor::new(ahead), read),
        write,
    )
}

fn initiation(request: &Request<Incoming>) -> Result<Vec<u8>, &'static str> {
    let header = |name: &str| {
        request
            .headers()
            .get(name)
            .and_then(|value| value.to_str().ok())
    };
    let is_ours = header("upgrade")
        .is_some_and(|value| value.eq_ignore_ascii_case("tailscale-control-protocol"));
    if request.method() != Method::POST || !is_ours {
        return Err(
            "this is the control protocol's address: expected POST with Upgrade: tailscale-control-protocol",
        );
    }
    let handshake = header("x-tailscale-handshake").ok_or("missing X-Tailscale-Handshake")?;
    BASE64_STANDARD
        .decode(handshake)
        .map_err(|_| "X-Tailscale-Handshake is not base64")
}

/// Reads a request body of bounded size.
pub(crate) async fn body(
    control: &Control,
    request: Request<Incoming>,
) -> Result<Bytes, Box<Response<Body>>> {
    match Limited::new(request.into_body(), control.0.config.body_limit)
        .collect()
        .await
    {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => Err(Box::new(
            text_response(StatusCode::PAYLOAD_TOO_LARGE, "request body is too large"),
        )),
        Err(_) => Err(Box::new(text_response(
            StatusCode::BAD_REQUEST,
            "request body did not arrive",
        ))),
    }
}

pub(crate) fn bad_request(error: &BadRequest) -> Response<Body> {
    text_response(StatusCode::BAD_REQUEST, &error.to_string())
}

pub(crate) fn empty() -> Body {
    http_body_util::Empty::new().boxed_unsync()
}

/// A short text: clients show up to 200 characters of it.
pub(crate) fn text_response(status: StatusCode, text: &str) -> Response<Body> {
    respond(status, "text/plain; charset=utf-8", text.to_owned().into())
}

pub(crate) fn json_response<T: serde::Serialize>(status: StatusCode, value: &T) -> Response<Body> {
    match serde_json::to_vec(value) {
        Ok(json) => respond(status, "application/json", json.into()),
        Err(error) => {
            tracing::error!(error = %error, "an answer cannot be encoded");
            text_response(StatusCode::INTERNAL_SERVER_ERROR, "internal server error")
        }
    }
}

fn respond(status: StatusCode, content_type: &'static str, body: Bytes) -> Response<Body> {
    let mut response = Response::new(Full::new(body).boxed_unsync());
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
