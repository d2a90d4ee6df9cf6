//! From text to tree.

use super::literal::{is_printable, is_valid};
use super::{Composite, Error, Kind, LineIndex, Member, Node, Value, comment_len, space_len};

/// How deep objects and arrays may be nested. The official library has no limit of its own; a
/// policy needs about six levels.
pub const MAX_DEPTH: usize = 200;

/// Where parsing stopped, and why.
type Failure = (usize, String);

struct Parser<'a> {
    text: &'a [u8],
    at: usize,
    depth: usize,
}

pub(super) fn document(text: &[u8]) -> Result<Value, Error> {
    let mut parser = Parser {
        text,
        at: 0,
        depth: 0,
    };
    let parsed = parser.value().and_then(|value| match parser.peek() {
        Some(_) => parser.unexpected("after top-level value"),
        None => Ok(value),
    });
    parsed.map_err(|(offset, reason)| {
        let (line, column) = LineIndex::new(text.get(..offset).unwrap_or(text)).locate(offset);
        Error {
            line,
            column,
            reason,
        }
    })
}

impl Parser<'_> {
    fn rest(&self) -> &[u8] {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn taken_since(&self, start: usize) -> Vec<u8> {
        self.text.get(start..self.at).unwrap_or_default().to_vec()
    }

    fn end_of_text<T>(&self, place: &str) -> Result<T, Failure> {
        Err((self.at, format!("parsing {place}: unexpected EOF")))
    }

    fn unexpected<T>(&self, place: &str) -> Result<T, Failure> {
        self.unexpected_at(self.at, place)
    }

    fn unexpected_at<T>(&self, at: usize, place: &str) -> Result<T, Failure> {
        let rest = self.text.get(at..).unwrap_or_default();
        Err((
            at,
            format!("invalid character {} {place}", first_character(rest)),
        ))
    }

    /// Consumes white space and comments.
    fn extra(&mut self) -> Result<Vec<u8>, Failure> {
        let start = self.at;
        loop {
            self.at += space_len(self.rest());
            match comment_len(self.rest()) {
                None => return Ok(self.taken_since(start)),
                Some(None) => return self.end_of_text("comment"),
                Some(Some(length)) => {
                    let comment = self.rest().get(..length).unwrap_or_default();
                    if std::str::from_utf8(comment).is_err() {
                        return Err((self.at, "invalid UTF-8 in comment".to_owned()));
                    }
                    self.at += length;
                }
            }
        }
    }

    /// A value with what stands before and after it.
    fn value(&mut self) -> Result<Value, Failure> {
        let before = self.extra()?;
        self.value_behind(before)
    }

    fn value_behind(&mut self, before: Vec<u8>) -> Result<Value, Failure> {
        let start = self.at;
        let node = self.node()?;
        let end = self.at;
        let after = self.extra()?;
        let after = if after.is_empty() { None } else { Some(after) };
        Ok(Value {
            before,
            start,
            node,
            end,
            after,
        })
    }

    fn node(&mut self) -> Result<Node, Failure> {
        match self.peek() {
            None => self.end_of_text("value"),
            Some(b'{') => self.composite(Kind::Object),
            Some(b'[') => self.composite(Kind::Array),
            Some(b'"') => self.string(),
            Some(_) => self.word(),
        }
    }

    fn composite(&mut self, kind: Kind) -> Result<Node, Failure> {
        if self.depth == MAX_DEPTH {
            return Err((self.at, format!("nested deeper than {MAX_DEPTH} levels")));
        }
        self.depth += 1;
        self.at += 1;
        let mut composite = Composite::new(kind);
        let (close, after_value, expecting) = match kind {
            Kind::Object => (
                b'}',
                "object after value",
                "after object value (expecting ',' or '}')",
            ),
            Kind::Array => (
                b']',
                "array after value",
                "after array value (expecting ',' or ']')",
            ),
        };
        loop {
            let before = self.extra()?;
            if self.peek() == Some(close) {
                composite.set_trailing_comma(true);
                composite.after = before;
                break;
            }
            let first = self.value_behind(before)?;
            composite.members.push(match kind {
                Kind::Array => Member {
                    name: None,
                    value: first,
                },
                Kind::Object => Member {
                    value: self.named_value(&first)?,
                    name: Some(first),
                },
            });
            match self.peek() {
                None => return self.end_of_text(after_value),
                Some(b',') => self.at += 1,
                Some(byte) if byte == close => {
                    if let Some(last) = composite.members.last_mut() {
                        composite.after = last.value.after.take().unwrap_or_default();
                    }
                    break;
                }
                Some(_) => return self.unexpected(expecting),
            }
        }
        self.at += 1;
        self.depth -= 1;
        Ok(Node::Composite(composite))
    }

    /// The colon and the value behind a member's name.
    fn named_value(&mut self, name: &Value) -> Result<Value, Failure> {
        if name
            .as_literal()
            .is_none_or(|text| text.first() != Some(&b'"'))
        {
            return self.unexpected_at(name.start, "at start of object name");
        }
        match self.peek() {
            None => self.end_of_text("object after name"),
            Some(b':') => {
                self.at += 1;
                self.value()
            }
            Some(_) => self.unexpected("after object name"),
        }
    }

    fn string(&mut self) -> Result<Node, Failure> {
        let start = self.at;
        let mut escaped = false;
        loop {
            self.at += 1;
            match self.peek() {
                None => return self.end_of_text("string"),
                Some(_) if escaped => escaped = false,
                Some(b'\\') => escaped = true,
                Some(b'"') => break,
                Some(_) => {}
            }
        }
        self.at += 1;
        self.literal(start)
    }

    fn word(&mut self) -> Result<Node, Failure> {
        let start = self.at;
        let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || b"-+.".contains(byte);
        self.at += self.rest().iter().take_while(|byte| is_part(byte)).count();
        if self.at == start {
            return self.unexpected("at start of value");
        }
        self.literal(start)
    }

    fn literal(&self, start: usize) -> Result<Node, Failure> {
        let text = self.taken_since(start);
        if is_valid(&text) {
            Ok(Node::Literal(text))
        } else {
            Err((
                start,
                format!("invalid literal: {}", String::from_utf8_lossy(&text)),
            ))
        }
    }
}

/// The first character of `rest`, quoted as Go does it.
fn first_character(rest: &[u8]) -> String {
    let chunk = rest
        .get(..rest.len().min(4))
        .unwrap_or_default()
        .utf8_chunks()
        .next();
    let character = chunk
        .as_ref()
        .and_then(|chunk| chunk.valid().chars().next());
    match character {
        Some('\'') => r"'\''".to_owned(),
        Some('\\') => r"'\\'".to_owned(),
        Some(character) if is_printable(character) => format!("'{character}'"),
        Some(character @ ..='\u{ffff}') => format!("'\\u{:04x}'", u32::from(character)),
        Some(character) => format!("'\\U{:08x}'", u32::from(character)),
        None => format!("'\\x{:02x}'", rest.first().copied().unwrap_or_default()),
    }
}
