//! `bowline backup`: the whole database in one file, while the server goes on.

use std::fs::{File, OpenOptions, Permissions, TryLockError};
use std::io::{self, IsTerminal as _, Write};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result, anyhow, bail};
use bowline_engine::{Clock as _, SystemClock};
use bowline_store::{About, Origin, Progress, SealedSecret, Summary};
use rustix::fs::{CWD, OFlags, RenameFlags};
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};

use super::output::print;
use super::progress;
use crate::config::{Loaded, ServeFlags, Settings};
use crate::open;
use crate::sealkey::{self, FoundKey, Opens};

/// What is written to standard output instead of to a file.
const STANDARD_OUTPUT: &str = "-";

/// Arguments of `bowline backup`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The file to write, or - for standard output
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Replace FILE if it is there
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    pub(super) database: DatabaseFlag,
}

/// Names the database that a command works on.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct DatabaseFlag {
    /// sqlite, or a PostgreSQL URL [default: what the settings say]
    #[arg(long, value_name = "URL")]
    database: Option<String>,
}

impl From<DatabaseFlag> for ServeFlags {
    fn from(flag: DatabaseFlag) -> Self {
        Self {
            database: flag.database,
            ..Self::default()
        }
    }
}

/// Takes a backup and says what is in it. Gives the exit code.
///
/// # Errors
/// When the database cannot be read or the file not be written; there is no file then.
pub(super) async fn run(loaded: &Loaded, args: &Args, is_json: bool) -> Result<u8> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    // Dropped on the way out, the file that is not whole goes with it.
    tokio::select! {
        done = take(&loaded.settings, args, is_json) => done.map(|()| 0),
        _ = interrupt.recv() => Ok(130),
        _ = terminate.recv() => Ok(143),
    }
}

async fn take(settings: &Settings, args: &Args, is_json: bool) -> Result<()> {
    if args.file == Path::new(STANDARD_OUTPUT) {
        if io::stdout().is_terminal() {
            bail!("a backup is not for a terminal; name a file, or redirect standard output");
        }
        let (about, key) = about(settings).await?;
        let (mut out, summary) = write(settings, &about, io::stdout(), is_json).await?;
        out.flush().context("could not write standard output")?;
        if !is_json {
            told(&said(&summary, "standard output", &key));
        }
        return Ok(());
    }
    // Before anything is read: a name that cannot be written costs no time.
    let place = Place::choose(&args.file, args.force)?;
    let (about, key) = about(settings).await?;
    let file = place.file.try_clone()?;
    let (file, summary) = write(settings, &about, file, is_json).await?;
    place.finish(&file)?;
    let shown = args.file.display().to_string();
    if is_json {
        print(&as_json(&args.file, &about, &summary, &key).to_string())?;
    } else {
        print(&said(&summary, &shown, &key))?;
    }
    Ok(())
}

async fn write<W: Write + Send + 'static>(
    settings: &Settings,
    about: &About,
    out: W,
    is_json: bool,
) -> Result<(W, Summary)> {
    let url = open::store_url(settings);
    let progress = Arc::new(Progress::default());
    let shown = progress::show("backing up", progress.clone(), None, is_json);
    let taken = bowline_store::backup(&url, about.clone(), out, progress).await;
    drop(shown);
    taken.map_err(|error| {
        let is_full = matches!(&error, bowline_store::TransferError::Io(error)
            if error.kind() == io::ErrorKind::StorageFull);
        let error = anyhow!(error);
        if is_full {
            error.context("no space is left for the backup; free some, or write it elsewhere")
        } else {
            error.context("no backup was made")
        }
    })
}

/// What the key of the settings is good for.
struct Key {
    found: Option<FoundKey>,
    secrets: Vec<SealedSecret>,
    closed: Vec<SealedSecret>,
}

/// What the backup says of itself, and whether its secrets can be opened.
async fn about(settings: &Settings) -> Result<(About, Key)> {
    let secrets = bowline_store::secrets(&open::store_url(settings)).await?;
    let found = sealkey::find(settings)?;
    let opens = Opens::all(found.as_ref(), &secrets);
    let server = Origin {
        url: Some(settings.server.url.as_str().to_owned()),
        noise_key: opens.noise_key,
        seal_key: found
            .as_ref()
            .filter(|_| opens.closed.is_empty())
            .map(|key| key.fingerprint.clone()),
    };
    let about = About {
        release: env!("CARGO_PKG_VERSION").to_owned(),
        made: SystemClock.now(),
        server,
    };
    let closed = opens.closed;
    Ok((
        about,
        Key {
            found,
            secrets,
            closed,
        },
    ))
}

/// What a backup has, for people.
pub(super) fn contents(summary: &Summary) -> String {
    let count = |table: &str| summary.tables.get(table).copied().unwrap_or(0);
    format!(
        "{}, {} and {} in {}",
        counted(count("tailnets"), "tailnet"),
        counted(count("users"), "user"),
        counted(count("devices"), "device"),
        counted(summary.rows, "row")
    )
}

/// `1 row`, `12,345 rows`.
pub(super) fn counted(number: u64, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {what}{plural}", grouped(number))
}

/// A number with a comma after every three digits.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `512 bytes`, `3.2 MiB`.
pub(super) fn size(bytes: u64) -> String {
    let units = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    match units.into_iter().find(|(_, unit)| bytes >= *unit) {
        Some((name, unit)) => {
            let tenths = bytes.saturating_mul(10) / unit;
            format!("{}.{} {name}", tenths / 10, tenths % 10)
        }
        None => format!("{bytes} bytes"),
    }
}

fn said(summary: &Summary, place: &str, key: &Key) -> String {
    let (has, size) = (contents(summary), size(summary.bytes));
    let text = format!("Backed up {has} to {place}, {size}.\n");
    let names = sealkey::names(&key.secrets);
    let about_key = match &key.found {
        _ if key.secrets.is_empty() => String::new(),
        Some(found) if key.closed.is_empty() => format!(
            "The sealing key {} ({}) is not in it, and nothing else opens its secrets ({names}).\n\
             Keep a copy of the key, apart from the backup.\n",
            found.fingerprint, found.place
        ),
        Some(found) => format!(
            "Warning: the sealing key {} ({}) does not open the secrets in it ({names}). A restore \
             needs the key that does: look for it now.\n",
            found.fingerprint, found.place
        ),
        None => format!(
            "Warning: there is no sealing key here. A restore needs the key that opens the secrets \
             in the backup ({names}): look for it now.\n"
        ),
    };
    text + &about_key
}

fn as_json(file: &Path, about: &About, summary: &Summary, key: &Key) -> Value {
    json!({
        "file": file.display().to_string(),
        "bytes": summary.bytes,
        "rows": summary.rows,
        "tables": summary.tables,
        "made": about.made.to_string(),
        "release": about.release,
        "server": about.server,
        "secrets": key.secrets.iter().map(|secret| &secret.name).collect::<Vec<_>>(),
        "secretsOpen": key.found.is_some() && key.closed.is_empty(),
    })
}

#[expect(
    clippy::print_stderr,
    reason = "standard output is the backup; this is what a person reads"
)]
fn told(text: &str) {
    eprint!("{text}");
}

/// Where a backup is written until it is whole, and where it is put then.
struct Place {
    /// The backup's own name.
    path: PathBuf,
    /// The file that is written, in the same directory.
    partial: PathBuf,
    file: File,
    force: bool,
    is_done: std::cell::Cell<bool>,
}

impl Place {
    fn choose(path: &Path, force: bool) -> Result<Self> {
        let path = match std::fs::metadata(path) {
            Ok(found) if found.is_dir() => {
                bail!("{} is a directory; name a file in it", path.display())
            }
            Ok(found) if !found.is_file() => bail!(
                "{} is not a regular file; write to standard output with -, and redirect it",
                path.display()
            ),
            Ok(_) if !force => bail!(
                "{} is there already; choose another name, or replace it with --force",
                path.display()
            ),
            // What a link leads to is replaced, and not the link.
            Ok(_) => std::fs::canonicalize(path)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => path.to_owned(),
            Err(error) => {
                return Err(error).with_context(|| format!("cannot look at {}", path.display()));
            }
        };
        let mut name = path.clone().into_os_string();
        name.push(".partial");
        let partial = PathBuf::from(name);
        let file = Self::open(&partial)?;
        Ok(Self {
            path,
            partial,
            file,
            force,
            is_done: std::cell::Cell::new(false),
        })
    }

    /// Takes the file that is written. What is left of a backup that was killed is written over.
    fn open(partial: &Path) -> Result<File> {
        let cannot = || {
            format!(
                "cannot write {}; choose a place that this user may write to",
                partial.display()
            )
        };
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
            .open(partial)
            .with_context(cannot)?;
        let in_use = || {
            anyhow!(
                "another backup is being written to {}; wait for it, or choose another name",
                partial.display()
            )
        };
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(in_use()),
            Err(TryLockError::Error(error)) => return Err(error).with_context(cannot),
        }
        // It may have been another backup's, which has got its own name by now.
        let (ours, found) = (file.metadata()?, std::fs::symlink_metadata(partial));
        if !found.is_ok_and(|found| (found.dev(), found.ino()) == (ours.dev(), ours.ino())) {
            return Err(in_use());
        }
        file.set_len(0).with_context(cannot)?;
        file.set_permissions(Permissions::from_mode(0o600))
            .with_context(cannot)?;
        Ok(file)
    }

    /// Gives the whole backup its name, durably.
    fn finish(self, file: &File) -> Result<()> {
        let named = || -> io::Result<()> {
            file.sync_all()?;
            self.rename()?;
            let directory = match self.path.parent() {
                Some(parent) if !parent.as_os_str().is_empty() => parent,
                _ => Path::new("."),
            };
            File::open(directory)?.sync_all()
        };
        named().with_context(|| format!("could not write {}", self.path.display()))?;
        self.is_done.set(true);
        Ok(())
    }

    fn rename(&self) -> io::Result<()> {
        if !self.force {
            let flags = RenameFlags::NOREPLACE;
            match rustix::fs::renameat_with(CWD, &self.partial, CWD, &self.path, flags) {
                // File systems that cannot.
                Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => {}
                renamed => return Ok(renamed?),
            }
            if self.path.exists() {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
        }
        std::fs::rename(&self.partial, &self.path)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if !self.is_done.get() {
            let _ = std::fs::remove_file(&self.partial);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_told_to_people() {
        for (number, text) in [
            (0, "0"),
            (999, "999"),
            (1000, "1,000"),
            (1_234_567, "1,234,567"),
        ] {
            assert_eq!(grouped(number), text);
        }
        for (bytes, text) in [
            (0, "0 bytes"),
            (1023, "1023 bytes"),
            (1536, "1.5 KiB"),
            (3 << 20, "3.0 MiB"),
        ] {
            assert_eq!(size(bytes), text);
        }
        assert_eq!(counted(1, "row"), "1 row");
    }

    #[test]
    fn a_file_that_is_there_is_kept_and_two_backups_do_not_write_to_one() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("backup");
        let first = Place::choose(&path, false).unwrap();
        let error = Place::choose(&path, false).err().unwrap().to_string();
        assert!(error.contains("another backup"), "{error}");
        drop(first);
        assert!(!directory.path().join("backup.partial").exists());

        // Somebody else makes the file meanwhile.
        let place = Place::choose(&path, false).unwrap();
        std::fs::write(&path, "theirs").unwrap();
        let file = place.file.try_clone().unwrap();
        place.finish(&file).unwrap_err();
        assert_eq!(std::fs::read(&path).unwrap(), b"theirs");
        let error = Place::choose(&path, false).err().unwrap().to_string();
        assert!(error.contains("--force"), "{error}");
        let place = Place::choose(&path, true).unwrap();
        (&place.file).write_all(b"ours").unwrap();
        let file = place.file.try_clone().unwrap();
        place.finish(&file).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"ours");
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);

        let error = Place::choose(directory.path(), true)
            .err()
            .unwrap()
            .to_string();
        assert!(error.contains("is a directory"), "{error}");
        let error = Place::choose(Path::new("/dev/null"), true)
            .err()
            .unwrap()
            .to_string();
        assert!(error.contains("not a regular file"), "{error}");
    }
}
