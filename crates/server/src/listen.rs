//! The main listener: control protocol, API and page on one port, and the operator's socket.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use bowline_control::Control;
use bowline_engine::Engine;
use bowline_model::key::NodeKey;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use ipnet::IpNet;
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;

use crate::pages::{self, Page};

/// What the main listener serves.
#[derive(Clone)]
pub struct Site {
    /// The control protocol.
    pub control: Control,
    /// The API.
    pub api: Router,
    /// The engine, for `/verify`.
    pub engine: Engine,
    /// What clients call this server.
    pub url: Arc<str>,
    /// Networks of reverse proxies whose `X-Forwarded-For` counts.
    pub trusted_proxies: Arc<[IpNet]>,
}

/// Settings of a socket that may be idle for hours: small packets at once, and an end to peers
/// that are gone without a word, by the keep-alives that the protocols send.
pub fn tune(socket: &TcpStream) {
    let raw = socket2::SockRef::from(socket);
    let outcome = socket
        .set_nodelay(true)
        .and_then(|()| raw.set_tcp_user_timeout(Some(Duration::from_secs(30))));
    if let Err(error) = outcome {
        tracing::debug!(%error, "could not set the options of a socket");
    }
}

/// Limits of the main listener.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Connections without a first request.
    pub half_open: usize,
    /// How long a peer has for its request's head.
    pub head_timeout: Duration,
}

/// A permit that a connection gives back with its first request.
type Held = Arc<Mutex<Option<OwnedSemaphorePermit>>>;

/// Accepts connections until `stop`, then waits for the requests in flight.
pub async fn serve(
    listener: TcpListener,
    site: Site,
    limits: Limits,
    drain: Duration,
    stop: CancellationToken,
) {
    let half_open = Arc::new(Semaphore::new(limits.half_open));
    let connections = TaskTracker::new();
    loop {
        let accept = async {
            let permit = half_open.clone().acquire_owned().await;
            (listener.accept().await, permit)
        };
        let (accepted, permit) = tokio::select! {
            accepted = accept => accepted,
            () = stop.cancelled() => break,
        };
        let (socket, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        tune(&socket);
        let held: Held = Arc::new(Mutex::new(permit.ok()));
        let (site, stop) = (site.clone(), stop.clone());
        connections.spawn(async move {
            let service = service_fn(move |request: Request<Incoming>| {
                held.lock().unwrap_or_else(PoisonError::into_inner).take();
                let site = site.clone();
                async move { Ok::<_, Infallible>(site.answer(request, peer).await) }
            });
            let connection = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(limits.head_timeout)
                .max_buf_size(32 * 1024)
                .serve_connection(TokioIo::new(socket), service)
                .with_upgrades();
            tokio::pin!(connection);
            let outcome = tokio::select! {
                outcome = connection.as_mut() => outcome,
                () = stop.cancelled() => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            };
            if let Err(error) = outcome {
                tracing::debug!(source.ip = %peer.ip(), %error, "a connection ended");
            }
        });
    }
    connections.close();
    if tokio::time::timeout(drain, connections.wait())
        .await
        .is_err()
    {
        tracing::warn!("some requests were still in flight");
    }
}

impl Site {
    async fn answer(&self, request: Request<Incoming>, peer: SocketAddr) -> Response<Body> {
        // By the path alone: some clients send absolute targets, or a Host without the port.
        let path = request.uri().path();
        if matches!(*request.method(), Method::GET | Method::HEAD)
            && let Some(page) = Page::of(path)
        {
            return pages::answer(page, &self.engine, &self.url);
        }
        // A control URL with a path in it is in front of what it asks for.
        let last = path.rsplit('/').next().unwrap_or("");
        match (request.method(), last) {
            (&Method::GET | &Method::HEAD, "key") if !path.starts_with("/api/") => {
                self.control.key().map(Body::new)
            }
            (_, "ts2021") if !path.starts_with("/api/") => {
                let source = self.source(&request, peer);
                self.control.upgrade(request, source).map(Body::new)
            }
            (_, "health") if path == "/health" => health(),
            (&Method::POST, "verify") if path == "/verify" => self.verify(request).await,
            (&Method::GET, "generate_204") if path == "/generate_204" => no_content(&request),
            // The API answers everything else, with its own errors.
            _ => match self.api.clone().oneshot(request.map(Body::new)).await {
                Ok(response) => response,
                Err(never) => match never {},
            },
        }
    }

    /// Where a request comes from: the connection, or what a trusted proxy says.
    fn source(&self, request: &Request<Incoming>, peer: SocketAddr) -> IpAddr {
        let ip = peer.ip().to_canonical();
        if !self.trusted_proxies.iter().any(|net| net.contains(&ip)) {
            return ip;
        }
        request
            .headers()
            .get("x-forwarded-for")
            .and_then(|value| value.to_str().ok())
            .and_then(|list| list.rsplit(',').next())
            .and_then(|last| last.trim().parse().ok())
            .unwrap_or(ip)
    }

    /// `POST /verify`: whether a relay elsewhere may admit a client.
    async fn verify(&self, request: Request<Incoming>) -> Response<Body> {
        #[derive(serde::Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Ask {
            node_public: NodeKey,
        }
        let Ok(body) = http_body_util::Limited::new(request.into_body(), 4096)
            .collect()
            .await
        else {
            return json(StatusCode::BAD_REQUEST, r#"{"message":"bad request"}"#);
        };
        match serde_json::from_slice::<Ask>(&body.to_bytes()) {
            Ok(ask) if self.engine.admits(&ask.node_public) => {
                json(StatusCode::OK, r#"{"Allow":true}"#)
            }
            Ok(_) => json(StatusCode::OK, r#"{"Allow":false}"#),
            Err(_) => json(
                StatusCode::BAD_REQUEST,
                r#"{"message":"expected {\"NodePublic\":\"nodekey:…\"}"}"#,
            ),
        }
    }
}

fn json(status: StatusCode, text: &'static str) -> Response<Body> {
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn health() -> Response<Body> {
    let mut response = json(StatusCode::OK, r#"{"status":"pass"}"#);
    response.headers_mut().insert(
        CONTENT_TYPE,
        HeaderValue::from_static("application/health+json"),
    );
    response
}

fn no_content(request: &Request<Incoming>) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let challenge = request
        .headers()
        .get("x-tailscale-challenge")
        .and_then(|value| value.to_str().ok())
        .filter(|text| {
            text.len() <= 64
                && text
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b':'))
        });
    if let Some(value) =
        challenge.and_then(|text| HeaderValue::from_str(&format!("response {text}")).ok())
    {
        response.headers_mut().insert("x-tailscale-response", value);
    }
    response
}

/// Serves the API to the operator on a socket that only this user can open.
pub async fn serve_operator(listener: UnixListener, api: Router, stop: CancellationToken) {
    let connections = TaskTracker::new();
    loop {
        let socket = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((socket, _)) => socket,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection of the command line");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            },
            () = stop.cancelled() => break,
        };
        let (api, stop) = (api.clone(), stop.clone());
        connections.spawn(async move {
            let service = service_fn(move |request: Request<Incoming>| {
                api.clone().oneshot(request.map(Body::new))
            });
            let connection = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .serve_connection(TokioIo::new(socket), service);
            tokio::pin!(connection);
            tokio::select! {
                _ = connection.as_mut() => {}
                () = stop.cancelled() => {
                    connection.as_mut().graceful_shutdown();
                    let _ = connection.await;
                }
            }
        });
    }
    connections.close();
    let _ = tokio::time::timeout(Duration::from_secs(3), connections.wait()).await;
}
