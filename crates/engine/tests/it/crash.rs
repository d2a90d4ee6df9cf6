//! The server is killed under writes; what was acknowledged is there, and nothing was given twice.
//!
//! The killed process is this test's own program, run again with [`JOB`] set: it writes from many
//! tasks and says on its standard output what was acknowledged, after each acknowledgement.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bowline_engine::credential::NewAuthKey;
use bowline_engine::{Actor, Engine, Registered, SystemClock, SystemRandom};
use bowline_model::credential::Kind;
use bowline_model::id::{DeviceId, KeyId};
use bowline_store::Options;

use crate::net::{self, open_store, quick, request};

/// Set in the process that is to be killed: the directory of the database.
const JOB: &str = "BOWLINE_TEST_ENGINE_CRASH";
const TASKS: u64 = 8;

/// What the process acknowledged, one a line.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Acknowledged {
    Key(KeyId),
    /// A one-off key let a device in.
    Joined(KeyId, DeviceId),
    Renamed(DeviceId, String),
    Deleted(DeviceId),
    /// A login waits, under this code.
    Waits(String),
}

impl Acknowledged {
    fn say(&self) {
        let line = match self {
            Self::Key(key) => format!("\nkey {key} ok\n"),
            Self::Joined(key, device) => format!("\njoined {key} {device} ok\n"),
            Self::Renamed(device, name) => format!("\nrenamed {device} {name} ok\n"),
            Self::Deleted(device) => format!("\ndeleted {device} ok\n"),
            Self::Waits(code) => format!("\nwaits {code} ok\n"),
        };
        // One write call: the line is whole, or it is not there.
        std::io::stdout().write_all(line.as_bytes()).unwrap();
    }

    fn read(line: &str) -> Option<Self> {
        let words: Vec<&str> = line.split(' ').collect();
        Some(match words[..] {
            ["key", key, "ok"] => Self::Key(KeyId::parse(key)?),
            ["joined", key, device, "ok"] => {
                Self::Joined(KeyId::parse(key)?, DeviceId::parse(device)?)
            }
            ["renamed", device, name, "ok"] => {
                Self::Renamed(DeviceId::parse(device)?, name.to_owned())
            }
            ["deleted", device, "ok"] => Self::Deleted(DeviceId::parse(device)?),
            ["waits", code, "ok"] => Self::Waits(code.to_owned()),
            _ => return None,
        })
    }
}

async fn open(directory: &Path) -> Engine {
    let store = open_store(directory, Options::default()).await;
    Engine::open(
        store,
        quick(),
        Arc::new(SystemClock),
        Arc::new(SystemRandom),
    )
    .await
    .unwrap()
}

fn operator(engine: &Engine) -> Actor {
    net::operator(engine.tailnets()[0])
}

async fn write_until_killed(directory: &Path) {
    let engine = open(directory).await;
    let admin = operator(&engine);
    // Numbers of machines, never used by an earlier process.
    let machines = Arc::new(AtomicU64::new(u64::from(std::process::id()) << 32));
    let tasks = (0..TASKS).map(|_| {
        let (engine, admin, machines) = (engine.clone(), admin.clone(), machines.clone());
        tokio::spawn(async move {
            loop {
                let made = engine
                    .create_auth_key(&admin, None, NewAuthKey::default())
                    .await;
                let (minted, credential) = made.unwrap();
                Acknowledged::Key(credential.id).say();
                // Two machines try the same one-off key at once.
                let number = machines.fetch_add(2, Ordering::Relaxed);
                let (one, two) = tokio::join!(
                    engine.register(request(number, minted.expose())),
                    engine.register(request(number + 1, minted.expose())),
                );
                assert!(one.is_ok() != two.is_ok(), "{one:?} {two:?}");
                let Ok(Registered::In { device, .. }) = one.or(two) else {
                    panic!("not let in");
                };
                Acknowledged::Joined(credential.id, device).say();
                let name = format!("name{device}");
                engine.rename_device(&admin, device, &name).await.unwrap();
                Acknowledged::Renamed(device, name).say();
                // One of each address, so that none loses its place to another.
                let source = std::net::Ipv6Addr::from(u128::from(number) << 80);
                let request = request(number + (1 << 62), "");
                let code = engine.begin_login(request, source.into()).await;
                Acknowledged::Waits(code.unwrap()).say();
                if number % 4 == 0 {
                    engine.delete_device(&admin, device).await.unwrap();
                    Acknowledged::Deleted(device).say();
                }
            }
        })
    });
    // None of them ends but by a failure, and that ends the process: the test sees it.
    let (ended, _, _) = futures_util::future::select_all(tasks).await;
    panic!("a task ended: {:?}", ended.err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "only as the process that the crash test kills"]
async fn the_killed_process() {
    if let Ok(directory) = std::env::var(JOB) {
        write_until_killed(Path::new(&directory)).await;
    }
}

/// The killed process, killed again when the test ends early.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs the process, kills it `longer` after so many acknowledgements, and returns all of them.
fn run(directory: &Path, after: usize, longer: Duration) -> Vec<Acknowledged> {
    let child = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "crash::the_killed_process",
            "--ignored",
            "--nocapture",
        ])
        .env(JOB, directory)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut process = Killed(child);
    let output = BufReader::new(process.0.stdout.take().unwrap());
    let (sender, lines) = std::sync::mpsc::channel();
    let reader = std::thread::spawn(move || {
        for line in output.lines() {
            let Ok(line) = line else { break };
            if let Some(acknowledged) = Acknowledged::read(&line) {
                let _ = sender.send(acknowledged);
            }
        }
    });
    let mut acknowledged: Vec<_> = (0..after)
        .map(|_| {
            lines
                .recv_timeout(Duration::from_mins(1))
                .expect("the process writes")
        })
        .collect();
    std::thread::sleep(longer); // the moment is random; nothing is waited for
    process.0.kill().unwrap();
    process.0.wait().unwrap();
    reader.join().unwrap();
    acknowledged.extend(lines.try_iter());
    acknowledged
}

async fn check(directory: &Path, acknowledged: &[Acknowledged]) {
    let engine = open(directory).await;
    let admin = operator(&engine);
    let snapshot = engine.snapshot(admin.tailnet).unwrap();
    let deleted: BTreeSet<DeviceId> = acknowledged
        .iter()
        .filter_map(|one| match one {
            Acknowledged::Deleted(device) => Some(*device),
            _ => None,
        })
        .collect();
    let mut by_key: BTreeMap<KeyId, DeviceId> = BTreeMap::new();
    for one in acknowledged {
        match one {
            Acknowledged::Key(key) => assert!(snapshot.credential(*key).is_some(), "{one:?}"),
            Acknowledged::Joined(key, device) => {
                let credential = snapshot.credential(*key).unwrap();
                let used = credential.auth_key().unwrap().used.as_ref().unwrap();
                assert_eq!(used.device, *device, "{one:?}");
                assert_eq!(by_key.insert(*key, *device), None, "{key:?} was used twice");
                // A delete may have been under way, and written, when the process was killed.
                if let Some(entry) = snapshot.device(*device) {
                    assert!(!deleted.contains(device), "{device:?} was deleted");
                    assert_eq!(entry.device.node_key, used.node_key);
                }
            }
            Acknowledged::Renamed(device, name) => {
                if let Some(entry) = snapshot.device(*device) {
                    assert_eq!(entry.device.name, *name);
                }
            }
            Acknowledged::Deleted(device) => assert!(snapshot.device(*device).is_none()),
            Acknowledged::Waits(code) => assert!(engine.login(code).is_some(), "{one:?}"),
        }
    }
    // Only those are missing whose delete was asked for: the last thing that each task does.
    let missing = by_key
        .values()
        .filter(|device| !deleted.contains(device) && snapshot.device(**device).is_none())
        .count();
    let rounds = 20 * usize::try_from(TASKS).unwrap();
    assert!(
        missing <= rounds,
        "{missing} acknowledged devices are missing"
    );

    let mut makers = HashSet::new();
    let (mut v4, mut v6, mut names) = (HashSet::new(), HashSet::new(), HashSet::new());
    for entry in snapshot.devices() {
        let device = &entry.device;
        assert!(
            makers.insert(device.auth_key.unwrap()),
            "a one-off key made two devices"
        );
        assert!(
            v4.insert(device.ipv4) && v6.insert(device.ipv6),
            "an address is held twice"
        );
        assert!(names.insert(device.name.clone()), "a name is held twice");
        let key = snapshot.credential(device.auth_key.unwrap()).unwrap();
        assert!(
            matches!(&key.kind, Kind::Auth(key) if key.used.as_ref().unwrap().device == device.id)
        );
    }
    engine.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_kills_under_writes_lose_nothing_acknowledged_and_give_nothing_twice() {
    let directory = tempfile::tempdir().unwrap();
    let engine = open(directory.path()).await;
    engine
        .create_tailnet("ann@example.com", None)
        .await
        .unwrap();
    engine.close().await;
    let mut acknowledged = Vec::new();
    for round in 0..20u64 {
        // Spread over a commit's duration, without a generator of randomness.
        let longer = Duration::from_micros(round * 7919 % 9000);
        let after = 40 + usize::try_from(round % 7).unwrap();
        acknowledged.extend(run(directory.path(), after, longer));
        check(directory.path(), &acknowledged).await;
    }
    let joined = acknowledged
        .iter()
        .filter(|one| matches!(one, Acknowledged::Joined(..)));
    assert!(
        joined.count() >= 20,
        "the rounds wrote too little to show anything"
    );
    let deleted = acknowledged
        .iter()
        .filter(|one| matches!(one, Acknowledged::Deleted(_)));
    assert!(
        deleted.count() >= 5,
        "the rounds deleted too little to show anything"
    );
    let waits = acknowledged
        .iter()
        .filter(|one| matches!(one, Acknowledged::Waits(_)));
    assert!(waits.count() >= 20, "too few logins waited");
}
