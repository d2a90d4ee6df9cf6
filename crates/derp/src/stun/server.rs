//! Answers binding requests on a UDP socket.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use tokio::net::UdpSocket;
use tokio_util::sync::CancellationToken;

use super::message::{BindingRequest, MessageError, encode_response};

/// Longest datagram that is looked at, in bytes. Requests have 40; what is longer is cut off and
/// therefore refused.
const DATAGRAM_MAX: usize = 1500;

/// What a STUN responder counted since it was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StunStats {
    /// Requests answered over IPv4.
    pub answered_ipv4: u64,
    /// Requests answered over IPv6.
    pub answered_ipv6: u64,
    /// Those of both that came from other software than the official clients.
    pub answered_others: u64,
    /// Datagrams that are not STUN.
    pub not_stun: u64,
    /// STUN, but not a binding request that could be read.
    pub not_requests: u64,
    /// Requests not answered since the answer would be longer than twice the request.
    pub too_small: u64,
    /// Answers that could not be sent.
    pub send_errors: u64,
}

#[derive(Debug, Default)]
struct Counters {
    answered_ipv4: AtomicU64,
    answered_ipv6: AtomicU64,
    answered_others: AtomicU64,
    not_stun: AtomicU64,
    not_requests: AtomicU64,
    too_small: AtomicU64,
    send_errors: AtomicU64,
}

/// The STUN responder. Cheap to clone; all clones count together, so that one serves several
/// sockets.
#[derive(Debug, Clone, Default)]
pub struct StunServer(Arc<Counters>);

impl StunServer {
    /// A responder that has counted nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Opens a socket for [`serve`](Self::serve). An unspecified IPv6 address takes IPv4 as well
    /// where the system is so configured, as Linux is by default.
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub async fn bind(address: SocketAddr) -> io::Result<UdpSocket> {
        UdpSocket::bind(address).await
    }

    /// Answers requests on a socket until `shutdown` is cancelled.
    ///
    /// # Errors
    /// When the socket fails for good. Errors about single datagrams are counted.
    pub async fn serve(&self, socket: UdpSocket, shutdown: CancellationToken) -> io::Result<()> {
        let mut datagram = [0; DATAGRAM_MAX];
        loop {
            let received = tokio::select! {
                biased;
                () = shutdown.cancelled() => return Ok(()),
                received = socket.recv_from(&mut datagram) => received,
            };
            let (len, source) = match received {
                Ok(received) => received,
                // Linux reports unreachable receivers of earlier answers here.
                Err(error) if is_about_a_peer(&error) => continue,
                Err(error) => return Err(error),
            };
            let Some(answer) = self.answer(&datagram[..len], source) else {
                continue;
            };
            // A full send buffer costs this answer; the client asks again, and the next is served.
            if socket.try_send_to(&answer, source).is_err() {
                self.0.send_errors.fetch_add(1, Relaxed);
            }
        }
    }

    /// The answer to a datagram, if it gets one; and counts it.
    pub fn answer(&self, datagram: &[u8], source: SocketAddr) -> Option<Vec<u8>> {
        let count = |counter: &AtomicU64| {
            counter.fetch_add(1, Relaxed);
        };
        let request = match BindingRequest::parse(datagram) {
            Ok(request) => request,
            Err(MessageError::NotStun) => {
                count(&self.0.not_stun);
                return None;
            }
            Err(_) => {
                count(&self.0.not_requests);
                return None;
            }
        };
        let answer = encode_response(&request.transaction, source);
        if answer.len() > 2 * datagram.len() {
            count(&self.0.too_small);
            return None;
        }
        if source.ip().to_canonical().is_ipv4() {
            count(&self.0.answered_ipv4);
        } else {
            count(&self.0.answered_ipv6);
        }
        if !request.is_from_tailscale {
            count(&self.0.answered_others);
        }
        Some(answer)
    }

    /// What the responder counted.
    pub fn stats(&self) -> StunStats {
        let read = |counter: &AtomicU64| counter.load(Relaxed);
        StunStats {
            answered_ipv4: read(&self.0.answered_ipv4),
            answered_ipv6: read(&self.0.answered_ipv6),
            answered_others: read(&self.0.answered_others),
            not_stun: read(&self.0.not_stun),
            not_requests: read(&self.0.not_requests),
            too_small: read(&self.0.too_small),
            send_errors: read(&self.0.send_errors),
        }
    }
}

/// Whether an error of a UDP socket is about an earlier datagram and not about the socket.
fn is_about_a_peer(error: &io::Error) -> bool {
    use io::ErrorKind::{
        ConnectionRefused, ConnectionReset, HostUnreachable, Interrupted, NetworkUnreachable,
    };
    matches!(
        error.kind(),
        ConnectionRefused | ConnectionReset | HostUnreachable | NetworkUnreachable | Interrupted
    )
}
