//! The registry of metrics: ours, and those of parts that count for themselves.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use super::http::HttpMetrics;
use super::process::Process;

/// All metrics of the server. Names are given without the `bowline_` in front of each; only those
/// of the process begin with `process_`, as is usual.
///
/// `control`, `api`, `derp` and `engine` don't know this type: they count in plain atomics, and a
/// closure reads those at each scrape.
#[derive(Debug)]
pub struct Metrics {
    registry: Mutex<Registry>,
    http: HttpMetrics,
}

impl Metrics {
    /// A registry with the metrics of HTTP and of the process.
    #[must_use]
    pub fn new() -> Arc<Self> {
        let mut registry = Registry::default();
        let version = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("bowline_build", "The version of the server", version);
        let http = HttpMetrics::registered_in(&mut registry);
        registry.register_collector(Box::new(Process));
        Arc::new(Self {
            registry: Mutex::new(registry),
            http,
        })
    }

    /// The metrics of HTTP requests.
    #[must_use]
    pub fn http(&self) -> HttpMetrics {
        self.http.clone()
    }

    /// Adds a number that only grows. `name` is without `_total`, and `read` runs at each scrape.
    pub fn counter(
        &self,
        name: &str,
        help: &'static str,
        read: impl Fn() -> u64 + Send + Sync + 'static,
    ) {
        self.collect(name, help, Kind::Counter(Box::new(read)));
    }

    /// Adds numbers that only grow, one for each value of a label. The values are a closed set.
    pub fn counters(
        &self,
        name: &str,
        help: &'static str,
        label: &'static str,
        read: impl Fn() -> Vec<(&'static str, u64)> + Send + Sync + 'static,
    ) {
        self.collect(name, help, Kind::Counters(label, Box::new(read)));
    }

    /// Adds a number that goes up and down; `read` runs at each scrape.
    pub fn gauge(
        &self,
        name: &str,
        help: &'static str,
        read: impl Fn() -> i64 + Send + Sync + 'static,
    ) {
        self.collect(name, help, Kind::Gauge(Box::new(read)));
    }

    /// Adds numbers that go up and down, one for each combination of values of the labels. The
    /// values are closed sets; a combination that is left out has no number now.
    pub fn gauges<const N: usize>(
        &self,
        name: &str,
        help: &'static str,
        labels: [&'static str; N],
        read: impl Fn() -> Vec<([&'static str; N], i64)> + Send + Sync + 'static,
    ) {
        let read = move || {
            let numbers = read().into_iter();
            let labelled = |(values, number): ([&'static str; N], i64)| {
                (labels.into_iter().zip(values).collect(), number)
            };
            numbers.map(labelled).collect()
        };
        self.collect(name, help, Kind::Gauges(Box::new(read)));
    }

    /// Adds a distribution of durations that something else counts: how many fell between each
    /// bound, in seconds, and the one before; the last bound is [`f64::MAX`]. And their sum.
    /// `name` is without `_seconds`.
    pub fn durations(
        &self,
        name: &str,
        help: &'static str,
        read: impl Fn() -> Buckets + Send + Sync + 'static,
    ) {
        self.collect(name, help, Kind::Durations(Box::new(read)));
    }

    /// Adds a distribution of durations. `name` is without `_seconds`.
    #[must_use]
    pub fn timer(&self, name: &str, help: &'static str) -> Timer {
        let timer = Timer::new();
        self.locked(|registry| {
            registry.register_with_unit(prefixed(name), help, Unit::Seconds, timer.0.clone());
        });
        timer
    }

    /// All metrics in the OpenMetrics text format.
    ///
    /// # Errors
    /// Never in practice: text is written to memory.
    pub fn render(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        self.locked(|registry| prometheus_client::encoding::text::encode(&mut text, registry))?;
        Ok(text)
    }

    fn collect(&self, name: &str, help: &'static str, kind: Kind) {
        let name = prefixed(name);
        self.locked(|registry| {
            registry.register_collector(Box::new(Collected { name, help, kind }));
        });
    }

    /// A panic while the registry was locked left no metric half registered.
    fn locked<T>(&self, act: impl FnOnce(&mut Registry) -> T) -> T {
        act(&mut self.registry.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A distribution of durations, from 0.1 ms to 30 s.
#[derive(Debug, Clone)]
pub struct Timer(Histogram);

impl Timer {
    pub(super) fn new() -> Self {
        const SECONDS: [f64; 16] = [
            0.0001, 0.000_25, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0,
            2.5, 10.0, 30.0,
        ];
        Self(Histogram::new(SECONDS))
    }

    pub(super) fn histogram(&self) -> Histogram {
        self.0.clone()
    }

    /// Counts one duration.
    pub fn observe(&self, duration: Duration) {
        self.0.observe(duration.as_secs_f64());
    }
}

fn prefixed(name: &str) -> String {
    format!("bowline_{name}")
}

/// How many durations fell between each bound and the one before, and their sum.
type Buckets = (Vec<(f64, u64)>, f64);

/// How a metric that something else counts is read.
enum Kind {
    Counter(Box<dyn Fn() -> u64 + Send + Sync>),
    Counters(
        &'static str,
        Box<dyn Fn() -> Vec<(&'static str, u64)> + Send + Sync>,
    ),
    Gauge(Box<dyn Fn() -> i64 + Send + Sync>),
    Gauges(Box<dyn Fn() -> Vec<Labelled> + Send + Sync>),
    Durations(Box<dyn Fn() -> Buckets + Send + Sync>),
}

/// A number, with its labels and their values.
type Labelled = (Vec<(&'static str, &'static str)>, i64);

/// A metric that something else counts.
struct Collected {
    name: String,
    help: &'static str,
    kind: Kind,
}

impl fmt::Debug for Collected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl Collector for Collected {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let Self { name, help, kind } = self;
        let of_kind = match kind {
            Kind::Counter(_) | Kind::Counters(..) => MetricType::Counter,
            Kind::Gauge(_) | Kind::Gauges(..) => MetricType::Gauge,
            Kind::Durations(_) => MetricType::Histogram,
        };
        let unit = Unit::Seconds;
        let unit = matches!(kind, Kind::Durations(_)).then_some(&unit);
        let mut metric = encoder.encode_descriptor(name, help, unit, of_kind)?;
        match kind {
            Kind::Counter(read) => ConstCounter::new(read()).encode(metric),
            Kind::Counters(label, read) => read().into_iter().try_for_each(|(value, count)| {
                let labels = [(*label, value)];
                ConstCounter::new(count).encode(metric.encode_family(&labels)?)
            }),
            Kind::Gauge(read) => ConstGauge::new(read()).encode(metric),
            Kind::Gauges(read) => read().into_iter().try_for_each(|(labels, number)| {
                ConstGauge::new(number).encode(metric.encode_family(&labels)?)
            }),
            Kind::Durations(read) => {
                let (buckets, sum) = read();
                let count = buckets.iter().map(|(_, count)| count).sum();
                metric.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[test]
    fn what_others_count_is_read_at_each_scrape() {
        let metrics = Metrics::new();
        let count = Arc::new(AtomicU64::new(1));
        let read = Arc::clone(&count);
        metrics.counter("commits", "Commits", move || read.load(Ordering::Relaxed));
        metrics.counters("registrations", "Registrations", "result", || {
            vec![("accepted", 2), ("refused", 3)]
        });
        metrics.gauge("map_streams", "Open map streams", || -1);
        metrics.gauges("ends", "Ends", ["listener"], || vec![(["main"], 7)]);
        let text = metrics.render().expect("text");
        for line in [
            "# HELP bowline_commits Commits",
            "# TYPE bowline_commits counter",
            "bowline_commits_total 1",
            "bowline_registrations_total{result=\"accepted\"} 2",
            "bowline_registrations_total{result=\"refused\"} 3",
            "# TYPE bowline_map_streams gauge",
            "bowline_map_streams -1",
            "# TYPE bowline_ends gauge",
            "bowline_ends{listener=\"main\"} 7",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
        count.store(5, Ordering::Relaxed);
        assert!(
            metrics
                .render()
                .expect("text")
                .contains("\nbowline_commits_total 5\n")
        );
    }

    #[test]
    fn a_timer_counts_into_buckets_of_seconds() {
        let metrics = Metrics::new();
        let timer = metrics.timer("commit", "Time of a commit");
        timer.observe(Duration::from_millis(3));
        let text = metrics.render().expect("text");
        assert!(
            text.contains("\nbowline_commit_seconds_count 1\n"),
            "{text}"
        );
        assert!(
            text.contains("\nbowline_commit_seconds_bucket{le=\"0.0025\"} 0\n"),
            "{text}"
        );
        assert!(
            text.contains("\nbowline_commit_seconds_bucket{le=\"0.005\"} 1\n"),
            "{text}"
        );
    }

    #[test]
    fn the_version_and_the_process_are_there() {
        let text = Metrics::new().render().expect("text");
        let version = env!("CARGO_PKG_VERSION");
        assert!(
            text.contains(&format!("bowline_build_info{{version=\"{version}\"}} 1")),
            "{text}"
        );
        assert!(text.contains("\nprocess_resident_memory_bytes "), "{text}");
        assert!(text.ends_with("# EOF\n"), "{text}");
    }
}
