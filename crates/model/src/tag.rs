//! Tags: identities of devices that no person owns.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A tag, `tag:<name>`, lower-case. The name starts with a letter and has letters, digits and `-`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag(String);

/// The text that is not a tag.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a tag: tags are \"tag:\" and a name of letters, digits and \"-\" that starts with a letter"
)]
pub struct NotATag(pub String);

impl Tag {
    /// The whole text, `tag:<name>`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Tag {
    type Err = NotATag;

    fn from_str(text: &str) -> Result<Self, NotATag> {
        let lower = text.to_ascii_lowercase();
        let name = lower
            .strip_prefix("tag:")
            .ok_or_else(|| NotATag(text.to_owned()))?;
        let starts = name.bytes().next().is_some_and(|b| b.is_ascii_alphabetic());
        if !starts || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
            return Err(NotATag(text.to_owned()));
        }
        Ok(Self(lower))
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for Tag {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Tag {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_kept_in_lower_case() {
        assert_eq!("tag:CI-1".parse::<Tag>().unwrap().as_str(), "tag:ci-1");
    }

    #[test]
    fn texts_without_the_prefix_or_with_other_characters_are_refused() {
        for text in ["ci", "tag:", "tag:1a", "tag:a b", "tag:a\"b", "group:a"] {
            assert!(text.parse::<Tag>().is_err(), "{text}");
        }
    }
}
