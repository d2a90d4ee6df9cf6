//! `POST /machine/map`: reports, and map streams.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bowline_engine::{NetReport, Report, Stream};
use bowline_model::device::HostFacts;
use bowline_model::key::NodeKey;
use bowline_model::record::RawJson;
use bowline_netmap::delta::{self, Gone};
use bowline_netmap::full;
use bowline_netmap::message::Message;
use bowline_netmap::publication::Publication;
use bowline_netmap::viewer::Viewer;
use bowline_wire::capability;
use bowline_wire::hostinfo::TooLarge;
use bowline_wire::map_request::MapRequest;
use bowline_wire::map_response::KEEP_ALIVE;
use bytes::Bytes;
use futures_util::stream;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use tokio::time::Instant;

use crate::server::{Answering, Body, Control, Peer, bad_request, body, empty, text_response};

/// Clients give a stream up after 120 seconds of silence.
const KEEP_ALIVE_SECONDS: u64 = 50;
/// Spread over this many seconds, so that streams opened together do not stay in step.
const KEEP_ALIVE_SPREAD: u64 = 9;
/// After a key rotation the old key's stream stays open, silent, this long. The client must get its
/// registration answer before it sees the old key disappear.
const ROTATION_SECONDS: u64 = 5;

pub(crate) async fn handle(
    control: &Control,
    request: Request<Incoming>,
    peer: &Arc<Peer>,
) -> Response<Body> {
    let body = match body(control, request, peer).await {
        Ok(body) => body,
        Err(response) => return *response,
    };
    let answering = control.answering(peer);
    let request = match MapRequest::parse(&body) {
        Ok(request) => request,
        Err(error) => return bad_request(&error),
    };
    drop(body);
    if request.version < capability::MINIMUM {
        return text_response(
            StatusCode::BAD_REQUEST,
            "this client is too old: install Tailscale 1.80 or later",
        );
    }
    let engine = &control.0.engine;
    let Some((tailnet, newest, entry)) = engine.find_device(&request.node_key) else {
        if engine.is_out_of_order(&request.node_key) {
            // It keeps what it knows, and asks again.
            return text_response(
                StatusCode::SERVICE_UNAVAILABLE,
                "this tailnet cannot be served now; try again later",
            );
        }
        return unknown(control, &request, peer);
    };
    if entry.device.machine_key != peer.machine_key {
        return text_response(
            StatusCode::UNAUTHORIZED,
            "node key is registered to another machine",
        );
    }
    let viewer = Viewer {
        device: entry.device.id,
        version: request.version,
        encoding: request.encoding,
        log_upload: control.0.config.log_upload,
    };
    if !request.read_only
        && let Some(report) = report(&request, peer)
    {
        engine.report(tailnet, viewer.device, report).await;
    }
    if !request.stream {
        engine.hear(tailnet, viewer.device).await;
        if request.omit_peers {
            return Response::new(empty());
        }
        return match full::full(viewer, &newest, engine.now()).and_then(Message::into_buffers) {
            Some(buffers) => messages(stream::iter(buffers.map(|bytes| Ok(Frame::data(bytes))))),
            None => text_response(StatusCode::INTERNAL_SERVER_ERROR, "internal server error"),
        };
    }
    drop((entry, newest));
    let stream = if request.read_only {
        engine.watch(tailnet, viewer.device)
    } else {
        let link = &peer.pulse.link;
        engine.open_stream_on(tailnet, viewer.device, link).await
    };
    let Some(stream) = stream else {
        return text_response(StatusCode::SERVICE_UNAVAILABLE, "the server is stopping");
    };
    tracing::debug!(tailnet.id = %tailnet, device.id = %viewer.device, "map stream opened");
    long_poll(answering, control.clone(), viewer, request.node_key, stream)
}

/// What a request says of its device; `None` when that is not to be believed.
///
/// A streaming request is a subscription and may be older than a report that was already taken in
/// on the same connection; before one it is all that the official Rust client ever says.
fn report(request: &MapRequest, peer: &Peer) -> Option<Report> {
    if request.stream && peer.reported.load(Ordering::Relaxed) {
        return None;
    }
    if !request.stream {
        peer.reported.store(true, Ordering::Relaxed);
    }
    let endpoints = request
        .endpoints
        .clone()
        .filter(|list| !request.stream || !list.is_empty());
    let (host, hostinfo_too_large) = match &request.hostinfo {
        Some(Ok(host)) => (Some(host), false),
        Some(Err(TooLarge)) => (None, true),
        None => (None, false),
    };
    let net_info = host.and_then(|host| {
        let net = host.net_info.as_ref()?;
        Some(NetReport {
            json: RawJson::of(net).ok()?,
            home_derp: net.preferred_derp,
            is_shortened: host.is_net_info_shortened,
        })
    });
    Some(Report {
        capability_version: request.version,
        disco_key: request.disco_key,
        endpoints,
        endpoints_shortened: request.endpoints_shortened,
        hostinfo: host.map(|host| {
            let facts = HostFacts {
                forwarding_off: request.forwarding_off,
                ..host.facts.clone()
            };
            (host.json.clone(), facts)
        }),
        hostinfo_too_large,
        net_info,
        group: None,
    })
}

/// A device that was deleted, or never registered here: it is told that its key has expired, or
/// it would stay connected to nobody for ever.
fn unknown(control: &Control, request: &MapRequest, peer: &Peer) -> Response<Body> {
    if !request.stream {
        return text_response(StatusCode::NOT_FOUND, "node is not registered");
    }
    let now = control.0.engine.now();
    let map = &control.0.engine.settings().derp_map;
    let message = full::stranger(
        request.node_key,
        peer.machine_key,
        (request.version, request.encoding),
        map,
        now,
    );
    match message.into_buffers() {
        Some(buffers) => messages(stream::iter(buffers.map(|bytes| Ok(Frame::data(bytes))))),
        None => text_response(StatusCode::NOT_FOUND, "node is not registered"),
    }
}

fn messages<S>(frames: S) -> Response<Body>
where
    S: futures_util::Stream<Item = Result<Frame<Bytes>, Infallible>> + Send + 'static,
{
    let mut response = Response::new(StreamBody::new(frames).boxed_unsync());
    response.headers_mut().insert(
        CONTENT_TYPE,
        HeaderValue::from_static("application/octet-stream"),
    );
    response
}

/// A stream's state between two buffers.
struct LongPoll {
    /// Until the stream ends: then the device may be gone.
    answering: Answering,
    control: Control,
    /// Its number among the streams of the server.
    number: u64,
    viewer: Viewer,
    /// The node key that it was asked for with.
    node_key: NodeKey,
    /// When it ends because the device has another node key.
    outdated_until: Option<Instant>,
    stream: Stream,
    /// What the client knows: the state that it was sent last.
    known: Option<Arc<Publication>>,
    buffers: VecDeque<Bytes>,
    keep_alive_at: Instant,
    is_over: bool,
}

fn long_poll(
    answering: Answering,
    control: Control,
    viewer: Viewer,
    node_key: NodeKey,
    stream: Stream,
) -> Response<Body> {
    let number = control.0.counters.streams.fetch_add(1, Ordering::Relaxed);
    let state = LongPoll {
        answering,
        control,
        number,
        viewer,
        node_key,
        outdated_until: None,
        stream,
        known: None,
        buffers: VecDeque::new(),
        keep_alive_at: Instant::now(),
        is_over: false,
    };
    messages(stream::unfold(state, |mut state| async move {
        state.answering.peer.pulse.is_ready(state.number);
        let bytes = state.next().await?;
        state.answering.peer.pulse.gave(state.number);
        Some((Ok(Frame::data(bytes)), state))
    }))
}

impl Drop for LongPoll {
    fn drop(&mut self) {
        self.answering.peer.pulse.is_ready(self.number);
    }
}

/// Waits for a moment that may never come.
async fn outdated(until: Option<Instant>) {
    match until {
        Some(until) => tokio::time::sleep_until(until).await,
        None => std::future::pending().await,
    }
}

impl LongPoll {
    /// The next buffer to write. The connection asks for it only when there is room for it, so
    /// that a slow client costs its position and one message, and goes on from the newest state.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(bytes) = self.buffers.pop_front() {
                return Some(bytes);
            }
            if self.is_over {
                return None;
            }
            let Some(known) = self.known.clone() else {
                let first = self.stream.first();
                if self.is_outdated(&first) {
                    return None;
                }
                let Some(message) = full::full(self.viewer, &first, self.control.0.engine.now())
                else {
                    return None; // deleted since it asked
                };
                self.send(message);
                self.known = Some(first);
                continue;
            };
            tokio::select! {
                biased;
                next = self.stream.next(&known) => match next {
                    Some(newer) => self.advance(&known, newer),
                    None => self.is_over = true,
                },
                () = outdated(self.outdated_until) => {
                    self.is_over = true;
                }
                () = tokio::time::sleep_until(self.keep_alive_at) => {
                    self.send(Message::of_text(KEEP_ALIVE, self.viewer.encoding));
                }
            }
        }
    }

    /// Whether the device has another node key than the one of this stream.
    fn is_outdated(&self, publication: &Publication) -> bool {
        let snapshot = publication.snapshot();
        snapshot
            .device(self.viewer.device)
            .is_some_and(|entry| entry.device.node_key != self.node_key)
    }

    fn advance(&mut self, known: &Publication, newer: Arc<Publication>) {
        if self.outdated_until.is_some() || self.is_outdated(&newer) {
            // A map of the new key would be taken for one of the old.
            let end = || Instant::now() + Duration::from_secs(ROTATION_SECONDS);
            self.outdated_until.get_or_insert_with(end);
            self.known = Some(newer);
            return;
        }
        let now = self.control.0.engine.now();
        match delta::delta(self.viewer, known, &newer, now) {
            Ok(None) => self.known = Some(newer),
            Ok(Some(message)) => {
                self.send(message);
                self.known = Some(newer);
            }
            Err(Gone) => {
                if let Some(message) = full::farewell(self.viewer, known.snapshot(), now) {
                    self.send(message);
                }
                self.is_over = true;
            }
        }
    }

    fn send(&mut self, message: Message) {
        let counters = &self.control.0.counters;
        counters.messages.fetch_add(1, Ordering::Relaxed);
        counters
            .message_bytes
            .fetch_add(message.payload_length() as u64, Ordering::Relaxed);
        match message.into_buffers() {
            Some(buffers) => self.buffers.extend(buffers),
            None => self.is_over = true,
        }
        let spread = self.viewer.device.get() % KEEP_ALIVE_SPREAD;
        self.keep_alive_at = Instant::now() + Duration::from_secs(KEEP_ALIVE_SECONDS + spread);
    }
}
