//! `bowline config`: the settings in force, and where each came from.

use std::io::Write as _;

use anyhow::Result;

use crate::config::Loaded;

/// Prints the settings.
///
/// # Errors
/// When standard output is closed.
pub(super) fn run(loaded: &Loaded, is_json: bool) -> Result<()> {
    let mut out = std::io::stdout().lock();
    if is_json {
        writeln!(out, "{}", loaded.json())?;
    } else {
        write!(out, "{}", loaded.table())?;
    }
    for warning in &loaded.warnings {
        writeln!(std::io::stderr().lock(), "bowline: warning: {warning}")?;
    }
    Ok(())
}
