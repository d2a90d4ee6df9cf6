//! Time, randomness and ids, as the engine is given them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use jiff::Timestamp;

/// Tells the time of day. Tests move their own.
pub trait Clock: Send + Sync + 'static {
    /// Now.
    fn now(&self) -> Timestamp;

    /// Time that has passed since some fixed moment. Nobody can set it, and the time in which the
    /// machine sleeps counts.
    fn monotonic(&self) -> Duration;
}

/// The system's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place that reads the clock"
    )]
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    fn monotonic(&self) -> Duration {
        // The ordinary monotonic clock stands while a laptop sleeps: that would look like a jump of
        // the wall clock at each waking.
        #[cfg(target_os = "linux")]
        let clock = rustix::time::ClockId::Boottime;
        #[cfg(not(target_os = "linux"))]
        let clock = rustix::time::ClockId::Monotonic;
        Duration::try_from(rustix::time::clock_gettime(clock)).unwrap_or_default()
    }
}

/// A source of random bytes fit for secrets.
pub trait Random: Send + Sync + 'static {
    /// Fills the buffer.
    fn fill(&self, bytes: &mut [u8]);
}

/// The system's random number generator.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemRandom;

impl Random for SystemRandom {
    fn fill(&self, bytes: &mut [u8]) {
        // A system that cannot give random bytes cannot be trusted with keys: stop at once.
        if getrandom::fill(bytes).is_err() {
            std::process::abort();
        }
    }
}

/// Makes ids: milliseconds since 2025 in the upper 41 bits, random in the lower 12, and above
/// every id made before. So ids grow with time, are never used again, and two replicas rarely make
/// the same one (the database refuses it then, and the closure runs again).
#[derive(Debug, Default)]
pub(crate) struct Ids {
    last: AtomicU64,
}

/// 2025-01-01T00:00:00Z in milliseconds. No correct clock shows an earlier moment to this program.
pub(crate) const EPOCH: i64 = 1_735_689_600_000;

impl Ids {
    /// The next id. `noise` is random.
    pub(crate) fn next(&self, now: Timestamp, noise: u16) -> u64 {
        let milliseconds = u64::try_from((now.as_millisecond() - EPOCH).max(1)).unwrap_or(1);
        let wanted = ((milliseconds << 12) | u64::from(noise & 0xfff)) % bowline_model::id::LIMIT;
        let next = |last: u64| Some(wanted.max(last + 1));
        // The closure never returns None, so both arms hold the value before the update.
        let last = match self
            .last
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, next)
        {
            Ok(last) | Err(last) => last,
        };
        wanted.max(last + 1)
    }

    /// Makes sure that no id that was made by about `moment` is made again, should the clock have
    /// been set back since.
    pub(crate) fn skip_time(&self, moment: Timestamp) {
        // Many at once run a little ahead of the clock.
        let milliseconds = (moment.as_millisecond() - EPOCH)
            .saturating_add(1000)
            .max(0);
        self.skip((u64::try_from(milliseconds).unwrap_or(0) << 12) % bowline_model::id::LIMIT);
    }

    /// Makes sure that no id up to `used` is made again.
    pub(crate) fn skip(&self, used: u64) {
        self.last.fetch_max(used, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_grow_even_when_the_clock_does_not() {
        let ids = Ids::default();
        let now: Timestamp = "2026-11-26T00:00:00Z".parse().unwrap();
        let first = ids.next(now, 0xffff);
        let second = ids.next(now, 0);
        let third = ids.next("2025-06-01T00:00:00Z".parse().unwrap(), 0);
        assert!(first < second && second < third && third < bowline_model::id::LIMIT);
        ids.skip(third + 10);
        assert_eq!(ids.next(now, 0), third + 11);
        ids.skip_time(now);
        assert!(ids.next(now, 0) > third + 100_000);
    }
}
