//! The data directory: its lock, and the secrets that are kept in it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{
    DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

/// Another process has the data directory.
#[derive(Debug, thiserror::Error)]
#[error(
    "the data directory {path} is in use by {holder}; stop it, or choose another directory with \
     --data"
)]
pub struct InUse {
    path: PathBuf,
    /// Who has it: `process 4711`, or `another process`.
    pub holder: String,
}

/// A data directory that this process holds until it is dropped.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    lock: File,
}

/// Names by which a directory is known as one of data.
const OURS: [&str; 4] = ["lock", "bowline.toml", "bowline.db", "seal.key"];

/// Others must neither look into the directory nor put anything into it: the operator's socket and
/// the keys rely on that. Gives the mode of one that is to be closed to them, since they can read
/// it.
///
/// One that others may *write* is refused, since what lies in it may be theirs; so is one with other
/// things in it, which others may need to reach.
fn open_to_others(path: &Path) -> Result<Option<u32>> {
    let mode = || -> io::Result<u32> { Ok(fs::metadata(path)?.permissions().mode() & 0o7777) };
    let cannot = || format!("cannot look at the data directory {}", path.display());
    let found = mode().with_context(cannot)?;
    let for_others = found & 0o077;
    if for_others == 0 {
        return Ok(None);
    }
    let advice = format!(
        "run: chmod 700 {}, or choose a directory of its own with --data, which is made if it is \
         not there",
        path.display()
    );
    if found & 0o022 != 0 {
        bail!(
            "the data directory {} can be written by others (mode {found:04o}); {advice}",
            path.display()
        );
    }
    let mut names = fs::read_dir(path).with_context(cannot)?;
    let is_empty = names.next().is_none();
    if !is_empty && !OURS.iter().any(|name| path.join(name).exists()) {
        bail!(
            "the data directory {} can be read by others (mode {found:04o}) and has other things \
             in it; {advice}",
            path.display()
        );
    }
    Ok(Some(found))
}

/// Closes a directory to others.
fn close_to_others(path: &Path, mode: u32) -> Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(0o700)).with_context(|| {
        format!(
            "the data directory {} can be read by others (mode {mode:04o}); run: chmod 700 {}",
            path.display(),
            path.display()
        )
    })?;
    tracing::warn!("the data directory could be read by others (mode {mode:04o}); it is 0700 now");
    Ok(())
}

impl DataDir {
    /// Makes the directory (mode 0700) if it is not there, and takes it for this process. One that
    /// others may read is closed to them.
    ///
    /// # Errors
    /// When it cannot be made or written, or others may write it; [`InUse`] when another process
    /// has it.
    pub fn open(path: &Path) -> Result<Self> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(path).with_context(|| {
            format!("cannot make the data directory {}; choose another with --data, or give this user write access", path.display())
        })?;
        let open_to_others = open_to_others(path)?;
        let lock_path = path.join("lock");
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&lock_path)
            .with_context(|| {
                format!("cannot write the data directory {}; give this user write access, or choose another with --data", path.display())
            })?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => {
                let holder = fs::read_to_string(&lock_path).unwrap_or_default();
                let holder = holder.trim();
                let holder = if holder.is_empty() {
                    "another process".to_owned()
                } else {
                    format!("process {holder}")
                };
                return Err(InUse {
                    path: path.to_owned(),
                    holder,
                }
                .into());
            }
            Err(fs::TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("cannot lock {}", lock_path.display()));
            }
        }
        if let Some(mode) = open_to_others {
            close_to_others(path, mode)?;
        }
        let written = lock
            .set_len(0)
            .and_then(|()| write!(lock, "{}", std::process::id()));
        // The number only helps a person; a full disk must not keep the server from starting.
        if let Err(error) = written {
            tracing::warn!(%error, "could not write the process id into the lock file");
        }
        Ok(Self {
            path: path.to_owned(),
            lock,
        })
    }

    /// Names this directory on this machine since its last start, for whoever must know that it is
    /// the same: a copy of it, in another container or on another machine, has another name.
    /// `None` where the system does not tell.
    pub fn place(&self) -> Option<String> {
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
        let lock = self.lock.metadata().ok()?;
        Some(format!("{} {} {}", boot.trim(), lock.dev(), lock.ino()))
    }

    /// A path in it.
    pub fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// The bytes of a private file, which is made with `new` (mode 0600, durable) if it is not
    /// there.
    ///
    /// # Errors
    /// When it cannot be read or made, or others may read it.
    pub fn private_file(
        &self,
        name: &str,
        new: impl FnOnce() -> Result<Vec<u8>>,
    ) -> Result<Vec<u8>> {
        let path = self.join(name);
        match fs::read(&path) {
            Ok(bytes) => {
                let mode = fs::metadata(&path)?.permissions().mode();
                if mode & 0o077 != 0 {
                    bail!(
                        "{} can be read by others; run: chmod 600 {}",
                        path.display(),
                        path.display()
                    );
                }
                Ok(bytes)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let bytes = new()?;
                self.write_private(name, &bytes)?;
                Ok(bytes)
            }
            Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
        }
    }

    /// Writes a private file (mode 0600) durably, in place of the one that is there.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write_private(&self, name: &str, bytes: &[u8]) -> Result<PathBuf> {
        let path = self.join(name);
        let new = self.join(&format!("{name}.new"));
        let write = || -> io::Result<()> {
            let mut file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&new)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            fs::rename(&new, &path)?;
            File::open(&self.path)?.sync_all()
        };
        write().with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_process_is_told_who_has_the_directory() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("data");
        let first = DataDir::open(&path).unwrap();
        let error = DataDir::open(&path).unwrap_err().to_string();
        assert!(
            error.contains(&format!("in use by process {}", std::process::id())),
            "{error}"
        );
        drop(first);
        DataDir::open(&path).unwrap();
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o700
        );
    }

    #[test]
    fn a_directory_that_others_reach_is_closed_to_them_or_refused() {
        let dir = tempfile::tempdir().unwrap();
        let made = |name: &str, mode: u32, file: Option<&str>| {
            let path = dir.path().join(name);
            fs::create_dir(&path).unwrap();
            if let Some(file) = file {
                fs::write(path.join(file), "").unwrap();
            }
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            path
        };
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        for (number, mode_before) in [0o755, 0o750, 0o711, 0o705, 0o701].into_iter().enumerate() {
            let file = [None, Some("bowline.toml")][number % 2];
            let path = made(&format!("tightened{number}"), mode_before, file);
            DataDir::open(&path).unwrap();
            assert_eq!(mode(&path), 0o700);
        }
        let refused = [
            ("group", 0o770, None),
            ("all", 0o777, None),
            ("sticky", 0o1777, None),
            ("set-group", 0o2775, None),
            ("ours", 0o770, Some("seal.key")),
            ("others", 0o755, Some("index.html")),
        ];
        for (name, mode_before, file) in refused {
            let path = made(name, mode_before, file);
            let error = DataDir::open(&path).unwrap_err().to_string();
            assert!(error.contains("; run: chmod 700"), "{error}");
            assert_eq!(mode(&path), mode_before, "{name} is left alone");
            assert!(!path.join("lock").exists(), "{name}");
        }
    }

    #[test]
    fn a_private_file_is_made_once_and_refused_when_others_may_read_it() {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::open(dir.path()).unwrap();
        assert_eq!(data.private_file("k", || Ok(vec![1])).unwrap(), [1]);
        assert_eq!(data.private_file("k", || Ok(vec![2])).unwrap(), [1]);
        fs::set_permissions(data.join("k"), fs::Permissions::from_mode(0o644)).unwrap();
        assert!(
            data.private_file("k", || Ok(vec![3]))
                .unwrap_err()
                .to_string()
                .contains("chmod 600")
        );
    }
}
