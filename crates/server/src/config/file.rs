//! The TOML file: its values by key, each with its line.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

use super::error::{Problem, Source};
use super::reader::{Field, nearest};
use super::value::Raw;

/// A settings file that was read.
#[derive(Debug)]
pub(super) struct File {
    path: PathBuf,
    values: BTreeMap<String, (Raw, usize)>,
}

impl File {
    /// Reads the file. Unknown keys are problems; bad values are found later, by their setting.
    pub(super) fn read(path: &Path, fields: &[&Field]) -> Result<Self, Vec<Problem>> {
        let text = std::fs::read_to_string(path).map_err(|error| {
            vec![Problem::Unreadable {
                path: path.to_owned(),
                reason: error.to_string(),
            }]
        })?;
        Self::parse(path, &text, fields)
    }

    fn parse(path: &Path, text: &str, fields: &[&Field]) -> Result<Self, Vec<Problem>> {
        let line = |offset: usize| 1 + text[..offset].matches('\n').count();
        let at = |line: usize| Source::File(path.to_owned(), line);

        let document = DeTable::parse(text).map_err(|error| {
            let line = line(error.span().map_or(0, |span| span.start.min(text.len())));
            vec![Problem::Syntax {
                at: at(line),
                reason: error.message().to_owned(),
            }]
        })?;

        let mut values = BTreeMap::new();
        let mut problems = Vec::new();
        let mut take = |key: String, value: &DeValue<'_>, line: usize| {
            if fields.iter().any(|field| field.answers_to(&key)) {
                values.insert(key, (raw(value), line));
            } else {
                let sections = fields.iter().map(|field| field.section.to_owned());
                let known = fields
                    .iter()
                    .flat_map(|field| field.names())
                    .chain(sections);
                let meant = nearest(&key, known);
                problems.push(Problem::UnknownKey {
                    at: at(line),
                    key,
                    meant,
                });
            }
        };
        let mut misplaced = Vec::new();
        for (key, value) in document.get_ref() {
            let name = key.get_ref().as_ref();
            let key_line = line(key.span().start);
            let is_section = fields.iter().any(|field| field.section == name);
            match value.get_ref() {
                DeValue::Table(table) if is_section => {
                    for (key, value) in table {
                        let key_line = line(key.span().start);
                        take(
                            format!("{name}.{}", key.get_ref()),
                            value.get_ref(),
                            key_line,
                        );
                    }
                }
                _ if is_section => {
                    misplaced.push(Problem::NotASection {
                        at: at(key_line),
                        key: name.to_owned(),
                    });
                }
                value => take(name.to_owned(), value, key_line),
            }
        }
        problems.append(&mut misplaced);
        if problems.is_empty() {
            return Ok(Self {
                path: path.to_owned(),
                values,
            });
        }
        // The parser sorts keys by name; who repairs a file goes from top to bottom.
        problems.sort_by_key(|problem| match problem {
            Problem::UnknownKey {
                at: Source::File(_, line),
                ..
            }
            | Problem::NotASection {
                at: Source::File(_, line),
                ..
            } => *line,
            _ => 0,
        });
        Err(problems)
    }

    /// The value of a key (with its section), and where it stands.
    pub(super) fn get(&self, key: &str) -> Option<(&Raw, Source)> {
        let (raw, line) = self.values.get(key)?;
        Some((raw, Source::File(self.path.clone(), *line)))
    }

    /// The file's path, as it was given.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The directory that relative paths in this file start from.
    pub(super) fn directory(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new(""))
    }
}

fn raw(value: &DeValue<'_>) -> Raw {
    match value {
        DeValue::String(text) => Raw::Text(text.clone().into_owned()),
        DeValue::Integer(number) if number.radix() == 10 => {
            Raw::Integer(number.as_str().to_owned())
        }
        DeValue::Integer(number) => i128::from_str_radix(number.as_str(), number.radix())
            .map_or(Raw::Other("a number"), |number| {
                Raw::Integer(number.to_string())
            }),
        DeValue::Boolean(value) => Raw::Boolean(*value),
        DeValue::Array(items) => Raw::List(items.iter().map(|item| raw(item.get_ref())).collect()),
        DeValue::Float(_) => Raw::Other("a fraction"),
        DeValue::Datetime(_) => Raw::Other("a date"),
        DeValue::Table(_) => Raw::Other("a table"),
    }
}
