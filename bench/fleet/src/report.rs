//! Figures, as a table and as JSON.

use std::sync::atomic::Ordering::Relaxed;

use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;

use crate::board::Board;
use crate::process;

/// All figures of one run. Times are in milliseconds, memory in KiB.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    nodes: usize,
    pub(crate) join: Option<Phase>,
    pub(crate) reconnect: Option<Phase>,
    pub(crate) change: Option<Changes>,
    memory: Option<Memory>,
    #[serde(skip)]
    knows_process: bool,
}

/// A storm: all nodes start, until each has seen all others.
#[derive(Debug, Serialize)]
pub(crate) struct Phase {
    /// Until half of the nodes were done.
    half_ms: f64,
    /// Until the last node was done.
    all_ms: f64,
    #[serde(flatten)]
    cost: Cost,
}

/// Changes one after the other: from the request to the last node told.
#[derive(Debug, Serialize)]
pub(crate) struct Changes {
    count: usize,
    p50_ms: f64,
    p99_ms: f64,
    max_ms: f64,
    /// From the request to its answer.
    answer_p50_ms: f64,
    #[serde(flatten)]
    cost: Cost,
}

/// What a phase took of everybody, until the nodes had nothing more to receive.
#[derive(Debug, Serialize)]
pub(crate) struct Cost {
    messages: u64,
    wire_bytes: u64,
    decoded_bytes: u64,
    failures: u64,
    /// Those of them that were refused.
    refused: u64,
    /// Those of them for which nothing came in time.
    timed_out: u64,
    server_cpu_seconds: Option<f64>,
    /// Until the last node was done; what follows is not waited for by anybody.
    server_cpu_seconds_until_done: Option<f64>,
    simulator_cpu_seconds: f64,
    #[serde(skip)]
    server_pid: Option<u32>,
}

/// Resident memory of the server.
#[derive(Debug, Serialize)]
struct Memory {
    before_kib: u64,
    connected_kib: u64,
    /// The difference for each node. It holds the node's share of the snapshot too.
    per_node_kib: f64,
    /// What the server gave back for each node when all had gone. Its allocator may keep some, so
    /// a connection holds this much or more.
    per_connection_kib: Option<f64>,
}

impl Cost {
    /// The state of all counters at the start of a phase.
    pub(crate) fn begin(board: &Board, server_pid: Option<u32>) -> anyhow::Result<Self> {
        Ok(Self {
            messages: board.messages.load(Relaxed),
            wire_bytes: board.wire_bytes.load(Relaxed),
            decoded_bytes: board.decoded_bytes.load(Relaxed),
            failures: board.failures.load(Relaxed),
            refused: board.refused.load(Relaxed),
            timed_out: board.timed_out.load(Relaxed),
            server_cpu_seconds: server_pid.map(process::cpu_seconds).transpose()?,
            server_cpu_seconds_until_done: None,
            simulator_cpu_seconds: process::cpu_seconds(std::process::id())?,
            server_pid,
        })
    }

    /// The last node is done; the phase goes on until it is quiet.
    pub(crate) fn mark_done(&mut self, board: &Board) -> anyhow::Result<()> {
        self.server_cpu_seconds_until_done = Self::begin(board, self.server_pid)?
            .server_cpu_seconds
            .zip(self.server_cpu_seconds)
            .map(|(now, before)| now - before);
        Ok(())
    }

    /// What has been added since.
    pub(crate) fn end(self, board: &Board) -> anyhow::Result<Self> {
        let now = Self::begin(board, self.server_pid)?;
        Ok(Self {
            messages: now.messages - self.messages,
            wire_bytes: now.wire_bytes - self.wire_bytes,
            decoded_bytes: now.decoded_bytes - self.decoded_bytes,
            failures: now.failures - self.failures,
            refused: now.refused - self.refused,
            timed_out: now.timed_out - self.timed_out,
            server_cpu_seconds: now
                .server_cpu_seconds
                .zip(self.server_cpu_seconds)
                .map(|(now, before)| now - before),
            simulator_cpu_seconds: now.simulator_cpu_seconds - self.simulator_cpu_seconds,
            ..self
        })
    }
}

impl Phase {
    /// `start` and `times` (ascending) in nanoseconds of the board.
    pub(crate) fn new(start: u64, times: &[u64], cost: Cost) -> Self {
        let since = |time: u64| milliseconds(time.saturating_sub(start));
        let (half_ms, all_ms) = (since(quantile(times, 50)), since(quantile(times, 100)));
        Self {
            half_ms,
            all_ms,
            cost,
        }
    }
}

impl Changes {
    /// Times in nanoseconds.
    pub(crate) fn new(mut latencies: Vec<u64>, mut answers: Vec<u64>, cost: Cost) -> Self {
        latencies.sort_unstable();
        answers.sort_unstable();
        Self {
            count: latencies.len(),
            p50_ms: milliseconds(quantile(&latencies, 50)),
            p99_ms: milliseconds(quantile(&latencies, 99)),
            max_ms: milliseconds(quantile(&latencies, 100)),
            answer_p50_ms: milliseconds(quantile(&answers, 50)),
            cost,
        }
    }
}

impl Report {
    pub(crate) const fn new(nodes: usize, knows_process: bool) -> Self {
        Self {
            nodes,
            join: None,
            reconnect: None,
            change: None,
            memory: None,
            knows_process,
        }
    }

    /// The server's memory before the first node and now. The first call counts.
    pub(crate) fn set_memory(&mut self, before_kib: u64, connected_kib: u64) {
        let difference = connected_kib.saturating_sub(before_kib);
        self.memory.get_or_insert(Memory {
            before_kib,
            connected_kib,
            per_node_kib: float(difference) / float(self.nodes as u64),
            per_connection_kib: None,
        });
    }

    /// The server's memory before and after all nodes have gone.
    pub(crate) fn set_connections(&mut self, connected_kib: u64, gone_kib: u64) {
        let difference = connected_kib.saturating_sub(gone_kib);
        if let Some(memory) = &mut self.memory {
            memory.per_connection_kib = Some(float(difference) / float(self.nodes as u64));
        }
    }
}

/// One table of all runs.
pub(crate) fn table(reports: &[Report]) -> String {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN).set_header([
        "nodes",
        "phase",
        "half ms",
        "all ms",
        "p50 ms",
        "p99 ms",
        "max ms",
        "server CPU s",
        "sim CPU s",
        "messages",
        "wire MiB",
        "JSON MiB",
        "failures",
        "refused",
        "timed out",
        "server MiB",
        "KiB/node",
    ]);
    for report in reports {
        let mut add = |phase: &str, times: [String; 5], cost: &Cost, memory: [String; 2]| {
            let cpu = cost
                .server_cpu_seconds
                .map_or_else(|| "?".into(), |s| format!("{s:.2}"));
            let mut row = vec![report.nodes.to_string(), phase.to_owned()];
            row.extend(times);
            row.extend([cpu, format!("{:.2}", cost.simulator_cpu_seconds)]);
            row.extend([
                cost.messages.to_string(),
                mib(cost.wire_bytes),
                mib(cost.decoded_bytes),
            ]);
            row.extend(
                [cost.failures, cost.refused, cost.timed_out].map(|count| count.to_string()),
            );
            row.extend(memory);
            table.add_row(row);
        };
        let none = || String::new();
        let unknown = if report.knows_process {
            none()
        } else {
            "?".into()
        };
        let memory = report.memory.as_ref().map_or_else(
            || [unknown.clone(), unknown],
            |memory| {
                [
                    mib(memory.connected_kib << 10),
                    format!("{:.1}", memory.per_node_kib),
                ]
            },
        );
        if let Some(phase) = &report.join {
            add("join", storm(phase), &phase.cost, memory);
        }
        if let Some(phase) = &report.reconnect {
            add("reconnect", storm(phase), &phase.cost, [none(), none()]);
        }
        if let Some(changes) = &report.change {
            let times = [changes.p50_ms, changes.p99_ms, changes.max_ms].map(one_digit);
            let [p50, p99, max] = times;
            let name = format!("{} changes", changes.count);
            add(
                &name,
                [none(), none(), p50, p99, max],
                &changes.cost,
                [none(), none()],
            );
        }
    }
    for column in table.column_iter_mut().skip(2) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table.to_string()
}

fn storm(phase: &Phase) -> [String; 5] {
    let none = String::new;
    [
        one_digit(phase.half_ms),
        one_digit(phase.all_ms),
        none(),
        none(),
        none(),
    ]
}

fn one_digit(number: f64) -> String {
    format!("{number:.1}")
}

fn mib(bytes: u64) -> String {
    format!("{:.1}", float(bytes) / f64::from(1 << 20))
}

fn milliseconds(nanoseconds: u64) -> f64 {
    float(nanoseconds) / 1e6
}

/// The smallest number that `percent` of the ascending numbers do not exceed; 0 of none.
fn quantile(ascending: &[u64], percent: usize) -> u64 {
    let rank = (ascending.len() * percent).div_ceil(100).max(1);
    ascending.get(rank - 1).copied().unwrap_or_default()
}

#[expect(
    clippy::cast_precision_loss,
    reason = "figures for people, far below 2^52"
)]
fn float(number: u64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_of_the_nearest_rank() {
        let numbers: Vec<u64> = (1..=200).collect();
        assert_eq!(quantile(&numbers, 50), 100);
        assert_eq!(quantile(&numbers, 99), 198);
        assert_eq!(quantile(&numbers, 100), 200);
        assert_eq!(quantile(&[7], 1), 7);
        assert_eq!(quantile(&[], 50), 0);
    }
}
