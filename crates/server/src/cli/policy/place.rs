//! Where in a file the thing is that a message is about, for messages that do not say it.

use bowline_policy::hujson::{LineIndex, Member, Value, quote};
use bowline_policy::{Failure, Place};

/// The place that a message begins with or has in it, and what is said of it:
/// `hujson: line 3, column 7: …`.
pub(super) fn split(message: &str) -> Option<(Place, &str)> {
    let (_, rest) = message.split_once("line ")?;
    let (line, rest) = rest.split_once(", column ")?;
    let (column, rest) = rest.split_once(": ")?;
    let place = Place {
        line: line.parse().ok()?,
        column: column.parse().ok()?,
    };
    Some((place, rest))
}

/// A file, parsed for looking things up.
pub(super) struct Finder {
    root: Value,
    lines: LineIndex,
}

impl Finder {
    /// Of a text that is HuJSON.
    pub(super) fn new(text: &str) -> Option<Self> {
        Some(Self {
            root: Value::parse(text.as_bytes()).ok()?,
            lines: LineIndex::new(text.as_bytes()),
        })
    }

    /// The last of the strings, each looked for in the value of the one before.
    pub(super) fn strings(&self, path: &[&str]) -> Option<Place> {
        let mut inside = &self.root;
        let mut found = None;
        for text in path {
            let (start, value) = string(inside, text)?;
            inside = value;
            found = Some(start);
        }
        found.map(|start| self.place(start))
    }

    /// The strings that stand in quotes in a message: `"group:a": user not found: "b@c"`.
    pub(super) fn quoted(&self, message: &str) -> Option<Place> {
        let path: Vec<&str> = message.split('"').skip(1).step_by(2).collect();
        self.strings(&path)
    }

    /// The selector with a domain that is not the tailnet's: the message has the domain alone.
    pub(super) fn domain(&self, message: &str) -> Option<Place> {
        let (before, _) = message.split_once(" is not associated with this Tailnet")?;
        let domain = before.rsplit(' ').next()?;
        ["user", "localpart"]
            .iter()
            .find_map(|kind| self.strings(&[&format!("{kind}:*@{domain}")]))
    }

    /// The test that a failure is of: it has the same source, and the destination that the first
    /// error names.
    pub(super) fn test(&self, failure: &Failure) -> Option<Place> {
        let sections = ["tests", "sshTests"].map(|name| {
            let members = self.root.as_composite()?.members.iter();
            let mut sections = members.filter(|member| member.key().eq_ignore_ascii_case(name));
            Some(&sections.next_back()?.value)
        });
        // Given tests are the array alone.
        let lists = sections.into_iter().flatten().chain([&self.root]);
        let tests: Vec<&Value> = lists
            .filter_map(Value::as_composite)
            .flat_map(|list| &list.members)
            .filter(|member| member.name.is_none())
            .map(|member| &member.value)
            .filter(|test| {
                ["src", "user"]
                    .iter()
                    .any(|name| member(test, name).is_some_and(|value| is(value, &failure.user)))
            })
            .collect();
        let names_it = |test: &&Value| {
            failure.errors.iter().any(|error| {
                ["accept", "allow", "deny", "dst"].iter().any(|name| {
                    let list = member(test, name).and_then(Value::as_composite);
                    list.is_some_and(|list| {
                        let texts = list
                            .members
                            .iter()
                            .filter_map(|item| item.value.as_string());
                        texts
                            .map(|text| quote(&text))
                            .any(|text| error.contains(&text))
                    })
                })
            })
        };
        let test = tests.iter().copied().find(|test| names_it(test));
        let test = test.or_else(|| tests.first().copied())?;
        Some(self.place(test.start))
    }

    fn place(&self, offset: usize) -> Place {
        let (line, column) = self.lines.locate(offset);
        Place { line, column }
    }
}

fn is(value: &Value, text: &str) -> bool {
    value.as_string().is_some_and(|string| string == text)
}

/// The value of an object's member.
fn member<'a>(object: &'a Value, name: &str) -> Option<&'a Value> {
    let mut members = object.as_composite()?.members.iter();
    let found = members.find(|member| member.key().eq_ignore_ascii_case(name))?;
    Some(&found.value)
}

/// The first string or name with this text in a value, and what stands behind the name.
fn string<'a>(value: &'a Value, text: &str) -> Option<(usize, &'a Value)> {
    if is(value, text) {
        return Some((value.start, value));
    }
    let mut members = value.as_composite()?.members.iter();
    members.find_map(|Member { name, value }| match name {
        Some(name) if is(name, text) => Some((name.start, value)),
        _ => string(value, text),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"{
    "groups": {"group:dev": ["carol@example.com"], "group:ops": ["carol@example.com"]},
    "tests": [
        {"src": "a@b", "accept": ["tag:web:1"]},
        {"src": "a@b", "accept": ["tag:web:2"]},
    ],
}
"#;

    const fn at(line: usize, column: usize) -> Place {
        Place { line, column }
    }

    #[test]
    fn a_place_in_a_message_is_taken_out_of_it() {
        let message = "hujson: line 3, column 7: invalid literal: x";
        let (place, rest) = split(message).unwrap();
        assert_eq!((place, rest), (at(3, 7), "invalid literal: x"));
        assert_eq!(split("line of code: none"), None);
    }

    #[test]
    fn what_a_message_quotes_is_found_inside_of_what_it_quotes_before() {
        let finder = Finder::new(TEXT).unwrap();
        let found = finder.quoted(r#""group:ops": user not found: "carol@example.com""#);
        assert_eq!(found, Some(at(2, 66)));
        assert_eq!(finder.quoted(r#"tag not found: "tag:no""#), None);
    }

    #[test]
    fn a_failed_test_is_the_one_with_the_destination_that_failed() {
        let finder = Finder::new(TEXT).unwrap();
        let failure = |error: &str| Failure {
            user: "a@b".to_owned(),
            errors: vec![error.to_owned()],
            ..Failure::default()
        };
        let second = failure(r#"address "tag:web:2": want: Accept, got: Drop"#);
        assert_eq!(finder.test(&second), Some(at(5, 9)));
        assert_eq!(finder.test(&failure("something else")), Some(at(4, 9)));
        let given = Finder::new(r#"[{"user": "a@b"}]"#).unwrap();
        assert_eq!(given.test(&failure("x")), Some(at(1, 2)));
        assert_eq!(given.test(&Failure::default()), None);
    }
}
