//! What the relay counts.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Why a packet was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reason {
    UnknownDestination,
    QueueFull,
    Disconnected,
}

/// Packets that were dropped, by reason.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Dropped {
    /// Nobody with that key is connected.
    pub unknown_destination: u64,
    /// The oldest of a full queue, to make room: its receiver reads too slowly.
    pub queue_full: u64,
    /// Its receiver left while it was waiting or being written.
    pub disconnected: u64,
}

/// What a relay counted: gauges say "now", everything else "since the relay was made".
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RelayStats {
    /// Gauge: connections past the handshake.
    pub connections: u64,
    /// Gauge: those of them that are at their home relay.
    pub home_connections: u64,
    /// Gauge: connections whose key has another one at this relay.
    pub duplicate_connections: u64,
    /// Connections that finished the handshake.
    pub accepted: u64,
    /// Connections refused because too many were unfinished.
    pub refused_crowded: u64,
    /// Connections refused by [`Admission`](crate::Admission).
    pub refused_not_admitted: u64,
    /// Connections that failed in the handshake otherwise: too slow, or not DERP.
    pub handshakes_failed: u64,
    /// Connections ended since they took nothing for too long.
    pub write_timeouts: u64,
    /// Connections ended since they broke the protocol after the handshake.
    pub protocol_errors: u64,
    /// Connections ended by [`RelayServer::disconnect`](crate::RelayServer::disconnect).
    pub revoked: u64,
    /// Packets that clients sent.
    pub packets_received: u64,
    /// Bytes of those, without frame headers and keys.
    pub bytes_received: u64,
    /// Those of them that look like disco messages, by which peers look for a direct path.
    pub disco_packets_received: u64,
    /// Packets that were written to clients.
    pub packets_sent: u64,
    /// Bytes of those, with frame headers and keys.
    pub bytes_sent: u64,
    /// Packets dropped.
    pub dropped: Dropped,
    /// Pings answered.
    pub pongs: u64,
    /// Clients told that a peer disconnected.
    pub peer_gone_disconnected: u64,
    /// Clients told that a peer is not here.
    pub peer_gone_not_here: u64,
    /// Frames of kinds that are not known, skipped.
    pub unknown_frames: u64,
    /// Reads put off by the rate limit.
    pub rate_limited: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(super) connections: AtomicU64,
    pub(super) home_connections: AtomicU64,
    pub(super) duplicate_connections: AtomicU64,
    pub(super) accepted: AtomicU64,
    pub(super) refused_crowded: AtomicU64,
    pub(super) refused_not_admitted: AtomicU64,
    pub(super) handshakes_failed: AtomicU64,
    pub(super) write_timeouts: AtomicU64,
    pub(super) protocol_errors: AtomicU64,
    pub(super) revoked: AtomicU64,
    pub(super) packets_received: AtomicU64,
    pub(super) bytes_received: AtomicU64,
    pub(super) disco_packets_received: AtomicU64,
    pub(super) packets_sent: AtomicU64,
    pub(super) bytes_sent: AtomicU64,
    pub(super) unknown_destination: AtomicU64,
    pub(super) queue_full: AtomicU64,
    pub(super) disconnected: AtomicU64,
    pub(super) pongs: AtomicU64,
    pub(super) peer_gone_disconnected: AtomicU64,
    pub(super) peer_gone_not_here: AtomicU64,
    pub(super) unknown_frames: AtomicU64,
    pub(super) rate_limited: AtomicU64,
}

/// Adds to a counter. Nothing is ordered by counters.
pub(super) fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Relaxed);
}

/// Takes from a gauge.
pub(super) fn sub(gauge: &AtomicU64, count: u64) {
    gauge.fetch_sub(count, Relaxed);
}

impl Counters {
    pub(crate) fn refuse_crowded(&self) {
        add(&self.refused_crowded, 1);
    }

    pub(super) fn drop_packets(&self, reason: Reason, count: u64) {
        let counter = match reason {
            Reason::UnknownDestination => &self.unknown_destination,
            Reason::QueueFull => &self.queue_full,
            Reason::Disconnected => &self.disconnected,
        };
        if count > 0 {
            add(counter, count);
        }
    }

    pub(super) fn snapshot(&self) -> RelayStats {
        let read = |counter: &AtomicU64| counter.load(Relaxed);
        RelayStats {
            connections: read(&self.connections),
            home_connections: read(&self.home_connections),
            duplicate_connections: read(&self.duplicate_connections),
            accepted: read(&self.accepted),
            refused_crowded: read(&self.refused_crowded),
            refused_not_admitted: read(&self.refused_not_admitted),
            handshakes_failed: read(&self.handshakes_failed),
            write_timeouts: read(&self.write_timeouts),
            protocol_errors: read(&self.protocol_errors),
            revoked: read(&self.revoked),
            packets_received: read(&self.packets_received),
            bytes_received: read(&self.bytes_received),
            disco_packets_received: read(&self.disco_packets_received),
            packets_sent: read(&self.packets_sent),
            bytes_sent: read(&self.bytes_sent),
            dropped: Dropped {
                unknown_destination: read(&self.unknown_destination),
                queue_full: read(&self.queue_full),
                disconnected: read(&self.disconnected),
            },
            pongs: read(&self.pongs),
            peer_gone_disconnected: read(&self.peer_gone_disconnected),
            peer_gone_not_here: read(&self.peer_gone_not_here),
            unknown_frames: read(&self.unknown_frames),
            rate_limited: read(&self.rate_limited),
        }
    }
}
