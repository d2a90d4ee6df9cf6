//! How the process begins and ends.

use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::time::{Duration, Instant};

use bowline_testkit::client::Compression;
use http::Method;
use rustix::process::Signal;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::home::{Home, Serving, patiently};

/// A request whose body does not come: the server waits for it.
async fn in_flight(serving: &Serving, token: &str) -> TcpStream {
    let mut stream = TcpStream::connect(serving.authority()).await.unwrap();
    let head = format!(
        "POST /api/v2/tailnet/-/keys HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\
         Content-Length: 100\r\nExpect: 100-continue\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    // The server says that it reads the body.
    let mut answer = [0; 25];
    patiently(stream.read_exact(&mut answer)).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once() {
    for (first, second, status) in [
        (Signal::TERM, Signal::TERM, 143),
        (Signal::INT, Signal::INT, 130),
        (Signal::INT, Signal::TERM, 143),
    ] {
        let (home, made) = Home::with_tailnet().await;
        let settings = home.file(
            "slow.toml",
            "[limits]\ndrain_seconds = 600\nrequest_seconds = 600\n",
        );
        let config = format!("--config={}", settings.display());
        let serving = home.serve_with(&[&config]).await;
        let _request = in_flight(&serving, made["token"].as_str().unwrap()).await;
        serving.signal(first);
        // It takes no new connections: the first signal has come.
        let refused = async {
            while TcpStream::connect(serving.authority()).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        patiently(refused).await;
        serving.signal(second);
        let ended = serving.end().await;
        assert_eq!((ended.code(), ended.signal()), (Some(status), None));
    }
}

/// The database is locked by somebody else, so that nothing can be written at the end.
#[tokio::test]
async fn the_end_is_bounded_though_the_database_hangs() {
    let home = Home::new();
    let settings = home.file("short.toml", "[limits]\ndrain_seconds = 1\n");
    let config = format!("--config={}", settings.display());
    let serving = home.serve_with(&[&config]).await;
    let laptop = serving.device(&home, 1, "laptop").await;
    let stream = laptop.stream(Compression::None).await.unwrap();
    let database = rusqlite::Connection::open(home.data().join("bowline.db")).unwrap();
    database.execute_batch("BEGIN IMMEDIATE").unwrap();
    drop(stream);
    let began = Instant::now();
    serving.terminate();
    let ended = serving.end().await;
    assert!(began.elapsed() < Duration::from_secs(20), "{ended:?}");
    assert!(matches!(ended.code(), Some(0 | 1)), "{ended:?}");
}

#[tokio::test]
async fn sighup_never_ends_it() {
    let home = Home::new();
    let serving = home.serve().await;
    for _ in 0..20 {
        serving.signal(Signal::HUP);
    }
    let health = serving.server().await;
    let health = health.request(Method::GET, "/health", &[], "").await;
    assert_eq!(health.unwrap().status, 200);
    serving.terminate();
    assert_eq!(serving.end().await.code(), Some(0));
}

#[tokio::test]
async fn what_it_makes_is_private_whatever_the_umask() {
    let home = Home::new();
    std::fs::create_dir(home.data()).unwrap();
    let mode = |mode| std::fs::Permissions::from_mode(mode);
    std::fs::set_permissions(home.data(), mode(0o755)).unwrap();
    let mut shell = tokio::process::Command::new("sh");
    let binary = env!("CARGO_BIN_EXE_bowline");
    let data = home.data();
    shell
        .args(["-c", "umask 0; exec \"$0\" \"$@\"", binary])
        .args(Home::serve_args(&["--json"]))
        .arg("--data")
        .arg(&data)
        .env("BOWLINE_LOG_LEVEL", "error")
        .stdout(std::process::Stdio::piped())
        .kill_on_drop(true);
    let mut child = shell.spawn().unwrap();
    let mut greeting = tokio::io::BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    patiently(tokio::io::AsyncBufReadExt::read_line(
        &mut greeting,
        &mut line,
    ))
    .await
    .unwrap();
    let for_others = |path: &std::path::Path| {
        std::fs::symlink_metadata(path)
            .unwrap()
            .permissions()
            .mode()
            & 0o077
    };
    assert_eq!(for_others(&data), 0);
    let names: Vec<_> = std::fs::read_dir(&data).unwrap().collect();
    assert!(names.len() >= 5, "{names:?}");
    for entry in names {
        let path = entry.unwrap().path();
        assert_eq!(for_others(&path), 0, "{}", path.display());
    }
}

#[tokio::test]
async fn a_data_directory_that_others_may_write_is_refused() {
    let home = Home::new();
    std::fs::create_dir(home.data()).unwrap();
    let mode = std::fs::Permissions::from_mode(0o777);
    std::fs::set_permissions(home.data(), mode).unwrap();
    let told = home.refuses(&Home::serve_args(&[])).await;
    assert!(
        told.contains("can be written by others (mode 0777); run: chmod 700"),
        "{told}"
    );
}

#[tokio::test]
async fn ids_of_requests_do_not_repeat_after_a_restart() {
    let home = Home::new();
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..2 {
        let serving = home.serve().await;
        for _ in 0..3 {
            let mut stream = TcpStream::connect(serving.authority()).await.unwrap();
            let request = b"GET /api/v2/user HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
            stream.write_all(request).await.unwrap();
            let mut answer = String::new();
            patiently(stream.read_to_string(&mut answer)).await.unwrap();
            let id = answer
                .lines()
                .find_map(|line| line.strip_prefix("x-request-id: "));
            assert!(seen.insert(id.unwrap().to_owned()), "{answer}");
        }
        serving.terminate();
        assert_eq!(serving.end().await.code(), Some(0));
    }
}
