//! A server with two tailnets, and a bystander who measures how it is served.

use std::net::{IpAddr, Ipv4Addr};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use bowline_testkit::client::{Client, Compression, Identity, Server};
use http::Method;
use serde_json::{Value, json};
use tokio::process::Command;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::home::{Home, Serving, patiently};

/// Where attacks come from.
pub(crate) const ATTACKER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 66));
/// Where the bystander is.
pub(crate) const BYSTANDER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));
/// How soon a bystander is served, whatever others do.
pub(crate) const SOON: Duration = Duration::from_secs(1);

/// A tailnet of the server, with its owner's API access token and a reusable auth key.
#[derive(Debug, Clone)]
pub(crate) struct Tailnet {
    /// Its name.
    pub(crate) name: String,
    /// `tskey-api-…` of its owner.
    pub(crate) token: String,
    /// `tskey-auth-…`, reusable.
    pub(crate) auth_key: String,
}

/// A server that runs, with the attacker's tailnet and the bystander's.
pub(crate) struct Site {
    /// Its files.
    pub(crate) home: Home,
    /// Its process.
    pub(crate) serving: Serving,
    /// The tailnet of the attacker.
    pub(crate) attacked: Tailnet,
    /// The tailnet of the bystander.
    pub(crate) other: Tailnet,
}

impl Site {
    /// Starts the binary with further arguments of `bowline serve`, and makes both tailnets.
    pub(crate) async fn start(arguments: &[&str]) -> Self {
        Self::start_with("", arguments).await
    }

    /// The same with a settings file.
    pub(crate) async fn start_with(settings: &str, arguments: &[&str]) -> Self {
        let (home, made) = Home::with_tailnet().await;
        std::fs::write(home.data().join("bowline.toml"), settings).unwrap();
        let serving = home.serve_with(arguments).await;
        Self::with(home, made, serving).await
    }

    /// The same where the process may have so many files open.
    pub(crate) async fn start_within(files: u64, arguments: &[&str]) -> Self {
        let (home, made) = Home::with_tailnet().await;
        let serving = Home::started(within(files, &home, arguments)).await;
        Self::with(home, made, serving).await
    }

    /// Over a server that was started, with what `bowline init --json` printed before.
    pub(crate) async fn with(home: Home, made: Value, serving: Serving) -> Self {
        let token = made["token"].as_str().unwrap().to_owned();
        let create = ["tailnet", "create", "other.example", "--owner"];
        let other = home
            .prints_json(&[&create[..], &["bob@other.example"]].concat())
            .await;
        let other_token = other["token"].as_str().unwrap().to_owned();
        let server = serving.server().await;
        let attacked = Tailnet::new(&server, "example.com", token).await;
        let other = Tailnet::new(&server, "other.example", other_token).await;
        Self {
            home,
            serving,
            attacked,
            other,
        }
    }

    /// The server as the attacker reaches it.
    pub(crate) async fn as_attacker(&self) -> Server {
        self.serving.server().await.from_source(ATTACKER)
    }

    /// The server as the bystander reaches it.
    pub(crate) async fn as_bystander(&self) -> Server {
        self.serving.server().await.from_source(BYSTANDER)
    }

    /// Memory of the server's process that is in use, in bytes.
    pub(crate) fn memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.serving.pid()));
        let status = status.unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kilobytes = line.unwrap().trim().strip_suffix(" kB").unwrap();
        kilobytes.trim().parse::<u64>().unwrap() * 1024
    }

    /// The value of a metric with its labels, such as `bowline_connections_refused_total{reason="source"}`.
    pub(crate) async fn metric(&self, name: &str) -> u64 {
        let address = self.serving.greeting["metricsListen"].as_str().unwrap();
        let server = Server::with_key(address, [0; 32]);
        let text = server.request(Method::GET, "/metrics", &[], "").await;
        let text = text.unwrap().text();
        let found = text.lines().find_map(|line| line.strip_prefix(name));
        let found = found.unwrap_or_else(|| panic!("no metric {name}\n{text}"));
        found.trim().parse().unwrap()
    }

    /// Somebody else, who asks for this and that until told to stop.
    pub(crate) async fn bystander(&self) -> Bystander {
        let server = self.serving.server().await.from_source(BYSTANDER);
        Bystander::watch(server, self.other.clone()).await
    }
}

impl Tailnet {
    async fn new(server: &Server, name: &str, token: String) -> Self {
        let body = json!({"capabilities": {"devices": {"create": {"reusable": true}}}});
        let made = call(server, Method::POST, "/api/v2/tailnet/-/keys", &token, body).await;
        Self {
            name: name.to_owned(),
            auth_key: made.unwrap()["key"].as_str().unwrap().to_owned(),
            token,
        }
    }
}

/// One call of the API on a connection of its own; an error unless it succeeds.
pub(crate) async fn call(
    server: &Server,
    method: Method,
    path: &str,
    token: &str,
    body: Value,
) -> anyhow::Result<Value> {
    let bearer = format!("Bearer {token}");
    let headers = [
        ("authorization", bearer.as_str()),
        ("content-type", "application/json"),
    ];
    let body = if body.is_null() {
        String::new()
    } else {
        body.to_string()
    };
    let answer = server.request(method, path, &headers, body).await?;
    ensure!(
        answer.status.is_success(),
        "{path} answered {}: {}",
        answer.status,
        answer.text()
    );
    answer.json()
}

/// An honest party at another address and in another tailnet: it asks for the server's health,
/// reads and writes through the API, opens encrypted connections, and has a device whose map
/// stream must tell what it wrote, again and again, and notes the slowest answer.
pub(crate) struct Bystander {
    task: JoinHandle<anyhow::Result<()>>,
    slowest: Arc<AtomicU64>,
    rounds: Arc<AtomicU64>,
    stop: CancellationToken,
}

impl Bystander {
    async fn watch(server: Server, tailnet: Tailnet) -> Self {
        let client = Client::new(server.clone(), Identity::random().unwrap(), "bystander");
        patiently(client.join(&tailnet.auth_key)).await.unwrap();
        let stream = patiently(client.stream(Compression::Zstd)).await.unwrap();
        let slowest = Arc::new(AtomicU64::new(0));
        let rounds = Arc::new(AtomicU64::new(0));
        let stop = CancellationToken::new();
        let work = Work {
            server,
            tailnet,
            client,
            stream,
            slowest: slowest.clone(),
            rounds: rounds.clone(),
        };
        Self {
            task: tokio::spawn(work.go_on(stop.clone())),
            slowest,
            rounds,
            stop,
        }
    }

    /// Waits until so many more rounds are done.
    pub(crate) async fn rounds(&self, number: u64) {
        let wanted = self.rounds.load(Ordering::Relaxed) + number;
        let done = async {
            while self.rounds.load(Ordering::Relaxed) < wanted && !self.task.is_finished() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        patiently(done).await;
    }

    /// Ends it: the slowest answer of all.
    pub(crate) async fn end(self) -> anyhow::Result<Duration> {
        self.stop.cancel();
        patiently(self.task).await??;
        Ok(Duration::from_nanos(self.slowest.load(Ordering::Relaxed)))
    }

    /// Ends it: everything it asked for was answered, each in under [`SOON`].
    pub(crate) async fn assert_served(self) {
        let slowest = self.end().await.unwrap();
        assert!(slowest < SOON, "the bystander waited {slowest:?}");
    }
}

struct Work {
    server: Server,
    tailnet: Tailnet,
    client: Client,
    stream: bowline_testkit::client::FollowedStream,
    slowest: Arc<AtomicU64>,
    rounds: Arc<AtomicU64>,
}

impl Work {
    async fn go_on(mut self, stop: CancellationToken) -> anyhow::Result<()> {
        let mut round = 0_u64;
        while !stop.is_cancelled() {
            self.round(round)
                .await
                .with_context(|| format!("in round {round}"))?;
            round += 1;
            self.rounds.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    async fn round(&mut self, number: u64) -> anyhow::Result<()> {
        let (server, token) = (self.server.clone(), self.tailnet.token.clone());
        let health = server.request(Method::GET, "/health", &[], "");
        let health = self.timed("health", health).await?;
        ensure!(health.status.is_success(), "health: {}", health.text());
        let devices = "/api/v2/tailnet/-/devices";
        let read = call(&server, Method::GET, devices, &token, Value::Null);
        self.timed("an API read", read).await?;
        let client = self.client.clone();
        let connection = self.timed("a handshake", client.connect()).await?;
        drop(connection);
        // The name server changes with each round, and the device is told.
        let address = format!("192.0.2.{}", number % 250 + 1);
        let dns = "/api/v2/tailnet/-/dns/nameservers";
        let write = call(
            &server,
            Method::POST,
            dns,
            &token,
            json!({"dns": [address]}),
        );
        self.timed("an API write", write).await?;
        let began = Instant::now();
        let stream = &mut self.stream;
        let told = stream.until(|map| map.state()["DNSConfig"].to_string().contains(&address));
        tokio::time::timeout(Duration::from_secs(30), told)
            .await
            .context("the map stream told nothing for 30 s")??;
        self.note(began);
        Ok(())
    }

    async fn timed<T>(
        &self,
        what: &'static str,
        future: impl Future<Output = anyhow::Result<T>>,
    ) -> anyhow::Result<T> {
        let began = Instant::now();
        let outcome = tokio::time::timeout(Duration::from_secs(30), future)
            .await
            .with_context(|| format!("{what}: no answer in 30 s"))?;
        self.note(began);
        outcome.context(what)
    }

    fn note(&self, began: Instant) {
        let took = u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.slowest.fetch_max(took, Ordering::Relaxed);
    }
}

/// A server as [`Home::serve_with`] starts it, in a process that may have so many files open.
fn within(files: u64, home: &Home, arguments: &[&str]) -> Command {
    let arguments = Home::serve_args(&[&["--json"], arguments].concat());
    let inner = home.command(&arguments);
    let inner = inner.as_std();
    let mut command = Command::new("sh");
    command
        .arg("-c")
        .arg(format!("ulimit -n {files} && exec \"$0\" \"$@\""))
        .arg(inner.get_program())
        .args(inner.get_args())
        .current_dir(inner.get_current_dir().unwrap())
        .stdin(Stdio::null())
        .kill_on_drop(true);
    for (name, value) in inner.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command
}

/// Lets this process open as many files as the system allows: an attack is a thousand sockets.
pub(crate) fn many_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    setrlimit(Resource::Nofile, raised).unwrap();
}
