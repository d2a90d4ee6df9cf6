//! The outer endpoints, and the HTTP/2 server inside the encrypted connection.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use bowline_admission::{BodyRefused, Busy, Limiter, Share, Shown, Ticket};
use bowline_engine::Engine;
use bowline_model::key::MachineKey;
use bowline_model::text::shown;
use bowline_wire::fields::BadRequest;
use bytes::Bytes;
use http::header::{ACCESS_CONTROL_ALLOW_ORIGIN, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::rt::Executor;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::json;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::task::TaskTracker;
use tracing::Instrument;

use crate::liveness::{Ended, Heard, Liveness, Pulse};
use crate::noise::{self, NoiseStream};
use crate::upgrade::Asked;
use crate::{id_token, map, register, ssh_action};

/// Body of every answer of this crate.
pub type Body = UnsyncBoxBody<Bytes, Infallible>;

/// How the protocol says that there is no key.
const NO_KEY: &str = "mkey:0000000000000000000000000000000000000000000000000000000000000000";

/// Requests of one kind that a machine may send at once.
const BURST: u32 = 20;
/// Largest request body of a machine key without a device, in bytes: four times the host info that
/// a login may have.
const STRANGER_BODY: usize = 64 * 1024;
/// Requests of a connection that may be open at once, where its machine key has no device. Clients
/// have one or two.
const STRANGER_STREAMS: u32 = 16;
/// The same for one with a device.
const STREAMS: u32 = 128;
/// Registrations of one connection that may be open at once: clients have one, which may be held
/// for an hour while somebody confirms a login, and begin another when they give it up.
const REGISTRATIONS: usize = 4;

/// How the control protocol is served.
#[derive(Clone)]
pub struct Config {
    /// The server's static Noise secret, 32 bytes.
    pub noise_secret: zeroize::Zeroizing<[u8; 32]>,
    /// What clients call this server, without a slash at the end; where logins are confirmed.
    pub url: String,
    /// Whether clients may upload their logs to Tailscale.
    pub log_upload: bool,
    /// Largest request body of a machine key with a device, in bytes. Others have 64 KiB.
    pub body_limit: usize,
    /// Registrations of one machine key in the long run, per second, and likewise its questions
    /// about SSH sessions and requests for tokens. 0: no limit.
    pub registrations_per_second: f64,
    /// How clients are asked whether they are still there.
    pub liveness: Liveness,
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
    /// Connections that were given up because nothing came in, not even the answer to a ping.
    pub silent_connections: AtomicU64,
    /// Connections that were given up because a map stream was not read.
    pub stuck_connections: AtomicU64,
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
    pub(crate) limiter: Limiter<MachineKey>,
    /// Questions about SSH sessions, with the same limits: they must not keep a device from
    /// registering.
    pub(crate) ssh_limiter: Limiter<MachineKey>,
    /// Requests for tokens, likewise.
    pub(crate) token_limiter: Limiter<MachineKey>,
    pub(crate) counters: Counters,
    /// The answer to `GET /key`, which is the same for everybody.
    key: Bytes,
    connections: TaskTracker,
}

/// One encrypted connection.
pub(crate) struct Peer {
    pub(crate) machine_key: MachineKey,
    /// Where it comes from.
    pub(crate) source: IpAddr,
    /// Whether a report came in on this connection: the values of a stream request are then older.
    pub(crate) reported: AtomicBool,
    /// Its place among the connections of the server.
    ticket: Ticket,
    /// What its request bodies may take together.
    share: Share,
    /// Its registrations that are open.
    registrations: AtomicUsize,
    /// Whether the client is still there.
    pub(crate) pulse: Pulse,
}

impl Peer {
    /// Takes a place among the registrations of this connection that are open; `None` where there
    /// are too many.
    pub(crate) fn begin_registration(self: &Arc<Self>) -> Option<OpenRegistration> {
        let before = self.registrations.fetch_add(1, Ordering::Relaxed);
        let open = OpenRegistration(self.clone());
        (before < REGISTRATIONS).then_some(open)
    }
}

/// A registration that is open.
pub(crate) struct OpenRegistration(Arc<Peer>);

impl Drop for OpenRegistration {
    fn drop(&mut self) {
        self.0.registrations.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A request that is being answered: until it is dropped the connection is not half-open, and then
/// it is looked at again whether its machine key has a device.
pub(crate) struct Answering {
    control: Control,
    pub(crate) peer: Arc<Peer>,
    _busy: Busy,
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.control.is_known(&self.peer);
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
        let public_key = MachineKey::from_bytes(public).ok_or(noise::HandshakeError::LowOrder)?;
        let key = json!({
            "legacyPublicKey": NO_KEY,
            "publicKey": public_key.to_string(),
        });
        Ok(Self(Arc::new(Inner {
            engine,
            key: key.to_string().into(),
            limiter: Limiter::new(BURST, config.registrations_per_second),
            ssh_limiter: Limiter::new(BURST, config.registrations_per_second),
            token_limiter: Limiter::new(BURST, config.registrations_per_second),
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
        let mut response = respond(StatusCode::OK, "application/json", self.0.key.clone());
        // Clients in browsers come from pages of other origins.
        let anybody = HeaderValue::from_static("*");
        response
            .headers_mut()
            .insert(ACCESS_CONTROL_ALLOW_ORIGIN, anybody);
        response
    }

    /// `POST /ts2021`, or `GET` as a WebSocket: answers the handshake, when it is its source's turn,
    /// and serves the encrypted connection. `source`: where it comes from, as a trusted proxy says
    /// it. `ticket`: its place among the connections of the server.
    pub async fn upgrade<B>(
        &self,
        mut request: Request<B>,
        source: IpAddr,
        ticket: Ticket,
    ) -> Response<Body> {
        let asked = match Asked::of(&request) {
            Ok(asked) => asked,
            Err(problem) => return text_response(StatusCode::BAD_REQUEST, problem),
        };
        let responded = {
            let _turn = ticket.admission().turns().turn(source).await;
            noise::respond(&self.0.config.noise_secret, &asked.initiation)
        };
        let responded = match responded {
            Ok(responded) => responded,
            Err(error) => {
                tracing::debug!(source.ip = %source, error = %error, "refused a handshake");
                return text_response(StatusCode::BAD_REQUEST, &error.to_string());
            }
        };
        let control = self.clone();
        let upgraded = hyper::upgrade::on(&mut request);
        let span = tracing::debug_span!("control.connection", source.ip = %source, capver = responded.protocol_version);
        let response = asked.accepted();
        let serve = async move {
            let upgraded = match upgraded.await {
                Ok(upgraded) => upgraded,
                Err(error) => return tracing::debug!(error = %error, "upgrade failed"),
            };
            let io = asked.stream(upgraded).await;
            control.serve(io, source, responded, ticket).await;
        };
        self.0.connections.spawn(serve.instrument(span));
        response
    }

    async fn serve<S>(&self, io: S, source: IpAddr, responded: noise::Responded, ticket: Ticket)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        // The handshake refuses the zero key, as every point of low order.
        let Some(machine_key) = MachineKey::from_bytes(responded.machine_key) else {
            return;
        };
        let peer = Arc::new(Peer {
            machine_key,
            source,
            reported: AtomicBool::new(false),
            ticket,
            share: Share::new(0),
            registrations: AtomicUsize::new(0),
            pulse: Pulse::default(),
        });
        peer.ticket.identify(peer.machine_key);
        let (streams, window) = if self.is_known(&peer) {
            (STREAMS, 256 * 1024)
        } else {
            (STRANGER_STREAMS, 64 * 1024)
        };
        let liveness = self.0.config.liveness;
        let interval = liveness.interval_of(peer.machine_key, &self.0.engine);
        let io = Heard::new(io, peer.pulse.link.clone());
        let stream = NoiseStream::server(io, responded);
        let counters = &self.0.counters;
        counters.connections.fetch_add(1, Ordering::Relaxed);
        counters.open_connections.fetch_add(1, Ordering::Relaxed);
        let service = {
            let (control, peer) = (self.clone(), peer.clone());
            service_fn(move |request| {
                let (control, peer) = (control.clone(), peer.clone());
                // Boxed, so that its 3 KiB are free again while a map stream is idle.
                Box::pin(async move { Ok::<_, Infallible>(control.inner(request, &peer).await) })
            })
        };
        let mut http =
            hyper::server::conn::http2::Builder::new(Spawner(self.0.connections.clone()));
        http.timer(TokioTimer::new())
            .max_concurrent_streams(streams)
            .max_header_list_size(16 * 1024)
            // Clients send small bodies and get large ones: what they may have in flight is small,
            // what waits here for a slow one too.
            .initial_stream_window_size(64 * 1024)
            .initial_connection_window_size(window)
            .max_send_buf_size(32 * 1024)
            .keep_alive_interval(Some(interval))
            // What comes in decides, below: a connection whose client reads nothing could not even
            // be closed in order.
            .keep_alive_timeout(Duration::from_hours(24))
            .max_pending_accept_reset_streams(20)
            .max_local_error_reset_streams(128);
        let connection = http.serve_connection(TokioIo::new(stream), service);
        tokio::pin!(connection);
        let stop = self.0.engine.ending();
        let ended = peer
            .pulse
            .ended(interval + liveness.timeout, liveness.stuck);
        tokio::pin!(ended);
        let outcome = tokio::select! {
                outcome = connection.as_mut() => outcome,
                ended = &mut ended => {
                    self.given_up(ended);
                    Ok(())
                }
                () = peer.ticket.ended() => {
                    tracing::debug!("the connection lost its place");
                    Ok(())
                }
                () = stop.cancelled() => {
                    connection.as_mut().graceful_shutdown();
                    // Streams end by themselves; a client that reads no more is not waited for.
                    tokio::time::timeout(Duration::from_secs(2), connection.as_mut()).await.unwrap_or(Ok(()))
                }
        };
        if let Err(error) = outcome {
            tracing::debug!(error = %error, "connection ended");
        }
        counters.open_connections.fetch_sub(1, Ordering::Relaxed);
    }

    /// Whether the machine key of a connection has a device or waits for its login; the connection
    /// counts as that from now on.
    fn is_known(&self, peer: &Peer) -> bool {
        let is_known = self.0.engine.knows_machine(peer.machine_key);
        peer.ticket.establish(if is_known {
            Shown::Device
        } else {
            Shown::Nothing
        });
        is_known
    }

    /// Largest request body of a machine, in bytes.
    fn body_limit(&self, key: MachineKey) -> usize {
        let limit = self.0.config.body_limit;
        if self.0.engine.has_device(key) {
            limit
        } else {
            limit.min(STRANGER_BODY)
        }
    }

    /// From now on it is the server's turn on a connection, until what is returned is dropped.
    pub(crate) fn answering(&self, peer: &Arc<Peer>) -> Answering {
        Answering {
            control: self.clone(),
            peer: peer.clone(),
            _busy: peer.ticket.busy(),
        }
    }

    fn given_up(&self, ended: Ended) {
        tracing::debug!("{ended}");
        let counters = &self.0.counters;
        let counter = match ended {
            Ended::Silent => &counters.silent_connections,
            Ended::Stuck => &counters.stuck_connections,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    async fn inner(&self, request: Request<Incoming>, peer: &Arc<Peer>) -> Response<Body> {
        let path = request.uri().path().to_owned();
        match (request.method(), path.as_str()) {
            (&Method::POST, "/machine/register") => register::handle(self, request, peer).await,
            (&Method::POST, "/machine/map") => map::handle(self, request, peer).await,
            (&Method::POST, "/machine/id-token") => id_token::handle(self, request, peer).await,
            (&Method::GET, path) if path.starts_with(ssh_action::PATH) => {
                ssh_action::handle(self, request, path, peer).await
            }
            // Nobody is better known for having asked something, but it is not silent either.
            (method, path) => {
                let _answering = self.answering(peer);
                Self::small_talk(method, path, peer)
            }
        }
    }

    /// What is answered at once and to everybody.
    fn small_talk(method: &Method, path: &str, peer: &Peer) -> Response<Body> {
        match (method, path) {
            (_, "/machine/register" | "/machine/map" | "/machine/id-token") => {
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

/// Receives a request body, as large as this peer's may be.
pub(crate) async fn body(
    control: &Control,
    request: Request<Incoming>,
    peer: &Peer,
) -> Result<Bytes, Box<Response<Body>>> {
    let limit = control.body_limit(peer.machine_key);
    peer.share.set(2 * limit);
    let bodies = peer.ticket.admission().bodies();
    let received = bodies.receive(peer.source, request.into_body(), limit, Some(&peer.share));
    received.await.map_err(|refused| {
        let status = match refused {
            BodyRefused::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            BodyRefused::Late => StatusCode::REQUEST_TIMEOUT,
            BodyRefused::Crowded => StatusCode::SERVICE_UNAVAILABLE,
            BodyRefused::Connection => StatusCode::TOO_MANY_REQUESTS,
            BodyRefused::Broken => StatusCode::BAD_REQUEST,
        };
        Box::new(text_response(status, &refused.to_string()))
    })
}

pub(crate) fn bad_request(error: &BadRequest) -> Response<Body> {
    text_response(StatusCode::BAD_REQUEST, &error.to_string())
}

pub(crate) fn empty() -> Body {
    http_body_util::Empty::new().boxed_unsync()
}

/// A short text: clients show up to 200 characters of it.
pub(crate) fn text_response(status: StatusCode, text: &str) -> Response<Body> {
    // A refusal may quote what was sent.
    let text = if status.is_success() {
        text.to_owned()
    } else {
        shown(text).into_owned()
    };
    respond(status, "text/plain; charset=utf-8", text.into())
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
