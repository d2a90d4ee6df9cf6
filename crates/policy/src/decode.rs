//! From the HuJSON tree to typed values, the way Go's decoder reads a policy.
//!
//! Member names match without regard to case, unknown ones are errors, `null` is absence, and of
//! a repeated member the last one counts. Map keys are taken as written.

use crate::diagnostic::{Diagnostic, Place};
use crate::hujson::{Kind, LineIndex, Value};

/// A value of the policy, and where it stands.
#[derive(Clone, Copy)]
pub(crate) struct Part<'a> {
    value: &'a Value,
    lines: &'a LineIndex,
}

/// A text of the policy, and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Text {
    pub(crate) text: String,
    pub(crate) place: Place,
}

impl<'a> Part<'a> {
    pub(crate) const fn new(value: &'a Value, lines: &'a LineIndex) -> Self {
        Self { value, lines }
    }

    pub(crate) fn place(self) -> Place {
        self.place_of(self.value.start)
    }

    fn place_of(self, offset: usize) -> Place {
        let (line, column) = self.lines.locate(offset);
        Place { line, column }
    }

    const fn inner(self, value: &'a Value) -> Self {
        Self {
            value,
            lines: self.lines,
        }
    }

    /// What the value is, for messages.
    fn found(self) -> &'static str {
        match (
            self.value.as_composite(),
            self.value.as_literal().and_then(<[u8]>::first),
        ) {
            (Some(composite), _) if composite.kind == Kind::Object => "an object",
            (Some(_), _) => "an array",
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
        let composite = self.value.as_composite();
        composite.is_some_and(|list| list.kind == Kind::Array)
    }

    pub(crate) fn is_null(self) -> bool {
        self.value.is_null()
    }

    pub(crate) fn text(self) -> Result<Text, Diagnostic> {
        match self.value.as_string() {
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
        match self.value.as_literal() {
            Some(b"true") => Ok(true),
            Some(b"false" | b"null") => Ok(false),
            _ => self.expected("a boolean"),
        }
    }

    /// The elements of an array.
    pub(crate) fn list(self) -> Result<Vec<Part<'a>>, Diagnostic> {
        match self.value.as_composite() {
            Some(list) if list.kind == Kind::Array => Ok(list
                .members
                .iter()
                .map(|member| self.inner(&member.value))
                .collect()),
            None if self.is_null() => Ok(Vec::new()),
            _ => self.expected("an array"),
        }
    }

    /// The elements of an array of strings.
    pub(crate) fn texts(self) -> Result<Vec<Text>, Diagnostic> {
        self.list()?.into_iter().map(Part::text).collect()
    }

    /// The entries of a map, keys as written. Of a repeated key the last value counts.
    pub(crate) fn map(self) -> Result<Vec<(Text, Part<'a>)>, Diagnostic> {
        let object = match self.value.as_composite() {
            Some(object) if object.kind == Kind::Object => object,
            None if self.is_null() => return Ok(Vec::new()),
            _ => return self.expected("an object"),
        };
        let mut entries: Vec<(Text, Part<'a>)> = Vec::with_capacity(object.members.len());
        let mut seen = std::collections::HashMap::new();
        for member in &object.members {
            let start = member
                .name
                .as_ref()
                .map_or(member.value.start, |name| name.start);
            let text = member.key();
            let entry = Text {
                text: text.clone(),
                place: self.place_of(start),
            };
            let part = self.inner(&member.value);
            let index = *seen.entry(text).or_insert(entries.len());
            match entries.get_mut(index) {
                Some(old) => *old = (entry, part),
                None => entries.push((entry, part)),
            }
        }
        Ok(entries)
    }

    /// The members of a structure: `take` gets each one under its canonical name.
    ///
    /// A member that is `null` is left out, as if it were absent.
    pub(crate) fn members(
        self,
        known: &[&'static str],
        mut take: impl FnMut(&'static str, Part<'a>) -> Result<(), Diagnostic>,
    ) -> Result<(), Diagnostic> {
        let object = match self.value.as_composite() {
            Some(object) if object.kind == Kind::Object => object,
            None if self.is_null() => return Ok(()),
            _ => return self.expected("an object"),
        };
        for member in &object.members {
            let key = member.key();
            let name = known.iter().find(|name| **name == key);
            let name = name.or_else(|| known.iter().find(|name| folded_equal(name, &key)));
            let Some(name) = name else {
                let start = member
                    .name
                    .as_ref()
                    .map_or(member.value.start, |name| name.start);
                let message = format!("json: unknown field {}", crate::hujson::quote(&key));
                return Err(Diagnostic::new(self.place_of(start), message));
            };
            let part = self.inner(&member.value);
            if !part.is_null() {
                take(name, part)?;
            }
        }
        Ok(())
    }

    /// The value as compact JSON.
    pub(crate) fn raw(self) -> String {
        let mut value = self.value.clone();
        value.minimize();
        String::from_utf8_lossy(&value.pack()).into_owned()
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
