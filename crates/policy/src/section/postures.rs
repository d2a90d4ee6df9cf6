//! `postures`: conditions on a device's attributes.

use crate::decode::Part;
use crate::diagnostic::{Diagnostic, Place};
use crate::hujson::quote;
use serde::Serialize;
use std::cmp::Ordering;
use std::collections::BTreeMap;

/// All postures by name (`posture:name`).
pub(crate) type Postures = BTreeMap<String, Posture>;

/// A device's attributes by name (`node:os`, `custom:tier`). Expired ones are left out by whoever
/// fills this in.
pub type Attributes = BTreeMap<String, AttributeValue>;

/// The value of a posture attribute.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum AttributeValue {
    /// A text, or a version, which compares by its fields.
    String(String),
    /// A number.
    Number(f64),
    /// A truth value.
    Bool(bool),
}

/// A posture: all its assertions must hold.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Posture {
    pub(crate) place: Place,
    pub(crate) assertions: Vec<Assertion>,
}

/// `ATTRIBUTE OP VALUE`
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Assertion {
    pub(crate) text: String,
    attribute: String,
    test: Test,
}

#[derive(Debug, Clone, PartialEq)]
enum Test {
    IsSet,
    NotSet,
    Equal(AttributeValue),
    NotEqual(AttributeValue),
    /// The order that fits, and whether equality does too.
    Ordered(Ordering, bool, AttributeValue),
    In(Vec<AttributeValue>),
    NotIn(Vec<AttributeValue>),
}

impl Posture {
    /// Steps that looking at a device takes at most.
    pub(crate) fn steps(&self) -> usize {
        let steps = self
            .assertions
            .iter()
            .map(|assertion| match &assertion.test {
                Test::In(list) | Test::NotIn(list) => 4 + list.len(),
                _ => 4 + assertion.text.len() / 16,
            });
        1 + steps.sum::<usize>()
    }

    /// The first assertion that does not hold.
    pub(crate) fn failure(&self, attributes: &Attributes) -> Option<&Assertion> {
        self.assertions
            .iter()
            .find(|assertion| !assertion.holds(attributes))
    }
}

impl Assertion {
    /// An attribute that is not set fails everything but `NOT SET`.
    fn holds(&self, attributes: &Attributes) -> bool {
        let Some(value) = attributes.get(&self.attribute) else {
            return self.test == Test::NotSet;
        };
        match &self.test {
            Test::IsSet => true,
            Test::NotSet => false,
            Test::Equal(wanted) => value == wanted,
            Test::NotEqual(wanted) => value != wanted,
            Test::In(list) => list.contains(value),
            Test::NotIn(list) => !list.contains(value),
            Test::Ordered(order, or_equal, wanted) => match compare(value, wanted) {
                Some(Ordering::Equal) => *or_equal,
                found => found == Some(*order),
            },
        }
    }
}

fn compare(left: &AttributeValue, right: &AttributeValue) -> Option<Ordering> {
    match (left, right) {
        (AttributeValue::String(left), AttributeValue::String(right)) => {
            Some(compare_versions(left, right))
        }
        (AttributeValue::Number(left), AttributeValue::Number(right)) => left.partial_cmp(right),
        _ => None,
    }
}

/// Compares versions: runs of digits as numbers, what stands between them as text.
fn compare_versions(left: &str, right: &str) -> Ordering {
    let (mut left, mut right) = (left, right);
    while !left.is_empty() || !right.is_empty() {
        let (left_text, left_rest) = split(left, |byte| !byte.is_ascii_digit());
        let (right_text, right_rest) = split(right, |byte| !byte.is_ascii_digit());
        let (left_digits, left_rest) = split(left_rest, |byte| byte.is_ascii_digit());
        let (right_digits, right_rest) = split(right_rest, |byte| byte.is_ascii_digit());
        let order = left_text.cmp(right_text).then_with(|| {
            let left = left_digits.trim_start_matches('0');
            let right = right_digits.trim_start_matches('0');
            left.len().cmp(&right.len()).then_with(|| left.cmp(right))
        });
        // `12` is before `12.0`, and `1.` before `1.0`.
        let order = order.then_with(|| {
            left_digits
                .is_empty()
                .cmp(&right_digits.is_empty())
                .reverse()
        });
        if order != Ordering::Equal {
            return order;
        }
        (left, right) = (left_rest, right_rest);
    }
    Ordering::Equal
}

fn split(text: &str, belongs: impl Fn(u8) -> bool) -> (&str, &str) {
    // Only ASCII digits end or begin a run, so the cut is between characters.
    text.split_at(text.bytes().take_while(|byte| belongs(*byte)).count())
}

/// Reads and checks the section.
pub(crate) fn read(part: Part<'_>) -> Result<Postures, Diagnostic> {
    let mut postures = Postures::new();
    for (name, value) in part.map()? {
        let context = format!("postures[{}]: ", quote(&name.text));
        if name.text.strip_prefix("posture:").is_none_or(str::is_empty) {
            let message = format!("{context}posture names must start with 'posture:'");
            return Err(Diagnostic::new(name.place, message));
        }
        let mut assertions = Vec::new();
        for text in value.texts()? {
            assertions.push(parse(&text.text).map_err(|error| {
                Diagnostic::new(
                    text.place,
                    format!("{context}{}: {error}", quote(&text.text)),
                )
            })?);
        }
        postures.insert(
            name.text,
            Posture {
                place: name.place,
                assertions,
            },
        );
    }
    Ok(postures)
}

/// Namespaces that attributes can have.
const NAMESPACES: &[&str] = &[
    "node",
    "ip",
    "custom",
    "falcon",
    "intune",
    "jamfPro",
    "kandji",
    "kolide",
    "sentinelOne",
    "fleet",
    "huntress",
    "iru",
];

fn parse(text: &str) -> Result<Assertion, String> {
    let mut tokens = tokens(text)?.into_iter();
    let Some(Token::Word(attribute)) = tokens.next() else {
        return Err("expected an attribute".to_owned());
    };
    let known = attribute
        .split_once(':')
        .is_some_and(|(namespace, name)| !name.is_empty() && NAMESPACES.contains(&namespace));
    if !known {
        return Err(format!("unknown attribute {}", quote(&attribute)));
    }
    let test = match tokens.next() {
        Some(Token::Operator(operator)) => {
            let value = scalar(tokens.next())?;
            match operator {
                "==" => Test::Equal(value),
                "!=" => Test::NotEqual(value),
                _ if matches!(value, AttributeValue::Bool(_)) => {
                    return Err("true and false have no order".to_owned());
                }
                "<" => Test::Ordered(Ordering::Less, false, value),
                "<=" => Test::Ordered(Ordering::Less, true, value),
                ">" => Test::Ordered(Ordering::Greater, false, value),
                _ => Test::Ordered(Ordering::Greater, true, value),
            }
        }
        Some(Token::Word(word)) => {
            let second = match word.to_ascii_uppercase().as_str() {
                "IN" => return finish(text, attribute, Test::In(list(&mut tokens)?), tokens),
                first @ ("IS" | "NOT") => match tokens.next() {
                    Some(Token::Word(second)) => {
                        format!("{first} {}", second.to_ascii_uppercase())
                    }
                    _ => return Err(format!("expected SET after {first}")),
                },
                _ => return Err(format!("unknown operator {}", quote(&word))),
            };
            match second.as_str() {
                "IS SET" => Test::IsSet,
                "NOT SET" => Test::NotSet,
                "NOT IN" => Test::NotIn(list(&mut tokens)?),
                _ => return Err(format!("unknown operator {}", quote(&second))),
            }
        }
        _ => return Err("expected an operator".to_owned()),
    };
    finish(text, attribute, test, tokens)
}

fn finish(
    text: &str,
    attribute: String,
    test: Test,
    mut rest: impl Iterator<Item = Token>,
) -> Result<Assertion, String> {
    if rest.next().is_some() {
        return Err("unexpected text behind the assertion".to_owned());
    }
    Ok(Assertion {
        text: text.to_owned(),
        attribute,
        test,
    })
}

#[derive(Debug, Clone, PartialEq)]
enum Token {
    Word(String),
    Text(String),
    Operator(&'static str),
    Open,
    Close,
    Comma,
}

fn scalar(token: Option<Token>) -> Result<AttributeValue, String> {
    match token {
        Some(Token::Text(text)) => Ok(AttributeValue::String(text)),
        Some(Token::Word(word)) => match word.as_str() {
            "true" => Ok(AttributeValue::Bool(true)),
            "false" => Ok(AttributeValue::Bool(false)),
            _ => match word.parse::<f64>() {
                Ok(number) if number.is_finite() => Ok(AttributeValue::Number(number)),
                _ => Err(format!(
                    "{} is not a value; strings need quotes",
                    quote(&word)
                )),
            },
        },
        _ => Err("expected a value".to_owned()),
    }
}

fn list(tokens: &mut impl Iterator<Item = Token>) -> Result<Vec<AttributeValue>, String> {
    if tokens.next() != Some(Token::Open) {
        return Err("expected '['".to_owned());
    }
    let mut values = Vec::new();
    loop {
        match tokens.next() {
            Some(Token::Close) if values.is_empty() => return Ok(values),
            token => values.push(scalar(token)?),
        }
        match tokens.next() {
            Some(Token::Comma) => {}
            Some(Token::Close) => return Ok(values),
            _ => return Err("expected ',' or ']'".to_owned()),
        }
    }
}

fn tokens(text: &str) -> Result<Vec<Token>, String> {
    const OPERATORS: &[&str] = &["==", "!=", "<=", ">=", "<", ">"];
    let mut rest = text.trim_start();
    let mut tokens = Vec::new();
    while let Some(first) = rest.chars().next() {
        let operator = OPERATORS
            .iter()
            .find(|operator| rest.starts_with(**operator));
        let (token, length) = match first {
            '[' => (Token::Open, 1),
            ']' => (Token::Close, 1),
            ',' => (Token::Comma, 1),
            '\'' | '"' => {
                let body = rest.get(1..).unwrap_or_default();
                let end = body.find(first).ok_or("string without an end")?;
                (
                    Token::Text(body.get(..end).unwrap_or_default().to_owned()),
                    end + 2,
                )
            }
            _ => {
                if let Some(operator) = operator {
                    (Token::Operator(operator), operator.len())
                } else {
                    let ends = |next: char| next.is_whitespace() || "[],'\"=!<>".contains(next);
                    let end = rest.find(ends).unwrap_or(rest.len());
                    if end == 0 {
                        return Err(format!("unexpected {}", quote(&first.to_string())));
                    }
                    (
                        Token::Word(rest.get(..end).unwrap_or_default().to_owned()),
                        end,
                    )
                }
            }
        };
        tokens.push(token);
        rest = rest.get(length..).unwrap_or_default().trim_start();
    }
    Ok(tokens)
}

#[cfg(test)]
mod tests {
    use super::{AttributeValue, Attributes, Ordering, compare_versions, parse};

    fn holds(assertion: &str, attributes: &[(&str, AttributeValue)]) -> bool {
        let attributes: Attributes = attributes
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.clone()))
            .collect();
        parse(assertion).unwrap().holds(&attributes)
    }

    fn text(value: &str) -> AttributeValue {
        AttributeValue::String(value.to_owned())
    }

    #[test]
    fn versions_compare_by_fields() {
        assert_eq!(compare_versions("1.9", "1.10"), Ordering::Less);
        assert_eq!(compare_versions("12", "12.0"), Ordering::Less);
        assert_eq!(
            compare_versions("1.40.0-dev", "1.40.0-dev"),
            Ordering::Equal
        );
        assert_eq!(compare_versions("1.08", "1.8"), Ordering::Equal);
    }

    #[test]
    fn an_attribute_that_is_not_set_fails_all_but_not_set() {
        for assertion in [
            "custom:tier == 'a'",
            "custom:tier != 'a'",
            "custom:tier NOT IN ['a']",
            "custom:tier IS SET",
            "custom:tier < 3",
        ] {
            assert!(!holds(assertion, &[]), "{assertion}");
        }
        assert!(holds("custom:tier NOT SET", &[]));
    }

    #[test]
    fn assertions_compare_values_of_one_type() {
        let os = [
            ("node:os", text("macos")),
            ("node:tsVersion", text("1.62.1")),
        ];
        assert!(holds("node:os == 'macos'", &os));
        assert!(holds("node:os IN ['linux', 'macos']", &os));
        assert!(holds("node:tsVersion >= '1.40'", &os));
        assert!(!holds("node:tsVersion < '1.62'", &os));
        let score = [("custom:score", AttributeValue::Number(7.0))];
        assert!(holds("custom:score > 6.5", &score));
        assert!(!holds("custom:score > '6'", &score));
    }

    #[test]
    fn broken_assertions_say_what_is_missing() {
        for broken in [
            "",
            "os == 'a'",
            "node:os",
            "node:os ==",
            "node:os = 'a'",
            "node:os IN 'a'",
            "node:os == macos",
            "node:os IN ['a'",
            "node:os IS",
            "node:os == 'a' x",
            "node:os == 'a",
        ] {
            assert!(parse(broken).is_err(), "{broken}");
        }
    }
}
