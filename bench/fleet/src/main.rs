//! Simulates a fleet of nodes against a coordination server and measures it.
//!
//! The nodes speak the control protocol as official clients do (Noise, HTTP/2, zstd map streams),
//! so any server can be measured. See `bench/fleet/README.md`.

mod board;
mod fleet;
mod node;
mod process;
mod report;
mod rules;
mod scan;
mod spawn;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use bowline_testkit::client::Compression;
use clap::Parser;

use fleet::{Kind, Plan, Scenario};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Simulate a fleet of nodes against a coordination server.
///
/// Prints a table, or with --json a list with one object per number of nodes.
#[derive(Debug, Parser)]
struct Arguments {
    /// The server, as http://host:port
    #[arg(long, required_unless_present = "spawn", conflicts_with = "spawn")]
    server: Option<String>,

    /// Start this bowline binary on a fresh data directory for each number of nodes
    #[arg(long, value_name = "PROGRAM")]
    spawn: Option<PathBuf>,

    /// Policy file of a server that is started. It should let every node see every other: that is
    /// what is waited for
    #[arg(
        long,
        value_name = "FILE",
        requires = "spawn",
        conflicts_with = "rules"
    )]
    policy: Option<PathBuf>,

    /// Instead of a policy file: one with so many rules about 200 groups and 100 tags, beside the
    /// one that lets every node see every other
    #[arg(long, requires = "spawn")]
    rules: Option<u32>,

    /// API access token, to make an auth key and to rename
    #[arg(long, env = "FLEET_TOKEN", hide_env_values = true)]
    token: Option<String>,

    /// Reusable auth key, for servers without the API
    #[arg(long, env = "FLEET_AUTH_KEY", hide_env_values = true)]
    auth_key: Option<String>,

    /// Numbers of nodes, one run each
    #[arg(long, value_delimiter = ',', default_value = "300", value_parser = clap::value_parser!(u16).range(2..=20_000))]
    nodes: Vec<u16>,

    /// What to do, in this order
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        default_value = "join,reconnect,change"
    )]
    scenario: Vec<Scenario>,

    /// How many changes to make in the scenario `change`
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=50_000))]
    changes: u16,

    /// What to change [default: rename with a token, else endpoint]
    #[arg(long, value_enum)]
    change: Option<Kind>,

    /// How many nodes may be between connecting and their first map at once
    #[arg(long, default_value_t = 256)]
    parallel: usize,

    /// Seconds after which a storm, or one change, has failed
    #[arg(long, default_value_t = 120)]
    deadline: u64,

    /// The server's process, to measure its CPU time and memory
    #[arg(long)]
    server_pid: Option<u32>,

    /// Threads of the simulator
    #[arg(long, default_value_t = 1)]
    threads: usize,

    /// Ask for plain JSON instead of zstd
    #[arg(long)]
    plain: bool,

    /// Print JSON instead of a table
    #[arg(long)]
    json: bool,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(arguments.threads.max(1))
        .enable_all()
        .build()?
        .block_on(run(arguments))
}

#[expect(
    clippy::print_stdout,
    reason = "the figures are what this program is for"
)]
async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let written = arguments.rules.map(rules::write).transpose()?;
    let policy = written.as_ref().map(tempfile::NamedTempFile::path);
    let policy = policy.or(arguments.policy.as_deref());
    let mut reports = Vec::new();
    let mut failure = None;
    for nodes in &arguments.nodes {
        let spawned = match &arguments.spawn {
            Some(program) => Some(spawn::Spawned::start(program, policy).await?),
            None => None,
        };
        let token = spawned.as_ref().map(|spawned| spawned.token.clone());
        let token = token.or_else(|| arguments.token.clone());
        let default_change = if token.is_some() {
            Kind::Rename
        } else {
            Kind::Endpoint
        };
        let plan = Plan {
            url: spawned
                .as_ref()
                .map(|spawned| spawned.url.clone())
                .or_else(|| arguments.server.clone())
                .context("no server")?,
            token,
            auth_key: arguments.auth_key.clone(),
            nodes: usize::from(*nodes),
            scenarios: arguments.scenario.clone(),
            changes: usize::from(arguments.changes),
            change: arguments.change.unwrap_or(default_change),
            parallel: arguments.parallel.max(1),
            deadline: Duration::from_secs(arguments.deadline),
            server_pid: spawned
                .as_ref()
                .map(|spawned| spawned.pid)
                .or(arguments.server_pid),
            compression: if arguments.plain {
                Compression::None
            } else {
                Compression::Zstd
            },
        };
        match fleet::run(&plan).await {
            Ok(report) => reports.push(report),
            // The runs before it are worth their figures.
            Err(error) => failure = Some(error.context(format!("{nodes} nodes"))),
        }
        if let Some(spawned) = spawned {
            spawned.stop().await?;
        }
        if failure.is_some() {
            break;
        }
    }
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&reports)?);
    } else {
        println!("{}", report::table(&reports));
    }
    failure.map_or(Ok(()), Err)
}
