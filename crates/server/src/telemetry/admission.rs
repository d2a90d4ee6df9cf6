//! What the admission layer counts.

use bowline_admission::Admission;

use super::Metrics;

/// Adds the metrics of the admission layer.
pub fn register_admission(metrics: &Metrics, admission: &Admission) {
    let signed = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
    let of = admission.clone();
    metrics.gauges(
        "connections",
        "Open connections by listener and state",
        ["listener", "state"],
        move || {
            let open = of.open().into_iter();
            open.map(|open| {
                let labels = [open.listener.name(), open.state.name()];
                (labels, signed(open.count))
            })
            .collect()
        },
    );
    let of = admission.clone();
    metrics.counters(
        "connections_refused",
        "Connections closed as they came, by reason",
        "reason",
        move || of.refused().to_vec(),
    );
    let of = admission.clone();
    metrics.counters(
        "connections_ended",
        "Connections ended for others or for their silence, by reason",
        "reason",
        move || of.ended().to_vec(),
    );
    if let Some(descriptors) = admission.descriptors() {
        metrics.gauge(
            "descriptors_limit",
            "Files and sockets that the process may have open",
            move || i64::try_from(descriptors.limit).unwrap_or(i64::MAX),
        );
    }
    let of = admission.clone();
    metrics.gauge(
        "bodies_in_flight_bytes",
        "Bytes of request bodies that arrive or are in use",
        move || signed(of.bodies().in_flight()),
    );
    let of = admission.clone();
    metrics.counters(
        "bodies_refused",
        "Request bodies that were not taken, by reason",
        "reason",
        move || of.bodies().refused().to_vec(),
    );
}
