//! The way into the relay: HTTP/1.1, until a request asks to speak DERP.
//!
//! | path | answer |
//! | --- | --- |
//! | `/derp` | `GET` or `POST` with `Upgrade: DERP`: 101, then DERP. With `Upgrade: websocket` and the subprotocol `derp`: the same inside binary messages, for browsers. Without: 426 |
//! | `/derp/probe`, `/derp/latency-check` | 200, any origin may ask; how clients without UDP measure |
//! | `/generate_204` | 204, answering a challenge; how clients find captive portals |
//! | `/bootstrap-dns` | an empty object: this relay resolves no names for others |
//! | `/` | a line of text for people |
//!
//! Source: ts-go `derp/derpserver/handler.go`, `cmd/derper/derper.go`. The request header
//! `Derp-Fast-Start` is not honoured: clients send it only to a relay that adds its own extra
//! certificate to the chain, which this one does not.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use bowline_admission::Ticket;
use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Method, Request, Response, StatusCode,
    header::{
        ACCESS_CONTROL_ALLOW_ORIGIN, ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HeaderName,
        UPGRADE,
    },
};
use http_body_util::Full;
use hyper::{server::conn::http1, service::service_fn, upgrade::OnUpgrade};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use crate::{
    frame::PROTOCOL_VERSION,
    key::hex,
    relay::{RelayServer, SessionError, uncounted},
    websocket,
};

const VERSION_HEADER: HeaderName = HeaderName::from_static("derp-version");
const KEY_HEADER: HeaderName = HeaderName::from_static("derp-public-key");
const CHALLENGE_HEADER: HeaderName = HeaderName::from_static("x-tailscale-challenge");
const CHALLENGE_ANSWER_HEADER: HeaderName = HeaderName::from_static("x-tailscale-response");
/// Longest challenge that is answered, in bytes.
const CHALLENGE_MAX: usize = 64;

/// Bytes of a request's head.
const HEAD_MAX: usize = 16 << 10;

/// What the relay answers to a request.
#[derive(Debug)]
pub struct Answer {
    /// To be sent.
    pub response: Response<Full<Bytes>>,
    /// Present with a 101: to be [served](Upgrade::serve) in a task of its own when the response
    /// is on its way.
    pub upgrade: Option<Upgrade>,
}

impl Answer {
    fn text(status: StatusCode, text: &'static str) -> Self {
        let mut response = Response::new(Full::new(Bytes::from_static(text.as_bytes())));
        *response.status_mut() = status;
        response.headers_mut().insert(
            CONTENT_TYPE,
            HeaderValue::from_static("text/plain; charset=utf-8"),
        );
        Self {
            response,
            upgrade: None,
        }
    }

    fn empty(status: StatusCode) -> Self {
        let mut response = Response::new(Full::default());
        *response.status_mut() = status;
        Self {
            response,
            upgrade: None,
        }
    }

    fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.response.headers_mut().insert(name, value);
        self
    }
}

/// A connection that is about to speak DERP.
#[derive(Debug)]
pub struct Upgrade {
    connection: OnUpgrade,
    is_websocket: bool,
}

impl Upgrade {
    /// Waits until the response is sent and runs the session, as [`RelayServer::serve`] does.
    ///
    /// # Errors
    /// Why the relay ended the connection.
    pub async fn serve(
        self,
        relay: &RelayServer,
        peer: SocketAddr,
        shutdown: CancellationToken,
    ) -> Result<(), SessionError> {
        let ticket = uncounted(peer)?;
        self.serve_in(ticket, relay, peer, shutdown).await
    }

    /// As [`serve`](Self::serve), in a place among the connections of a server.
    ///
    /// # Errors
    /// Why the relay ended the connection.
    pub async fn serve_in(
        self,
        ticket: Ticket,
        relay: &RelayServer,
        peer: SocketAddr,
        shutdown: CancellationToken,
    ) -> Result<(), SessionError> {
        let limit = relay.relay().config.handshake_timeout;
        let upgraded = timeout(limit, self.connection).await;
        let upgraded = TokioIo::new(upgraded.map_err(|_| SessionError::HandshakeTimeout)??);
        if self.is_websocket {
            let messages = Box::pin(websocket::ByteStream::server(upgraded)).await;
            relay.serve_in(ticket, messages, peer, shutdown).await
        } else {
            relay.serve_in(ticket, upgraded, peer, shutdown).await
        }
    }
}

impl RelayServer {
    /// Serves one accepted connection, plain or TLS, from its first request to its end.
    ///
    /// Returns when the client leaves, when `shutdown` is cancelled, or when the connection had to
    /// be ended.
    ///
    /// # Errors
    /// Why the relay ended the connection.
    pub async fn serve_connection<S>(
        &self,
        io: S,
        peer: SocketAddr,
        shutdown: CancellationToken,
    ) -> Result<(), SessionError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let ticket = uncounted(peer)?;
        self.serve_connection_in(ticket, io, peer, shutdown).await
    }

    /// As [`serve_connection`](Self::serve_connection), in a place among the connections of a
    /// server, taken before the TLS handshake.
    ///
    /// # Errors
    /// Why the relay ended the connection.
    pub async fn serve_connection_in<S>(
        &self,
        ticket: Ticket,
        io: S,
        peer: SocketAddr,
        shutdown: CancellationToken,
    ) -> Result<(), SessionError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        // Boxed, so that its memory is free again when the session starts.
        let upgrade = tokio::select! {
            biased;
            () = shutdown.cancelled() => return Ok(()),
            () = ticket.ended() => {
                self.relay().counters.refuse_crowded();
                return Err(SessionError::Crowded);
            }
            upgrade = Box::pin(self.speak_http(io)) => upgrade?,
        };
        match upgrade {
            Some(upgrade) => upgrade.serve_in(ticket, self, peer, shutdown).await,
            None => Ok(()),
        }
    }

    /// Answers requests until one asks to speak DERP, or the client leaves.
    async fn speak_http<S>(&self, io: S) -> Result<Option<Upgrade>, SessionError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let config = &self.relay().config;
        let asked = Arc::new(Mutex::new(None));
        let service = service_fn({
            let (relay, asked) = (self.clone(), Arc::clone(&asked));
            move |mut request| {
                let Answer { response, upgrade } = relay.answer(&mut request);
                if upgrade.is_some() {
                    *asked.lock().unwrap_or_else(PoisonError::into_inner) = upgrade;
                }
                std::future::ready(Ok::<_, Infallible>(response))
            }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(config.handshake_timeout)
            .max_buf_size(HEAD_MAX)
            .title_case_headers(true)
            // Hand-written clients close their side after the request.
            .half_close(true)
            .serve_connection(TokioIo::new(io), service)
            .with_upgrades();
        match timeout(config.http_timeout, connection).await {
            Err(_) => return Err(SessionError::HandshakeTimeout),
            Ok(Err(error)) if error.is_timeout() => return Err(SessionError::HandshakeTimeout),
            Ok(spoken) => spoken?,
        }
        Ok(asked.lock().unwrap_or_else(PoisonError::into_inner).take())
    }

    /// Answers one request; the body, if any, is not read.
    ///
    /// For servers that have a router of their own: what is not listed in the table at the head of
    /// this module is a 404. The connection must be HTTP/1.1 served with upgrades enabled.
    pub fn answer<B>(&self, request: &mut Request<B>) -> Answer {
        match request.uri().path() {
            "/derp" | "/derp/" => self.upgrade(request),
            "/derp/probe" | "/derp/latency-check" => readable(request, || {
                Answer::empty(StatusCode::OK)
                    .with(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"))
            }),
            "/generate_204" => generate_204(request.headers()),
            "/bootstrap-dns" => readable(request, || {
                Answer::text(StatusCode::OK, "{}\n")
                    .with(CONTENT_TYPE, HeaderValue::from_static("application/json"))
            }),
            "/" => readable(request, || {
                Answer::text(
                    StatusCode::OK,
                    "This is a relay (DERP) for the devices of one coordination server.\n",
                )
            }),
            "/robots.txt" => readable(request, || {
                Answer::text(StatusCode::OK, "User-agent: *\nDisallow: /\n")
            }),
            _ => Answer::text(StatusCode::NOT_FOUND, "not found\n"),
        }
    }

    fn upgrade<B>(&self, request: &mut Request<B>) -> Answer {
        if !matches!(*request.method(), Method::GET | Method::POST) {
            return Answer::text(StatusCode::METHOD_NOT_ALLOWED, "use GET with an upgrade\n")
                .with(ALLOW, HeaderValue::from_static("GET, POST"));
        }
        let headers = request.headers();
        let mut answer = Answer::empty(StatusCode::SWITCHING_PROTOCOLS);
        let is_websocket = has_token(headers, &UPGRADE, "websocket");
        if !has_token(headers, &CONNECTION, "upgrade")
            || !(is_websocket || has_token(headers, &UPGRADE, "derp"))
        {
            return Answer::text(
                StatusCode::UPGRADE_REQUIRED,
                "DERP requires connection upgrade\n",
            )
            .with(UPGRADE, HeaderValue::from_static("DERP"))
            .with(CONNECTION, HeaderValue::from_static("Upgrade"));
        }
        if is_websocket {
            match websocket::accept(headers, "derp") {
                Ok(accepted) => answer.response.headers_mut().extend(accepted),
                Err(refusal) => return Answer::text(StatusCode::BAD_REQUEST, refusal),
            }
        } else {
            answer = answer
                .with(UPGRADE, HeaderValue::from_static("DERP"))
                .with(VERSION_HEADER, PROTOCOL_VERSION.into());
            if let Ok(key) = HeaderValue::try_from(hex(&self.public_key())) {
                answer = answer.with(KEY_HEADER, key);
            }
        }
        answer = answer.with(CONNECTION, HeaderValue::from_static("Upgrade"));
        answer.upgrade = Some(Upgrade {
            connection: hyper::upgrade::on(request),
            is_websocket,
        });
        answer
    }
}

/// Answers `GET` and `HEAD`, and refuses the rest.
fn readable<B>(request: &Request<B>, answer: impl FnOnce() -> Answer) -> Answer {
    if matches!(*request.method(), Method::GET | Method::HEAD) {
        answer()
    } else {
        Answer::text(StatusCode::METHOD_NOT_ALLOWED, "use GET\n")
            .with(ALLOW, HeaderValue::from_static("GET, HEAD"))
    }
}

/// A portal would answer with a page of its own; that the challenge comes back shows that none did.
fn generate_204(headers: &HeaderMap) -> Answer {
    let answer = Answer::empty(StatusCode::NO_CONTENT).with(
        CACHE_CONTROL,
        HeaderValue::from_static("no-cache, no-store, must-revalidate, no-transform, max-age=0"),
    );
    let challenge = headers
        .get(CHALLENGE_HEADER)
        .and_then(|value| value.to_str().ok());
    let response = challenge
        .filter(|text| {
            let is_plain = |c: u8| c.is_ascii_alphanumeric() || b".-_:".contains(&c);
            (1..=CHALLENGE_MAX).contains(&text.len()) && text.bytes().all(is_plain)
        })
        .and_then(|text| HeaderValue::try_from(format!("response {text}")).ok());
    match response {
        Some(response) => answer.with(CHALLENGE_ANSWER_HEADER, response),
        None => answer,
    }
}

/// Whether a comma-separated header has a token, case aside.
pub(crate) fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|part| part.trim().eq_ignore_ascii_case(token))
}
