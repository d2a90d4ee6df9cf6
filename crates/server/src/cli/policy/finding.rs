//! What is wrong with a file, and where: shown as compilers do it, or as JSON.

use std::fmt::Write as _;
use std::io::{self, Write as _};

use anyhow::Result;
use bowline_policy::{Diagnostic, Failure, Place};
use serde::Serialize;

use super::super::output::clean;
use super::source::Source;

/// Longest source line that is shown whole, in characters: a policy may be one long line.
const WIDTH: usize = 120;
/// How much of a longer one is shown before the place.
const BEFORE: usize = 40;
/// What a tab is shown as.
const TAB: &str = "    ";

/// An error or a warning.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    file: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<usize>,
    /// In bytes, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    column: Option<usize>,
    message: String,
    /// The failed test or the warning, as the API says it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    data: Vec<Failure>,
    /// The source line and what stands below it.
    #[serde(skip)]
    excerpt: String,
}

/// What a command found, for programs.
#[derive(Debug, Default, Serialize)]
pub(super) struct Report {
    /// Nothing is wrong.
    ok: bool,
    /// What is wrong.
    pub(super) errors: Vec<Finding>,
    /// What is odd.
    pub(super) warnings: Vec<Finding>,
    /// The tests that ran.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) tests: Option<Tests>,
    /// The new `ETag`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) etag: Option<String>,
}

/// How many tests ran.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) struct Tests {
    /// Those that hold.
    pub(super) passed: usize,
    /// Those that do not.
    pub(super) failed: usize,
}

impl Finding {
    /// Something at a place.
    pub(super) fn at(source: &Source, place: Place, message: impl Into<String>) -> Self {
        let is_known = place.line > 0;
        Self {
            file: source.name.clone(),
            line: is_known.then_some(place.line),
            column: is_known.then_some(place.column),
            message: message.into(),
            data: Vec::new(),
            excerpt: excerpt(&source.text, place).unwrap_or_default(),
        }
    }

    /// Something about the file, or what it could not be read for.
    pub(super) fn whole(file: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            file: file.into(),
            line: None,
            column: None,
            message: message.into(),
            data: Vec::new(),
            excerpt: String::new(),
        }
    }

    /// A failed test, or a warning with an entry of its own.
    pub(super) fn entry(source: &Source, place: Place, message: &str, failure: Failure) -> Self {
        Self {
            data: vec![failure],
            ..Self::at(source, place, message)
        }
    }

    /// What the policy engine says: one for each failed test.
    pub(super) fn of(source: &Source, diagnostic: Diagnostic) -> Vec<Self> {
        let Diagnostic {
            message,
            place,
            failures,
            exhausted: _,
        } = diagnostic;
        if failures.is_empty() {
            // The place stands in front already.
            let message = match super::place::split(&message) {
                Some((_, rest)) => rest.to_owned(),
                None => message,
            };
            return vec![Self::at(source, place, message)];
        }
        let failures = failures.into_iter();
        failures
            .map(|failure| Self::entry(source, failure.place, &message, failure))
            .collect()
    }

    /// Whether this is what it says.
    pub(super) fn says(&self, message: &str) -> bool {
        self.message == message
    }

    /// Whether it is a test that failed.
    pub(super) fn is_test(&self) -> bool {
        self.data.iter().any(|entry| !entry.errors.is_empty())
    }

    /// As a compiler shows it.
    fn render(&self, severity: &str) -> String {
        let mut text = clean(&self.file);
        // Writing to a String cannot fail, here and below.
        for number in [self.line, self.column].into_iter().flatten() {
            let _ = write!(text, ":{number}");
        }
        let failed = self.data.first().filter(|entry| !entry.errors.is_empty());
        let message = match (failed, self.data.first()) {
            (Some(failed), _) => format!("test of {} failed", failed.user),
            (None, Some(entry)) if !entry.warnings.is_empty() => {
                format!("{}: {}", entry.user, entry.warnings.join("; "))
            }
            _ => self.message.clone(),
        };
        let _ = writeln!(text, ": {severity}: {}", clean(&message));
        text.push_str(&self.excerpt);
        for error in failed.iter().flat_map(|failed| &failed.errors) {
            let _ = writeln!(text, "      = {}", clean(error));
        }
        text
    }
}

impl Report {
    /// Of errors alone.
    pub(super) fn of(errors: Vec<Finding>) -> Self {
        Self {
            errors,
            ..Self::default()
        }
    }

    /// Whether something is wrong.
    pub(super) fn is_wrong(&self) -> bool {
        !self.errors.is_empty()
    }

    /// Adds a number of tests that ran.
    pub(super) fn ran(&mut self, tests: Tests) {
        let all = self.tests.get_or_insert_default();
        all.passed += tests.passed;
        all.failed += tests.failed;
    }

    /// Notes whether all is well, before it is printed.
    pub(super) fn close(&mut self) {
        self.ok = self.errors.is_empty();
    }

    /// Shows errors and warnings to people, on standard error.
    pub(super) fn complain(&self) -> Result<()> {
        let mut out = io::stderr().lock();
        for (severity, findings) in [("error", &self.errors), ("warning", &self.warnings)] {
            for finding in findings {
                out.write_all(finding.render(severity).as_bytes())?;
            }
        }
        Ok(())
    }
}

/// The line of a place with a mark below it.
fn excerpt(text: &str, place: Place) -> Option<String> {
    let line = text.lines().nth(place.line.checked_sub(1)?)?;
    // Behind the last character for what is missing at the end.
    let at = (place.column.saturating_sub(1)..=line.len()).find(|at| line.is_char_boundary(*at))?;
    let (before, rest) = line.split_at(at);
    let (token, after) = rest.split_at(token_length(rest));
    let mut before = show(before);
    let token = show(token);
    let mut after = show(after);
    let length = |text: &str| text.chars().count();
    if length(&before) + length(&token) + length(&after) > WIDTH {
        let skipped = length(&before).saturating_sub(BEFORE);
        if skipped > 0 {
            before = std::iter::once('…')
                .chain(before.chars().skip(skipped))
                .collect();
        }
        let room = WIDTH.saturating_sub(length(&before) + length(&token));
        if length(&after) > room {
            after = after.chars().take(room).chain(['…']).collect();
        }
    }
    let number = place.line;
    let indent = " ".repeat(length(&before));
    let mark = "^".repeat(length(&token).clamp(1, WIDTH));
    Some(format!(
        "{number:>5} | {before}{token}{after}\n      | {indent}{mark}\n"
    ))
}

/// Tabs as spaces, and nothing that moves the cursor.
fn show(text: &str) -> String {
    clean(&text.replace('\t', TAB))
}

/// The length in bytes of the word or string that a text begins with; of a bracket, one.
fn token_length(text: &str) -> usize {
    let mut chars = text.char_indices();
    match chars.next() {
        None => 0,
        Some((_, '"')) => {
            let mut is_escaped = false;
            for (at, c) in chars {
                match c {
                    '"' if !is_escaped => return at + 1,
                    '\\' => is_escaped = !is_escaped,
                    _ => is_escaped = false,
                }
            }
            text.trim_end().len()
        }
        Some((_, c)) if c.is_alphanumeric() || c == '-' => {
            let is_inside = |c: char| c.is_alphanumeric() || "-+._".contains(c);
            text.find(|c| !is_inside(c)).unwrap_or(text.len())
        }
        Some((_, c)) => c.len_utf8(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(text: &str, line: usize, column: usize) -> String {
        excerpt(text, Place { line, column }).unwrap()
    }

    #[test]
    fn the_mark_stands_under_the_word_whatever_is_before_it() {
        assert_eq!(
            mark("{\n\t\"a\": true,\n}", 2, 2),
            "    2 |     \"a\": true,\n      |     ^^^\n"
        );
        assert_eq!(
            mark("{\"\u{e4}\u{e4}\": \"x\\\"y\", 1}", 1, 10),
            "    1 | {\"\u{e4}\u{e4}\": \"x\\\"y\", 1}\n      |        ^^^^^^\n"
        );
        // At the end of the file, where something is missing.
        assert_eq!(mark("{\"a\"", 1, 5), "    1 | {\"a\"\n      |     ^\n");
        assert_eq!(mark("x\u{1b}[2J", 1, 1).lines().count(), 2);
        assert!(!mark("x\u{1b}[2J", 1, 1).contains('\u{1b}'));
    }

    #[test]
    fn of_a_long_line_the_part_around_the_place_is_shown() {
        let text = format!("{}\"here\"{}", "a".repeat(300), "b".repeat(300));
        let shown = mark(&text, 1, 301);
        let lines: Vec<&str> = shown.lines().collect();
        assert_eq!(lines[0].chars().count(), "    1 | ".len() + WIDTH + 1);
        let at = lines[1].find('^').unwrap();
        let marked: String = lines[0].chars().skip(at).take(6).collect();
        assert_eq!(
            (marked.as_str(), lines[1].matches('^').count()),
            ("\"here\"", 6)
        );
    }

    #[test]
    fn a_place_outside_of_the_text_has_no_excerpt() {
        for (line, column) in [(0, 0), (3, 1), (1, 9)] {
            assert_eq!(excerpt("{}\n{}", Place { line, column }), None);
        }
    }
}
