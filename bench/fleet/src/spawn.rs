//! A server of our own for one run: fresh data directory, free port, stopped at the end.

use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use bowline_testkit::client::Server;
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::{Child, Command};

/// How long a server may take to start or to stop.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running server. It is killed when this is dropped; [`Spawned::stop`] is the kinder way.
pub(crate) struct Spawned {
    child: Child,
    pub(crate) url: String,
    pub(crate) token: String,
    pub(crate) pid: u32,
    _data: TempDir,
}

impl Spawned {
    /// Makes a data directory with an owner, and a policy if there is one, and starts `program` on
    /// it.
    pub(crate) async fn start(program: &Path, policy: Option<&Path>) -> anyhow::Result<Self> {
        let data = tempfile::tempdir()?;
        let directory = data.path().join("data");
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?
            .local_addr()?
            .port();
        let listen = format!("127.0.0.1:{port}");
        let command = |name: &[&str]| {
            let mut command = Command::new(program);
            command
                .args(name)
                .arg("--data")
                .arg(&directory)
                // None of these is measured, but the server does not start without a relay.
                .env("BOWLINE_DERP_LISTEN", "127.0.0.1:0")
                .env("BOWLINE_STUN_LISTEN", "off")
                .env("BOWLINE_METRICS_LISTEN", "off")
                .stdin(Stdio::null())
                .stderr(Stdio::inherit())
                .kill_on_drop(true);
            command
        };
        let output = command(&["init"])
            .args(["--owner", "fleet@example.com", "--json"])
            .stdout(Stdio::piped())
            .output()
            .await
            .with_context(|| format!("cannot run {}", program.display()))?;
        ensure!(
            output.status.success(),
            "`init` ended with {}",
            output.status
        );
        let made: Value =
            serde_json::from_slice(&output.stdout).context("`init --json` printed no JSON")?;
        let token = made["token"]
            .as_str()
            .context("`init --json` printed no token")?
            .to_owned();

        if let Some(policy) = policy {
            let status = command(&["policy", "set"])
                .arg(policy)
                .stdout(Stdio::null())
                .status()
                .await?;
            ensure!(status.success(), "`policy set` ended with {status}");
        }
        let mut child = command(&["serve"])
            .args(["--listen", &listen])
            .env("BOWLINE_LOG_LEVEL", "warn")
            .stdout(Stdio::null())
            .spawn()
            .with_context(|| format!("cannot run {}", program.display()))?;
        let pid = child.id().context("the server has ended")?;
        let url = format!("http://{listen}");
        let end = Instant::now() + PATIENCE;
        while let Err(error) = Server::discover(&url).await {
            if let Some(status) = child.try_wait()? {
                bail!("the server ended with {status}");
            }
            ensure!(Instant::now() < end, "the server does not start: {error:#}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(Self {
            child,
            url,
            token,
            pid,
            _data: data,
        })
    }

    /// Asks the server to end and waits for it.
    pub(crate) async fn stop(mut self) -> anyhow::Result<()> {
        let asked = Command::new("kill")
            .arg(self.pid.to_string())
            .status()
            .await?;
        ensure!(asked.success(), "cannot signal the server");
        let Ok(status) = tokio::time::timeout(PATIENCE, self.child.wait()).await else {
            self.child.kill().await?;
            bail!("the server did not end within {PATIENCE:?} of SIGTERM")
        };
        let status = status?;
        ensure!(
            status.success(),
            "the server ended with {status} on SIGTERM"
        );
        Ok(())
    }
}
