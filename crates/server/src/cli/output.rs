//! What commands print: tables for people, the API's own JSON for programs.

use std::io::{self, IsTerminal as _, Write as _};

use anyhow::{Result, bail};
use bowline_engine::{Clock as _, SystemClock};
use bowline_model::text::is_hidden;
use comfy_table::{ContentArrangement, Table, presets};
use jiff::Timestamp;

use super::api::{Answer, Api};
use super::connect::TargetFlags;
use crate::config::CommonFlags;

/// One command: the API, and how it prints.
pub(super) struct Session {
    /// The API.
    pub(super) api: Api,
    /// JSON instead of text.
    pub(super) is_json: bool,
    /// What clients are told to log in to, where the server does not say so itself.
    login_url: String,
    now: Timestamp,
}

impl Session {
    /// Connects to the server that the flags name.
    pub(super) async fn open(common: &CommonFlags, target: &TargetFlags) -> Result<Self> {
        let (api, login_url) = if let Some(url) = target.server() {
            let api = target.remote(url).await?;
            (api, url.trim_end_matches('/').to_owned())
        } else {
            let loaded = super::load(common, crate::config::ServeFlags::default())?;
            let api = target.local(&loaded.settings).await?;
            (api, loaded.settings.server.url.as_str().to_owned())
        };
        Ok(Self {
            api,
            is_json: common.json,
            login_url,
            now: SystemClock.now(),
        })
    }

    /// What clients are told to log in to: what the server that answered calls itself, since it may
    /// run with other flags than the settings that this command found.
    pub(super) fn login_url(&self) -> &str {
        self.api.server_url().unwrap_or(&self.login_url)
    }

    /// The moment from which relative times are told.
    pub(super) const fn now(&self) -> Timestamp {
        self.now
    }

    /// Prints an answer as it came, for programs; else the text that `text` makes.
    pub(super) fn answer(
        &self,
        answer: &Answer,
        text: impl FnOnce() -> Result<String>,
    ) -> Result<()> {
        if self.is_json {
            print(answer.text()?)?;
        } else {
            print(&text()?)?;
        }
        Ok(())
    }

    /// A time of the API from here: `in 89 days`, `3 hours ago`.
    pub(super) fn relative_time(&self, time: &str) -> String {
        match time.parse::<Timestamp>() {
            Ok(at) => relative(at.as_second() - self.now.as_second()),
            Err(_) => time.to_owned(),
        }
    }

    /// Whether a time of the API is over.
    pub(super) fn is_past(&self, time: &str) -> bool {
        time.parse::<Timestamp>().is_ok_and(|at| at <= self.now)
    }

    /// From here, with the time itself: `2026-02-01 12:00 UTC (in 89 days)`.
    pub(super) fn time(&self, time: &str) -> String {
        match time.parse::<Timestamp>() {
            Ok(at) => format!(
                "{} ({})",
                at.strftime("%Y-%m-%d %H:%M UTC"),
                self.relative_time(time)
            ),
            Err(_) => time.to_owned(),
        }
    }
}

/// Asks on the terminal before something that cuts somebody off, or cannot be taken back. `is_sure`:
/// nobody is asked.
///
/// # Errors
/// When the answer is no, or where nobody can be asked.
pub(super) fn confirm(is_sure: bool, question: &str) -> Result<()> {
    if is_sure {
        return Ok(());
    }
    if !io::stdin().is_terminal() {
        bail!("this takes effect at once, and nobody can be asked here: add --yes");
    }
    let mut prompt = io::stderr().lock();
    write!(prompt, "{question} [y/N] ")?;
    prompt.flush()?;
    let mut line = String::new();
    io::stdin().read_line(&mut line)?;
    if matches!(line.trim(), "y" | "Y" | "yes" | "Yes") {
        return Ok(());
    }
    bail!("nothing was changed")
}

/// Prints lines on standard output.
pub(super) fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{}", text.trim_end_matches('\n'))?;
    out.flush()
}

/// A time so many seconds from now: `in 89 days`, `3 hours ago`.
pub(super) fn relative(seconds: i64) -> String {
    let (unit, size) = match seconds.abs() {
        0..60 => ("second", 1),
        60..3600 => ("minute", 60),
        3600..172_800 => ("hour", 3600),
        _ => ("day", 86_400),
    };
    // To the nearest: a key that was just made for 90 days has 90 and not 89.
    let number = (seconds.abs() + size / 2) / size;
    let plural = if number == 1 { "" } else { "s" };
    match seconds {
        0 => "now".to_owned(),
        1.. => format!("in {number} {unit}{plural}"),
        _ => format!("{number} {unit}{plural} ago"),
    }
}

/// A table with one line per row, aligned, without borders.
pub(super) fn table<const N: usize>(
    header: [&str; N],
    rows: impl IntoIterator<Item = [String; N]>,
) -> String {
    lines(Some(&header), rows)
}

/// Names and values, aligned.
pub(super) fn facts<const N: usize>(facts: [(&str, String); N]) -> String {
    let rows = facts
        .into_iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| [name.to_owned(), value]);
    lines(None, rows)
}

fn lines<const N: usize>(
    header: Option<&[&str; N]>,
    rows: impl IntoIterator<Item = [String; N]>,
) -> String {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Disabled);
    if let Some(header) = header {
        table.set_header(*header);
    }
    for row in rows {
        // Names come from devices: nothing in them may move the terminal's cursor.
        table.add_row(row.map(|cell| clean(&cell)));
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    let lines: Vec<_> = table
        .lines()
        .map(|line| line.trim_end().to_owned())
        .collect();
    lines.join("\n")
}

/// Text without characters that would not show as themselves.
pub(super) fn clean(text: &str) -> String {
    text.chars()
        .map(|c| if is_hidden(c) { '\u{fffd}' } else { c })
        .collect()
}

/// Several words as one cell; `-` for none.
pub(super) fn list<T: AsRef<str>>(words: &[T]) -> String {
    if words.is_empty() {
        return "-".to_owned();
    }
    words
        .iter()
        .map(AsRef::as_ref)
        .collect::<Vec<_>>()
        .join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_from_here_to_the_nearest_unit() {
        for (seconds, text) in [
            (0, "now"),
            (1, "in 1 second"),
            (-59, "59 seconds ago"),
            (3599, "in 60 minutes"),
            (-7200, "2 hours ago"),
            (7_775_999, "in 90 days"),
        ] {
            assert_eq!(relative(seconds), text);
        }
    }

    #[test]
    fn columns_are_aligned_and_control_characters_shown_as_such() {
        let rows = [
            ["laptop".to_owned(), "100.64.0.1".to_owned()],
            ["x\u{1b}[2J".to_owned(), "-".to_owned()],
        ];
        assert_eq!(
            table(["NAME", "ADDRESS"], rows),
            "NAME    ADDRESS\nlaptop  100.64.0.1\nx\u{fffd}[2J   -"
        );
    }
}
