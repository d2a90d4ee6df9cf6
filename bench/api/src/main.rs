//! Measures the API against an empty handler of the same server in one run, and registrations.
//!
//! `GET /health` is the empty handler: what HTTP itself costs. The rows take turns, several rounds
//! each, over connections that stay open (32 at once, so that the server and not the way there and back is
//! what takes the time), so that a machine whose speed drifts is the same for all; the ratio is of the
//! medians. Rows that make something wait for a durable commit each.

#[path = "../../fleet/src/spawn.rs"]
mod spawn;

use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bowline_testkit::client::{Client, Identity, Server};
use clap::Parser;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Measure the API of a bowline binary.
#[derive(Debug, Parser)]
struct Arguments {
    /// The bowline binary to start on a fresh data directory
    #[arg(long, value_name = "PROGRAM")]
    spawn: PathBuf,
    /// Devices to register and then list
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..=20_000))]
    devices: u64,
    /// Registrations under way at once
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u64).range(1..=512))]
    parallel: u64,
    /// Connections that ask at once
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=512))]
    connections: u32,
    /// Rounds of each row
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let server = spawn::Spawned::start(&arguments.spawn, None).await?;
    let outcome = measure(&arguments, &server).await;
    server.stop().await?;
    let table = outcome?;
    writeln!(std::io::stdout().lock(), "{table}")?;
    Ok(())
}

/// One row: a request, and the requests per second of each round.
struct Row {
    name: String,
    request: Vec<u8>,
    /// Requests of a round, of all connections together.
    per_round: u32,
    rates: Vec<f64>,
}

async fn measure(arguments: &Arguments, spawned: &spawn::Spawned) -> anyhow::Result<String> {
    let server = Server::discover(&spawned.url).await?;
    let authority = server.authority().to_owned();
    let basic = BASE64_STANDARD.encode(format!("{}:", spawned.token));
    let request = |method: &str, path: &str, body: &str| {
        format!(
            "{method} {path} HTTP/1.1\r\nhost: {authority}\r\nauthorization: Basic {basic}\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )
        .into_bytes()
    };
    let mut line = Line::open(&authority).await?;
    let body = r#"{"capabilities":{"devices":{"create":{"reusable":true}}}}"#;
    let made: Value = serde_json::from_slice(
        &line
            .ask(&request("POST", "/api/v2/tailnet/-/keys", body))
            .await?,
    )?;
    let key = made["key"]
        .as_str()
        .context("the API made no auth key")?
        .to_owned();

    let took = register(arguments, &server, &key).await?;
    let list: Value = serde_json::from_slice(
        &line
            .ask(&request("GET", "/api/v2/tailnet/-/devices", ""))
            .await?,
    )?;
    let devices = list["devices"]
        .as_array()
        .context("the API lists no devices")?;
    ensure!(
        devices.len() as u64 == arguments.devices,
        "{} devices are listed",
        devices.len()
    );
    let id = devices[devices.len() / 2]["nodeId"]
        .as_str()
        .context("a device has no nodeId")?;

    let body = r#"{"keyType":"client","scopes":["devices:core:read"]}"#;
    let client: Value = serde_json::from_slice(
        &line
            .ask(&request("POST", "/api/v2/tailnet/-/keys", body))
            .await?,
    )?;
    let secret = client["key"]
        .as_str()
        .context("the API made no OAuth client")?;
    let form = format!("grant_type=client_credentials&client_secret={secret}");
    let token_request = format!(
        "POST /api/v2/oauth/token HTTP/1.1\r\nhost: {authority}\r\ncontent-type: application/x-www-form-urlencoded\r\ncontent-length: {}\r\n\r\n{form}",
        form.len()
    )
    .into_bytes();
    let issued: Value = serde_json::from_slice(&line.ask(&token_request).await?)?;
    let token = issued["access_token"]
        .as_str()
        .context("the API issued no access token")?;
    let with_token = |path: &str| {
        format!(
            "GET {path} HTTP/1.1\r\nhost: {authority}\r\nauthorization: Bearer {token}\r\ncontent-length: 0\r\n\r\n"
        )
        .into_bytes()
    };

    let device = format!("/api/v2/device/{id}");
    let key_body = r#"{"capabilities":{"devices":{"create":{}}}}"#;
    let row = |name: &str, request: Vec<u8>, per_round: u32| Row {
        name: name.to_owned(),
        request,
        per_round,
        rates: Vec::new(),
    };
    let mut rows = [
        row(
            "empty handler: GET /health",
            request("GET", "/health", ""),
            20_000,
        ),
        row("GET /device/{id}", request("GET", &device, ""), 20_000),
        row("GET /device/{id}, OAuth token", with_token(&device), 20_000),
        row(
            "GET /device/{id}?fields=all",
            request("GET", &format!("{device}?fields=all"), ""),
            20_000,
        ),
        row(
            &format!("GET /tailnet/-/devices, {} devices", devices.len()),
            request("GET", "/api/v2/tailnet/-/devices", ""),
            128,
        ),
        row(
            "make an auth key",
            request("POST", "/api/v2/tailnet/-/keys", key_body),
            640,
        ),
        row("issue an OAuth token", token_request, 640),
    ];
    let mut lines = Vec::new();
    for _ in 0..arguments.connections {
        lines.push(Line::open(&authority).await?);
    }
    for round in 0..=arguments.rounds {
        for row in &mut rows {
            let rate = rate(&mut lines, row).await?;
            if round > 0 {
                row.rates.push(rate); // the first round warms up
            }
        }
    }
    Ok(table(arguments, &rows, took))
}

/// Sends one round of a row's requests, over all connections at once; requests per second.
async fn rate(lines: &mut Vec<Line>, row: &Row) -> anyhow::Result<f64> {
    let connections = u32::try_from(lines.len())?;
    let each = row.per_round.div_ceil(connections);
    let request: Arc<[u8]> = row.request.as_slice().into();
    let start = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for mut line in lines.drain(..) {
        let request = request.clone();
        tasks.spawn(async move {
            for _ in 0..each {
                line.ask(&request).await?;
            }
            anyhow::Ok(line)
        });
    }
    while let Some(line) = tasks.join_next().await {
        lines.push(line??);
    }
    Ok(f64::from(each * connections) / start.elapsed().as_secs_f64())
}

fn table(arguments: &Arguments, rows: &[Row], took: Duration) -> String {
    let median = |row: &Row| {
        let mut rates = row.rates.clone();
        rates.sort_by(f64::total_cmp);
        rates[rates.len() / 2]
    };
    let empty = median(&rows[0]);
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::ASCII_MARKDOWN);
    table.set_header([
        "request",
        "median/s",
        "min/s",
        "max/s",
        "time against the empty handler",
    ]);
    for row in rows {
        let (min, max) = row
            .rates
            .iter()
            .fold((f64::MAX, 0.0_f64), |(min, max), rate| {
                (min.min(*rate), max.max(*rate))
            });
        let rate = median(row);
        table.add_row([
            row.name.clone(),
            format!("{rate:.0}"),
            format!("{min:.0}"),
            format!("{max:.0}"),
            format!("{:.2}x", empty / rate),
        ]);
    }
    let seconds = took.as_secs_f64();
    let count = u32::try_from(arguments.devices).unwrap_or(u32::MAX);
    format!(
        "{table}\n\n{} devices registered in {seconds:.2} s, {} at once: {:.0} registrations per second \
         (connection, Noise handshake and durable commit each).",
        arguments.devices,
        arguments.parallel,
        f64::from(count) / seconds
    )
}

async fn register(arguments: &Arguments, server: &Server, key: &str) -> anyhow::Result<Duration> {
    let next = Arc::new(AtomicU64::new(0));
    let start = Instant::now();
    let mut workers = tokio::task::JoinSet::new();
    for _ in 0..arguments.parallel {
        let (next, server, key, last) = (
            next.clone(),
            server.clone(),
            key.to_owned(),
            arguments.devices,
        );
        workers.spawn(async move {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= last {
                    return anyhow::Ok(());
                }
                let client = Client::new(
                    server.clone(),
                    Identity::numbered(number),
                    &format!("node-{number}"),
                );
                client.join(&key).await?;
            }
        });
    }
    while let Some(outcome) = workers.join_next().await {
        outcome??;
    }
    Ok(start.elapsed())
}

/// A connection that stays open. It reads an answer by its length and nothing else, so that the
/// client is a small part of what is measured.
struct Line {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Line {
    async fn open(authority: &str) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(authority).await?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            buffer: Vec::with_capacity(1 << 20),
        })
    }

    async fn ask(&mut self, request: &[u8]) -> anyhow::Result<Vec<u8>> {
        self.stream.write_all(request).await?;
        self.buffer.clear();
        let (head, length) = loop {
            ensure!(
                self.stream.read_buf(&mut self.buffer).await? > 0,
                "the server closed the connection"
            );
            if let Some(end) = self
                .buffer
                .windows(4)
                .position(|window| window == b"\r\n\r\n")
            {
                let head = std::str::from_utf8(&self.buffer[..end])?;
                ensure!(
                    head.starts_with("HTTP/1.1 200"),
                    "the server answered {}",
                    head.lines().next().unwrap_or("")
                );
                let length = head
                    .lines()
                    .filter_map(|line| line.split_once(':'))
                    .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
                    .context("an answer without a length")?;
                break (end + 4, length.1.trim().parse::<usize>()?);
            }
        };
        while self.buffer.len() < head + length {
            ensure!(
                self.stream.read_buf(&mut self.buffer).await? > 0,
                "the server closed the connection"
            );
        }
        Ok(self.buffer[head..head + length].to_vec())
    }
}
