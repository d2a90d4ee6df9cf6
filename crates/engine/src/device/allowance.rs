//! How often a device may change what its peers know of it.
//!
//! Each report that changes something is a message to everybody who sees the device. A token bucket
//! per device says how many go out at once and in the long run; what comes beyond that waits, each
//! newer report taking the place of the parts that it says anew, and goes out as one when the bucket
//! has a token again. Nothing is lost, and the newest state always gets out.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bowline_model::id::DeviceId;
use tokio::time::Instant;

use crate::core::engine::Handle;
use crate::device::reported::Report;

/// Devices that are remembered before those with a full bucket are looked for.
const REMEMBERED: usize = 1024;

/// The size of a bucket, and how fast it fills.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Rate {
    /// Tokens in a full bucket.
    pub(crate) burst: u32,
    /// How long one token takes. Zero: there is no limit.
    pub(crate) interval: Duration,
}

/// The buckets of a tailnet's devices, and what waits.
#[derive(Debug, Default)]
pub(crate) struct Allowances(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    devices: HashMap<DeviceId, Allowance>,
    /// How many there may be before those at rest are looked for again.
    sweep_at: usize,
}

#[derive(Debug)]
struct Allowance {
    tokens: f64,
    at: Instant,
    held: Option<Report>,
    /// Something was held since the bucket was last half full.
    is_busy: bool,
}

/// What becomes of a report.
#[derive(Debug)]
pub(crate) enum Turn {
    /// It goes out now. `rests`: the device reports as seldom as others do again.
    Now { report: Box<Report>, rests: bool },
    /// It waits, and somebody must [`Allowances::release`] it after this time. `begins`: the device
    /// has not been held up lately.
    Later { wait: Duration, begins: bool },
    /// It waits together with one that is waited for already.
    Joined,
}

/// The buckets of a tailnet's devices.
pub(crate) fn allowances(handle: &Handle) -> Arc<Allowances> {
    handle.memory.get(Allowances::default)
}

impl Allowances {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether something of a device waits: then whatever it says goes with that, in order.
    pub(crate) fn is_holding(&self, device: DeviceId) -> bool {
        let state = self.state();
        let allowance = state.devices.get(&device);
        allowance.is_some_and(|allowance| allowance.held.is_some())
    }

    /// Takes a token for a report, or keeps the report until there is one.
    pub(crate) fn take(&self, device: DeviceId, report: Report, rate: Rate, now: Instant) -> Turn {
        if rate.interval.is_zero() {
            return Turn::Now {
                report: Box::new(report),
                rests: false,
            };
        }
        let mut state = self.state();
        state.sweep(rate, now);
        let allowance = state.devices.entry(device).or_insert(Allowance {
            tokens: f64::from(rate.burst),
            at: now,
            held: None,
            is_busy: false,
        });
        if let Some(held) = &mut allowance.held {
            held.take_over(report);
            return Turn::Joined;
        }
        allowance.fill(rate, now);
        if allowance.tokens >= 1.0 {
            let rests = allowance.is_busy && allowance.tokens * 2.0 >= f64::from(rate.burst);
            allowance.is_busy &= !rests;
            allowance.tokens -= 1.0;
            return Turn::Now {
                report: Box::new(report),
                rests,
            };
        }
        allowance.held = Some(report);
        Turn::Later {
            wait: rate.interval.mul_f64(1.0 - allowance.tokens),
            begins: !std::mem::replace(&mut allowance.is_busy, true),
        }
    }

    /// Takes a token where there is one; whether there was.
    pub(crate) fn try_take(&self, device: DeviceId, rate: Rate, now: Instant) -> bool {
        if self.is_holding(device) {
            return false;
        }
        match self.take(device, Report::default(), rate, now) {
            Turn::Now { .. } => true,
            Turn::Later { .. } | Turn::Joined => {
                // Nothing waits: there was nothing to say yet.
                if let Some(allowance) = self.state().devices.get_mut(&device) {
                    allowance.held = None;
                }
                false
            }
        }
    }

    /// What waited, for the token that there is now.
    pub(crate) fn release(&self, device: DeviceId, rate: Rate, now: Instant) -> Option<Report> {
        let mut state = self.state();
        let allowance = state.devices.get_mut(&device)?;
        allowance.fill(rate, now);
        allowance.tokens = (allowance.tokens - 1.0).max(0.0);
        allowance.held.take()
    }
}

impl State {
    fn sweep(&mut self, rate: Rate, now: Instant) {
        if self.devices.len() < self.sweep_at.max(REMEMBERED) {
            return;
        }
        // A bucket that is full is the same as none.
        self.devices.retain(|_, allowance| {
            allowance.fill(rate, now);
            allowance.held.is_some() || allowance.tokens < f64::from(rate.burst)
        });
        self.sweep_at = self.devices.len() * 2;
    }
}

impl Allowance {
    fn fill(&mut self, rate: Rate, now: Instant) {
        let passed = now.duration_since(self.at).as_secs_f64();
        let tokens = self.tokens + passed / rate.interval.as_secs_f64();
        self.tokens = tokens.min(f64::from(rate.burst));
        self.at = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate {
        burst: 2,
        interval: Duration::from_secs(5),
    };

    fn device(number: u64) -> DeviceId {
        DeviceId::new(number).unwrap()
    }

    fn report(version: u32, endpoint: Option<&str>) -> Report {
        Report {
            capability_version: version,
            endpoints: endpoint.map(|at| vec![at.parse().unwrap()]),
            ..Report::default()
        }
    }

    #[test]
    fn beyond_the_burst_reports_wait_and_go_out_as_one_that_says_the_newest() {
        let (all, start) = (Allowances::default(), Instant::now());
        let take = |report, at| all.take(device(1), report, RATE, start + at);
        for _ in 0..2 {
            let turn = take(report(1, None), Duration::ZERO);
            assert!(matches!(turn, Turn::Now { rests: false, .. }), "{turn:?}");
        }
        let turn = take(report(2, Some("192.0.2.1:1")), Duration::from_secs(1));
        let Turn::Later { wait, begins } = turn else {
            panic!("{turn:?}");
        };
        assert!(begins && all.is_holding(device(1)));
        assert_eq!(wait.as_millis(), 4000);
        for second in 2..4 {
            let newest = report(second, None);
            let turn = take(newest, Duration::from_secs(second.into()));
            assert!(matches!(turn, Turn::Joined), "{turn:?}");
        }
        // Another device is not held up.
        let other = all.take(device(2), report(1, None), RATE, start);
        assert!(matches!(other, Turn::Now { .. }));
        let released = all.release(device(1), RATE, start + Duration::from_secs(5));
        assert_eq!(released, Some(report(3, Some("192.0.2.1:1"))));
        // The next one waits for a whole token, which is not worth another log line; after a rest it is over.
        let turn = take(report(5, None), Duration::from_secs(5));
        let wait = Duration::from_secs(5);
        assert!(matches!(turn, Turn::Later { wait: for_it, begins: false } if for_it == wait));
        all.release(device(1), RATE, start + Duration::from_secs(10));
        let turn = take(report(6, None), Duration::from_mins(1));
        assert!(matches!(turn, Turn::Now { rests: true, .. }), "{turn:?}");
    }

    #[test]
    fn devices_at_rest_are_forgotten_and_those_that_wait_are_not() {
        let (all, start) = (Allowances::default(), Instant::now());
        for _ in 0..3 {
            all.take(device(1), report(1, None), RATE, start);
        }
        for number in 2..5000 {
            let later = start + Duration::from_secs(number);
            all.take(device(number), report(1, None), RATE, later);
        }
        assert!(all.state().devices.len() <= 2 * REMEMBERED);
        assert!(all.is_holding(device(1)));
    }
}
