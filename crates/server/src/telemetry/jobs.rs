//! Metrics of background jobs.

use bowline_engine::{Engine, JobReport};

use super::metrics::Metrics;

/// Adds what became of background jobs, by topic.
pub(crate) fn register(metrics: &Metrics, engine: &Engine) {
    let counted = |read: fn(&JobReport) -> u64| {
        let engine = engine.clone();
        move || {
            let reports = engine.jobs_report().into_iter();
            let numbers = reports.map(|(topic, report)| (topic, read(&report)));
            numbers.collect::<Vec<_>>()
        }
    };
    let done = counted(|report| report.done);
    metrics.counters("jobs_done", "Background jobs done", "topic", done);
    let failed = counted(|report| report.failed);
    metrics.counters(
        "jobs_failed",
        "Tries of background jobs that failed",
        "topic",
        failed,
    );
    let failing = counted(|report| report.failing);
    metrics.gauges(
        "jobs_failing",
        "Background jobs that failed when they were tried last",
        ["topic"],
        move || {
            let signed = |number| i64::try_from(number).unwrap_or(i64::MAX);
            failing()
                .into_iter()
                .map(|(topic, count)| ([topic], signed(count)))
                .collect()
        },
    );
}
