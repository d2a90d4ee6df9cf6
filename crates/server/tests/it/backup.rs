//! `bowline backup` and `bowline restore`: a server moves with its identity, and nothing is half done.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use bowline_store::{AuditRow, Batch, Options, Store};
use serde_json::Value;
use tokio::io::AsyncReadExt as _;

use crate::home::{Home, Ran, end_of, patiently, terminal};

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A file beside the data directory that is not there yet.
fn beside(home: &Home, name: &str) -> PathBuf {
    home.data().with_file_name(name)
}

/// A new home with the sealing key of another one.
fn with_key_of(home: &Home) -> Home {
    let other = Home::new();
    std::fs::create_dir(other.data()).unwrap();
    let private = std::fs::Permissions::from_mode(0o700);
    std::fs::set_permissions(other.data(), private).unwrap();
    std::fs::copy(home.data().join("seal.key"), other.data().join("seal.key")).unwrap();
    other
}

/// Names in a data directory.
fn names(home: &Home) -> Vec<String> {
    let names = std::fs::read_dir(home.data()).unwrap();
    let mut names: Vec<String> = names
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// What a server is to its devices and to its people.
async fn identity(home: &Home) -> Value {
    let serving = home.serve().await;
    let server = serving.server().await;
    let key = server
        .request(http::Method::GET, "/key?v=109", &[], "")
        .await
        .unwrap()
        .json()
        .unwrap();
    let devices = home.prints_json(&["device", "list"]).await;
    let users = home.prints_json(&["user", "list"]).await;
    serving.terminate();
    assert_eq!(serving.end().await.code(), Some(0));
    let devices = devices["devices"].as_array().unwrap().iter();
    let devices: Vec<_> = devices
        .map(|device| {
            serde_json::json!([
                device["id"],
                device["nodeKey"],
                device["addresses"],
                device["name"]
            ])
        })
        .collect();
    serde_json::json!({"key": key, "devices": devices, "users": users["users"]})
}

#[tokio::test]
async fn a_server_moves_with_its_identity_by_a_backup_that_is_taken_while_it_runs() {
    let home = Home::new();
    let serving = home.serve().await;
    serving.device(&home, 1, "laptop").await;
    serving.device(&home, 2, "phone").await;
    let file = beside(&home, "backup");
    let said = home.prints(&["backup", text(&file)]).await;
    assert!(
        said.contains("1 tailnet, 1 user and 2 devices in "),
        "{said}"
    );
    assert!(said.contains("seal.key) is not in it"), "{said}");
    assert!(said.contains("(codes, noise, relay)"), "{said}");
    let mode = std::fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    // The server goes on, and has not noticed.
    home.prints(&["key", "create"]).await;
    // It is in the way of a restore.
    let refused = home.run(&["restore", text(&file)]).await;
    assert_eq!(refused.code, 1);
    assert!(
        refused.err.contains("bowline.db is there already"),
        "{}",
        refused.err
    );
    serving.terminate();
    assert_eq!(serving.end().await.code(), Some(0));
    let before = identity(&home).await;

    let other = with_key_of(&home);
    let said = other.prints(&["restore", text(&file)]).await;
    assert!(
        said.contains("Restored 1 tailnet, 1 user and 2 devices"),
        "{said}"
    );
    assert!(
        said.contains("opens all its secrets (codes, noise, relay)"),
        "{said}"
    );
    assert!(
        said.contains("Start the server: bowline serve --data "),
        "{said}"
    );
    assert_eq!(names(&other), ["bowline.db", "lock", "seal.key"]);
    other.prints(&["doctor"]).await;
    assert_eq!(identity(&other).await, before);
    let serving = other.serve().await;
    // It goes on from there: a third device joins, with an id above all that were restored.
    serving.device(&other, 3, "tablet").await;
    let devices = other.prints_json(&["device", "list"]).await;
    assert_eq!(devices["devices"].as_array().unwrap().len(), 3);
}

#[tokio::test]
async fn a_server_moves_to_postgresql_and_back() {
    let Some(database) = Database::new().await else {
        return;
    };
    let home = Home::new();
    let serving = home.serve().await;
    serving.device(&home, 1, "laptop").await;
    serving.terminate();
    assert_eq!(serving.end().await.code(), Some(0));
    let before = identity(&home).await;
    let first = beside(&home, "first");
    // Without a server, too.
    home.prints(&["backup", text(&first)]).await;

    let there = with_key_of(&home);
    let settings = format!("[database]\nurl = {:?}\n", database.url);
    std::fs::write(there.data().join("bowline.toml"), settings).unwrap();
    let private = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(there.data().join("bowline.toml"), private).unwrap();
    there.prints(&["restore", text(&first)]).await;
    assert_eq!(identity(&there).await, before);
    let again = there.refuses(&["restore", text(&first)]).await;
    assert!(again.contains("the database is not empty"), "{again}");
    let serving = there.serve().await;
    let refused = there.refuses(&["restore", text(&first)]).await;
    assert!(refused.contains("is in use by process"), "{refused}");
    let second = beside(&home, "second");
    let taken = there.prints_json(&["backup", text(&second)]).await;
    assert_eq!(taken["secretsOpen"], true);
    assert_eq!(taken["tables"]["devices"], 1);
    serving.terminate();
    assert_eq!(serving.end().await.code(), Some(0));

    let back = with_key_of(&home);
    let said = back.prints(&["restore", text(&second)]).await;
    assert!(said.contains("from the postgresql database"), "{said}");
    assert_eq!(identity(&back).await, before);
    database.remove().await;
}

#[tokio::test]
async fn a_restore_says_what_the_sealing_key_opens_and_what_is_lost_without_it() {
    let home = Home::new();
    drop_running(&home).await;
    let file = beside(&home, "backup");
    let taken = home.prints_json(&["backup", text(&file)]).await;
    let fingerprint = taken["server"]["seal_key"].as_str().unwrap().to_owned();
    assert!(
        taken["server"]["noise_key"]
            .as_str()
            .unwrap()
            .starts_with("mkey:")
    );

    let bare = Home::new();
    let told = bare.refuses(&["restore", text(&file)]).await;
    assert!(told.contains("there is no sealing key in"), "{told}");
    assert!(told.contains("noise, relay"), "{told}");
    assert!(
        told.contains(&format!("sealed with the key {fingerprint}")),
        "{told}"
    );
    assert!(told.contains("Copy the file seal.key"), "{told}");
    assert!(!bare.data().exists(), "nothing is made");
    // What a check says is the same, and changes nothing.
    let said = bare.prints(&["restore", "--check", text(&file)]).await;
    assert!(said.contains("This backup is whole"), "{said}");
    assert!(said.contains("there is no sealing key"), "{said}");
    let said = home.prints(&["restore", "--check", text(&file)]).await;
    assert!(said.contains("opens all its secrets"), "{said}");

    // The key of another server.
    let foreign = Home::new();
    drop_running(&foreign).await;
    let wrong = with_key_of(&foreign);
    let told = wrong.refuses(&["restore", text(&file)]).await;
    assert!(told.contains("does not open these secrets"), "{told}");
    assert!(told.contains(&fingerprint), "{told}");
    assert_eq!(names(&wrong), ["seal.key"]);

    // Where it is lost, the server is another one, and has its tailnet all the same.
    let said = bare
        .prints(&["restore", text(&file), "--without-secrets"])
        .await;
    assert!(said.contains("makes new ones at its start"), "{said}");
    let (before, after) = (identity(&home).await, identity(&bare).await);
    assert_eq!(before["users"], after["users"]);
    assert_ne!(before["key"], after["key"]);

    // A key of the settings does as well.
    let key = std::fs::read(home.data().join("seal.key")).unwrap();
    let digits = key
        .iter()
        .fold(String::new(), |text, byte| text + &format!("{byte:02x}"));
    let named = Home::new();
    let mut command = named.command(&["restore", text(&file)]);
    command.env("BOWLINE_SEAL_KEY", digits);
    let ran = end_of(command).await;
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(
        ran.out.contains("the setting seal.key) opens all"),
        "{ran:?}"
    );
    assert_eq!(names(&named), ["bowline.db", "lock"]);

    // A backup whose secrets nothing here opens says so when it can still be helped.
    std::fs::copy(
        foreign.data().join("seal.key"),
        home.data().join("seal.key"),
    )
    .unwrap();
    let ran = home.run(&["backup", text(&beside(&home, "closed"))]).await;
    assert_eq!(ran.code, 0);
    assert!(ran.out.contains("Warning: the sealing key"), "{ran:?}");
}

/// Lets a server make its database.
async fn drop_running(home: &Home) {
    let serving = home.serve().await;
    serving.terminate();
    assert_eq!(serving.end().await.code(), Some(0));
}

#[tokio::test]
async fn what_cannot_be_backed_up_or_restored_is_told_and_nothing_is_made() {
    let home = Home::new();
    let file = beside(&home, "backup");
    let told = home.refuses(&["backup", text(&file)]).await;
    assert!(told.contains("there is no database at"), "{told}");
    assert!(!home.data().exists() && !file.exists());
    home.prints(&["init", "--owner", "ann@example.com"]).await;
    home.prints(&["backup", text(&file)]).await;
    let before = std::fs::read(&file).unwrap();
    let told = home.refuses(&["backup", text(&file)]).await;
    assert!(
        told.contains("is there already") && told.contains("--force"),
        "{told}"
    );
    assert_eq!(std::fs::read(&file).unwrap(), before);
    home.prints(&["backup", "--force", text(&file)]).await;
    let told = home.refuses(&["backup", "/nowhere/at/all"]).await;
    assert!(
        told.contains("cannot write /nowhere/at/all.partial"),
        "{told}"
    );
    let usage = home.run(&["backup"]).await;
    assert_eq!(usage.code, 2);

    // Through a pipe it is the same file.
    let piped = piped(&home).await;
    let again = beside(&home, "piped");
    std::fs::write(&again, piped).unwrap();
    let other = with_key_of(&home);
    other.prints(&["restore", text(&again)]).await;

    let empty = with_key_of(&home);
    let cases = [
        ("cut", before[..before.len() - 40].to_vec(), "is cut off"),
        ("flipped", flipped(&before), "is damaged"),
        (
            "foreign",
            b"PGDMP and so on".to_vec(),
            "is not a backup of Bowline",
        ),
        ("nothing", Vec::new(), "is cut off"),
    ];
    for (name, bytes, said) in cases {
        let path = beside(&home, name);
        std::fs::write(&path, bytes).unwrap();
        let told = empty.refuses(&["restore", text(&path)]).await;
        assert!(told.contains(said) && told.contains(name), "{told}");
    }
    let told = empty.refuses(&["restore", "/dev/null"]).await;
    assert!(told.contains("is not a regular file"), "{told}");
    let told = empty.refuses(&["restore", "/nowhere"]).await;
    assert!(told.contains("No such file"), "{told}");
    assert_eq!(names(&empty), ["seal.key"]);
}

#[tokio::test]
async fn a_damaged_row_stops_a_backup_and_is_named() {
    let home = Home::new();
    home.prints(&["init", "--owner", "ann@example.com"]).await;
    let other = rusqlite::Connection::open(home.data().join("bowline.db")).unwrap();
    let change = "UPDATE users SET body = replace(body, 'ann', 'eve')";
    other.execute(change, []).unwrap();
    drop(other);
    let file = beside(&home, "backup");
    let told = home.refuses(&["backup", text(&file)]).await;
    assert!(told.starts_with("bowline: no backup was made"), "{told}");
    assert!(told.contains("because: user "), "{told}");
    assert!(told.contains("its checksum is wrong"), "{told}");
    assert!(!file.exists() && !beside(&home, "backup.partial").exists());
}

fn flipped(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let at = bytes.len() / 2;
    bytes[at] ^= 4;
    bytes
}

async fn piped(home: &Home) -> Vec<u8> {
    let output = patiently(home.command(&["backup", "-"]).output())
        .await
        .unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{told}");
    assert!(told.contains("to standard output"), "{told}");
    output.stdout
}

#[tokio::test]
async fn a_terminal_shows_how_far_it_is_and_gets_no_backup() {
    let home = Home::new();
    filled(&home, 4000).await;
    let file = beside(&home, "backup");
    home.prints(&["backup", text(&file)]).await;
    let other = with_key_of(&home);
    let (mut ours, theirs) = terminal();
    let mut command = other.command(&["restore", text(&file)]);
    command.stdout(Stdio::null()).stderr(Stdio::from(theirs));
    let mut child = command.spawn().unwrap();
    assert_eq!(patiently(child.wait()).await.unwrap().code(), Some(0));
    let mut shown = vec![0; 65_536];
    let read = std::io::Read::read(&mut ours, &mut shown).unwrap();
    let shown = String::from_utf8_lossy(&shown[..read]).into_owned();
    assert!(
        shown.ends_with("\r\u{1b}[K"),
        "the line is gone at the end: {shown:?}"
    );

    let (_ours, theirs) = terminal();
    let mut command = home.command(&["backup", "-"]);
    command.stdout(Stdio::from(theirs)).stderr(Stdio::piped());
    let child = command.spawn().unwrap();
    let ran = patiently(child.wait_with_output()).await.unwrap();
    assert_eq!(ran.status.code(), Some(1));
    let told = String::from_utf8(ran.stderr).unwrap();
    assert!(told.contains("not for a terminal"), "{told}");
}

/// A database with so many audit events, written past the server, which does not load them.
async fn filled(home: &Home, events: u64) {
    home.prints(&["init", "--owner", "ann@example.com"]).await;
    let path = home.data().join("bowline.db");
    let store = Store::open(&path.into(), Options::default()).await.unwrap();
    let (tailnet, mut seq) = store.tailnets().await.unwrap()[0];
    let mut draw = 1_u64;
    // Digits that no program makes much smaller.
    let mut digits = || {
        let next = |_| {
            draw = draw.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            format!("{draw:016x}")
        };
        (0..25).map(next).collect::<String>()
    };
    for group in 0..events / 500 {
        let mut batch = Batch::new(tailnet, seq, [u8::try_from(group % 256).unwrap(); 16], at());
        let events = (0..500).map(|n| AuditRow {
            id: group * 500 + n + 1,
            at: at(),
            body: format!(r#"{{"v":1,"padding":"{}"}}"#, digits()).into(),
        });
        batch.audit = events.collect();
        seq = store.commit(batch).await.unwrap();
    }
    store.close().await;
}

fn at() -> jiff::Timestamp {
    "2026-11-26T00:00:00Z".parse().unwrap()
}

/// Starts a command and kills it after so long, or lets it end. Whether it ended well before.
async fn killed(home: &Home, args: &[&str], after: Duration) -> bool {
    let mut command = home.command(args);
    command.stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    let ended = tokio::time::timeout(after, child.wait()).await;
    if let Ok(ended) = ended {
        assert!(ended.unwrap().success(), "{args:?}");
        return true;
    }
    child.start_kill().unwrap(); // SIGKILL
    let status = patiently(child.wait()).await.unwrap();
    status.success()
}

/// How long a command takes when nobody disturbs it.
async fn duration(home: &Home, args: &[&str]) -> Duration {
    let began = std::time::Instant::now();
    home.prints(args).await;
    began.elapsed()
}

#[tokio::test]
async fn a_killed_backup_leaves_no_file_of_its_name() {
    let home = Home::new();
    filled(&home, 10_000).await;
    let file = beside(&home, "backup");
    let whole = duration(&home, &["backup", text(&file)]).await;
    let before = std::fs::read(&file).unwrap();
    std::fs::remove_file(&file).unwrap();
    let mut killed_once = 0;
    for step in 1..=10_u32 {
        if killed(&home, &["backup", text(&file)], whole * step / 10).await {
            std::fs::remove_file(&file).unwrap();
        } else if file.exists() {
            // Killed between the name and its end.
            home.prints(&["restore", "--check", text(&file)]).await;
            std::fs::remove_file(&file).unwrap();
        } else {
            killed_once += 1;
        }
    }
    assert!(killed_once > 2, "the moments were drawn badly");
    // Nor does it harm one that is there, or the next.
    std::fs::write(&file, &before).unwrap();
    let is_done = killed(&home, &["backup", "--force", text(&file)], whole / 2).await;
    assert!(is_done || std::fs::read(&file).unwrap() == before);
    home.prints(&["backup", "--force", text(&file)]).await;
    home.prints(&["restore", "--check", text(&file)]).await;
    assert!(!beside(&home, "backup.partial").exists());
}

#[tokio::test]
async fn an_interrupted_backup_clears_up() {
    let home = Home::new();
    filled(&home, 10_000).await;
    // A reader that does not read: the backup waits.
    let mut command = home.command(&["backup", "-"]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut first = [0];
    patiently(child.stdout.as_mut().unwrap().read_exact(&mut first))
        .await
        .unwrap();
    let pid = i32::try_from(child.id().unwrap()).unwrap();
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let ended = patiently(child.wait()).await.unwrap();
    assert_eq!(ended.code(), Some(130));
}

async fn restored_or_nothing(home: &Home, file: &Path, events: u64) {
    let doctor = home.run(&["doctor", "--json"]).await;
    if doctor.code == 0 {
        let found: Value = serde_json::from_str(&doctor.out).unwrap();
        assert!(found["rows"].as_u64().unwrap() > events, "{found}");
        // It came to its end, whatever was left to be cleared up.
        drop_running(home).await;
        return;
    }
    assert_eq!(doctor.code, 2, "{doctor:?}");
    let refused: Ran = home.run(&Home::serve_args(&[])).await;
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(
        refused.err.contains("did not come to its end"),
        "{refused:?}"
    );
    home.prints(&["restore", text(file)]).await;
    home.prints(&["doctor"]).await;
}

#[tokio::test]
async fn a_killed_restore_leaves_nothing_that_a_server_takes_for_a_database() {
    let origin = Home::new();
    filled(&origin, 10_000).await;
    let file = beside(&origin, "backup");
    origin.prints(&["backup", text(&file)]).await;
    let whole = duration(&with_key_of(&origin), &["restore", text(&file)]).await;
    let verifying = duration(&origin, &["restore", "--check", text(&file)]).await;
    let writing = whole.saturating_sub(verifying);
    let mut unfinished = 0;
    for step in 1..=6_u32 {
        let home = with_key_of(&origin);
        let after = verifying + writing * step / 6;
        if killed(&home, &["restore", text(&file)], after).await {
            continue;
        }
        if !home.data().join("restoring").exists() {
            continue; // before anything was written
        }
        unfinished += u32::from(!home.data().join("bowline.db").exists());
        restored_or_nothing(&home, &file, 10_000).await;
        assert!(!home.data().join("restoring").exists());
    }
    assert!(unfinished > 0, "the moments were drawn badly");
}

#[tokio::test]
async fn a_killed_restore_leaves_nothing_in_postgresql() {
    let Some(database) = Database::new().await else {
        return;
    };
    let origin = Home::new();
    filled(&origin, 5_000).await;
    let file = beside(&origin, "backup");
    origin.prints(&["backup", text(&file)]).await;
    let home = with_key_of(&origin);
    let argument = format!("--database={}", database.url);
    let verifying = duration(&origin, &["restore", "--check", text(&file)]).await;
    let mut rows = 0;
    for step in 1..=5_u32 {
        let after = verifying + Duration::from_millis(200) * step;
        if killed(&home, &["restore", text(&file), &argument], after).await {
            rows = database.rows().await;
            break;
        }
        rows = database.rows().await;
        assert!(rows == 0 || rows > 5_000, "half of it is there: {rows}");
        if rows > 0 {
            break;
        }
        if home.data().join("restoring").exists() {
            let refused = home.run(&Home::serve_args(&[&argument])).await;
            assert_eq!(refused.code, 1, "{refused:?}");
            assert!(
                refused.err.contains("did not come to its end"),
                "{refused:?}"
            );
        }
    }
    if rows == 0 {
        home.prints(&["restore", text(&file), &argument]).await;
    }
    assert!(database.rows().await > 5_000);
    let serving = home.serve_with(&[&argument]).await;
    serving.terminate();
    assert_eq!(serving.end().await.code(), Some(0));
    database.remove().await;
}

#[tokio::test]
async fn a_full_disk_leaves_no_file_and_no_database() {
    let home = Home::new();
    filled(&home, 10_000).await;
    let file = beside(&home, "backup");
    home.prints(&["backup", text(&file)]).await;
    let small = beside(&home, "small");
    std::fs::create_dir(&small).unwrap();
    let Some(_disk) = Disk::on(&small) else {
        return;
    };
    let there = small.join("backup");
    let told = home.refuses(&["backup", text(&there)]).await;
    assert!(told.contains("no space is left for the backup"), "{told}");
    assert_eq!(std::fs::read_dir(&small).unwrap().count(), 0);

    let data = small.join("data");
    std::fs::create_dir(&data).unwrap();
    std::fs::copy(home.data().join("seal.key"), data.join("seal.key")).unwrap();
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_bowline"));
    command
        .args(["restore", text(&file), "--data", text(&data)])
        .stdin(Stdio::null());
    let ran = end_of(command).await;
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.err.contains("no space left"), "{ran:?}");
    let mut left: Vec<_> = std::fs::read_dir(&data)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    left.sort();
    assert_eq!(left, ["lock", "seal.key"]);
}

/// A file system of a megabyte; unmounted when it is dropped.
struct Disk(PathBuf);

impl Disk {
    /// `None` where mounting is not permitted, after saying so.
    fn on(place: &Path) -> Option<Self> {
        let mount = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=1m,mode=0700", "tmpfs"])
            .arg(place)
            .output();
        if mount.is_ok_and(|output| output.status.success()) {
            Some(Self(place.to_owned()))
        } else {
            bowline_testdata::skip("the right to mount a small file system");
            None
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg(&self.0).status();
    }
}

/// A PostgreSQL database of a test's own.
pub(crate) struct Database {
    server: String,
    name: String,
    pub(crate) url: String,
}

impl Database {
    /// `None` where no server is set, after saying so.
    pub(crate) async fn new() -> Option<Self> {
        static NUMBER: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let server = bowline_testdata::postgres()?;
        let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let name = format!("bowline_backup_{}_{number}", std::process::id());
        let (place, _) = server.rsplit_once('/').unwrap();
        let url = format!("{place}/{name}");
        let database = Self { server, name, url };
        database
            .execute(&format!("CREATE DATABASE {}", database.name))
            .await;
        Some(database)
    }

    pub(crate) async fn client(url: &str) -> tokio_postgres::Client {
        let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls)
            .await
            .unwrap();
        tokio::spawn(connection);
        client
    }

    async fn execute(&self, sql: &str) {
        Self::client(&self.server)
            .await
            .batch_execute(sql)
            .await
            .unwrap();
    }

    /// How many audit events are in it.
    async fn rows(&self) -> u64 {
        let client = Self::client(&self.url).await;
        let has_table = "SELECT to_regclass('audit') IS NOT NULL";
        if !client
            .query_one(has_table, &[])
            .await
            .unwrap()
            .get::<_, bool>(0)
        {
            return 0;
        }
        let count = client
            .query_one("SELECT count(*) FROM audit", &[])
            .await
            .unwrap();
        u64::try_from(count.get::<_, i64>(0)).unwrap()
    }

    pub(crate) async fn remove(self) {
        self.execute(&format!("DROP DATABASE {} WITH (FORCE)", self.name))
            .await;
    }
}
