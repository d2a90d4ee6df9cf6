//! How every listener takes connections: one loop, behind the admission layer.
//!
//! A listener is three things: a socket from [`bind`], [`Listening::run`], and what serves one
//! connection. What stands between an accepted socket and HTTP is a [`Transport`]: [`Plain`], or
//! [`Tls`]. Its handshake is a part of being half-open: it has no time of its own, since whoever is
//! silent for too long loses its place, and the connection with it.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bowline_admission::{Admission, Listener, Ticket};
use ipnet::IpNet;
use rustix::io::Errno;
use rustls::ServerConfig;
use rustls::server::Acceptor;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Binds a listener. Its backlog is as long as the system lets it be (`net.core.somaxconn`): a
/// fleet that comes back at once waits in it for some milliseconds, and what does not fit waits for
/// a second before it tries again.
///
/// # Errors
/// When the address is in use, is not one of this machine, or needs a privilege.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    // A server that was just stopped leaves connections in TIME_WAIT.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(i32::MAX.unsigned_abs())
}

/// Settings of a socket that may be idle for hours: small packets at once, and an end to peers
/// that are gone without a word, by the keep-alives that the protocols send.
fn tune(socket: &TcpStream) {
    let raw = socket2::SockRef::from(socket);
    let outcome = socket
        .set_nodelay(true)
        .and_then(|()| raw.set_tcp_user_timeout(Some(Duration::from_secs(30))));
    if let Err(error) = outcome {
        tracing::debug!(%error, "could not set the options of a socket");
    }
}

/// What stands between an accepted socket and what is served over it.
///
/// Cheap to clone; a certificate that changes is resolved inside it.
pub trait Transport: Clone + Send + Sync + 'static {
    /// What is served over.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// Makes it. Needs no deadline: dropped when the connection loses its place.
    fn open(
        &self,
        socket: TcpStream,
        peer: SocketAddr,
        ticket: &Ticket,
    ) -> impl Future<Output = io::Result<Self::Stream>> + Send;
}

/// The socket itself.
#[derive(Debug, Clone, Copy)]
pub struct Plain;

impl Transport for Plain {
    type Stream = TcpStream;

    async fn open(&self, socket: TcpStream, _: SocketAddr, _: &Ticket) -> io::Result<TcpStream> {
        Ok(socket)
    }
}

/// TLS. The signature of a handshake costs processor time, so it has its turn as a Noise handshake
/// has.
#[derive(Debug, Clone)]
pub struct Tls(pub Arc<ServerConfig>);

impl Transport for Tls {
    type Stream = TlsStream<TcpStream>;

    async fn open(
        &self,
        socket: TcpStream,
        peer: SocketAddr,
        ticket: &Ticket,
    ) -> io::Result<TlsStream<TcpStream>> {
        let hello = LazyConfigAcceptor::new(Acceptor::default(), socket).await?;
        let mut handshake = Box::pin(hello.into_stream(self.0.clone()));
        {
            let _busy = ticket.busy();
            let _turn = ticket.admission().turns().turn(peer.ip()).await;
            // The server's flight is made in the first poll; the rest waits for the client.
            let first =
                std::future::poll_fn(|context| Poll::Ready(Pin::new(&mut handshake).poll(context)));
            if let Poll::Ready(done) = first.await {
                return done;
            }
        }
        handshake.await
    }
}

/// A listener behind the admission layer.
#[derive(Debug)]
pub struct Listening {
    /// The socket, from [`bind`].
    pub socket: TcpListener,
    /// Which one it is.
    pub listener: Listener,
    /// The admission layer, which is the same for all of them.
    pub admission: Admission,
    /// Networks of reverse proxies: behind an address of theirs is everybody, so that such a
    /// connection counts for the client that the proxy names.
    pub trusted_proxies: Arc<[IpNet]>,
}

impl Listening {
    /// Accepts connections until `stop` and serves each in a task of `connections`. Accepting never
    /// waits for anything but the next connection. A connection that loses its place ends where it
    /// stands.
    pub async fn run<F>(
        self,
        connections: &TaskTracker,
        stop: CancellationToken,
        serve: impl Fn(TcpStream, SocketAddr, Ticket) -> F,
    ) where
        F: Future<Output = ()> + Send + 'static,
    {
        loop {
            let accepted = tokio::select! {
                accepted = self.socket.accept() => accepted,
                () = stop.cancelled() => return,
            };
            let (socket, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    self.failed(&error).await;
                    continue;
                }
            };
            let descriptor = u64::try_from(socket.as_raw_fd()).ok();
            let (source, is_proxy) = (peer.ip(), self.is_proxy(peer));
            let admitted = self
                .admission
                .admit(self.listener, source, is_proxy, descriptor);
            let ticket = match admitted {
                Ok(ticket) => ticket,
                Err(refused) => {
                    tracing::debug!(source.ip = %peer.ip(), %refused, "refused a connection");
                    continue;
                }
            };
            tune(&socket);
            let served = serve(socket, peer, ticket.clone());
            connections.spawn(async move {
                tokio::select! {
                    () = served => {}
                    () = ticket.ended() => {
                        tracing::debug!(source.ip = %peer.ip(), "a connection lost its place");
                    }
                }
            });
        }
    }

    fn is_proxy(&self, peer: SocketAddr) -> bool {
        let address = peer.ip().to_canonical();
        let mut networks = self.trusted_proxies.iter();
        networks.any(|network| network.contains(&address))
    }

    async fn failed(&self, error: &io::Error) {
        let none_left = [Errno::MFILE, Errno::NFILE].map(|errno| Some(errno.raw_os_error()));
        if none_left.contains(&error.raw_os_error()) {
            self.admission.out_of_descriptors();
            // The one that waits in the backlog would be tried again at once.
            tokio::time::sleep(Duration::from_millis(10)).await;
        } else {
            // The connection was given up by its peer before it was accepted.
            tracing::debug!(%error, "cannot accept a connection");
        }
    }
}
