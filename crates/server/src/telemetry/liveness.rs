//! Metrics of who is there, and of the clock.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bowline_control::Control;
use bowline_engine::Engine;

use super::Metrics;

/// Adds them.
pub(crate) fn register(metrics: &Arc<Metrics>, engine: &Engine, control: &Control) {
    let control = control.clone();
    metrics.counters(
        "control_connections_given_up",
        "Encrypted control connections that were given up",
        "reason",
        move || {
            let counters = control.counters();
            let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
            vec![
                ("silent", read(&counters.silent_connections)),
                ("stuck", read(&counters.stuck_connections)),
            ]
        },
    );
    let copied = engine.clone();
    metrics.counter(
        "state_copies_noticed",
        "Times that two machines were found to use one node key",
        move || copied.rivalries().0,
    );
    let copied = engine.clone();
    metrics.gauge(
        "state_copies",
        "Devices whose node key two machines use now",
        move || i64::try_from(copied.rivalries().1).unwrap_or(i64::MAX),
    );
    let clock = engine.clone();
    metrics.counter(
        "clock_jumps",
        "Jumps of the machine's clock that were held back",
        move || clock.clock().jumps,
    );
    let clock = engine.clone();
    metrics.gauge(
        "clock_held",
        "1 while a jump of the machine's clock is held back",
        move || i64::from(clock.clock().is_held),
    );
}
