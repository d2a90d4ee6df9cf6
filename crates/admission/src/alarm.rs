//! One line in the log when a limit is reached, and one when it is no longer.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// How long a limit must not have been reached before that is said to be over.
const QUIET: Duration = Duration::from_secs(10);

/// A limit that can be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Condition {
    /// Half-open connections.
    HalfOpen,
    /// Connections of one source.
    Source,
    /// Connections of one machine key.
    Machine,
    /// File descriptors.
    Descriptors,
    /// Request bodies.
    Bodies,
}

impl Condition {
    const ALL: [Self; 5] = [
        Self::HalfOpen,
        Self::Source,
        Self::Machine,
        Self::Descriptors,
        Self::Bodies,
    ];

    /// What happens, and which setting is the limit.
    const fn says(self) -> &'static str {
        match self {
            Self::HalfOpen => {
                "there are too many half-open connections: the largest source loses its oldest (limits.half_open_connections)"
            }
            Self::Source => {
                "a source has too many connections: new ones end its half-open ones or are refused (limits.connections_per_source)"
            }
            Self::Machine => {
                "a machine key has too many connections: the oldest is ended (limits.connections_per_machine)"
            }
            Self::Descriptors => {
                "there are no file descriptors left for connections: half-open ones are ended and new ones refused; raise the limit of open files"
            }
            Self::Bodies => {
                "request bodies take too much memory: the largest source loses its oldest (limits.bodies_in_flight_bytes)"
            }
        }
    }
}

/// Which limits are reached now. Cheap to clone; all clones are one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Alarms(Arc<Mutex<[Option<Alarm>; Condition::ALL.len()]>>);

#[derive(Debug, Clone, Copy)]
struct Alarm {
    since: Instant,
    last: Instant,
    times: u64,
}

impl Alarms {
    /// Notes that a limit was reached, by whom.
    pub(crate) fn raise(&self, condition: Condition, source: Option<IpAddr>) {
        let now = Instant::now();
        let mut alarms = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let alarm = &mut alarms[condition as usize];
        if let Some(alarm) = alarm {
            alarm.last = now;
            alarm.times += 1;
            return;
        }
        *alarm = Some(Alarm {
            since: now,
            last: now,
            times: 1,
        });
        drop(alarms);
        let source = source.map(tracing::field::display);
        tracing::warn!(limit = ?condition, source.ip = source, "{}", condition.says());
    }

    /// Says which limits have not been reached for a while.
    pub(crate) fn sweep(&self, now: Instant) {
        let mut alarms = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for condition in Condition::ALL {
            let alarm = &mut alarms[condition as usize];
            if let Some(over) = *alarm
                && now.saturating_duration_since(over.last) >= QUIET
            {
                *alarm = None;
                let seconds = over.last.duration_since(over.since).as_secs();
                tracing::info!(limit = ?condition, times = over.times, seconds, "a limit is no longer reached");
            }
        }
    }
}
