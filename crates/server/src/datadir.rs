//! The data directory: its lock, and the secrets that are kept in it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
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
    _lock: File,
}

impl DataDir {
    /// Makes the directory (mode 0700) if it is not there, and takes it for this process.
    ///
    /// # Errors
    /// When it cannot be made or written; [`InUse`] when another process has it.
    pub fn open(path: &Path) -> Result<Self> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(path).with_context(|| {
            format!("cannot make the data directory {}; choose another with --data, or give this user write access", path.display())
        })?;
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
        lock.set_len(0)
            .and_then(|()| write!(lock, "{}", std::process::id()))
            .context("cannot write the lock file")?;
        Ok(Self {
            path: path.to_owned(),
            _lock: lock,
        })
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
