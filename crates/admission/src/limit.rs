//! A limit on how often something happens, for each key by itself: refused clients try again for ever.

use std::hash::Hash;
use std::num::NonZeroU32;
use std::ops::Add;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use governor::clock::{Clock, Reference};
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::keyed::HashMapStateStore;
use governor::{Quota, RateLimiter};
use tokio::time::Instant;

/// Keys that are remembered before those at rest are forgotten.
const REMEMBERED: usize = 16_384;

/// A moment of the runtime's clock, which tests can stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Moment(Instant);

impl Add<Nanos> for Moment {
    type Output = Self;

    fn add(self, by: Nanos) -> Self {
        Self(self.0 + Duration::from(by))
    }
}

impl Reference for Moment {
    fn duration_since(&self, earlier: Self) -> Nanos {
        self.0.saturating_duration_since(earlier.0).into()
    }

    fn saturating_sub(&self, by: Nanos) -> Self {
        Self(self.0.checked_sub(by.into()).unwrap_or(self.0))
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct RuntimeClock;

impl Clock for RuntimeClock {
    type Instant = Moment;

    fn now(&self) -> Moment {
        Moment(Instant::now())
    }
}

type Buckets<K> = RateLimiter<K, HashMapStateStore<K>, RuntimeClock, NoOpMiddleware<Moment>>;

/// A bucket for each key.
#[derive(Debug)]
pub struct Limiter<K: Hash + Eq + Clone> {
    /// `None`: no limit.
    buckets: Option<Buckets<K>>,
    /// How many there may be before those at rest are looked for again.
    sweep_at: AtomicUsize,
}

impl<K: Hash + Eq + Clone> Limiter<K> {
    /// At most `burst` at once and `per_second` in the long run. 0 per second, or less: no limit.
    pub fn new(burst: u32, per_second: f64) -> Self {
        let burst = NonZeroU32::new(burst).unwrap_or(NonZeroU32::MIN);
        // Nobody means a rate that is slower than once a day.
        let period = Duration::try_from_secs_f64(1.0 / per_second.max(1e-5)).ok();
        let quota = period
            .filter(|_| per_second > 0.0)
            .and_then(Quota::with_period)
            .map(|quota| quota.allow_burst(burst));
        Self {
            buckets: quota
                .map(|quota| RateLimiter::new(quota, HashMapStateStore::default(), RuntimeClock)),
            sweep_at: AtomicUsize::new(REMEMBERED),
        }
    }

    /// Takes one.
    ///
    /// # Errors
    /// How long to wait for it.
    pub fn take(&self, key: K) -> Result<(), Duration> {
        let Some(buckets) = &self.buckets else {
            return Ok(());
        };
        if buckets.len() >= self.sweep_at.load(Ordering::Relaxed) {
            // A bucket that is full again is the same as none.
            buckets.retain_recent();
            // Not again at once where all are in use: a sweep costs as much as there are.
            let next = REMEMBERED.max(buckets.len() * 2);
            self.sweep_at.store(next, Ordering::Relaxed);
        }
        buckets
            .check_key(&key)
            .map_err(|refused| refused.wait_time_from(RuntimeClock.now()))
    }
}

#[cfg(test)]
mod tests {
    use bowline_model::key::MachineKey;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_bucket_empties_and_fills_again() {
        let limiter = Limiter::new(2, 1.0);
        let (one, two) = (
            MachineKey::from_bytes([1; 32]).unwrap(),
            MachineKey::from_bytes([2; 32]).unwrap(),
        );
        assert!(limiter.take(one).is_ok());
        assert!(limiter.take(one).is_ok());
        let wait = limiter.take(one).unwrap_err();
        assert_eq!(wait, Duration::from_secs(1));
        assert!(limiter.take(two).is_ok(), "another machine is not held up");
        tokio::time::advance(wait).await;
        assert!(limiter.take(one).is_ok());
        assert!(limiter.take(one).is_err());
    }

    #[test]
    fn zero_is_no_limit() {
        let limiter = Limiter::new(1, 0.0);
        let key = MachineKey::from_bytes([1; 32]).unwrap();
        assert!((0..1000).all(|_| limiter.take(key).is_ok()));
    }

    #[tokio::test(start_paused = true)]
    async fn machines_at_rest_are_forgotten() {
        let limiter = Limiter::new(1, 1000.0);
        for n in 0..u32::try_from(REMEMBERED + 10).unwrap() {
            let mut bytes = [1; 32];
            bytes[..4].copy_from_slice(&n.to_le_bytes());
            let key = MachineKey::from_bytes(bytes).unwrap();
            assert!(limiter.take(key).is_ok());
            tokio::time::advance(Duration::from_millis(1)).await;
        }
        assert!(limiter.buckets.unwrap().len() < REMEMBERED);
    }
}
