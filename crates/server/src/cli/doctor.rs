//! `bowline doctor`: whether the database is what was written to it.

use std::io::Write as _;

use anyhow::Result;
use bowline_store::{Examination, examine};

use crate::config::Loaded;
use crate::open::store_url;

/// Exit code when the database is not sound.
const UNSOUND: u8 = 1;
/// Exit code when it could not be examined.
pub(super) const NOT_DONE: u8 = 2;

/// Examines the database and prints what is wrong with it.
///
/// # Errors
/// When it cannot be looked at, or standard output is closed.
pub(super) async fn run(loaded: &Loaded, is_json: bool) -> Result<u8> {
    let found = examine(&store_url(&loaded.settings)).await?;
    let mut out = std::io::stdout().lock();
    if is_json {
        writeln!(out, "{}", json(&found))?;
    } else {
        print(&found, &mut out)?;
    }
    Ok(if found.is_sound() { 0 } else { UNSOUND })
}

fn json(found: &Examination) -> serde_json::Value {
    let findings: Vec<_> = found
        .findings
        .iter()
        .map(|one| serde_json::json!({"table": one.table, "problem": one.problem}))
        .collect();
    serde_json::json!({
        "database": found.place,
        "sound": found.is_sound(),
        "tailnets": found.tailnets,
        "rows": found.rows,
        "findings": findings,
        "moreFindings": found.more,
    })
}

fn print(found: &Examination, out: &mut impl std::io::Write) -> Result<()> {
    if found.is_sound() {
        writeln!(
            out,
            "{} is sound: {} rows of {} tailnets are what was written.",
            found.place, found.rows, found.tailnets
        )?;
        return Ok(());
    }
    writeln!(out, "{} is damaged:\n", found.place)?;
    for one in &found.findings {
        writeln!(out, "  {}: {}", one.table, one.problem)?;
    }
    if found.more > 0 {
        writeln!(out, "  and {} more", found.more)?;
    }
    writeln!(
        out,
        "\nStop the server, keep a copy of the database as it is, and restore the newest backup."
    )?;
    Ok(())
}
