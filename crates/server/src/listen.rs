//! The listeners for clients: control protocol, API and pages on one port, or the API on a port of
//! its own; and the operator's socket.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use bowline_admission::{BodyRefused, Origin, Ticket};
use bowline_control::Control;
use bowline_engine::Engine;
use bowline_model::key::NodeKey;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use ipnet::IpNet;
use tokio::net::{TcpStream, UnixListener};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;

use crate::accept::{Listening, Transport};
use crate::config::BaseUrl;
use crate::forwarded;
use crate::health;
use crate::pages::{self, Page};

/// What a listener serves.
#[derive(Clone)]
pub struct Site {
    /// The control protocol, the pages, and what relays ask. `None`: the API alone.
    pub control: Option<Control>,
    /// The API. `None`: it has a listener of its own.
    pub api: Option<Router>,
    /// The engine, for `/verify`.
    pub engine: Engine,
    /// What clients call this server.
    pub url: BaseUrl,
    /// What users of the API call it.
    pub api_url: BaseUrl,
    /// Networks of reverse proxies whose `X-Forwarded-For` counts.
    pub trusted_proxies: Arc<[IpNet]>,
    /// Whether it was said that a proxy stands in front whose word does not count.
    pub warned: Arc<AtomicBool>,
}

/// Whether an address is where a reverse proxy would be: on this machine, or in a private network.
fn is_near(address: IpAddr) -> bool {
    address.is_loopback()
        || match address {
            IpAddr::V4(address) => address.is_private() || address.is_link_local(),
            IpAddr::V6(address) => address.is_unique_local() || address.is_unicast_link_local(),
        }
}

/// How long a connection may be idle between two requests, or take for a request's head, where its
/// client has shown a valid credential. For all others the time of half-open connections counts.
const IDLE: Duration = Duration::from_secs(75);

/// Accepts connections until `stop`, then waits for the requests in flight.
pub async fn serve<T: Transport>(
    listening: Listening,
    transport: T,
    site: Site,
    drain: Duration,
    stop: CancellationToken,
) {
    let connections = TaskTracker::new();
    let ending = stop.clone();
    let accepting = listening.run(&connections, stop, |socket, peer, ticket| {
        serve_connection(
            transport.clone(),
            socket,
            peer,
            ticket,
            site.clone(),
            ending.clone(),
        )
    });
    accepting.await;
    connections.close();
    if tokio::time::timeout(drain, connections.wait())
        .await
        .is_err()
    {
        tracing::warn!("some requests were still in flight");
    }
}

async fn serve_connection<T: Transport>(
    transport: T,
    socket: TcpStream,
    peer: SocketAddr,
    ticket: Ticket,
    site: Site,
    stop: CancellationToken,
) {
    let stream = tokio::select! {
        opened = transport.open(socket, peer, &ticket) => match opened {
            Ok(stream) => stream,
            Err(error) => {
                return tracing::debug!(source.ip = %peer.ip(), %error, "TLS failed");
            }
        },
        () = stop.cancelled() => return,
    };
    let service = service_fn(move |request: Request<Incoming>| {
        let (site, ticket) = (site.clone(), ticket.clone());
        async move { Ok::<_, Infallible>(site.answer(request, peer, ticket).await) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(IDLE)
        .max_buf_size(32 * 1024)
        .serve_connection(TokioIo::new(stream), service)
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
}

impl Site {
    async fn answer(
        &self,
        request: Request<Incoming>,
        peer: SocketAddr,
        ticket: Ticket,
    ) -> Response<Body> {
        let address = self.source(request.headers(), peer, &ticket);
        // Whatever is asked, it is the server's turn until the answer begins.
        let _busy = ticket.busy();
        // By the path alone: some clients send absolute targets, or a Host without the port.
        let path = request.uri().path();
        match path {
            "/health" => return health::ready(&self.engine),
            "/health/live" => return health::live(),
            _ => {}
        }
        let Some(control) = &self.control else {
            return self.call_api(request, address, ticket).await;
        };
        if matches!(*request.method(), Method::GET | Method::HEAD)
            && let Some(page) = Page::of(path)
        {
            return pages::answer(page, &self.engine, &self.url, &self.api_url);
        }
        // A control URL with a path in it is in front of what it asks for.
        let last = path.rsplit('/').next().unwrap_or("");
        match (request.method(), last) {
            (&Method::GET | &Method::HEAD, "key") if !path.starts_with("/api/") => {
                control.key().map(Body::new)
            }
            (_, "ts2021") if !path.starts_with("/api/") => {
                let answer = control.upgrade(request, address, ticket).await;
                answer.map(Body::new)
            }
            (&Method::POST, "verify") if path == "/verify" => {
                self.verify(request, address, &ticket).await
            }
            (&Method::GET, "generate_204") if path == "/generate_204" => no_content(&request),
            // The API answers everything else, with its own errors.
            _ => self.call_api(request, address, ticket).await,
        }
    }

    async fn call_api(
        &self,
        mut request: Request<Incoming>,
        address: IpAddr,
        ticket: Ticket,
    ) -> Response<Body> {
        let Some(api) = &self.api else {
            return json(
                StatusCode::NOT_FOUND,
                r#"{"message":"not found; the API of this server has another address"}"#,
            );
        };
        request.extensions_mut().insert(Origin { ticket, address });
        match api.clone().oneshot(request.map(Body::new)).await {
            Ok(response) => response,
            Err(never) => match never {},
        }
    }

    /// Where a request comes from, for all that counts or logs it.
    fn source(&self, headers: &HeaderMap, peer: SocketAddr, ticket: &Ticket) -> IpAddr {
        let own = peer.ip().to_canonical();
        let address = forwarded::client(headers, own, &self.trusted_proxies);
        if address != own {
            ticket.attribute(address);
        } else if self.trusted_proxies.is_empty()
            && is_near(own)
            && forwarded::is_forwarded(headers)
            && !self.warned.swap(true, Ordering::Relaxed)
        {
            tracing::warn!(
                source.ip = %own,
                "requests are forwarded by a proxy whose word does not count: all its clients are \
                 one source, and one of them can use up what all have; set trusted_proxies to its address"
            );
        }
        address
    }

    /// `POST /verify`: whether a relay elsewhere may admit a client.
    async fn verify(
        &self,
        request: Request<Incoming>,
        address: IpAddr,
        ticket: &Ticket,
    ) -> Response<Body> {
        #[derive(serde::Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Ask {
            node_public: NodeKey,
        }
        let bodies = ticket.admission().bodies();
        let received = bodies.receive(address, request.into_body(), 4096, None);
        let body = match received.await {
            Ok(body) => body,
            Err(BodyRefused::Late) => {
                let text = r#"{"message":"request body did not arrive in time"}"#;
                return json(StatusCode::REQUEST_TIMEOUT, text);
            }
            Err(BodyRefused::Crowded) => {
                let text = r#"{"message":"there are too many request bodies at once; try again"}"#;
                return json(StatusCode::SERVICE_UNAVAILABLE, text);
            }
            Err(_) => return json(StatusCode::BAD_REQUEST, r#"{"message":"bad request"}"#),
        };
        match serde_json::from_slice::<Ask>(&body) {
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
