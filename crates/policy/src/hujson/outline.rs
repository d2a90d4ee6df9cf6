//! From text to outline: where the values are, and how they are nested.
//!
//! The outline is what the grammar is checked by. It takes 16 bytes for a value, while a tree with
//! white space and comments takes some hundred, and texts of several megabytes come from outside.

use super::literal::{decode_string, is_printable, is_valid};
use super::{CompositeKind, Error, LineIndex, comment_len, space_len};
use crate::budget::{Budget, Exhausted};

/// How deep objects and arrays may be nested. The official library has no limit of its own; a
/// policy needs about six levels.
pub const MAX_DEPTH: usize = 200;

/// What a value is, as far as the outline goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Literal,
    Composite(CompositeKind),
}

/// A value: members' names are values too, in front of theirs.
#[derive(Debug, Clone, Copy)]
struct Node {
    /// Offset of the first byte.
    start: u32,
    /// Offset behind the last byte.
    end: u32,
    /// The number of the next value that is not inside this one.
    next: u32,
    what: What,
}

/// A document's values in the order of the text, each before what is inside it.
#[derive(Debug)]
pub(crate) struct Outline<'a> {
    text: &'a [u8],
    nodes: Vec<Node>,
}

/// Number of a value in an outline. The document is 0.
pub(crate) type Index = u32;

/// Bytes of memory that a value takes in an outline.
const NODE: usize = size_of::<Node>();

/// Bytes of text that count as one step.
const TEXT_STEP: usize = 16;

/// Why a text was not read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// It is not HuJSON.
    #[error(transparent)]
    Syntax(#[from] Error),
    /// It is too long for the work that may be done.
    #[error(transparent)]
    Exhausted(#[from] Exhausted),
}

impl<'a> Outline<'a> {
    /// Checks a text against the grammar.
    pub(crate) fn parse(text: &'a [u8], budget: &Budget) -> Result<Self, Unreadable> {
        let mut parser = Parser {
            text,
            at: 0,
            depth: 0,
            nodes: Vec::new(),
            budget,
        };
        let parsed = parser.budget.steps(text.len() / TEXT_STEP);
        let parsed = parsed.map_err(Failure::Exhausted).and_then(|()| {
            if u32::try_from(text.len()).is_err() {
                return Err(Failure::Syntax(0, "text of more than 4 GiB".to_owned()));
            }
            parser.document()
        });
        match parsed {
            Ok(()) => Ok(Self {
                text,
                nodes: parser.nodes,
            }),
            Err(Failure::Exhausted(exhausted)) => Err(Unreadable::Exhausted(exhausted)),
            Err(Failure::Syntax(offset, reason)) => {
                let (line, column) =
                    LineIndex::new(text.get(..offset).unwrap_or(text)).locate(offset);
                Err(Unreadable::Syntax(Error {
                    line,
                    column,
                    reason,
                }))
            }
        }
    }

    /// How many values there are.
    pub(crate) fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Estimated memory of the outline, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.nodes.len().saturating_mul(NODE)
    }

    pub(super) const fn text(&self) -> &'a [u8] {
        self.text
    }

    fn node(&self, at: Index) -> Option<&Node> {
        self.nodes.get(at as usize)
    }

    /// Where a value begins and ends.
    pub(crate) fn span(&self, at: Index) -> (usize, usize) {
        self.node(at)
            .map_or((0, 0), |node| (node.start as usize, node.end as usize))
    }

    /// The kind of a value that is an object or an array.
    pub(crate) fn kind(&self, at: Index) -> Option<CompositeKind> {
        match self.node(at)?.what {
            What::Literal => None,
            What::Composite(kind) => Some(kind),
        }
    }

    /// The literal as written, if the value is one.
    pub(crate) fn literal(&self, at: Index) -> Option<&'a [u8]> {
        let node = self.node(at)?;
        match node.what {
            What::Literal => self.text.get(node.start as usize..node.end as usize),
            What::Composite(_) => None,
        }
    }

    /// The string, decoded, if the value is one.
    pub(crate) fn string(&self, at: Index) -> Option<String> {
        let text = self.literal(at)?;
        (text.first() == Some(&b'"')).then(|| decode_string(text))
    }

    /// The values directly inside: elements of an array, or names and values by turns.
    pub(crate) fn children(&self, at: Index) -> Children<'_> {
        let (next, end) = match self.node(at) {
            Some(node) if node.what != What::Literal => (at + 1, node.next),
            _ => (0, 0),
        };
        Children {
            nodes: &self.nodes,
            next,
            end,
        }
    }
}

/// See [`Outline::children`].
#[derive(Debug, Clone)]
pub(crate) struct Children<'a> {
    nodes: &'a [Node],
    next: Index,
    end: Index,
}

impl Iterator for Children<'_> {
    type Item = Index;

    fn next(&mut self) -> Option<Index> {
        let at = (self.next < self.end).then_some(self.next)?;
        self.next = self.nodes.get(at as usize)?.next;
        Some(at)
    }
}

/// Where the white space and the comments end that begin at `at`.
pub(super) fn behind_extra(text: &[u8], mut at: usize) -> usize {
    loop {
        let rest = text.get(at..).unwrap_or_default();
        let space = space_len(rest);
        at += space;
        match comment_len(rest.get(space..).unwrap_or_default()) {
            Some(Some(length)) => at += length,
            None | Some(None) => return at,
        }
    }
}

/// Where parsing stopped, and why.
enum Failure {
    Syntax(usize, String),
    Exhausted(Exhausted),
}

struct Parser<'a, 'b> {
    text: &'a [u8],
    at: usize,
    depth: usize,
    nodes: Vec<Node>,
    budget: &'b Budget,
}

/// An offset in a text whose length was checked.
fn offset(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}

impl Parser<'_, '_> {
    fn rest(&self) -> &[u8] {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn end_of_text<T>(&self, place: &str) -> Result<T, Failure> {
        Err(Failure::Syntax(
            self.at,
            format!("parsing {place}: unexpected EOF"),
        ))
    }

    fn unexpected<T>(&self, place: &str) -> Result<T, Failure> {
        self.unexpected_at(self.at, place)
    }

    fn unexpected_at<T>(&self, at: usize, place: &str) -> Result<T, Failure> {
        let rest = self.text.get(at..).unwrap_or_default();
        Err(Failure::Syntax(
            at,
            format!("invalid character {} {place}", first_character(rest)),
        ))
    }

    fn document(&mut self) -> Result<(), Failure> {
        self.value()?;
        match self.peek() {
            Some(_) => self.unexpected("after top-level value"),
            None => Ok(()),
        }
    }

    /// Consumes white space and comments.
    fn extra(&mut self) -> Result<(), Failure> {
        loop {
            self.at += space_len(self.rest());
            match comment_len(self.rest()) {
                None => return Ok(()),
                Some(None) => return self.end_of_text("comment"),
                Some(Some(length)) => {
                    let comment = self.rest().get(..length).unwrap_or_default();
                    if std::str::from_utf8(comment).is_err() {
                        let reason = "invalid UTF-8 in comment".to_owned();
                        return Err(Failure::Syntax(self.at, reason));
                    }
                    self.at += length;
                }
            }
        }
    }

    /// A value with what stands before and after it.
    fn value(&mut self) -> Result<(), Failure> {
        self.extra()?;
        self.value_here()
    }

    fn value_here(&mut self) -> Result<(), Failure> {
        let start = self.at;
        let number = self.nodes.len();
        let what = match self.peek() {
            Some(b'{') => What::Composite(CompositeKind::Object),
            Some(b'[') => What::Composite(CompositeKind::Array),
            _ => What::Literal,
        };
        self.budget.elements(1, NODE).map_err(Failure::Exhausted)?;
        self.nodes.push(Node {
            start: offset(start),
            end: 0,
            next: 0,
            what,
        });
        match (self.peek(), what) {
            (None, _) => return self.end_of_text("value"),
            (_, What::Composite(kind)) => self.composite(kind)?,
            (Some(b'"'), _) => self.string()?,
            (Some(_), _) => self.word()?,
        }
        let (end, next) = (offset(self.at), offset(self.nodes.len()));
        if let Some(node) = self.nodes.get_mut(number) {
            (node.end, node.next) = (end, next);
        }
        self.extra()
    }

    fn composite(&mut self, kind: CompositeKind) -> Result<(), Failure> {
        if self.depth == MAX_DEPTH {
            let reason = format!("nested deeper than {MAX_DEPTH} levels");
            return Err(Failure::Syntax(self.at, reason));
        }
        self.depth += 1;
        self.at += 1;
        let (close, after_value, expecting) = match kind {
            CompositeKind::Object => (
                b'}',
                "object after value",
                "after object value (expecting ',' or '}')",
            ),
            CompositeKind::Array => (
                b']',
                "array after value",
                "after array value (expecting ',' or ']')",
            ),
        };
        loop {
            self.extra()?;
            if self.peek() == Some(close) {
                break;
            }
            let start = self.at;
            self.value_here()?;
            if kind == CompositeKind::Object {
                self.named_value(start)?;
            }
            match self.peek() {
                None => return self.end_of_text(after_value),
                Some(b',') => self.at += 1,
                Some(byte) if byte == close => break,
                Some(_) => return self.unexpected(expecting),
            }
        }
        self.at += 1;
        self.depth -= 1;
        Ok(())
    }

    /// The colon and the value behind a member's name, which began at `start`.
    fn named_value(&mut self, start: usize) -> Result<(), Failure> {
        if self.text.get(start) != Some(&b'"') {
            return self.unexpected_at(start, "at start of object name");
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

    fn string(&mut self) -> Result<(), Failure> {
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

    fn word(&mut self) -> Result<(), Failure> {
        let start = self.at;
        let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || b"-+.".contains(byte);
        self.at += self.rest().iter().take_while(|byte| is_part(byte)).count();
        if self.at == start {
            return self.unexpected("at start of value");
        }
        self.literal(start)
    }

    fn literal(&self, start: usize) -> Result<(), Failure> {
        let text = self.text.get(start..self.at).unwrap_or_default();
        if is_valid(text) {
            return Ok(());
        }
        // What is wrong is not repeated by the megabyte.
        let shown = text.get(..text.len().min(QUOTED)).unwrap_or_default();
        Err(Failure::Syntax(
            start,
            format!("invalid literal: {}", String::from_utf8_lossy(shown)),
        ))
    }
}

/// The most bytes of a text that an error repeats.
const QUOTED: usize = 1000;

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
