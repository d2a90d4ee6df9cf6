//! Connections of the listeners for clients and for users of the API, and of the operator's socket.
//! What is served on them is in `mounts.rs`.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use bowline_admission::{Origin, Ticket};
use http::{HeaderMap, Request, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use ipnet::IpNet;
use tokio::net::{TcpStream, UnixListener};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;

use crate::accept::{Listening, Transport};
use crate::forwarded;

/// What a listener serves, and whose word counts about where a request comes from.
#[derive(Clone)]
pub struct Site {
    /// Every path of the listener (`mounts.rs`).
    pub routes: Router,
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
        mut request: Request<Incoming>,
        peer: SocketAddr,
        ticket: Ticket,
    ) -> Response<Body> {
        let address = self.source(request.headers(), peer, &ticket);
        // Whatever is asked, it is the server's turn until the answer begins.
        let _busy = ticket.busy();
        request.extensions_mut().insert(Origin { ticket, address });
        match self.routes.clone().oneshot(request.map(Body::new)).await {
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
