//! Token buckets: how much a client may send, and how often it is told that a peer is gone.

use std::time::Duration;

use tokio::time::Instant;

/// How much each client may send through the relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimit {
    /// Bytes per second in the long run; 0 is taken as 1.
    pub bytes_per_second: u64,
    /// Bytes that may come at once.
    pub burst_bytes: u64,
}

/// A bucket of tokens that fills steadily. It may owe: a taker larger than the bucket waits longer
/// instead of for ever.
#[derive(Debug)]
pub(super) struct Bucket {
    per_second: u64,
    burst: u64,
    /// When the bucket is, or was, full.
    full_at: Instant,
}

impl Bucket {
    /// A full bucket.
    pub(super) fn new(per_second: u64, burst: u64, now: Instant) -> Self {
        Self {
            per_second: per_second.max(1),
            burst,
            full_at: now,
        }
    }

    /// Takes tokens, and says how long to wait until the bucket owes nothing.
    pub(super) fn take(&mut self, tokens: u64, now: Instant) -> Duration {
        self.full_at = self.full_at.max(now) + self.fill_time(tokens);
        self.full_at
            .saturating_duration_since(now + self.fill_time(self.burst))
    }

    /// Takes tokens if there are enough.
    pub(super) fn try_take(&mut self, tokens: u64, now: Instant) -> bool {
        let full_at = self.full_at.max(now) + self.fill_time(tokens);
        let enough = full_at <= now + self.fill_time(self.burst);
        if enough {
            self.full_at = full_at;
        }
        enough
    }

    fn fill_time(&self, tokens: u64) -> Duration {
        let nanos = u128::from(tokens) * 1_000_000_000 / u128::from(self.per_second);
        // A century at most, so that adding it to an instant does not overflow.
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX).min(3 << 60))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_free_and_then_the_rate_holds() {
        let now = Instant::now();
        let mut bucket = Bucket::new(1000, 5000, now);
        assert_eq!(bucket.take(5000, now), Duration::ZERO);
        assert_eq!(bucket.take(500, now), Duration::from_millis(500));
        let later = now + Duration::from_secs(2);
        assert_eq!(bucket.take(1500, later), Duration::ZERO);
        assert_eq!(bucket.take(1, later), Duration::from_millis(1));
    }

    #[test]
    fn more_than_the_bucket_holds_waits_but_not_for_ever() {
        let now = Instant::now();
        let mut bucket = Bucket::new(1000, 100, now);
        assert_eq!(bucket.take(1100, now), Duration::from_secs(1));
        let mut slow = Bucket::new(0, 0, now);
        assert!(slow.take(u64::MAX, now) > Duration::from_secs(1 << 30));
    }

    #[test]
    fn at_most_three_at_once_and_one_more_each_second() {
        let now = Instant::now();
        let mut bucket = Bucket::new(1, 3, now);
        let taken = |bucket: &mut Bucket, at| (0..10).filter(|_| bucket.try_take(1, at)).count();
        assert_eq!(taken(&mut bucket, now), 3);
        assert_eq!(taken(&mut bucket, now + Duration::from_secs(1)), 1);
        assert_eq!(taken(&mut bucket, now + Duration::from_mins(1)), 3);
    }
}
