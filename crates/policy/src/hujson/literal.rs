//! Literals: which are valid, how strings are decoded and encoded, and Go's way to quote.

use std::fmt::Write as _;

/// Whether `text` is one JSON literal: `null`, `true`, `false`, a number or a string. Strings need
/// not be UTF-8, as in Go.
pub(super) fn is_valid(text: &[u8]) -> bool {
    match text {
        b"null" | b"true" | b"false" => true,
        [b'"', body @ .., b'"'] => is_valid_string_body(body),
        _ => is_valid_number(text),
    }
}

fn is_valid_string_body(body: &[u8]) -> bool {
    let mut bytes = body.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            0..=0x1f | b'"' => return false,
            b'\\' => match bytes.next() {
                Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => {}
                Some(b'u') => {
                    let digits = bytes.by_ref().take(4);
                    if digits.filter(|digit| digit.is_ascii_hexdigit()).count() != 4 {
                        return false;
                    }
                }
                _ => return false,
            },
            _ => {}
        }
    }
    true
}

fn is_valid_number(text: &[u8]) -> bool {
    fn digits(text: &[u8]) -> &[u8] {
        let count = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
        text.get(count..).unwrap_or_default()
    }
    let text = text.strip_prefix(b"-").unwrap_or(text);
    let mut rest = match text {
        [b'0', rest @ ..] => rest,
        [b'1'..=b'9', rest @ ..] => digits(rest),
        _ => return false,
    };
    if let [b'.', fraction @ ..] = rest {
        rest = digits(fraction);
        if rest.len() == fraction.len() {
            return false;
        }
    }
    if let [b'e' | b'E', exponent @ ..] = rest {
        let exponent = match exponent {
            [b'+' | b'-', digits @ ..] => digits,
            _ => exponent,
        };
        rest = digits(exponent);
        if rest.len() == exponent.len() {
            return false;
        }
    }
    rest.is_empty()
}

/// Decodes a string literal that [`is_valid`]. Bytes that are not UTF-8 and lone surrogates become
/// U+FFFD, one for each, as in Go.
pub(super) fn decode_string(literal: &[u8]) -> String {
    let body = literal.strip_prefix(b"\"").unwrap_or(literal);
    let body = body.strip_suffix(b"\"").unwrap_or(body);
    let mut out = String::with_capacity(body.len());
    let mut rest = body;
    while let Some(at) = rest.iter().position(|byte| *byte == b'\\') {
        let (plain, escaped) = rest.split_at(at);
        push_text(&mut out, plain);
        rest = escaped;
        let (decoded, used) = match escaped.get(1) {
            Some(b'b') => ('\u{8}', 2),
            Some(b'f') => ('\u{c}', 2),
            Some(b'n') => ('\n', 2),
            Some(b'r') => ('\r', 2),
            Some(b't') => ('\t', 2),
            Some(b'u') => unescape(escaped),
            Some(other) => (char::from(*other), 2),
            None => (char::REPLACEMENT_CHARACTER, 1),
        };
        out.push(decoded);
        rest = rest.get(used..).unwrap_or_default();
    }
    push_text(&mut out, rest);
    out
}

/// Decodes `\uXXXX`, and the second half of a surrogate pair with it.
fn unescape(escaped: &[u8]) -> (char, usize) {
    fn unit(escaped: &[u8]) -> Option<u32> {
        let digits = escaped.strip_prefix(b"\\u")?.get(..4)?;
        u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
    }
    let first = unit(escaped).unwrap_or(0xfffd);
    if let Some(decoded) = char::from_u32(first) {
        return (decoded, 6);
    }
    let second = escaped.get(6..).and_then(unit);
    match second {
        Some(second @ 0xdc00..=0xdfff) if first < 0xdc00 => {
            let code = 0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00);
            (
                char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER),
                12,
            )
        }
        _ => (char::REPLACEMENT_CHARACTER, 6),
    }
}

fn push_text(out: &mut String, bytes: &[u8]) {
    for chunk in bytes.utf8_chunks() {
        out.push_str(chunk.valid());
        out.extend(chunk.invalid().iter().map(|_| char::REPLACEMENT_CHARACTER));
    }
}

/// Encodes a string as RFC 8785 section 3.2.2.2 does: only what must be is escaped.
pub(super) fn encode_string(text: &str) -> Vec<u8> {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{8}' => out.push_str("\\b"),
            '\t' => out.push_str("\\t"),
            '\n' => out.push_str("\\n"),
            '\u{c}' => out.push_str("\\f"),
            '\r' => out.push_str("\\r"),
            '\0'..'\u{20}' => {
                // Writing to a string cannot fail.
                let _ = write!(out, "\\u{:04x}", u32::from(character));
            }
            _ => out.push(character),
        }
    }
    out.push('"');
    out.into_bytes()
}

/// Whether Go's `unicode.IsPrint` holds: letters, marks, numbers, punctuation, symbols and the
/// ASCII space.
pub(super) fn is_printable(character: char) -> bool {
    // Rust's debug form keeps precisely the printable characters, but for combining marks at the
    // start of a text (hence the letter in front) and the characters that quoting itself needs.
    matches!(character, '"' | '\'' | '\\')
        || format!("a{character}").escape_debug().nth(1) == Some(character)
}

/// Characters that [`quote`] shows at most.
const QUOTED_MAX: usize = 1000;

/// Quotes a text the way Go's `%q` does, as error messages of the policy API show it.
///
/// ```
/// assert_eq!(bowline_policy::hujson::quote("tag:\u{7}\n\"x\""), r#""tag:\a\n\"x\"""#);
/// ```
///
/// A text of more than 1,000 characters is cut, and `…` stands for the rest: nobody reads more, and
/// a text from outside can have megabytes of characters that take ten each when quoted.
pub fn quote(text: &str) -> String {
    let end = text.char_indices().nth(QUOTED_MAX).map(|(end, _)| end);
    let shown = end.and_then(|end| text.get(..end)).unwrap_or(text);
    let mut out = String::with_capacity(shown.len() + 2);
    out.push('"');
    for character in shown.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{b}' => out.push_str("\\v"),
            _ if is_printable(character) => out.push(character),
            _ => {
                let code = u32::from(character);
                let _ = match code {
                    0..0x80 => write!(out, "\\x{code:02x}"),
                    0x80..0x1_0000 => write!(out, "\\u{code:04x}"),
                    _ => write!(out, "\\U{code:08x}"),
                };
            }
        }
    }
    if end.is_some() {
        out.push('…');
    }
    out.push('"');
    out
}
