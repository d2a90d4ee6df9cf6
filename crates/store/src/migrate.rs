//! The schema's migrations. Every name exists for both engines, by construction.

use refinery::{Migration, Runner};

use crate::error::{Cause, OpenError};

macro_rules! migrations {
    ($($name:literal,)*) => {
        pub(crate) const SQLITE: &[(&str, &str)] =
            &[$(($name, include_str!(concat!("../migrations/sqlite/", $name, ".sql"))),)*];
        pub(crate) const POSTGRES: &[(&str, &str)] =
            &[$(($name, include_str!(concat!("../migrations/postgres/", $name, ".sql"))),)*];
    };
}

// A released file never changes; a new purpose is a new line.
migrations! {
    "V1__tailnet_heads",
    "V2__objects",
    "V3__change_log",
    "V4__audit_events",
    "V5__jobs",
    "V6__presence",
    "V7__sealed_secrets",
    "V8__moments",
    "V9__texts",
}

/// Number of the newest migration that this program has.
#[expect(clippy::cast_possible_truncation, reason = "a handful of files")]
pub(crate) const KNOWN: u32 = SQLITE.len() as u32;

/// What runs the migrations. It takes no lock: the caller holds the database exclusively.
pub(crate) fn runner(files: &[(&str, &str)]) -> Result<Runner, OpenError> {
    let migrations = files
        .iter()
        .map(|(name, sql)| Migration::unapplied(name, sql))
        .collect::<Result<Vec<_>, _>>()
        .map_err(failed)?;
    // All that are missing in one transaction: the schema is this program's, or as it was.
    Ok(Runner::new(&migrations).set_grouped(true))
}

/// Refuses a database that a newer release has upgraded: its tables may mean something else.
pub(crate) fn refuse_newer(found: Option<i64>) -> Result<(), OpenError> {
    let found = u32::try_from(found.unwrap_or(0)).unwrap_or(u32::MAX);
    if found > KNOWN {
        Err(OpenError::Newer {
            found,
            known: KNOWN,
        })
    } else {
        Ok(())
    }
}

pub(crate) fn failed(error: refinery::Error) -> OpenError {
    OpenError::Migration(Cause::new(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn migrations_are_numbered_without_gaps_and_open_with_why() {
        for files in [SQLITE, POSTGRES] {
            for (index, (name, sql)) in files.iter().enumerate() {
                assert!(name.starts_with(&format!("V{}__", index + 1)), "{name}");
                assert!(sql.starts_with("-- Why: "), "{name}");
            }
        }
    }

    #[test]
    fn every_migration_file_is_listed() {
        for engine in ["sqlite", "postgres"] {
            let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
            let count = std::fs::read_dir(folder.join("migrations").join(engine))
                .unwrap()
                .count();
            assert_eq!(count, SQLITE.len(), "{engine}");
        }
    }
}
