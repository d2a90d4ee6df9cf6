//! Errors and warnings about a policy, with their places.

use crate::budget::Exhausted;
use crate::hujson::Unreadable;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;

/// A place in the policy's text.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Place {
    /// Line, from 1; 0 for a rule that is not in the text (the implied one).
    pub line: usize,
    /// Column in bytes, from 1.
    pub column: usize,
}

/// Why a policy is refused.
///
/// `message` alone is what the policy API answers, in the words of the real service where those
/// are known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Diagnostic {
    /// The text for the API's `message`.
    pub message: String,
    /// Where the faulty part begins.
    pub place: Place,
    /// Failed tests, for `data` of the API's answer. Empty for other errors.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub failures: Vec<Failure>,
    /// The work was given up: nothing is known about what the policy says.
    #[serde(skip)]
    pub exhausted: Option<Exhausted>,
}

/// What is odd about a policy file and does not keep it out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// What it is.
    pub message: String,
    /// Where it stands.
    pub place: Place,
    /// Something is written twice, and one of the two has no effect.
    pub is_repetition: bool,
}

/// One entry of `data` in the API's answer: a failed test or a warning.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(rename = "PolicyFinding")]
pub struct Failure {
    /// The test's source, or what a warning is about.
    pub user: String,
    /// What went wrong.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<String>,
    /// What does not block saving.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// Where the failed test stands; the API does not say it.
    #[serde(skip)]
    pub place: Place,
}

impl Diagnostic {
    /// An error at a place.
    pub fn new(place: Place, message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            place,
            failures: Vec::new(),
            exhausted: None,
        }
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}

impl std::error::Error for Diagnostic {}

impl From<crate::hujson::Error> for Diagnostic {
    fn from(error: crate::hujson::Error) -> Self {
        let place = Place {
            line: error.line,
            column: error.column,
        };
        Self::new(place, error.to_string())
    }
}

impl From<Unreadable> for Diagnostic {
    fn from(reason: Unreadable) -> Self {
        match reason {
            Unreadable::Syntax(error) => error.into(),
            Unreadable::Exhausted(exhausted) => exhausted.into(),
        }
    }
}

impl From<Exhausted> for Diagnostic {
    fn from(exhausted: Exhausted) -> Self {
        let start = Place { line: 1, column: 1 };
        Self {
            exhausted: Some(exhausted),
            ..Self::new(start, exhausted.to_string())
        }
    }
}
