//! A data directory of a test, and the binary run on it.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use bowline_testkit::client::{Client, Identity, Server};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, ChildStdout, Command};

/// How long anything may take. Many times what it needs.
const PATIENCE: Duration = Duration::from_mins(1);

/// A directory that has a data directory in it.
pub(crate) struct Home {
    dir: TempDir,
}

/// What a run of the program came to.
#[derive(Debug)]
pub(crate) struct Ran {
    /// The exit code.
    pub(crate) code: i32,
    /// Standard output.
    pub(crate) out: String,
    /// Standard error.
    pub(crate) err: String,
}

/// A server that runs. It is killed when it is dropped.
pub(crate) struct Serving {
    child: Child,
    _out: BufReader<ChildStdout>,
    /// What it printed when it was ready.
    pub(crate) greeting: Value,
}

impl Home {
    /// With no data directory in it yet.
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self { dir }
    }

    /// With a tailnet of ann@example.com; and what `init --json` printed.
    pub(crate) async fn with_tailnet() -> (Self, Value) {
        let home = Self::new();
        let args = [
            "init",
            "--owner",
            "ann@example.com",
            "--tailnet",
            "example.com",
            "--json",
        ];
        let made = serde_json::from_str(&home.prints(&args).await).unwrap();
        (home, made)
    }

    /// The data directory.
    pub(crate) fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// A file beside the data directory.
    pub(crate) fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        // It may hold a secret.
        let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(&path, private).unwrap();
        path
    }

    /// The program on the data directory, with nothing of the environment that is a setting.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bowline"));
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("BOWLINE_") {
                command.env_remove(name);
            }
        }
        command
            .env_remove("RUST_BACKTRACE")
            .env("BOWLINE_LOG_LEVEL", "error")
            .current_dir(self.dir.path())
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .args(args)
            .arg("--data")
            .arg(self.data());
        command
    }

    /// Runs the program to its end.
    pub(crate) async fn run(&self, args: &[&str]) -> Ran {
        end_of(self.command(args)).await
    }

    /// What a run prints that succeeds and has nothing to complain about.
    pub(crate) async fn prints(&self, args: &[&str]) -> String {
        let ran = self.run(args).await;
        assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{args:?}: {ran:?}");
        ran.out
    }

    /// The same as JSON.
    pub(crate) async fn prints_json(&self, args: &[&str]) -> Value {
        let text = self.prints(&[args, &["--json"]].concat()).await;
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    /// What a run complains about that is refused, prints nothing and changes nothing.
    pub(crate) async fn refuses(&self, args: &[&str]) -> String {
        let ran = self.run(args).await;
        assert_eq!((ran.code, ran.out.as_str()), (1, ""), "{args:?}: {ran:?}");
        ran.err
    }

    /// The arguments of a server on ports that are free.
    pub(crate) fn serve_args<'a>(extra: &[&'a str]) -> Vec<&'a str> {
        let own = [
            "serve",
            "--listen=127.0.0.1:0",
            "--derp-listen=127.0.0.1:0",
            "--stun-listen=off",
            "--metrics-listen=127.0.0.1:0",
        ];
        [&own, extra].concat()
    }

    /// Starts a server and waits until it is ready.
    pub(crate) async fn serve(&self) -> Serving {
        self.serve_with(&[]).await
    }

    /// The same with further arguments.
    pub(crate) async fn serve_with(&self, extra: &[&str]) -> Serving {
        let arguments = Self::serve_args(&[&["--json"], extra].concat());
        Self::started(self.command(&arguments)).await
    }

    /// Starts such a command and waits until it is ready.
    pub(crate) async fn started(mut command: Command) -> Serving {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        patiently(out.read_line(&mut line)).await.unwrap();
        Serving {
            greeting: serde_json::from_str(&line).unwrap(),
            child,
            _out: out,
        }
    }
}

impl Serving {
    /// Its main listener, as clients find it.
    pub(crate) async fn server(&self) -> Server {
        Server::discover(&format!("http://{}", self.authority()))
            .await
            .unwrap()
    }

    /// `host:port`
    pub(crate) fn authority(&self) -> &str {
        self.greeting["listen"].as_str().unwrap()
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id().unwrap()
    }

    /// A device that has joined.
    pub(crate) async fn device(&self, home: &Home, number: u64, name: &str) -> Client {
        let key = home.prints_json(&["key", "create"]).await;
        let client = Client::new(self.server().await, Identity::numbered(number), name);
        client.join(key["key"].as_str().unwrap()).await.unwrap();
        client
    }

    /// Sends SIGTERM.
    pub(crate) fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Ends it with SIGKILL, and waits until it is gone: until then its socket may still answer.
    pub(crate) async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.pid()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// The text of its metrics.
    pub(crate) async fn metrics(&self) -> String {
        let listener = self.greeting["metricsListen"].as_str().unwrap();
        let answer = Server::with_key(listener, [0; 32])
            .request(http::Method::GET, "/metrics", &[], "")
            .await;
        answer.unwrap().text()
    }

    /// Waits for its end.
    pub(crate) async fn end(mut self) -> ExitStatus {
        patiently(self.child.wait()).await.unwrap()
    }
}

/// Runs a command to its end.
pub(crate) async fn end_of(mut command: Command) -> Ran {
    let output = patiently(command.output()).await.unwrap();
    Ran {
        code: output.status.code().unwrap(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

/// What a future gives in time.
pub(crate) async fn patiently<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap()
}

/// A terminal: our end, and the program's.
pub(crate) fn terminal() -> (File, OwnedFd) {
    use rustix::fs::{Mode, OFlags, open};
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&ours).unwrap();
    unlockpt(&ours).unwrap();
    let name = ptsname(&ours, Vec::new()).unwrap();
    let theirs = open(name, OFlags::RDWR | OFlags::NOCTTY, Mode::empty()).unwrap();
    (File::from(ours), theirs)
}
