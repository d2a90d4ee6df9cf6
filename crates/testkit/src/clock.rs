//! A clock that is moved, and randomness that repeats.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bowline_engine::{Clock, Random};
use jiff::{SignedDuration, Timestamp};

/// Both clocks of a machine, which stand until they are moved.
#[derive(Debug)]
pub struct TestClock(Mutex<Clocks>);

#[derive(Debug)]
struct Clocks {
    start: Timestamp,
    /// What the monotonic clock shows.
    passed: SignedDuration,
    /// How far the wall clock is set away from the time that has passed.
    away: SignedDuration,
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        let clocks = self.clocks();
        clocks.start + clocks.passed + clocks.away
    }

    fn monotonic(&self) -> Duration {
        self.clocks().passed.unsigned_abs()
    }
}

impl TestClock {
    /// A clock whose wall clock shows this moment.
    pub fn at(start: Timestamp) -> Self {
        Self(Mutex::new(Clocks {
            start,
            passed: SignedDuration::ZERO,
            away: SignedDuration::ZERO,
        }))
    }

    fn clocks(&self) -> MutexGuard<'_, Clocks> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Time passes, by both clocks.
    pub fn pass(&self, time: SignedDuration) {
        self.clocks().passed += time;
    }

    /// Somebody sets the wall clock to a moment.
    pub fn set(&self, wall: Timestamp) {
        let mut clocks = self.clocks();
        clocks.away = wall.duration_since(clocks.start + clocks.passed);
    }

    /// Somebody sets the wall clock so far away from the time that has passed.
    pub fn set_away(&self, by: SignedDuration) {
        self.clocks().away = by;
    }
}

/// Random bytes that are the same in every run (splitmix64).
#[derive(Debug)]
pub struct TestRandom(AtomicU64);

impl Default for TestRandom {
    fn default() -> Self {
        Self(AtomicU64::new(1))
    }
}

impl Random for TestRandom {
    fn fill(&self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            let mut z = self.0.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^= z >> 31;
            chunk.copy_from_slice(&z.to_le_bytes()[..chunk.len()]);
        }
    }
}
