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
    use bowline_model::kind::Kind;

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

    /// The template of an object's table, so that a kind cannot be added without one.
    #[test]
    fn every_kind_has_its_table_and_indexes_for_both_engines() {
        for (files, integer) in [(SQLITE, "INTEGER"), (POSTGRES, "BIGINT")] {
            let sql: String = files.iter().map(|(_, sql)| *sql).collect();
            for kind in Kind::all() {
                let table = kind.table();
                let begin = format!("CREATE TABLE {table} (");
                let start = sql.find(&begin).unwrap_or_else(|| panic!("no {begin}"));
                let columns = &sql[start..start + sql[start..].find(';').unwrap()];
                let mut wanted = vec![
                    ("tailnet", format!("{integer} NOT NULL")),
                    ("id", format!("{integer} NOT NULL PRIMARY KEY")),
                    ("seq", format!("{integer} NOT NULL")),
                    ("checksum", format!("{integer} NOT NULL")),
                ];
                for column in kind.columns() {
                    wanted.push((column.name(), "TEXT".to_owned()));
                    let index = format!("CREATE UNIQUE INDEX {table}_{} ON {table}", column.name());
                    assert!(sql.contains(&index), "no {index}");
                }
                if kind.is_cold() {
                    wanted.push(("expires", integer.to_owned()));
                    let index = format!("CREATE INDEX {table}_expires ON {table} (expires);");
                    assert!(sql.contains(&index), "no {index}");
                }
                for (column, kind) in wanted {
                    let found = columns.lines().any(|line| {
                        let line = line.trim().trim_end_matches(',');
                        line.split_once(' ')
                            .is_some_and(|(name, rest)| name == column && rest.trim() == kind)
                    });
                    assert!(found, "{table}: no {column} {kind}");
                }
                let index = format!("CREATE INDEX {table}_tailnet ON {table} (tailnet");
                assert!(sql.contains(&index), "no {index}");
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
