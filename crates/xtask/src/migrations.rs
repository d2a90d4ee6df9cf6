//! Rules on migrations: the same names for both engines, numbered without gaps, opening with why,
//! and never changed after a release.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::Result;

use crate::workspace::Workspace;

/// Where the migrations of each engine are.
const ENGINES: [&str; 2] = [
    "crates/store/migrations/sqlite/",
    "crates/store/migrations/postgres/",
];

/// The list of released migrations, one a line: checksum, space, path.
const RELEASED: &str = "crates/xtask/released-migrations.txt";

/// What is wrong with the migrations, given each one's path and text, and the list of released
/// ones.
#[must_use]
pub fn violations(files: &BTreeMap<String, String>, released: &str) -> Vec<String> {
    let mut broken = Vec::new();
    let names = |engine: &str| -> Vec<String> {
        files
            .keys()
            .filter_map(|file| file.strip_prefix(engine))
            .map(ToOwned::to_owned)
            .collect()
    };
    for (here, there) in [(ENGINES[0], ENGINES[1]), (ENGINES[1], ENGINES[0])] {
        let others = names(there);
        for name in names(here).iter().filter(|name| !others.contains(name)) {
            broken.push(format!("{here}{name} has no counterpart {there}{name}"));
        }
        let mut numbers: Vec<Option<usize>> = names(here).iter().map(|name| number(name)).collect();
        numbers.sort_unstable();
        if numbers != (1..=numbers.len()).map(Some).collect::<Vec<_>>() {
            broken.push(format!(
                "{here} is not numbered V1__name.sql, V2__name.sql, and so on"
            ));
        }
    }
    for (file, text) in files {
        if !text.starts_with("--") {
            broken.push(format!("{file} does not open with a comment that says why"));
        }
    }
    for line in released
        .lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty())
    {
        let Some((sum, file)) = line.split_once(' ') else {
            broken.push(format!("{RELEASED} has the line `{line}`"));
            continue;
        };
        match files.get(file) {
            None => broken.push(format!("{file} was released and is gone")),
            Some(text) if checksum(text) != sum => {
                broken.push(format!(
                    "{file} was released and has changed; write a new migration"
                ));
            }
            Some(_) => {}
        }
    }
    broken
}

fn number(name: &str) -> Option<usize> {
    name.strip_prefix('V')?.split_once("__")?.0.parse().ok()
}

/// FNV-1a, 64 bits, in hexadecimal: enough against a change by mistake.
#[must_use]
pub fn checksum(text: &str) -> String {
    let sum = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |sum, byte| {
        (sum ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    format!("{sum:016x}")
}

/// The migrations of this repository, by path.
fn files(workspace: &Workspace) -> Result<BTreeMap<String, String>> {
    let files = workspace.files_ending(".sql");
    let files = files.filter(|file| ENGINES.iter().any(|engine| file.starts_with(engine)));
    files
        .map(|file| Ok((file.to_owned(), workspace.read(file)?)))
        .collect()
}

/// Runs the rules on the repository.
///
/// # Errors
/// A file can't be read.
pub fn check(workspace: &Workspace) -> Result<Vec<String>> {
    Ok(violations(&files(workspace)?, &workspace.read(RELEASED)?))
}

/// The list of released migrations as a release writes it: all there are.
///
/// # Errors
/// A file can't be read.
pub fn release(workspace: &Workspace) -> Result<String> {
    let mut text = "# Migrations that were released: checksum and path. Written by\n\
                    # `cargo run -p bowline-xtask -- release-migrations` at each release.\n"
        .to_owned();
    for (file, content) in files(workspace)? {
        let _ = writeln!(text, "{} {file}", checksum(&content));
    }
    Ok(text)
}

/// The path of the list of released migrations.
#[must_use]
pub const fn released_list() -> &'static str {
    RELEASED
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(files: &[(&str, &str)], released: &str) -> Vec<String> {
        let files = files.iter().map(|(file, text)| {
            (
                format!("crates/store/migrations/{file}"),
                (*text).to_owned(),
            )
        });
        violations(&files.collect(), released)
    }

    #[test]
    fn names_differ_or_numbers_have_gaps_and_it_is_found() {
        let files = [
            ("postgres/V1__a.sql", "-- why"),
            ("postgres/V2__b.sql", "-- why"),
            ("sqlite/V1__a.sql", "create"),
            ("sqlite/V3__b.sql", "-- why"),
        ];
        assert_eq!(
            found(&files, ""),
            [
                "crates/store/migrations/sqlite/V3__b.sql has no counterpart \
                 crates/store/migrations/postgres/V3__b.sql",
                "crates/store/migrations/sqlite/ is not numbered V1__name.sql, V2__name.sql, and \
                 so on",
                "crates/store/migrations/postgres/V2__b.sql has no counterpart \
                 crates/store/migrations/sqlite/V2__b.sql",
                "crates/store/migrations/sqlite/V1__a.sql does not open with a comment that says \
                 why",
            ]
        );
    }

    #[test]
    fn a_released_file_that_changed_or_went_is_found() {
        let files = [
            ("postgres/V1__a.sql", "-- why"),
            ("sqlite/V1__a.sql", "-- why"),
        ];
        let sum = checksum("-- why");
        let good = format!("# list\n{sum} crates/store/migrations/sqlite/V1__a.sql\n");
        assert_eq!(found(&files, &good), [""; 0]);
        let bad = "0 crates/store/migrations/sqlite/V1__a.sql\n0 x.sql\nx\n";
        assert_eq!(
            found(&files, bad),
            [
                "crates/store/migrations/sqlite/V1__a.sql was released and has changed; write a \
                 new migration",
                "x.sql was released and is gone",
                "crates/xtask/released-migrations.txt has the line `x`",
            ]
        );
    }

    #[test]
    fn the_checksum_is_fnv_1a() {
        // From the algorithm's published test vectors.
        assert_eq!(checksum(""), "cbf29ce484222325");
        assert_eq!(checksum("foobar"), "85944171f73967e8");
    }
}
