//! Texts of times, and of what is wrong with a request.

use std::borrow::Cow;
use std::fmt::{self, Write as _};

use jiff::Timestamp;
use jiff::civil::DateTime;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Serialize, Serializer};

/// Go's zero time: how the API says "never" where a time must be.
const ZERO_TIME: &str = "0001-01-01T00:00:00Z";
/// The last second that RFC 3339 has. `Timestamp` ends a day before it, so that every time of it has
/// an offset; its last moment stands for all that come later.
const LAST_TIME: &str = "9999-12-31T23:59:59Z";

/// A time in an answer, in RFC 3339 and UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Time {
    /// In whole seconds.
    Second(Timestamp),
    /// With as many digits behind the second as it has.
    Exact(Timestamp),
    /// Never, or not known.
    Zero,
}

/// A time in whole seconds.
pub(crate) const fn time(at: Timestamp) -> Time {
    Time::Second(at)
}

/// A time with as many digits behind the second as it has.
pub(crate) const fn exact_time(at: Timestamp) -> Time {
    Time::Exact(at)
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Second(at) => {
                let second = Timestamp::from_second(at.as_second()).unwrap_or(at);
                second.fmt(f)
            }
            Self::Exact(at) if at == Timestamp::MAX => f.write_str(LAST_TIME),
            Self::Exact(at) => at.fmt(f),
            Self::Zero => f.write_str(ZERO_TIME),
        }
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl JsonSchema for Time {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Time".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "format": "date-time"})
    }
}

/// Reads a time in RFC 3339, and nothing that only looks like it: a date, `T`, a time of day, and
/// `Z` or an offset. What lies beyond the last moment that can be kept is that moment.
pub(crate) fn parse_time(text: &str) -> Option<Timestamp> {
    let is_digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    // 2030-01-01T00:00:00
    let (day, rest) = text.split_once(['T', 't'])?;
    let (clock, offset) = rest.split_at(rest.find(['Z', 'z', '+', '-'])?);
    let (clock, fraction) = match clock.split_once('.') {
        Some((clock, fraction)) if is_digits(fraction) => (clock, fraction),
        Some(_) => return None,
        None => (clock, ""),
    };
    let has_form = |text: &str, form: &str| {
        text.len() == form.len()
            && text.bytes().zip(form.bytes()).all(|(b, form)| match form {
                b'0' => b.is_ascii_digit(),
                other => b == other,
            })
    };
    let is_zulu = offset.eq_ignore_ascii_case("z");
    if !has_form(day, "0000-00-00")
        || !has_form(clock, "00:00:00")
        || !(is_zulu || has_form(&offset[1..], "00:00"))
    {
        return None;
    }
    let offset = if is_zulu { "Z" } else { offset };
    // More than nine digits are less than a nanosecond.
    let fraction = &fraction[..fraction.len().min(9)];
    let dot = if fraction.is_empty() { "" } else { "." };
    let date_time = format!("{day}T{clock}{dot}{fraction}");
    match format!("{date_time}{offset}").parse() {
        Ok(at) => Some(at),
        // A day of the calendar all the same, in its last hours.
        Err(_) if day.starts_with("9999-12-3") => {
            date_time.parse::<DateTime>().ok().map(|_| Timestamp::MAX)
        }
        Err(_) => None,
    }
}

/// A message in which quoted texts are escaped as in JSON: callers read what they sent in the
/// notation that they sent it in.
pub(crate) fn plain(message: &str) -> String {
    let mut plain = String::with_capacity(message.len());
    let mut rest = message;
    while let Some(at) = rest.find('\\') {
        plain.push_str(&rest[..at]);
        rest = &rest[at..];
        let escaped = rest.strip_prefix("\\u{").and_then(|rest| {
            let (digits, rest) = rest.split_once('}')?;
            let c = char::from_u32(u32::from_str_radix(digits, 16).ok()?)?;
            Some((c, rest))
        });
        if let Some((c, after)) = escaped {
            for unit in c.encode_utf16(&mut [0; 2]) {
                // Writing to a String cannot fail.
                let _ = write!(plain, "\\u{unit:04x}");
            }
            rest = after;
        } else if let Some(after) = rest.strip_prefix("\\0") {
            plain.push_str("\\u0000");
            rest = after;
        } else {
            // Two at once: what follows an escaped backslash is a text of its own.
            let end = rest
                .char_indices()
                .nth(2)
                .map_or(rest.len(), |(end, _)| end);
            plain.push_str(&rest[..end]);
            rest = &rest[end..];
        }
    }
    plain.push_str(rest);
    plain
}

/// What is wrong with a body, in the words of JSON: an integer and not a `u32`, a list and not a
/// sequence.
pub(crate) fn body_error(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let text = ["invalid type: ", "invalid value: "]
        .iter()
        .find_map(|start| {
            let rest = text.strip_prefix(start)?;
            let found = [
                ("sequence", "a list"),
                ("map", "an object"),
                ("floating point", "number"),
            ];
            let (own, word) = found.iter().find(|(own, _)| rest.starts_with(own))?;
            Some(format!("{start}{word}{}", &rest[own.len()..]))
        })
        .unwrap_or(text);
    // The last one: what was sent is quoted before it.
    let Some((before, expected)) = text.rsplit_once(", expected ") else {
        return text.replacen("unknown variant", "unknown value", 1);
    };
    let (expected, place) = match expected.find(" at line ") {
        Some(at) => expected.split_at(at),
        None => (expected, ""),
    };
    let before = before.replacen("unknown variant", "unknown value", 1);
    let is_number = |word: &str| {
        word.strip_prefix(['u', 'i'])
            .is_some_and(|rest| rest == "size" || rest.parse::<u8>().is_ok())
    };
    let expected = match expected {
        "a sequence" => "a list",
        "a map" => "an object",
        "f64" | "f32" => "a number",
        "unit" => "null",
        "bool" => "a boolean",
        word if is_number(word) => "an integer",
        word if word.starts_with("struct ") || word.starts_with("tuple ") => "an object",
        word => word,
    };
    format!("{before}, expected {expected}{place}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_rfc_3339_says_and_keep_their_fractions() {
        for (text, shown) in [
            ("2030-01-01T00:00:00Z", "2030-01-01T00:00:00Z"),
            ("2030-01-01T00:00:00.511Z", "2030-01-01T00:00:00.511Z"),
            ("2030-01-01t00:00:00z", "2030-01-01T00:00:00Z"),
            ("2030-01-01T02:00:00.5+02:00", "2030-01-01T00:00:00.5Z"),
            (
                "2030-01-01T00:00:00.1234567891234Z",
                "2030-01-01T00:00:00.123456789Z",
            ),
            ("9999-12-31T23:59:59Z", "9999-12-31T23:59:59Z"),
            ("9999-12-30T23:00:00-01:00", "9999-12-31T23:59:59Z"),
        ] {
            let at = parse_time(text);
            assert_eq!(
                at.map(|at| exact_time(at).to_string()).as_deref(),
                Some(shown),
                "{text}"
            );
        }
        for text in [
            "",
            "T",
            "soon",
            "2030-01-01",
            "2030-01-01 00:00:00Z",
            "2030-01-01T00:00:00",
            "2030-01-01T00:00Z",
            "2030-01-01T00:00:00.Z",
            "2030-01-01T00:00:00+0200",
            "2030-01-01T00:00:00+02",
            "2030-1-1T00:00:00Z",
            "2030-02-30T00:00:00Z",
            "9999-12-32T00:00:00Z",
            "9999-12-31T24:00:00Z",
            "+2030-01-01T00:00:00Z",
            "12030-01-01T00:00:00Z",
            "2030-01-01T00:00:00Z[UTC]",
            "2030-01-01T00:00:00ZZ",
            "2030-01-01T00:00:00é",
        ] {
            assert_eq!(parse_time(text), None, "{text}");
        }
    }

    #[test]
    fn quoted_texts_are_escaped_as_json_escapes_them() {
        for text in [
            "plain",
            "a\\b",
            "\u{9b}",
            "\u{202e}x",
            "\u{0}",
            "\\u{9b}",
            "\"\\\"",
            "\u{e0001}",
        ] {
            let quoted = plain(&format!("{text:?}"));
            assert!(
                !quoted.contains("\\u{") || text.contains("\\u{"),
                "{quoted}"
            );
            assert_eq!(
                serde_json::from_str::<String>(&quoted).unwrap(),
                text,
                "{quoted}"
            );
        }
        assert_eq!(plain("ends with \\"), "ends with \\");
    }

    #[test]
    fn what_is_wrong_with_a_body_is_said_in_words_of_json() {
        #[derive(serde::Deserialize, Debug)]
        #[expect(dead_code, reason = "only read")]
        struct Body {
            number: Option<u32>,
            list: Option<Vec<String>>,
            map: Option<std::collections::BTreeMap<String, bool>>,
            word: Option<bowline_model::user::Role>,
        }
        for (text, expected) in [
            (
                r#"{"number":"x"}"#,
                r#"invalid type: string "x", expected an integer"#,
            ),
            (
                r#"{"number":-1}"#,
                "invalid value: integer `-1`, expected an integer",
            ),
            (
                r#"{"number":1.5}"#,
                "invalid type: number `1.5`, expected an integer",
            ),
            (r#"{"list":{}}"#, "invalid type: an object, expected a list"),
            (
                r#"{"list":", expected u32"}"#,
                r#"invalid type: string ", expected u32", expected a list"#,
            ),
            (r#"{"map":[]}"#, "invalid type: a list, expected an object"),
            (
                r#"{"word":"king"}"#,
                "unknown value `king`, expected one of",
            ),
        ] {
            let error = serde_json::from_str::<Body>(text).unwrap_err();
            let said = body_error(&error);
            assert!(said.starts_with(expected), "{said}");
        }
    }
}
