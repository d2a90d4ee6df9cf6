//! Where a database is.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::error::OpenError;

/// Where a database is: a SQLite file, or a PostgreSQL URL.
#[derive(Clone, PartialEq, Eq)]
pub enum StoreUrl {
    /// Path of the SQLite file. Its directory must exist; the file is made when it does not.
    Sqlite(PathBuf),
    /// `postgres://user:password@host/database?…`, as libpq writes it. It may hold a password, so
    /// it is never printed.
    Postgres(String),
}

impl From<PathBuf> for StoreUrl {
    fn from(path: PathBuf) -> Self {
        Self::Sqlite(path)
    }
}

impl From<&Path> for StoreUrl {
    fn from(path: &Path) -> Self {
        Self::Sqlite(path.to_owned())
    }
}

impl FromStr for StoreUrl {
    type Err = OpenError;

    /// Reads a `postgres://` or `postgresql://` URL, `sqlite:PATH`, or a bare path.
    fn from_str(text: &str) -> Result<Self, OpenError> {
        if text.starts_with("postgres://") || text.starts_with("postgresql://") {
            return Ok(Self::Postgres(text.to_owned()));
        }
        let path = match text.strip_prefix("sqlite:") {
            Some(rest) => rest.strip_prefix("//").unwrap_or(rest),
            None if text.contains("://") => {
                let problem = "expected a path, sqlite:PATH or postgres://…";
                return Err(OpenError::Setting(problem.to_owned()));
            }
            None => text,
        };
        if path.is_empty() {
            return Err(OpenError::Setting("the path is empty".to_owned()));
        }
        Ok(Self::Sqlite(PathBuf::from(path)))
    }
}

impl fmt::Debug for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => f.debug_tuple("Sqlite").field(path).finish(),
            Self::Postgres(_) => f.write_str("Postgres(…)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_is_a_path_or_a_postgres_url() {
        let parsed = |text: &str| text.parse::<StoreUrl>().unwrap();
        assert_eq!(parsed("data/b.db"), StoreUrl::Sqlite("data/b.db".into()));
        assert_eq!(
            parsed("sqlite:/var/b.db"),
            StoreUrl::Sqlite("/var/b.db".into())
        );
        assert_eq!(
            parsed("sqlite:///var/b.db"),
            StoreUrl::Sqlite("/var/b.db".into())
        );
        assert_eq!(
            parsed("postgres://h/d"),
            StoreUrl::Postgres("postgres://h/d".into())
        );
        assert!("mysql://h/d".parse::<StoreUrl>().is_err());
        assert!("".parse::<StoreUrl>().is_err());
    }

    #[test]
    fn a_password_in_the_url_is_not_printed() {
        let url: StoreUrl = "postgres://u:hunter2@h/d".parse().unwrap();
        assert!(!format!("{url:?}").contains("hunter2"));
    }
}
