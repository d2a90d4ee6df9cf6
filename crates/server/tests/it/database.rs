//! A server whose database cannot be written.

use std::io::Write as _;
use std::process::Stdio;
use std::time::{Duration, Instant};

use bowline_testkit::client::{Compression, Server};
use http::Method;
use serde_json::Value;

use crate::home::{Home, patiently};

async fn health(server: &Server, path: &str) -> (u16, Value) {
    let answer = server.request(Method::GET, path, &[], "").await.unwrap();
    let status = answer.status.as_u16();
    (status, answer.json().unwrap_or(Value::Null))
}

/// Keeps everybody else from writing to the database, until it is dropped.
fn lock(home: &Home) -> rusqlite::Connection {
    let lock = rusqlite::Connection::open(home.data().join("bowline.db")).unwrap();
    lock.execute_batch("BEGIN IMMEDIATE").unwrap();
    lock
}

#[tokio::test]
async fn health_fails_while_changes_cannot_be_stored_and_devices_stay_connected() {
    let home = Home::new();
    let serving = home.serve().await;
    let server = serving.server().await;
    let laptop = serving.device(&home, 1, "laptop").await;
    assert_eq!(
        health(&server, "/health").await,
        (200, serde_json::json!({"status": "pass"}))
    );
    let lock = lock(&home);
    let refused = home.run(&["key", "create"]).await;
    assert_eq!(refused.code, 1, "{refused:?}");
    let (status, body) = health(&server, "/health").await;
    assert_eq!((status, &body["status"]), (503, &"fail".into()), "{body}");
    assert!(body["checks"]["database"][0]["observedValue"].is_string());
    assert_eq!(health(&server, "/health/live").await.0, 200);
    // A known device comes back, and reads are answered.
    let mut stream = patiently(laptop.stream(Compression::Zstd)).await.unwrap();
    assert!(patiently(stream.next()).await.unwrap().is_some());
    let devices = home.prints_json(&["device", "list"]).await;
    assert_eq!(devices["devices"].as_array().unwrap().len(), 1);
    drop(lock);
    let deadline = Instant::now() + Duration::from_secs(30);
    while health(&server, "/health").await.0 != 200 {
        assert!(Instant::now() < deadline, "it stays unready");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    home.prints(&["key", "create"]).await;
}

#[tokio::test]
async fn sigterm_ends_a_server_whose_database_hangs_and_says_so() {
    let home = Home::with_tailnet().await.0;
    let log = home.file("log", "");
    let file = std::fs::File::create(&log).unwrap();
    let args = Home::serve_args(&["--json"]);
    let mut command = home.command(&args);
    command
        .env("BOWLINE_LOG_LEVEL", "warn")
        .env("BOWLINE_LIMITS_DRAIN_SECONDS", "1")
        .stdout(Stdio::piped())
        .stderr(file);
    let mut child = command.spawn().unwrap();
    let mut out = tokio::io::BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    patiently(tokio::io::AsyncBufReadExt::read_line(&mut out, &mut line))
        .await
        .unwrap();
    let _lock = lock(&home);
    let mut waiting = home.command(&["key", "create"]).spawn().unwrap();
    // Until the change hangs: it is the only thing that the server does.
    let began = Instant::now();
    while std::fs::read_to_string(&log).unwrap().is_empty() && began.elapsed().as_secs() < 3 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let pid = rustix::process::Pid::from_raw(i32::try_from(child.id().unwrap()).unwrap());
    let asked = Instant::now();
    rustix::process::kill_process(pid.unwrap(), rustix::process::Signal::TERM).unwrap();
    let status = patiently(child.wait()).await.unwrap();
    let took = asked.elapsed();
    assert!(took < Duration::from_secs(20), "{took:?}, {status:?}");
    let _ = waiting.kill().await;
}

/// A small file system in memory on the data directory; unmounted when it is dropped.
struct Disk(std::path::PathBuf);

impl Disk {
    /// `None` where mounting is not permitted, after saying so.
    fn on(home: &Home) -> Option<Self> {
        let place = home.data();
        std::fs::create_dir(&place).unwrap();
        let mount = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=8m,mode=0700", "tmpfs"])
            .arg(&place)
            .output();
        if mount.is_ok_and(|output| output.status.success()) {
            Some(Self(place))
        } else {
            bowline_testdata::skip("the right to mount a small file system");
            None
        }
    }

    fn ballast(&self) -> std::path::PathBuf {
        self.0.join("ballast")
    }

    fn fill(&self) {
        let mut file = std::fs::File::create(self.ballast()).unwrap();
        for size in [65_536, 4096, 1] {
            while file.write_all(&vec![1; size]).is_ok() {}
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount")
            .args(["-l"])
            .arg(&self.0)
            .status();
    }
}

#[tokio::test]
async fn a_server_that_starts_on_a_full_disk_serves_what_there_is() {
    let home = Home::new();
    let Some(disk) = Disk::on(&home) else { return };
    let first = home.serve().await;
    let laptop = first.device(&home, 1, "laptop").await;
    drop(laptop);
    first.terminate();
    assert_eq!(first.end().await.code(), Some(0));
    disk.fill();
    let second = home.serve().await;
    let server = second.server().await;
    // The device that is known comes back, and is served.
    let identity = bowline_testkit::client::Identity::numbered(1);
    let laptop = bowline_testkit::client::Client::new(second.server().await, identity, "laptop");
    let mut stream = patiently(laptop.stream(Compression::Zstd)).await.unwrap();
    assert!(patiently(stream.next()).await.unwrap().is_some());
    let devices = home.prints_json(&["device", "list"]).await;
    assert_eq!(devices["devices"].as_array().unwrap().len(), 1);
    // Changes are refused, some of which may still fit at first.
    let mut refused = None;
    for _ in 0..200 {
        let ran = home.run(&["key", "create"]).await;
        if ran.code != 0 {
            refused = Some(ran);
            break;
        }
    }
    let refused = refused.expect("the disk is full");
    assert!(refused.err.contains("no space left"), "{refused:?}");
    assert_eq!(health(&server, "/health").await.0, 503);
    // It has the database for itself, and a backup says so.
    let file = home.data().with_file_name("backup");
    let told = home.refuses(&["backup", file.to_str().unwrap()]).await;
    assert!(
        told.contains("has the database") && told.contains("for itself"),
        "{told}"
    );
    std::fs::remove_file(disk.ballast()).unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    while health(&server, "/health").await.0 != 200 {
        assert!(Instant::now() < deadline, "it stays unready");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    home.prints(&["key", "create"]).await;
}
