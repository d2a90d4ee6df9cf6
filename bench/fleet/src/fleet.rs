//! The scenarios.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use bowline_testkit::client::{Client, Compression, Identity, Server};
use http::Method;
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::board::Board;
use crate::node::{Crowd, Node};
use crate::process;
use crate::report::{Changes, Cost, Phase, Report};
use crate::scan::Marker;

/// Nodes that take turns in being changed.
pub(crate) const CHANGED_NODES: usize = 10;
/// Number of the first change: all numbers have five digits, and those of endpoints are ports.
pub(crate) const FIRST_CHANGE: usize = 10_000;

/// An address that only documentation uses.
const CHANGED_ENDPOINT: &str = "203.0.113.77:";

/// What to do and against whom.
pub(crate) struct Plan {
    pub(crate) url: String,
    /// API access token; needed to make an auth key and to rename.
    pub(crate) token: Option<String>,
    pub(crate) auth_key: Option<String>,
    pub(crate) nodes: usize,
    pub(crate) scenarios: Vec<Scenario>,
    pub(crate) changes: usize,
    pub(crate) change: Kind,
    pub(crate) parallel: usize,
    pub(crate) deadline: Duration,
    pub(crate) server_pid: Option<u32>,
    pub(crate) compression: Compression,
}

/// A scenario; each starts from where the one before ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Scenario {
    /// All nodes register and see each other.
    Join,
    /// All nodes lose their connections and come back unchanged.
    Reconnect,
    /// One node changes at a time, and the others are told.
    Change,
}

/// What changes about a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Kind {
    /// Its name, through the API.
    Rename,
    /// Its endpoints, as the node itself reports them.
    Endpoint,
}

/// Runs the plan and reports.
pub(crate) async fn run(plan: &Plan) -> anyhow::Result<Report> {
    ensure!(plan.nodes > 0, "no nodes");
    let needed = plan.nodes as u64 + 100;
    let limit = process::open_files_limit()?;
    ensure!(
        limit >= needed,
        "only {limit} files may be open; run `ulimit -n {needed}` first"
    );

    let server = Server::discover(&plan.url).await?;
    let memory_before = plan.server_pid.map(process::resident_kib).transpose()?;
    let auth_key = match &plan.auth_key {
        Some(key) => key.clone(),
        None => make_auth_key(&server, plan).await?,
    };
    let mut fleet = Fleet::new(plan, server, &auth_key)?;
    let mut report = Report::new(plan.nodes, plan.server_pid.is_some());
    for scenario in &plan.scenarios {
        match scenario {
            Scenario::Join => report.join = Some(fleet.join().await?),
            Scenario::Reconnect => report.reconnect = Some(fleet.reconnect().await?),
            Scenario::Change => report.change = Some(fleet.change().await?),
        }
        if let (Some(pid), Some(before)) = (plan.server_pid, memory_before) {
            report.set_memory(before, process::resident_kib(pid)?);
        }
    }
    let connected = plan.server_pid.map(process::resident_kib).transpose()?;
    fleet.tasks.shutdown().await;
    if let (Some(pid), Some(connected)) = (plan.server_pid, connected) {
        report.set_connections(connected, settled_memory(pid).await?);
    }
    Ok(report)
}

/// Memory of the server once it no longer shrinks, or after five seconds.
async fn settled_memory(pid: u32) -> anyhow::Result<u64> {
    let mut least = u64::MAX;
    for _ in 0..5 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let now = process::resident_kib(pid)?;
        if now >= least {
            break;
        }
        least = now;
    }
    Ok(least)
}

struct Fleet<'a> {
    plan: &'a Plan,
    server: Server,
    crowd: Arc<Crowd>,
    nodes: Vec<Arc<Node>>,
    tasks: JoinSet<()>,
    rename_prefix: String,
}

impl<'a> Fleet<'a> {
    fn new(plan: &'a Plan, server: Server, auth_key: &str) -> anyhow::Result<Self> {
        let mut group = [0; 16];
        getrandom::fill(&mut group).map_err(|error| anyhow::anyhow!("no randomness: {error}"))?;
        let clients: Vec<_> = (0..plan.nodes)
            .map(|number| {
                let identity = Identity::of_group(group, number as u64);
                Client::new(server.clone(), identity, &format!("fleet-{number:05}"))
            })
            .collect();
        let run = format!("{:02x}{:02x}{:02x}", group[0], group[1], group[2]);
        let rename_prefix = format!("renamed-{run}-");
        let crowd = Arc::new(Crowd {
            board: Board::new(plan.nodes, plan.changes),
            markers: vec![
                node_marker(group)?,
                Marker::new(&rename_prefix, 5),
                Marker::new(CHANGED_ENDPOINT, 5),
            ],
            admission: Semaphore::new(plan.parallel),
            compression: plan.compression,
            // A node that reports an endpoint is not told of it.
            audience: match plan.change {
                Kind::Rename => plan.nodes,
                Kind::Endpoint => plan.nodes - 1,
            },
        });
        let nodes = clients
            .into_iter()
            .enumerate()
            .map(|(number, client)| Arc::new(Node::new(number, client, auth_key.to_owned())))
            .collect();
        Ok(Self {
            plan,
            server,
            crowd,
            nodes,
            tasks: JoinSet::new(),
            rename_prefix,
        })
    }

    async fn join(&mut self) -> anyhow::Result<Phase> {
        self.storm("join").await
    }

    async fn reconnect(&mut self) -> anyhow::Result<Phase> {
        ensure!(!self.tasks.is_empty(), "reconnect needs join before it");
        self.tasks.shutdown().await;
        // Connections that are down and that the server has had time to notice: the usual case
        // after a network's outage.
        tokio::time::sleep(Duration::from_millis(300)).await;
        self.storm("reconnect").await
    }

    /// Starts all nodes and waits until each has seen all others.
    async fn storm(&mut self, name: &str) -> anyhow::Result<Phase> {
        let board = &self.crowd.board;
        board.restart();
        let mut cost = Cost::begin(board, self.plan.server_pid)?;
        let start = board.now();
        for node in &self.nodes {
            self.tasks
                .spawn(Arc::clone(node).run(Arc::clone(&self.crowd)));
        }
        if !board.all_complete(self.plan.deadline).await {
            bail!(
                "{name}: after {:?} only {} of {} nodes have seen all others; {} messages, {} failures, {} of them refused and {} without an answer in time{}",
                self.plan.deadline,
                board.complete(),
                board.size(),
                board.messages.load(Relaxed),
                board.failures.load(Relaxed),
                board.refused.load(Relaxed),
                board.timed_out.load(Relaxed),
                board.failure_kinds(),
            );
        }
        let times = board.completion_times();
        cost.mark_done(board)?;
        board
            .settle(Duration::from_millis(500), Duration::from_secs(10))
            .await;
        Ok(Phase::new(start, &times, cost.end(board)?))
    }

    async fn change(&mut self) -> anyhow::Result<Changes> {
        ensure!(!self.tasks.is_empty(), "change needs join before it");
        let board = &self.crowd.board;
        let cost = Cost::begin(board, self.plan.server_pid)?;
        let mut latencies = Vec::new();
        let mut answers = Vec::new();
        for number in 0..self.plan.changes {
            let start = board.now();
            let began = Instant::now();
            self.change_one(number)
                .await
                .with_context(|| format!("change {number}"))?;
            answers.push(u64::try_from(began.elapsed().as_nanos())?);
            let told = board
                .all_told(number, self.crowd.audience, self.plan.deadline)
                .await;
            let last = told.with_context(|| {
                format!(
                    "not all nodes were told of change {number} in {:?}",
                    self.plan.deadline
                )
            })?;
            latencies.push(last.saturating_sub(start));
        }
        Ok(Changes::new(latencies, answers, cost.end(board)?))
    }

    async fn change_one(&self, number: usize) -> anyhow::Result<()> {
        let node = &self.nodes[number % CHANGED_NODES.min(self.nodes.len())];
        let digits = FIRST_CHANGE + number;
        match self.plan.change {
            Kind::Endpoint => {
                let endpoint = format!("{CHANGED_ENDPOINT}{digits}");
                node.client
                    .update(&json!({"Endpoints": [endpoint], "EndpointTypes": [1]}))
                    .await
            }
            Kind::Rename => {
                let id = node
                    .stable_id
                    .get()
                    .context("the first map has no Node.StableID")?;
                let body = json!({"name": format!("{}{digits}", self.rename_prefix)});
                let path = format!("/api/v2/device/{id}/name");
                call_api(&self.server, self.plan, &path, &body)
                    .await
                    .map(drop)
            }
        }
    }
}

/// Finds the numbers of a group's nodes, in 16 hexadecimal digits, by their node keys.
fn node_marker(group: [u8; 16]) -> anyhow::Result<Marker> {
    // The keys of a group differ in their number alone, and the largest differs from the smallest
    // in all its digits.
    let [first, last] =
        [0, u64::MAX].map(|number| Identity::of_group(group, number).node_key_text());
    let common = first
        .bytes()
        .zip(last.bytes())
        .take_while(|(a, b)| a == b)
        .count();
    let common = first.get(..common).context("a node key is not ASCII")?;
    Ok(Marker::new(common, 16))
}

async fn make_auth_key(server: &Server, plan: &Plan) -> anyhow::Result<String> {
    let body = json!({
        "capabilities": {"devices": {"create": {
            "reusable": true, "ephemeral": false, "preauthorized": true,
        }}},
        "expirySeconds": 86_400,
        "description": "fleet simulator",
    });
    let answer = call_api(server, plan, "/api/v2/tailnet/-/keys", &body).await?;
    answer["key"]
        .as_str()
        .map(str::to_owned)
        .context("the API answered without a key")
}

async fn call_api(server: &Server, plan: &Plan, path: &str, body: &Value) -> anyhow::Result<Value> {
    let token = plan
        .token
        .as_deref()
        .context("this needs an API access token: --token")?;
    let bearer = format!("Bearer {token}");
    let headers = [
        ("authorization", bearer.as_str()),
        ("content-type", "application/json"),
    ];
    let answer = server
        .request(Method::POST, path, &headers, body.to_string())
        .await?;
    ensure!(
        answer.status.is_success(),
        "{path} answered {}: {}",
        answer.status,
        answer.text()
    );
    answer.json()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scan::Scanner;

    #[test]
    fn nodes_are_found_by_their_number() {
        let group = [7; 16];
        let text: String = [5, 0x1234]
            .map(|number| Identity::of_group(group, number).node_key_text())
            .join(" ");
        let other = Identity::of_group([8; 16], 9).node_key_text();
        let mut found = Vec::new();
        Scanner::new()
            .unwrap()
            .scan(
                Compression::None,
                format!("{text} {other}").as_bytes(),
                &[node_marker(group).unwrap()],
                |_, digits| {
                    let digits = std::str::from_utf8(digits).unwrap();
                    found.push(u64::from_str_radix(digits, 16).unwrap());
                },
            )
            .unwrap();
        assert_eq!(found, [5, 0x1234]);
    }
}
