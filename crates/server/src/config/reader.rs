//! Reads one setting after the other from all sources, and remembers where each came from.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::error::{Problem, Source};
use super::file::File;
use super::value::{Raw, Value};

/// What is known about one setting.
#[derive(Debug)]
pub struct Field {
    /// Its TOML section; empty for the settings before the first section.
    pub(super) section: &'static str,
    /// Its key in the section.
    pub(super) key: &'static str,
    /// Its flag without the dashes; empty: it has none.
    pub(super) flag: &'static str,
    /// Its documentation, line by line, each with the space after `///`.
    pub(super) doc: &'static [&'static str],
    /// Its default as the reference shows it.
    pub(super) default: &'static str,
    /// What its value can be.
    pub(super) expected: fn() -> String,
    /// Whether its value is never shown and may stand in a file of its own.
    pub(super) secret: bool,
}

impl Field {
    /// Key and section: `log.level`, or `listen` where there is no section.
    pub(super) fn name(&self) -> String {
        if self.section.is_empty() {
            self.key.to_owned()
        } else {
            format!("{}.{}", self.section, self.key)
        }
    }

    /// The environment variable: `BOWLINE_LOG_LEVEL`.
    pub(super) fn variable(&self) -> String {
        format!(
            "BOWLINE_{}",
            self.name().replace('.', "_").to_ascii_uppercase()
        )
    }

    /// The names that a file may use: the setting's own and, for a secret, its twin's.
    pub(super) fn names(&self) -> impl Iterator<Item = String> {
        let twin = self.secret.then(|| format!("{}_file", self.name()));
        [self.name()].into_iter().chain(twin)
    }

    /// Whether a file's key means this setting.
    pub(super) fn answers_to(&self, name: &str) -> bool {
        self.names().any(|known| known == name)
    }
}

/// The part of the process's environment that settings look at.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    variables: BTreeMap<String, OsString>,
}

impl Environment {
    /// The environment of this process.
    #[must_use]
    pub fn of_process() -> Self {
        Self::new(std::env::vars_os())
    }

    /// An environment of these variables; those that don't begin with `BOWLINE_` are left out.
    pub fn new<N, V>(variables: impl IntoIterator<Item = (N, V)>) -> Self
    where
        N: Into<OsString>,
        V: Into<OsString>,
    {
        let variables = variables
            .into_iter()
            .filter_map(|(name, value)| Some((name.into().into_string().ok()?, value.into())))
            .filter(|(name, value)| name.starts_with("BOWLINE_") && !value.is_empty())
            .collect();
        Self { variables }
    }

    /// A variable's value; an empty one counts as absent, and what is not UTF-8 becomes text
    /// that no setting takes.
    pub(super) fn get(&self, name: &str) -> Option<String> {
        self.variables
            .get(name)
            .map(|value| value.to_string_lossy().into_owned())
    }

    /// The variables' names.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.variables.keys().map(String::as_str)
    }
}

/// One setting in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Section and key: `log.level`.
    pub name: String,
    /// The value as text; secrets are redacted.
    pub value: String,
    /// The value as JSON; secrets are redacted.
    pub json: serde_json::Value,
    /// Where it came from.
    pub source: Source,
}

/// Reads settings, collecting what is wrong instead of stopping.
pub(super) struct Reader<'a> {
    pub(super) flags: &'a BTreeMap<&'static str, String>,
    pub(super) environment: &'a Environment,
    pub(super) file: Option<&'a File>,
    pub(super) entries: Vec<Entry>,
    pub(super) problems: Vec<Problem>,
    /// A line for each file of a secret that others may read.
    pub(super) secret_files: Vec<String>,
}

/// A value that was found: in its own words, or in the file that a twin names.
enum Found {
    Value(Raw, Source),
    Twin(Raw, Source),
}

impl Reader<'_> {
    /// The value of one of `fields`. A bad value is noted and the default taken, so that the
    /// rest can be read.
    pub(super) fn read<T: Value>(
        &mut self,
        fields: &'static [Field],
        key: &str,
        default: impl FnOnce() -> T,
    ) -> T {
        let found = fields
            .iter()
            .find(|field| field.key == key)
            .and_then(|field| self.find(field).map(|found| (field, found)));
        let read = match found {
            None => None,
            Some((field, Found::Value(raw, at))) => self.value::<T>(field, &raw, at),
            Some((field, Found::Twin(raw, at))) => self.secret::<T>(field, &raw, at),
        };
        let (value, source) = read.unwrap_or_else(|| (default(), Source::Default));
        if let Some(field) = fields.iter().find(|field| field.key == key) {
            self.entries.push(Entry {
                name: field.name(),
                value: value.show(),
                json: value.json(),
                source,
            });
        }
        value
    }

    /// Where the setting that was read last under this name came from.
    pub(super) fn source(&self, name: &str) -> Source {
        let entry = self.entries.iter().rev().find(|entry| entry.name == name);
        entry.map_or(Source::Default, |entry| entry.source.clone())
    }

    /// The strongest source that has the setting, in either form.
    fn find(&mut self, field: &Field) -> Option<Found> {
        if let Some(text) = self.flags.get(field.flag) {
            return Some(Found::Value(
                Raw::Text(text.clone()),
                Source::Flag(field.flag),
            ));
        }
        let from_environment = |name: String| {
            let text = self.environment.get(&name)?;
            Some((Raw::Text(text), Source::Environment(name)))
        };
        let own = from_environment(field.variable());
        let twin = from_environment(format!("{}_FILE", field.variable()));
        if let Some(found) = self.choose(field, own, twin.filter(|_| field.secret)) {
            return Some(found);
        }
        let file = self.file?;
        let owned = |(raw, at): (&Raw, Source)| (raw.clone(), at);
        let own = file.get(&field.name()).map(owned);
        let twin = file.get(&format!("{}_file", field.name())).map(owned);
        self.choose(field, own, twin.filter(|_| field.secret))
    }

    fn choose(
        &mut self,
        field: &Field,
        own: Option<(Raw, Source)>,
        twin: Option<(Raw, Source)>,
    ) -> Option<Found> {
        match (own, twin) {
            (Some(_), Some((_, at))) => {
                self.problems.push(Problem::BothForms {
                    at,
                    key: field.name(),
                });
                None
            }
            (Some((raw, at)), None) => Some(Found::Value(raw, at)),
            (None, Some((raw, at))) => Some(Found::Twin(raw, at)),
            (None, None) => None,
        }
    }

    fn value<T: Value>(&mut self, field: &Field, raw: &Raw, at: Source) -> Option<(T, Source)> {
        let value = match (&at, raw) {
            (Source::File(..), raw) => {
                let base = self.file.map_or(Path::new(""), File::directory);
                T::from_raw(raw).map(|value| value.relative_to(base))
            }
            (_, Raw::Text(text)) => T::from_text(text),
            _ => None,
        };
        if value.is_none() {
            self.problems.push(Problem::BadValue {
                at: at.clone(),
                key: field.name(),
                value: (!field.secret).then(|| raw.to_string()),
                expected: (field.expected)(),
            });
        }
        if let (true, Source::File(..), Some(file)) = (field.secret, &at, self.file) {
            self.secret_files.extend(super::open_to_all(file.path()));
        }
        value.map(|value| (value, at))
    }

    /// Reads a secret from the file that its twin names.
    fn secret<T: Value>(&mut self, field: &Field, raw: &Raw, at: Source) -> Option<(T, Source)> {
        let key = format!("{}_file", field.name());
        let Raw::Text(path) = raw else {
            self.problems.push(Problem::BadValue {
                at,
                key,
                value: Some(raw.to_string()),
                expected: PathBuf::expected(),
            });
            return None;
        };
        let mut path = PathBuf::from(path);
        if let (Source::File(..), Some(file)) = (&at, self.file) {
            path = file.directory().join(path);
        }
        let reason = match std::fs::read(&path) {
            Err(error) => format!("could not read it: {error}"),
            Ok(content) => match T::from_file(&content) {
                Some(value) => {
                    self.secret_files.extend(super::open_to_all(&path));
                    return Some((value, at));
                }
                None => format!("its content can't be used; expected {}", (field.expected)()),
            },
        };
        self.problems.push(Problem::UnreadableSecret {
            at,
            key,
            path,
            reason,
        });
        None
    }
}

/// The known name that is at most two edits from `name`, if one is.
pub(super) fn nearest(name: &str, known: impl IntoIterator<Item = String>) -> Option<String> {
    known
        .into_iter()
        .map(|known| (edits(name, &known), known))
        .filter(|(edits, _)| *edits <= 2)
        .min()
        .map(|(_, known)| known)
}

/// How many letters must be put in, taken out or replaced to turn one text into the other.
fn edits(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (index, letter) in left.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = index + 1;
        for column in 0..right.len() {
            let replaced = diagonal + usize::from(right[column] != letter);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[right.len()]
}
