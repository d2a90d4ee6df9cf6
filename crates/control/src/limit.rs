//! A limit on registrations per machine key: refused clients try again for ever.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bowline_model::key::MachineKey;
use tokio::time::Instant;

/// Machine keys that are remembered before those at rest are forgotten.
const REMEMBERED: usize = 16_384;

/// A token bucket per machine key.
#[derive(Debug)]
pub struct Limiter {
    burst: f64,
    per_second: f64,
    buckets: Mutex<Buckets>,
}

#[derive(Debug)]
struct Buckets {
    by_key: HashMap<MachineKey, (f64, Instant)>,
    /// How many there may be before those at rest are looked for again.
    sweep_at: usize,
}

impl Limiter {
    /// At most `burst` at once and `per_second` in the long run. 0 per second: no limit.
    pub fn new(burst: u32, per_second: f64) -> Self {
        Self {
            burst: f64::from(burst.max(1)),
            per_second,
            buckets: Mutex::new(Buckets {
                by_key: HashMap::new(),
                sweep_at: REMEMBERED,
            }),
        }
    }

    /// Takes one, or says how long to wait for it.
    pub fn take(&self, key: MachineKey, now: Instant) -> Result<(), Duration> {
        if self.per_second <= 0.0 {
            return Ok(());
        }
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.by_key.len() >= buckets.sweep_at {
            // A bucket that is full again is the same as none.
            let (burst, rate) = (self.burst, self.per_second);
            buckets.by_key.retain(|_, (tokens, at)| {
                now.duration_since(*at).as_secs_f64() * rate + *tokens < burst
            });
            // Not again at once where all are in use: a sweep costs as much as there are.
            buckets.sweep_at = REMEMBERED.max(buckets.by_key.len() * 2);
        }
        let (tokens, at) = buckets.by_key.entry(key).or_insert((self.burst, now));
        *tokens =
            (*tokens + now.duration_since(*at).as_secs_f64() * self.per_second).min(self.burst);
        *at = now;
        if *tokens >= 1.0 {
            *tokens -= 1.0;
            return Ok(());
        }
        Err(Duration::from_secs_f64((1.0 - *tokens) / self.per_second))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_empties_and_fills_again() {
        let limiter = Limiter::new(2, 1.0);
        let (one, two) = (
            MachineKey::from_bytes([1; 32]).unwrap(),
            MachineKey::from_bytes([2; 32]).unwrap(),
        );
        let start = Instant::now();
        assert!(limiter.take(one, start).is_ok());
        assert!(limiter.take(one, start).is_ok());
        let wait = limiter.take(one, start).unwrap_err();
        assert!(
            limiter.take(two, start).is_ok(),
            "another machine is not held up"
        );
        assert!(limiter.take(one, start + wait).is_ok());
    }

    #[test]
    fn machines_at_rest_are_forgotten() {
        let limiter = Limiter::new(1, 1000.0);
        let start = Instant::now();
        for n in 0..u32::try_from(REMEMBERED + 10).unwrap() {
            let mut bytes = [1; 32];
            bytes[..4].copy_from_slice(&n.to_le_bytes());
            let later = start + Duration::from_millis(u64::from(n));
            assert!(
                limiter
                    .take(MachineKey::from_bytes(bytes).unwrap(), later)
                    .is_ok()
            );
        }
        assert!(limiter.buckets.lock().unwrap().by_key.len() < REMEMBERED);
    }
}
