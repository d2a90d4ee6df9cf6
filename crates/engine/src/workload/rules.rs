//! Patterns that claims must match.

use serde_json::Value;

/// The most characters of a pattern.
pub(super) const PATTERN_MAX: usize = 500;
/// The most characters of a claim's path.
const PATH_MAX: usize = 200;
/// The most levels of a claim's path.
const DEPTH_MAX: usize = 10;
/// Claims that have members of their own in a federated identity, and no rules.
const RESERVED: [&str; 3] = ["iss", "sub", "aud"];

/// Whether a text matches a pattern: `*` stands for any characters, also none, all else for itself.
/// The whole text must match.
pub(super) fn matches(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    // There is always a first part; without a star it is the whole pattern.
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else {
        return false;
    };
    let Some(last) = parts.next_back() else {
        return rest.is_empty();
    };
    for part in parts {
        // The earliest place leaves most for the parts after it.
        match rest.split_once(part) {
            Some((_, after)) => rest = after,
            None => return false,
        }
    }
    rest.ends_with(last)
}

/// A claim by its path: `repository`, `kubernetes.io.namespace`, `"kubernetes.io".namespace`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ClaimPath(Vec<String>);

impl ClaimPath {
    /// Reads a path: names with a dot between two. A name that has a dot itself stands in quotation
    /// marks. `None`: it is not one, or it names a claim that has no rules.
    pub(super) fn parse(text: &str) -> Option<Self> {
        if text.chars().count() > PATH_MAX || RESERVED.contains(&text) {
            return None;
        }
        let mut names = Vec::new();
        let mut rest = text;
        loop {
            let (name, after) = match rest.strip_prefix('"') {
                Some(quoted) => quoted.split_once('"')?,
                None => rest.split_at(rest.find('.').unwrap_or(rest.len())),
            };
            if name.is_empty() || name.contains('"') || names.len() == DEPTH_MAX {
                return None;
            }
            names.push(name.to_owned());
            match after.strip_prefix('.') {
                Some(more) => rest = more,
                None if after.is_empty() => break,
                None => return None,
            }
        }
        let is_reserved = matches!(&names[..], [name] if RESERVED.contains(&name.as_str()));
        (!is_reserved).then_some(Self(names))
    }

    fn of<'a>(&self, claims: &'a Value) -> Option<&'a Value> {
        let mut found = claims;
        for name in &self.0 {
            found = found.as_object()?.get(name)?;
        }
        Some(found)
    }

    /// Whether the claim is there and matches. A list matches where one of its elements does; numbers
    /// and booleans are compared as JSON writes them.
    pub(super) fn is_met(&self, pattern: &str, claims: &Value) -> bool {
        match self.of(claims) {
            Some(Value::Array(elements)) => {
                elements.iter().any(|element| is_value(pattern, element))
            }
            Some(value) => is_value(pattern, value),
            None => false,
        }
    }
}

fn is_value(pattern: &str, value: &Value) -> bool {
    match value {
        Value::String(text) => matches(pattern, text),
        Value::Number(_) | Value::Bool(_) => matches(pattern, &value.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_star_stands_for_any_characters_and_the_rest_for_itself() {
        for (pattern, text, does) in [
            (
                "repo:a/b:ref:refs/heads/main",
                "repo:a/b:ref:refs/heads/main",
                true,
            ),
            ("repo:a/b", "repo:a/b:ref", false),
            ("repo:a/b", "my-repo:a/b", false),
            ("repo:a/b", "REPO:a/b", false),
            ("repo:a/*", "repo:a/b:ref:refs/heads/main", true),
            ("repo:a/*", "repo:a/", true),
            ("repo:a/*", "repo:ab/c", false),
            (
                "*:ref:refs/heads/main",
                "repo:a/b:ref:refs/heads/main",
                true,
            ),
            (
                "*:ref:refs/heads/main",
                "repo:a/b:ref:refs/heads/main2",
                false,
            ),
            ("repo:*:ref:*", "repo:a:ref:b", true),
            ("repo:*:ref:*", "repo:a:re:b", false),
            ("a*a", "a", false),
            ("a*a", "aa", true),
            ("a*b*b", "ab", false),
            ("*", "", true),
            ("**", "x", true),
            ("", "", true),
            ("", "x", false),
            ("a.c", "abc", false),
            ("[a-z]?", "b", false),
        ] {
            assert_eq!(matches(pattern, text), does, "{pattern} {text}");
        }
    }

    proptest! {
        #[test]
        fn a_pattern_means_what_trying_everything_finds(
            pattern in "[ab*]{0,8}",
            text in "[ab]{0,10}",
        ) {
            fn tried(pattern: &[u8], text: &[u8]) -> bool {
                match pattern.split_first() {
                    None => text.is_empty(),
                    Some((b'*', rest)) => (0..=text.len()).any(|skip| tried(rest, &text[skip..])),
                    Some((byte, rest)) => {
                        text.split_first().is_some_and(|(first, after)| first == byte && tried(rest, after))
                    }
                }
            }
            prop_assert_eq!(matches(&pattern, &text), tried(pattern.as_bytes(), text.as_bytes()));
        }
    }

    #[test]
    fn a_path_goes_down_by_dots_outside_of_quotation_marks() {
        let names = |text: &str| ClaimPath::parse(text).map(|path| path.0.join("|"));
        for (text, read) in [
            ("repository", Some("repository")),
            ("user.name", Some("user|name")),
            (
                "\"kubernetes.io\".namespace",
                Some("kubernetes.io|namespace"),
            ),
            ("a.\"b.c\"", Some("a|b.c")),
            ("user.sub", Some("user|sub")),
            ("", None),
            (".", None),
            ("a.", None),
            (".a", None),
            ("a..b", None),
            ("\"a", None),
            ("\"\"", None),
            ("\"a\"b", None),
            ("a\"b\"", None),
            ("sub", None),
            ("iss", None),
            ("\"aud\"", None),
        ] {
            assert_eq!(names(text).as_deref(), read, "{text}");
        }
        assert!(ClaimPath::parse(&"a.".repeat(DEPTH_MAX)).is_none());
        assert!(ClaimPath::parse(&"a".repeat(PATH_MAX + 1)).is_none());
    }

    #[test]
    fn a_rule_looks_at_texts_numbers_booleans_and_elements_of_lists() {
        let claims = json!({
            "repository": "acme/site",
            "run": 7,
            "protected": true,
            "groups": ["dev", "ops"],
            "kubernetes.io": {"namespace": "ci"},
            "nothing": null,
            "user": {"name": "ann"},
        });
        for (path, pattern, does) in [
            ("repository", "acme/*", true),
            ("repository", "other/*", false),
            ("run", "7", true),
            ("protected", "true", true),
            ("protected", "false", false),
            ("groups", "ops", true),
            ("groups", "dev*ops", false),
            ("\"kubernetes.io\".namespace", "ci", true),
            ("kubernetes.io.namespace", "*", false),
            ("user.name", "ann", true),
            ("user", "*", false),
            ("nothing", "*", false),
            ("absent", "*", false),
            ("user.name.more", "*", false),
        ] {
            let path = ClaimPath::parse(path).unwrap();
            assert_eq!(path.is_met(pattern, &claims), does, "{path:?} {pattern}");
        }
    }
}
