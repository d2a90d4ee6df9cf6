//! What can be wrong with settings, told with the place and the way out.

use std::fmt;
use std::path::PathBuf;

/// Why settings could not be loaded. The text names every problem, one a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingsError {
    problems: Vec<Problem>,
}

impl SettingsError {
    /// An error of at least one problem.
    pub(super) fn new(problems: Vec<Problem>) -> Self {
        Self { problems }
    }

    /// The problems, in the order of the sources: flags, environment, file.
    #[must_use]
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }
}

impl fmt::Display for SettingsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for SettingsError {}

/// Where a setting's value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// The program's own default.
    Default,
    /// A line, counted from 1, of a settings file.
    File(PathBuf, usize),
    /// An environment variable, by its name.
    Environment(String),
    /// A flag, by its name without the dashes.
    Flag(&'static str),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path, line) => write!(f, "{}:{line}", path.display()),
            Self::Environment(name) => f.write_str(name),
            Self::Flag(name) => write!(f, "--{name}"),
        }
    }
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Problem {
    /// A settings file that was asked for, or is there, but can't be read.
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        reason: String,
    },
    /// A settings file that is not TOML.
    Syntax {
        /// The file and line.
        at: Source,
        /// What the parser said.
        reason: String,
    },
    /// A key or section that no setting has.
    UnknownKey {
        /// The file and line.
        at: Source,
        /// The key with its section: `log.levle`.
        key: String,
        /// A known key that is spelled nearly the same.
        meant: Option<String>,
    },
    /// A section that is not a table, or the other way round.
    NotASection {
        /// The file and line.
        at: Source,
        /// The section.
        key: String,
    },
    /// A value that the setting can't have.
    BadValue {
        /// Where it stands.
        at: Source,
        /// The key with its section.
        key: String,
        /// The value, unless it is a secret.
        value: Option<String>,
        /// What the setting can have.
        expected: String,
    },
    /// A setting and its `_file` twin in the same source.
    BothForms {
        /// Where the twin stands.
        at: Source,
        /// The key with its section.
        key: String,
    },
    /// A file that holds a secret and can't be read.
    UnreadableSecret {
        /// Where the file is named.
        at: Source,
        /// The key of the twin, with its section.
        key: String,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Settings that are good alone and not together.
    Conflict {
        /// Where the setting to change stands.
        at: Source,
        /// What is wrong and what to do.
        message: String,
    },
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable { path, reason } => {
                write!(
                    f,
                    "could not read the settings file {}: {reason}",
                    path.display()
                )
            }
            Self::Syntax { at, reason } => write!(f, "{at}: not valid TOML: {reason}"),
            Self::UnknownKey { at, key, meant } => {
                write!(f, "{at}: unknown key `{key}`")?;
                match meant {
                    Some(meant) => write!(f, "; did you mean `{meant}`?"),
                    None => f.write_str("; `bowline config` lists the known ones"),
                }
            }
            Self::NotASection { at, key } => {
                write!(
                    f,
                    "{at}: `{key}` is a section; write [{key}] and its settings below"
                )
            }
            Self::BadValue {
                at,
                key,
                value,
                expected,
            } => {
                prefix(f, at, key)?;
                match value {
                    Some(value) => write!(f, " is {value}; expected {expected}"),
                    None => write!(f, " has a value that can't be used; expected {expected}"),
                }
            }
            Self::BothForms { at, key } => {
                write!(
                    f,
                    "{at}: `{key}` and `{key}_file` are both set; keep one of them"
                )
            }
            Self::UnreadableSecret {
                at,
                key,
                path,
                reason,
            } => {
                prefix(f, at, key)?;
                write!(f, " names {}: {reason}", path.display())
            }
            Self::Conflict {
                at: Source::Default,
                message,
            } => f.write_str(message),
            Self::Conflict { at, message } => write!(f, "{at}: {message}"),
        }
    }
}

/// A flag or variable says by its name which setting it is; a line of a file needs the key.
fn prefix(f: &mut fmt::Formatter<'_>, at: &Source, key: &str) -> fmt::Result {
    match at {
        Source::File(..) => write!(f, "{at}: `{key}`"),
        _ => write!(f, "{at}"),
    }
}
