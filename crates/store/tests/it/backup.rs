//! The file of a backup: what is refused, and the disk that it is written to.

use std::io::{self, Read as _, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bowline_store::{
    About, Backup, Origin, Progress, Store, StoreUrl, Summary, TransferError, backup,
};

use crate::contract::transfer::fill;
use crate::database::Database;
use crate::rows::at;

pub(crate) fn about() -> About {
    About {
        release: "1.2.3".to_owned(),
        made: at(1),
        server: Origin {
            url: Some("https://bowline.example.com".to_owned()),
            ..Origin::default()
        },
    }
}

/// The bytes of a backup.
pub(crate) async fn take(url: &StoreUrl) -> Result<Vec<u8>, TransferError> {
    let (bytes, summary) = backup(url, about(), Vec::new(), Arc::default()).await?;
    assert_eq!(summary.bytes, bytes.len() as u64);
    Ok(bytes)
}

/// The lines of a backup but for the first, which says when it was made.
pub(crate) fn rows_of(bytes: &[u8]) -> String {
    lines_of(bytes).split_once('\n').unwrap().1.to_owned()
}

/// What a backup that is taken now has, but for its first line.
pub(crate) async fn taken(url: &StoreUrl) -> String {
    rows_of(&take(url).await.unwrap())
}

/// Restores these bytes, and says what was in them.
pub(crate) async fn restore(store: &Store, bytes: &[u8]) -> Result<Summary, TransferError> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("backup");
    std::fs::write(&path, bytes).unwrap();
    let progress = Arc::new(Progress::default());
    let backup = Backup::open(&path, progress.clone()).await?;
    assert_eq!(progress.bytes(), bytes.len() as u64);
    store.restore(&backup, true, progress.clone()).await?;
    assert_eq!(progress.rows(), backup.summary().rows);
    Ok(backup.summary().clone())
}

/// Any program that knows zstd reads the lines.
fn lines_of(bytes: &[u8]) -> String {
    let mut text = String::new();
    zstd::Decoder::new(bytes)
        .unwrap()
        .read_to_string(&mut text)
        .unwrap();
    text
}

/// A backup with other lines, whole in itself.
fn with_lines(sound: &[u8], change: impl Fn(String) -> String) -> Vec<u8> {
    let text = change(lines_of(sound));
    let mut bytes = zstd::encode_all(text.as_bytes(), 3).unwrap();
    let rows = text.lines().filter(|line| line.starts_with('[')).count();
    let sum = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &bytes);
    let sum = sum
        .as_ref()
        .iter()
        .fold(String::new(), |text, byte| text + &format!("{byte:02x}"));
    bytes.extend(0x184d_2a5b_u32.to_le_bytes());
    bytes.extend(120_u32.to_le_bytes());
    let end = format!("\nbowline backup end, {rows:020} rows, {sum}\n");
    bytes.extend(format!("{end:<120}").into_bytes());
    bytes
}

/// A file that is opened again and again.
struct Tried {
    path: PathBuf,
    _directory: tempfile::TempDir,
}

impl Tried {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        Self {
            path: directory.path().join("backup"),
            _directory: directory,
        }
    }

    async fn error(&self, bytes: &[u8], what: &str) -> TransferError {
        std::fs::write(&self.path, bytes).unwrap();
        match Backup::open(&self.path, Arc::default()).await {
            Ok(_) => panic!("{what}: taken for a whole backup"),
            Err(error) => error,
        }
    }
}

async fn sound() -> Vec<u8> {
    let database = Database::sqlite();
    let store = database.open().await;
    fill(&store).await;
    let bytes = take(&database.url).await.unwrap();
    store.close().await;
    bytes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_says_what_it_is_and_is_json_in_zstd() {
    let sound = sound().await;
    let text = lines_of(&sound);
    let first: serde_json::Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    assert_eq!(first["bowline_backup"], 1);
    assert_eq!(first["release"], "1.2.3");
    assert_eq!(first["engine"], "sqlite");
    assert_eq!(first["server"]["url"], "https://bowline.example.com");
    for line in text.lines() {
        serde_json::from_str::<serde_json::Value>(line).unwrap();
    }
    assert!(!text.contains("moments"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_that_is_cut_off_anywhere_is_refused() {
    let sound = sound().await;
    let tried = Tried::new();
    let step = sound.len() / 60 + 1;
    let ends = (0..sound.len()).step_by(step);
    let last = sound.len() - 200..sound.len();
    for length in ends.chain(last).chain([1, 3, 4, 5, 8, 20]) {
        let error = tried
            .error(&sound[..length], &format!("cut at {length}"))
            .await;
        let is_said = matches!(error, TransferError::CutOff)
            || length < 4 && matches!(error, TransferError::NotABackup);
        assert!(is_said, "cut at {length}: {error:?}");
    }
    for more in [&b"\0"[..], b"more", &sound] {
        let longer = [&sound, more].concat();
        tried.error(&longer, "something behind it").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_with_a_changed_bit_anywhere_is_refused() {
    let sound = sound().await;
    let tried = Tried::new();
    // Each bit of the frame's head and of the end, and one in every so many bytes between.
    let dense = (0..32)
        .chain(sound.len() - 130..sound.len())
        .flat_map(|at| (0..8).map(move |bit| (at, bit)));
    let sparse = (32..sound.len())
        .step_by(sound.len() / 200 + 1)
        .map(|at| (at, at % 8));
    for (at, bit) in dense.chain(sparse) {
        let mut bytes = sound.clone();
        bytes[at] ^= 1 << bit;
        let error = tried
            .error(&bytes, &format!("bit {bit} of byte {at}"))
            .await;
        let text = error.to_string();
        assert!(
            text.contains("damaged") || text.contains("cut off") || text.contains("not a backup"),
            "bit {bit} of byte {at}: {error:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_a_backup_of_this_program_is_refused_with_what_to_do() {
    let sound = sound().await;
    let tried = Tried::new();
    let foreign: [(&[u8], &str); 4] = [
        (b"SQLite format 3\0 and so on, and so on", "a database"),
        (b"hello\n", "a text"),
        (b"PGDMP", "a dump of pg_dump"),
        (
            &zstd::encode_all(&b"{\"name\":\"x\"}\n"[..], 3).unwrap(),
            "another program's zstd",
        ),
    ];
    for (bytes, what) in foreign {
        let error = tried.error(bytes, what).await;
        let is_said = matches!(error, TransferError::NotABackup | TransferError::CutOff);
        assert!(is_said, "{what}: {error:?}");
    }
    let directory = tempfile::tempdir().unwrap();
    let error = Backup::open(directory.path(), Arc::default())
        .await
        .unwrap_err();
    assert!(matches!(error, TransferError::NotAFile), "{error:?}");

    let changed = |from: &str, to: &str| {
        with_lines(&sound, |text| {
            assert!(text.contains(from), "{from}");
            text.replacen(from, to, 1)
        })
    };
    let error = tried
        .error(
            &changed("\"bowline_backup\":1", "\"bowline_backup\":2"),
            "newer",
        )
        .await;
    assert!(
        matches!(error, TransferError::NewerFormat { format: 2, .. }),
        "{error:?}"
    );
    assert!(error.to_string().contains("release 1.2.3"), "{error}");
    let error = tried
        .error(&changed("\"schema\":", "\"schema\":9"), "newer schema")
        .await;
    assert!(
        matches!(error, TransferError::OtherSchema { .. }),
        "{error:?}"
    );
    let error = tried
        .error(
            &changed("\"table\":\"keys\"", "\"table\":\"locks\""),
            "a table",
        )
        .await;
    assert!(
        matches!(error, TransferError::OtherSchema { .. }),
        "{error:?}"
    );
    let error = tried
        .error(&changed("\"sealed\",", "\"opened\","), "a column")
        .await;
    assert!(
        matches!(error, TransferError::OtherSchema { .. }),
        "{error:?}"
    );

    // Files that are whole in themselves, and do not say what the database said.
    for (from, to, said) in [
        ("nodekey:3", "nodekey:4", "device 3 of tailnet 1"),
        ("[1,2,", "[1,3,", "head of tailnet 1"),
        ("{\"table\":\"heads\"", "{\"tables\":\"heads\"", "line 2"),
    ] {
        let error = tried.error(&changed(from, to), from).await;
        assert!(error.to_string().contains(said), "{error}");
    }
    let less = with_lines(&sound, |text| {
        let at = text.find("{\"table\":\"secrets\"").unwrap();
        text[..at].to_owned()
    });
    let error = tried.error(&less, "a table is missing").await;
    assert!(error.to_string().contains("secrets"), "{error}");
    // The helper makes sound files, or nothing of this would say anything.
    std::fs::write(&tried.path, with_lines(&sound, |text| text)).unwrap();
    Backup::open(&tried.path, Arc::default()).await.unwrap();
}

/// Takes so many bytes and then has no space left.
struct Small(usize);

impl Write for Small {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0 == 0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let taken = bytes.len().min(self.0);
        self.0 -= taken;
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_fills_up_is_told_wherever_it_happens() {
    let database = Database::sqlite();
    let store = database.open().await;
    fill(&store).await;
    let whole = take(&database.url).await.unwrap().len();
    for room in [0, 1, 100, whole / 2, whole - 100, whole - 1] {
        let outcome = backup(&database.url, about(), Small(room), Arc::default()).await;
        let Err(TransferError::Io(error)) = outcome else {
            panic!("room for {room} bytes of {whole}");
        };
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    }
    backup(&database.url, about(), Small(whole), Arc::default())
        .await
        .unwrap();
    store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_needs_no_server_and_leaves_nothing_beside_the_database() {
    let database = Database::sqlite();
    let store = database.open().await;
    fill(&store).await;
    let while_open = taken(&database.url).await;
    store.close().await;
    let before = beside(&database.path());
    assert_eq!(taken(&database.url).await, while_open);
    assert_eq!(beside(&database.path()), before);
}

fn beside(path: &Path) -> Vec<String> {
    let names = std::fs::read_dir(path.parent().unwrap()).unwrap();
    let mut names: Vec<String> = names
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_database_to_back_up_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let missing = directory.path().join("bowline.db");
    let error = take(&missing.as_path().into()).await.unwrap_err();
    assert!(
        matches!(
            error,
            TransferError::Open(bowline_store::OpenError::Missing { .. })
        ),
        "{error:?}"
    );
    assert!(beside(&missing).is_empty(), "nothing is made");
    let database = Database::sqlite();
    database.open().await.close().await;
    database
        .execute(
            "DELETE FROM refinery_schema_history \
             WHERE version = (SELECT max(version) FROM refinery_schema_history)",
        )
        .await;
    let error = take(&database.url).await.unwrap_err();
    assert!(
        matches!(error, TransferError::OldDatabase { .. }),
        "{error:?}"
    );
}
