//! From the HuJSON outline to typed values, the way Go's decoder reads a policy.
//!
//! Member names match without regard to case, unknown ones are errors, `null` is absence, and of
//! a repeated member the last one counts, with a warning. Map keys are taken as written.

use crate::budget::Budget;
use crate::diagnostic::{Diagnostic, Place, Warning};
use crate::hujson::{CompositeKind, Index, LineIndex, Outline, quote};
use std::cell::RefCell;
use std::collections::HashMap;

/// The most warnings about one text.
const WARNINGS_MAX: usize = 100;

/// Estimated memory of a text: as it is read, and as the selector that most texts become, each
/// with a copy of it.
const TEXT: usize = 150;

/// A text that is being read.
pub(crate) struct Reading<'a> {
    outline: Outline<'a>,
    lines: LineIndex,
    budget: &'a Budget,
    warnings: RefCell<Vec<Warning>>,
}

impl<'a> Reading<'a> {
    /// Checks the grammar of a text.
    ///
    /// # Errors
    /// A syntax error, or what the budget lacks.
    pub(crate) fn new(text: &'a str, budget: &'a Budget) -> Result<Self, Diagnostic> {
        let outline = Outline::parse(text.as_bytes(), budget)?;
        budget.bytes(LineIndex::bytes(text.as_bytes()))?;
        Ok(Self {
            outline,
            lines: LineIndex::new(text.as_bytes()),
            budget,
            warnings: RefCell::default(),
        })
    }

    /// The whole document.
    pub(crate) const fn root(&self) -> Part<'_> {
        Part {
            at: 0,
            reading: self,
        }
    }

    /// How many values the text has.
    pub(crate) fn values(&self) -> usize {
        self.outline.len()
    }

    /// Gives back what reading took, and returns the warnings.
    pub(crate) fn finish(self, text: &str) -> Vec<Warning> {
        self.budget.give_back(self.outline.bytes());
        self.budget.give_back(LineIndex::bytes(text.as_bytes()));
        self.warnings.into_inner()
    }

    fn place(&self, at: Index) -> Place {
        let (line, column) = self.lines.locate(self.outline.span(at).0);
        Place { line, column }
    }

    fn warn(&self, at: Index, is_repetition: bool, message: impl FnOnce() -> String) {
        let mut warnings = self.warnings.borrow_mut();
        if warnings.len() < WARNINGS_MAX {
            warnings.push(Warning {
                message: message(),
                place: self.place(at),
                is_repetition,
            });
        }
    }

    /// Says that a name takes the place of an earlier one.
    fn warn_of_repetition(&self, earlier: Index, later: Index) {
        let name = |at| quote(&self.outline.string(at).unwrap_or_default());
        self.warn(later, true, || {
            let line = self.place(earlier).line;
            format!(
                "{} replaces {} of line {line}, which has no effect",
                name(later),
                name(earlier)
            )
        });
    }
}

/// A value of the policy, and where it stands.
#[derive(Clone, Copy)]
pub(crate) struct Part<'a> {
    at: Index,
    reading: &'a Reading<'a>,
}

/// A text of the policy, and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Text {
    pub(crate) text: String,
    pub(crate) place: Place,
}

impl<'a> Part<'a> {
    pub(crate) fn place(self) -> Place {
        self.reading.place(self.at)
    }

    const fn inner(self, at: Index) -> Self {
        Self {
            at,
            reading: self.reading,
        }
    }

    /// What the work on the text may take.
    pub(crate) const fn budget(self) -> &'a Budget {
        self.reading.budget
    }

    /// Says what is odd about the value and does not keep the text out.
    pub(crate) fn warn(self, message: impl FnOnce() -> String) {
        self.reading.warn(self.at, false, message);
    }

    fn literal(self) -> Option<&'a [u8]> {
        self.reading.outline.literal(self.at)
    }

    fn kind(self) -> Option<CompositeKind> {
        self.reading.outline.kind(self.at)
    }

    /// What the value is, for messages.
    fn found(self) -> &'static str {
        match (self.kind(), self.literal().and_then(<[u8]>::first)) {
            (Some(CompositeKind::Object), _) => "an object",
            (Some(CompositeKind::Array), _) => "an array",
            (None, Some(b'"')) => "a string",
            (None, Some(b't' | b'f')) => "a boolean",
            (None, Some(b'n')) => "null",
            (None, _) => "a number",
        }
    }

    pub(crate) fn expected<T>(self, wanted: &str) -> Result<T, Diagnostic> {
        let message = format!(
            "json: cannot use {} where {wanted} is expected",
            self.found()
        );
        Err(Diagnostic::new(self.place(), message))
    }

    pub(crate) fn is_list(self) -> bool {
        self.kind() == Some(CompositeKind::Array)
    }

    pub(crate) fn is_null(self) -> bool {
        self.literal() == Some(b"null")
    }

    pub(crate) fn text(self) -> Result<Text, Diagnostic> {
        let (start, end) = self.reading.outline.span(self.at);
        self.budget().elements(1, TEXT + 3 * (end - start))?;
        match self.reading.outline.string(self.at) {
            Some(text) => Ok(Text {
                text,
                place: self.place(),
            }),
            None if self.is_null() => Ok(Text {
                text: String::new(),
                place: self.place(),
            }),
            None => self.expected("a string"),
        }
    }

    pub(crate) fn bool(self) -> Result<bool, Diagnostic> {
        match self.literal() {
            Some(b"true") => Ok(true),
            Some(b"false" | b"null") => Ok(false),
            _ => self.expected("a boolean"),
        }
    }

    /// A whole number between two bounds, written without fraction and exponent; 0 if `null`.
    pub(crate) fn integer(self, first: i64, last: i64) -> Result<i64, Diagnostic> {
        let text = match self.literal() {
            Some(b"null") => return Ok(0),
            Some(text) if text.first() != Some(&b'"') => std::str::from_utf8(text).ok(),
            _ => None,
        };
        let Some(text) = text.filter(|text| !text.starts_with(['t', 'f'])) else {
            return self.expected("a number");
        };
        match text.parse::<i64>() {
            Ok(number) if (first..=last).contains(&number) => Ok(number),
            _ => {
                let message = format!("json: {text} is not a whole number from {first} to {last}");
                Err(Diagnostic::new(self.place(), message))
            }
        }
    }

    /// A number between two bounds, as written; `None` if `null`.
    pub(crate) fn number(self, first: f64, last: f64) -> Result<Option<String>, Diagnostic> {
        let text = match self.literal() {
            Some(b"null") => return Ok(None),
            Some(text) => String::from_utf8_lossy(text).into_owned(),
            None => return self.expected("a number"),
        };
        match text.parse::<f64>() {
            _ if text.starts_with(['"', 't', 'f']) => self.expected("a number"),
            Ok(number) if (first..=last).contains(&number) => Ok(Some(text)),
            _ => {
                let message = format!("json: {text} is not a number from {first} to {last}");
                Err(Diagnostic::new(self.place(), message))
            }
        }
    }

    /// The elements of an array.
    pub(crate) fn list(self) -> Result<impl Iterator<Item = Part<'a>>, Diagnostic> {
        match self.kind() {
            Some(CompositeKind::Array) => {}
            None if self.is_null() => {}
            _ => return self.expected("an array"),
        }
        // A literal has nothing inside.
        let elements = self.reading.outline.children(self.at);
        Ok(elements.map(move |at| self.inner(at)))
    }

    /// The elements of an array of strings.
    pub(crate) fn texts(self) -> Result<Vec<Text>, Diagnostic> {
        self.list()?.map(Part::text).collect()
    }

    /// The entries of a map, keys as written. Of a repeated key the last value counts.
    pub(crate) fn map(self) -> Result<Vec<(Text, Part<'a>)>, Diagnostic> {
        match self.kind() {
            Some(CompositeKind::Object) => {}
            None if self.is_null() => return Ok(Vec::new()),
            _ => return self.expected("an object"),
        }
        let reading = self.reading;
        let mut entries: Vec<(Text, Part<'a>)> = Vec::new();
        let mut seen: HashMap<String, (usize, Index)> = HashMap::new();
        let mut folded: HashMap<String, Index> = HashMap::new();
        let mut used = 0;
        let mut children = reading.outline.children(self.at);
        while let (Some(name), Some(value)) = (children.next(), children.next()) {
            let key = self.inner(name).text()?;
            // The two tables here, and their copies of the key.
            let size = 2 * (80 + key.text.len());
            self.budget()
                .elements(1, size + size_of::<(Text, Part<'a>)>())?;
            used += size;
            let part = self.inner(value);
            if let Some((index, earlier)) = seen.get_mut(&key.text) {
                reading.warn_of_repetition(*earlier, name);
                *earlier = name;
                if let Some(entry) = entries.get_mut(*index) {
                    *entry = (key, part);
                }
                continue;
            }
            let earlier = *folded.entry(key.text.to_lowercase()).or_insert(name);
            if earlier != name {
                reading.warn(name, false, || {
                    let line = reading.place(earlier).line;
                    let other = reading.outline.string(earlier).unwrap_or_default();
                    format!(
                        "{} and {} of line {line} differ in case alone",
                        quote(&key.text),
                        quote(&other)
                    )
                });
            }
            seen.insert(key.text.clone(), (entries.len(), name));
            entries.push((key, part));
        }
        self.budget().give_back(used);
        Ok(entries)
    }

    /// The members of a structure: `take` gets each one under its canonical name.
    ///
    /// A member that is `null` is left out, as if it were absent.
    pub(crate) fn members(
        self,
        known: &[&'static str],
        take: impl FnMut(&'static str, Part<'a>) -> Result<(), Diagnostic>,
    ) -> Result<(), Diagnostic> {
        self.members_with(known, &[], take)
    }

    /// The same where some names are other words for others.
    pub(crate) fn members_with(
        self,
        known: &[&'static str],
        aliases: &[(&str, &str)],
        mut take: impl FnMut(&'static str, Part<'a>) -> Result<(), Diagnostic>,
    ) -> Result<(), Diagnostic> {
        match self.kind() {
            Some(CompositeKind::Object) => {}
            None if self.is_null() => return Ok(()),
            _ => return self.expected("an object"),
        }
        let outline = &self.reading.outline;
        // What was given so far. There are no more than known names.
        let mut given: Vec<(&str, Index)> = Vec::new();
        let mut children = outline.children(self.at);
        while let (Some(at), Some(value)) = (children.next(), children.next()) {
            self.budget().steps(1)?;
            let key = outline.string(at).unwrap_or_default();
            let name = known.iter().find(|name| **name == key);
            let name = name.or_else(|| known.iter().find(|name| folded_equal(name, &key)));
            let Some(name) = name else {
                let message = format!("json: unknown field {}", quote(&key));
                return Err(Diagnostic::new(self.inner(at).place(), message));
            };
            let part = self.inner(value);
            if part.is_null() {
                continue;
            }
            let alias = aliases.iter().find(|(alias, _)| alias == name);
            let means = alias.map_or(*name, |(_, means)| *means);
            match given.iter_mut().find(|(known, _)| *known == means) {
                Some((_, earlier)) => {
                    self.reading.warn_of_repetition(*earlier, at);
                    *earlier = at;
                }
                None => given.push((means, at)),
            }
            take(name, part)?;
        }
        Ok(())
    }

    /// The value as compact JSON.
    pub(crate) fn raw(self) -> Result<String, Diagnostic> {
        let (start, end) = self.reading.outline.span(self.at);
        self.budget().elements(1, end - start)?;
        let mut out = Vec::new();
        self.pack(&mut out);
        Ok(String::from_utf8_lossy(&out).into_owned())
    }

    /// No deeper than the parser allows.
    fn pack(self, out: &mut Vec<u8>) {
        let Some(kind) = self.kind() else {
            out.extend_from_slice(self.literal().unwrap_or_default());
            return;
        };
        let (open, close) = match kind {
            CompositeKind::Object => (b'{', b'}'),
            CompositeKind::Array => (b'[', b']'),
        };
        out.push(open);
        for (index, at) in self.reading.outline.children(self.at).enumerate() {
            if kind == CompositeKind::Object && index % 2 == 1 {
                out.push(b':');
            } else if index > 0 {
                out.push(b',');
            }
            self.inner(at).pack(out);
        }
        out.push(close);
    }
}

/// Go's case folding: ASCII letters, and the two that fold to ASCII ones.
fn folded_equal(known: &str, key: &str) -> bool {
    let folded = key.chars().map(|character| match character {
        '\u{17f}' => 's',
        '\u{212a}' => 'k',
        other => other.to_ascii_lowercase(),
    });
    known
        .chars()
        .map(|character| character.to_ascii_lowercase())
        .eq(folded)
}
