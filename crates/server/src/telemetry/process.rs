//! The process's own numbers, as `/proc` has them: memory, processor time, open files.

use std::fmt;
use std::fs;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

/// Clock ticks in a second: what Linux tells programs on every architecture, whatever its own
/// timer does.
const TICKS: f64 = 100.0;

/// Reads this process's numbers at each scrape. What the system does not have is left out.
#[derive(Debug)]
pub(super) struct Process;

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        if let Some(bytes) = resident_bytes(&status) {
            gauge(
                &mut encoder,
                "process_resident_memory_bytes",
                "Memory in use, in bytes",
                bytes,
            )?;
        }
        if let Ok(files) = fs::read_dir("/proc/self/fd") {
            let count = i64::try_from(files.count()).unwrap_or(i64::MAX);
            gauge(
                &mut encoder,
                "process_open_fds",
                "Open files and sockets",
                count,
            )?;
        }
        let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
        let system = fs::read_to_string("/proc/stat").unwrap_or_default();
        if let Some(seconds) = start_seconds(&stat, &system) {
            gauge(
                &mut encoder,
                "process_start_time_seconds",
                "When the process started, in seconds since 1970",
                seconds,
            )?;
        }
        if let Some(seconds) = processor_seconds(&stat) {
            let counter = ConstCounter::new(seconds);
            let help = "Processor time spent, in seconds";
            let kind = counter.metric_type();
            let metric = encoder.encode_descriptor("process_cpu_seconds", help, None, kind)?;
            counter.encode(metric)?;
        }
        Ok(())
    }
}

fn gauge(
    encoder: &mut DescriptorEncoder<'_>,
    name: &'static str,
    help: &'static str,
    value: i64,
) -> Result<(), fmt::Error> {
    let gauge = ConstGauge::new(value);
    let metric = encoder.encode_descriptor(name, help, None, gauge.metric_type())?;
    gauge.encode(metric)
}

/// The line `VmRSS:   12345 kB`.
fn resident_bytes(status: &str) -> Option<i64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: i64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kilobytes * 1024)
}

/// User and system time: the 14th and 15th field. The second, the program's name, may hold
/// spaces and parentheses.
fn processor_seconds(stat: &str) -> Option<f64> {
    let (_, after_name) = stat.rsplit_once(") ")?;
    let mut fields = after_name.split(' ').skip(11);
    let mut ticks = || fields.next()?.parse::<f64>().ok();
    Some((ticks()? + ticks()?) / TICKS)
}

/// The boot time, and the 22nd field: ticks from then until the process started.
fn start_seconds(stat: &str, system: &str) -> Option<i64> {
    let (_, after_name) = stat.rsplit_once(") ")?;
    let ticks: i64 = after_name.split(' ').nth(19)?.parse().ok()?;
    let boot = system
        .lines()
        .find_map(|line| line.strip_prefix("btime "))?;
    Some(boot.trim().parse::<i64>().ok()? + ticks / 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_in_bytes() {
        assert_eq!(
            resident_bytes("VmPeak:\t 9 kB\nVmRSS:\t    2048 kB\n"),
            Some(2_097_152)
        );
        assert_eq!(resident_bytes(""), None);
    }

    #[test]
    fn processor_time_is_read_past_an_odd_name() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194304 100 0 0 0 250 50 0 0 20 0 4 0";
        assert_eq!(processor_seconds(stat), Some(3.0));
        assert_eq!(processor_seconds(""), None);
    }

    #[test]
    fn the_start_is_read_from_the_boot_on() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194304 100 0 0 0 250 50 0 0 20 0 4 0 12345 0";
        assert_eq!(start_seconds(stat, "cpu 1\nbtime 1000\n"), Some(1123));
        assert_eq!(start_seconds("", "btime 1000\n"), None);
    }
}
