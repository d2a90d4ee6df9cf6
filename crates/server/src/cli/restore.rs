//! `bowline restore`: a backup into an empty data directory or database.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use bowline_engine::{Clock as _, Random as _, SystemClock, SystemRandom};
use bowline_store::{Backup, Opening, Options, Progress, SealedSecret, Store, StoreUrl};
use serde_json::{Value, json};

use super::backup::{DatabaseFlag, contents};
use super::output::{clean, print, relative};
use super::progress::{self, Whole};
use crate::config::{DatabaseUrl, Loaded, Settings};
use crate::datadir::DataDir;
use crate::open::{RESTORING, SEAL_FILE, SQLITE_FILE};
use crate::sealkey::{self, FoundKey, Opens};

/// What the database is called until it is whole.
const UNFINISHED: &str = "bowline.db.restoring";
/// Endings of files that a database has beside it.
const BESIDE: [&str; 4] = ["", "-wal", "-shm", ".lock"];

/// Arguments of `bowline restore`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The backup, as `bowline backup` wrote it
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Only say whether FILE is whole, what is in it, and what the sealing key here opens
    #[arg(long)]
    check: bool,
    /// Restore although the sealing key is lost: the server makes new secrets
    #[arg(long)]
    without_secrets: bool,
    #[command(flatten)]
    pub(super) database: DatabaseFlag,
}

/// Restores a backup, or says what is in it.
///
/// # Errors
/// When the file is not whole, the target is not empty or in use, or the sealing key is missing;
/// nothing was written then.
pub(super) async fn run(loaded: &Loaded, args: &Args, is_json: bool) -> Result<()> {
    let settings = &loaded.settings;
    let progress = Arc::new(Progress::default());
    let length = fs::metadata(&args.file).map_or(0, |file| file.len());
    let whole = Some(Whole::Bytes(length));
    let shown = progress::show("verifying", progress.clone(), whole, is_json);
    let backup = Backup::open(&args.file, progress).await;
    drop(shown);
    let backup = backup.with_context(|| format!("cannot restore {}", args.file.display()))?;
    let key = sealkey::find(settings)?;
    let opens = Opens::all(key.as_ref(), backup.secrets());
    let told = Told {
        backup: &backup,
        key: key.as_ref(),
        closed: &opens.closed,
        settings,
    };
    if args.check {
        return if is_json {
            Ok(print(&told.json(&args.file).to_string())?)
        } else {
            Ok(print(&told.text("This backup is whole: it has"))?)
        };
    }
    // First what costs a look, then what the owner has to bring.
    refuse_used(settings)?;
    if !opens.closed.is_empty() && !args.without_secrets {
        bail!("{}\n{}", told.why_not(), told.how());
    }
    let with_secrets = opens.closed.is_empty();
    write(settings, &backup, with_secrets, key.is_some(), is_json).await?;
    if is_json {
        print(&told.json(&args.file).to_string())?;
        return Ok(());
    }
    let mut text = told.text("Restored");
    if !with_secrets {
        text.push_str(
            "The secrets were left out, and the server makes new ones at its start. Restart clients \
             that run, so that they learn its new key.\n",
        );
    }
    text.push_str("Start the server: bowline serve --data ");
    text.push_str(&settings.server.data.display().to_string());
    text.push_str(
        "\nThe former server must not run any more: to devices, both would be the same server.\n",
    );
    print(&text)?;
    Ok(())
}

/// Refuses a data directory with a database in it, before anything is made.
fn refuse_used(settings: &Settings) -> Result<()> {
    if settings.database.url != DatabaseUrl::Sqlite {
        return Ok(()); // the database itself says whether it is empty
    }
    let data = &settings.server.data;
    for name in [SQLITE_FILE, "bowline.db-wal"] {
        let path = data.join(name);
        if fs::metadata(&path).is_ok_and(|file| file.len() > 0) {
            bail!(
                "{} is there already: a restore needs a data directory without a database; choose \
                 another with --data, or stop the server and move that file away",
                path.display()
            );
        }
    }
    Ok(())
}

/// Writes the database. Nothing of it is found by a server before it is whole.
async fn write(
    settings: &Settings,
    backup: &Backup,
    with_secrets: bool,
    has_key: bool,
    is_json: bool,
) -> Result<()> {
    let data = DataDir::open(&settings.server.data)?;
    // By now a server may have come and gone.
    refuse_used(settings)?;
    // Until it is removed, no server takes the directory for a new one.
    data.write_private(RESTORING, b"bowline restore\n")?;
    let restored = match &settings.database.url {
        DatabaseUrl::Sqlite => to_sqlite(&data, backup, with_secrets, is_json).await,
        DatabaseUrl::Postgres(url) => {
            let url = StoreUrl::Postgres(url.expose().to_owned());
            let options = Options {
                connections: 2,
                opening: Opening::ExistingOrNew,
                lease: settings.database.lease_seconds.duration(),
                place: data.place(),
                ..Options::default()
            };
            fill(&url, options, backup, with_secrets, is_json).await
        }
    };
    if restored.is_ok() && !has_key {
        // The secrets were left out; what the server makes now is sealed with a key of its own.
        data.private_file(SEAL_FILE, || {
            let mut key = vec![0; 32];
            SystemRandom.fill(&mut key);
            Ok(key)
        })?;
    }
    let _ = fs::remove_file(data.join(RESTORING));
    restored.context("nothing was restored")
}

/// Builds the file beside its place, and puts it there when it is whole and on the disk.
async fn to_sqlite(
    data: &DataDir,
    backup: &Backup,
    with_secrets: bool,
    is_json: bool,
) -> Result<()> {
    let remove = || {
        for ending in BESIDE {
            let _ = fs::remove_file(data.join(&format!("{UNFINISHED}{ending}")));
        }
    };
    remove(); // what a restore left that was killed
    let unfinished = data.join(UNFINISHED);
    let url = StoreUrl::Sqlite(unfinished.clone());
    let options = Options {
        connections: 1,
        opening: Opening::New,
        ..Options::default()
    };
    let filled = fill(&url, options, backup, with_secrets, is_json)
        .await
        .and_then(|()| put(&unfinished, &data.join(SQLITE_FILE)));
    remove();
    filled
}

fn put(unfinished: &Path, place: &Path) -> Result<()> {
    let mut log = unfinished.as_os_str().to_owned();
    log.push("-wal");
    if fs::metadata(&log).is_ok_and(|log| log.len() > 0) {
        bail!("the database could not be closed");
    }
    let named = || -> std::io::Result<()> {
        File::open(unfinished)?.sync_all()?;
        fs::rename(unfinished, place)?;
        File::open(place.parent().unwrap_or(Path::new(".")))?.sync_all()
    };
    named().with_context(|| format!("cannot write {}", place.display()))
}

async fn fill(
    url: &StoreUrl,
    options: Options,
    backup: &Backup,
    with_secrets: bool,
    is_json: bool,
) -> Result<()> {
    let store = Store::open(url, options).await?;
    let progress = Arc::new(Progress::default());
    let whole = Some(Whole::Rows(backup.summary().rows));
    let shown = progress::show("restoring", progress.clone(), whole, is_json);
    let restored = store.restore(backup, with_secrets, progress).await;
    drop(shown);
    store.close().await;
    Ok(restored?)
}

/// What is told of a backup.
struct Told<'a> {
    backup: &'a Backup,
    key: Option<&'a FoundKey>,
    closed: &'a [SealedSecret],
    settings: &'a Settings,
}

impl Told<'_> {
    fn text(&self, what: &str) -> String {
        let header = self.backup.header();
        let age = relative(header.made.as_second() - SystemClock.now().as_second());
        let server = header.server.url.as_deref().unwrap_or("a server");
        let text = format!(
            "{what} {}, backed up {age} by release {} from the {} database of {}.\n",
            contents(self.backup.summary()),
            clean(&header.release),
            clean(&header.engine),
            clean(server)
        );
        let about_key = match self.key {
            _ if self.backup.secrets().is_empty() => {
                "There are no sealed secrets in it.\n".to_owned()
            }
            Some(key) if self.closed.is_empty() => format!(
                "The sealing key {} ({}) opens all its secrets ({}): devices go on without logging \
                 in again.\n",
                key.fingerprint,
                key.place,
                sealkey::names(self.backup.secrets())
            ),
            _ => format!("But {}\n", self.why_not()),
        };
        text + &about_key
    }

    /// Which secrets stay closed, and what that costs.
    fn why_not(&self) -> String {
        let key = match self.key {
            Some(key) => format!(
                "the sealing key {} ({}) does not open",
                key.fingerprint, key.place
            ),
            None => format!(
                "there is no sealing key in {} or the settings, and nothing else opens",
                self.settings.server.data.display()
            ),
        };
        let which = match &self.backup.header().server.seal_key {
            Some(fingerprint) => format!(" They were sealed with the key {}.", clean(fingerprint)),
            None => String::new(),
        };
        format!(
            "{key} these secrets of the backup: {}.{which}\nWithout them the server has another \
             identity: clients that run do not know its new key until they are restarted, and what \
             it had of others (such as webhooks' secrets) must be set again.",
            sealkey::names(self.closed)
        )
    }

    /// How the key is brought along.
    fn how(&self) -> String {
        let path = self.settings.server.data.join(SEAL_FILE);
        format!(
            "Copy the file seal.key of the former server to {} (mode 0600), or name it with the \
             setting seal.key_file, and restore again. Where the key is lost: --without-secrets.",
            path.display()
        )
    }

    fn json(&self, file: &Path) -> Value {
        let summary = self.backup.summary();
        let names = |secrets: &[SealedSecret]| -> Vec<String> {
            secrets
                .iter()
                .map(|secret| format!("{}: {}", secret.owner, secret.name))
                .collect()
        };
        json!({
            "file": file.display().to_string(),
            "backup": self.backup.header(),
            "bytes": summary.bytes,
            "rows": summary.rows,
            "tables": summary.tables,
            "secrets": names(self.backup.secrets()),
            "secretsClosed": names(self.closed),
        })
    }
}
