//! How far a long command is, on a terminal.

use std::io::{self, IsTerminal as _, Write as _};
use std::sync::Arc;
use std::time::Duration;

use bowline_store::Progress;
use tokio::task::JoinHandle;

use super::backup::{counted, size};

/// Between two looks.
const PERIOD: Duration = Duration::from_millis(200);

/// A line that is written over until this is dropped, and gone then.
pub(super) struct Shown(Option<JoinHandle<()>>);

/// What there is of it in all.
#[derive(Debug, Clone, Copy)]
pub(super) enum Whole {
    Rows(u64),
    Bytes(u64),
}

/// Shows progress on standard error, where that is a terminal and nobody asked for JSON.
pub(super) fn show(
    what: &'static str,
    progress: Arc<Progress>,
    whole: Option<Whole>,
    is_json: bool,
) -> Shown {
    if is_json || !io::stderr().is_terminal() {
        return Shown(None);
    }
    Shown(Some(tokio::spawn(async move {
        let mut ticks = tokio::time::interval(PERIOD);
        // What is done at once needs no line.
        ticks.tick().await;
        loop {
            ticks.tick().await;
            let line = line(what, progress.rows(), progress.bytes(), whole);
            let _ = write!(io::stderr(), "\r\u{1b}[K{line}");
        }
    })))
}

fn line(what: &str, rows: u64, bytes: u64, whole: Option<Whole>) -> String {
    let line = format!("{what}: {}, {}", counted(rows, "row"), size(bytes));
    let (done, all) = match whole {
        Some(Whole::Rows(all)) => (rows, all),
        Some(Whole::Bytes(all)) => (bytes, all),
        None => return line,
    };
    match done.min(all).saturating_mul(100).checked_div(all) {
        Some(percent) => format!("{line} ({percent} %)"),
        None => line,
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        if let Some(task) = self.0.take() {
            task.abort();
            let _ = write!(io::stderr(), "\r\u{1b}[K");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_how_far_it_is() {
        assert_eq!(
            line("backing up", 1234, 2048, None),
            "backing up: 1,234 rows, 2.0 KiB"
        );
        assert_eq!(
            line("restoring", 50, 10, Some(Whole::Rows(200))),
            "restoring: 50 rows, 10 bytes (25 %)"
        );
        assert_eq!(
            line("verifying", 0, 0, Some(Whole::Bytes(0))),
            "verifying: 0 rows, 0 bytes"
        );
    }
}
