//! What the server process costs, from `/proc`.

use std::fs;

use anyhow::Context as _;

/// Linux reports CPU time in hundredths of a second on every architecture that matters here.
const TICKS_PER_SECOND: f64 = 100.0;

/// CPU seconds that a process has used so far, in user and kernel together.
pub(crate) fn cpu_seconds(pid: u32) -> anyhow::Result<f64> {
    let path = format!("/proc/{pid}/stat");
    let stat = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    // The second field is a name in parentheses that may hold anything.
    let (_, fields) = stat
        .rsplit_once(')')
        .context("unknown form of /proc stat")?;
    let ticks =
        |index: usize| -> Option<f64> { fields.split_whitespace().nth(index)?.parse().ok() };
    let user = ticks(11).context("no user time in /proc stat")?;
    let kernel = ticks(12).context("no kernel time in /proc stat")?;
    Ok((user + kernel) / TICKS_PER_SECOND)
}

/// Resident memory of a process in KiB.
pub(crate) fn resident_kib(pid: u32) -> anyhow::Result<u64> {
    let path = format!("/proc/{pid}/status");
    let status = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    status
        .lines()
        .find_map(|line| {
            line.strip_prefix("VmRSS:")?
                .trim()
                .strip_suffix(" kB")?
                .parse()
                .ok()
        })
        .context("no VmRSS in /proc status")
}

/// How many files this process may open.
pub(crate) fn open_files_limit() -> anyhow::Result<u64> {
    let limits = fs::read_to_string("/proc/self/limits")?;
    limits
        .lines()
        .find_map(|line| {
            line.strip_prefix("Max open files")?
                .split_whitespace()
                .next()?
                .parse()
                .ok()
        })
        .context("no limit of open files in /proc/self/limits")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_costs_something() {
        let pid = std::process::id();
        assert!(resident_kib(pid).unwrap() > 0);
        assert!(cpu_seconds(pid).unwrap() >= 0.0);
        assert!(open_files_limit().unwrap() > 0);
    }
}
