//! Metrics of the database and of what the tailnets hold.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bowline_engine::{Census, Engine};

use super::Metrics;
use super::log::logged;

/// Counting what the tailnets hold costs in proportion to it, so it is not done more often.
const COUNTED_EVERY: Duration = Duration::from_secs(5);

/// Adds the metrics of the engine's state.
pub fn register_state(metrics: &Metrics, engine: &Engine) {
    let of = |engine: &Engine| {
        let engine = engine.clone();
        move || engine.store_report()
    };
    let report = of(engine);
    metrics.counter("commits", "Changes stored", move || report().committed);
    let report = of(engine);
    metrics.counters(
        "commit_failures",
        "Changes that could not be stored, by what was wrong with the database",
        "condition",
        move || {
            let failed = report().failed.into_iter();
            failed
                .map(|(condition, count)| (condition.name(), count))
                .collect()
        },
    );
    let report = of(engine);
    metrics.durations("commit", "Time until a change was durable", move || {
        let latency = report().latency;
        let bounds = bowline_engine::LATENCY_BOUNDS;
        let bounds = bounds.into_iter().chain([f64::MAX]);
        (bounds.zip(latency.buckets).collect(), latency.sum)
    });
    let report = of(engine);
    metrics.gauge(
        "database_ready",
        "1 while changes can be stored, else 0",
        move || i64::from(report().trouble.is_none()),
    );
    let report = of(engine);
    metrics.gauge(
        "database_oldest_write_seconds",
        "For how long the oldest write under way has not been answered",
        move || i64::try_from(report().oldest_write.as_secs()).unwrap_or(i64::MAX),
    );
    let report = of(engine);
    metrics.gauge(
        "database_bytes",
        "Size of the database; 0 until it is known",
        move || i64::try_from(report().bytes.unwrap_or(0)).unwrap_or(i64::MAX),
    );
    let tailnets = engine.clone();
    metrics.gauge(
        "tailnets_out_of_order",
        "Tailnets whose changes cannot be stored by a defect",
        move || i64::try_from(tailnets.tailnets_out_of_order().len()).unwrap_or(i64::MAX),
    );
    let logins = engine.clone();
    metrics.gauge(
        "logins_waiting",
        "Devices that wait for somebody to say whose they are",
        move || i64::try_from(logins.logins_waiting()).unwrap_or(i64::MAX),
    );
    metrics.counters("log_events", "Lines of the log, by level", "level", || {
        vec![("error", logged().0), ("warn", logged().1)]
    });
    register_census(metrics, engine);
}

fn register_census(metrics: &Metrics, engine: &Engine) {
    let counted: Arc<Mutex<Option<(Instant, Census)>>> = Arc::default();
    let read = |field: fn(&Census) -> u64| {
        let (engine, counted) = (engine.clone(), counted.clone());
        move || {
            let mut counted = counted.lock().unwrap_or_else(PoisonError::into_inner);
            let is_old = counted
                .as_ref()
                .is_none_or(|(at, _)| at.elapsed() >= COUNTED_EVERY);
            if is_old {
                *counted = Some((Instant::now(), engine.census()));
            }
            let number = counted.as_ref().map_or(0, |(_, census)| field(census));
            i64::try_from(number).unwrap_or(i64::MAX)
        }
    };
    metrics.gauge("devices", "Devices", read(|census| census.devices));
    metrics.gauge(
        "devices_online",
        "Devices that are online",
        read(|census| census.online),
    );
    metrics.gauge(
        "devices_waiting_for_approval",
        "Devices that wait for approval",
        read(|census| census.waiting_for_approval),
    );
    metrics.gauge(
        "devices_expiring",
        "Devices whose key expires within seven days",
        read(|census| census.expiring),
    );
    metrics.gauge(
        "devices_expired",
        "Devices whose key has expired",
        read(|census| census.expired),
    );
    metrics.gauge(
        "auth_keys_expiring",
        "Auth keys that expire within seven days",
        read(|census| census.auth_keys_expiring),
    );
    metrics.gauge(
        "access_tokens_expiring",
        "API access tokens that expire within seven days",
        read(|census| census.access_tokens_expiring),
    );
}
