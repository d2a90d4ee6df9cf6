//! A server that is gone in part is never made anew in silence beside what is left of it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::json;
use tokio_postgres::NoTls;

use crate::home::{Home, Ran, end_of};

/// A server that ran once: its files, without a process.
async fn used() -> Home {
    let home = Home::new();
    let serving = home.serve().await;
    serving.terminate();
    assert_eq!(serving.end().await.code(), Some(0));
    home
}

/// The names and contents of a directory, but for the lock.
fn contents(path: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found: Vec<_> = fs::read_dir(path)
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| {
            (
                entry.file_name().into_string().unwrap(),
                fs::read(entry.path()).unwrap(),
            )
        })
        .filter(|(name, _)| !name.ends_with("lock"))
        .collect();
    found.sort();
    found
}

async fn start(home: &Home, extra: &[&str]) -> Ran {
    end_of(home.command(&Home::serve_args(extra))).await
}

/// A start and a command are refused with these words, and nothing changes.
async fn refuses(home: &Home, extra: &[&str], words: &[&str]) {
    let before = contents(&home.data());
    let ran = start(home, extra).await;
    assert_eq!((ran.code, ran.out.as_str()), (1, ""), "{ran:?}");
    for word in words {
        assert!(ran.err.contains(word), "{word}: {}", ran.err);
    }
    assert_eq!(contents(&home.data()), before);
    if extra.is_empty() {
        let told = home.refuses(&["device", "list"]).await;
        assert!(told.starts_with("bowline: "), "{told}");
        assert_eq!(contents(&home.data()), before);
    }
}

#[tokio::test]
async fn a_database_that_is_missing_or_empty_is_said() {
    for name in ["seal.key", "first-token", "relay-certificate.json"] {
        let home = used().await;
        for other in ["seal.key", "first-token", "relay-certificate.json"] {
            if other != name {
                fs::remove_file(home.data().join(other)).unwrap();
            }
        }
        let database = home.data().join("bowline.db");
        for suffix in ["", "-wal", "-shm"] {
            let _ = fs::remove_file(home.data().join(format!("bowline.db{suffix}")));
        }
        let left = format!("has {name} of a server, and its database is gone");
        refuses(&home, &[], &[&left, "bowline init"]).await;
        fs::write(&database, b"").unwrap();
        fs::set_permissions(&database, fs::Permissions::from_mode(0o600)).unwrap();
        refuses(&home, &[], &[&left, "is empty"]).await;
    }
}

#[tokio::test]
async fn a_database_that_is_foreign_or_unreadable_is_said() {
    let home = used().await;
    let database = home.data().join("bowline.db");
    for suffix in ["-wal", "-shm"] {
        let _ = fs::remove_file(home.data().join(format!("bowline.db{suffix}")));
    }
    fs::write(
        &database,
        b"not a database, but a text that is long enough for one\n".repeat(99),
    )
    .unwrap();
    refuses(&home, &[], &["bowline.db"]).await;
    fs::remove_file(&database).unwrap();
    let other = rusqlite::Connection::open(&database).unwrap();
    other
        .execute_batch("CREATE TABLE t (a); INSERT INTO t VALUES (1)")
        .unwrap();
    drop(other);
    refuses(&home, &[], &["is not a Bowline database"]).await;
}

#[tokio::test]
async fn a_missing_seal_key_is_said_and_none_is_made() {
    let home = used().await;
    let key = fs::read(home.data().join("seal.key")).unwrap();
    fs::remove_file(home.data().join("seal.key")).unwrap();
    refuses(&home, &[], &["seal.key is missing"]).await;
    // Another server's key, and then the right one.
    fs::write(home.data().join("seal.key"), [7; 32]).unwrap();
    fs::set_permissions(
        home.data().join("seal.key"),
        fs::Permissions::from_mode(0o600),
    )
    .unwrap();
    let ran = start(&home, &[]).await;
    assert!(
        ran.err.contains("does not open the database's secrets"),
        "{ran:?}"
    );
    fs::write(home.data().join("seal.key"), key).unwrap();
    drop(home.serve().await);
}

#[tokio::test]
async fn init_makes_a_new_server_where_one_was() {
    let home = used().await;
    fs::remove_file(home.data().join("bowline.db")).unwrap();
    let args = ["init", "--owner", "ann@example.com", "--json"];
    let made: serde_json::Value = serde_json::from_str(&home.prints(&args).await).unwrap();
    assert_eq!(made["owner"], json!("ann@example.com"));
    let serving = home.serve().await;
    serving.terminate();
    serving.end().await;
    // And not where one is.
    let refused = home.refuses(&args).await;
    assert!(refused.contains("already"), "{refused}");
}

#[tokio::test]
async fn a_first_start_that_fails_may_be_tried_again() {
    let home = Home::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = format!("--listen={}", taken.local_addr().unwrap());
    let args = [
        "serve",
        &listen,
        "--derp-listen=off",
        "--stun-listen=off",
        "--metrics-listen=off",
    ];
    let ran = end_of(home.command(&args)).await;
    assert_eq!(ran.code, 1, "{ran:?}");
    drop(home.serve().await);
}

#[tokio::test]
async fn commands_make_no_directory() {
    let home = Home::new();
    let refused = home.refuses(&["device", "list"]).await;
    assert!(
        refused.contains("there is no server's data in"),
        "{refused}"
    );
    assert!(!home.data().exists());
}

#[tokio::test]
async fn another_engine_is_no_new_server_in_silence() {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let Some(server) = bowline_testdata::postgres() else {
        return;
    };
    let (client, connection) = tokio_postgres::connect(&server, NoTls).await.unwrap();
    tokio::spawn(connection);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let name = format!("bowline_server_test_{}_{number}", std::process::id());
    client
        .batch_execute(&format!("CREATE DATABASE {name}"))
        .await
        .unwrap();
    let (base, _) = server.rsplit_once('/').unwrap();
    let url = format!("{base}/{name}");
    // Beside an embedded database.
    let home = used().await;
    let file = home.file("database-url", &url);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let settings = format!("[database]\nurl_file = {:?}\n", file.to_str().unwrap());
    let settings = home.file("bowline.toml", &settings);
    let config = format!("--config={}", settings.to_str().unwrap());
    refuses(
        &home,
        &[&config],
        &["has the embedded database of a server", "PostgreSQL"],
    )
    .await;
    // With nothing there it is a new server; and then its key may not be missing.
    let fresh = Home::new();
    let mut command = fresh.command(&Home::serve_args(&[&config, "--json"]));
    let mut child = command
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = tokio::io::BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    let read = tokio::io::AsyncBufReadExt::read_line(&mut out, &mut line);
    crate::home::patiently(read).await.unwrap();
    assert!(line.contains("tokenFile"), "{line}");
    child.kill().await.unwrap();
    let other = Home::new();
    fs::create_dir(other.data()).unwrap();
    fs::set_permissions(other.data(), fs::Permissions::from_mode(0o700)).unwrap();
    // The killed process's hold on the database may take a moment to fall.
    let ran = loop {
        let ran = start(&other, &[&config]).await;
        if !ran.err.contains("in use") {
            break ran;
        }
    };
    assert!(ran.err.contains("seal.key is missing"), "{ran:?}");
    assert!(!other.data().join("seal.key").exists());
    let _ = client
        .batch_execute(&format!("DROP DATABASE {name} WITH (FORCE)"))
        .await;
}
