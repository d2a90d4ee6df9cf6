//! HuJSON: JSON with comments and trailing commas, kept as it was written.
//!
//! A document is a tree in which every value owns the white space and the comments around it, so
//! that packing an untouched tree gives the very bytes that were parsed. On top of the tree stand
//! the canonical formatter (the policy file's `ETag` is a hash of its output), the translations to
//! plain JSON, and RFC 6902 patches that keep comments.
//!
//! Errors have the wording and the positions of the official Go library, because the policy API
//! shows them and `gitops-pusher` parses them.
//!
//! ```
//! use bowline_policy::hujson;
//!
//! let text = "{\n// who\n\"groups\": {},}";
//! assert_eq!(hujson::format(text)?, "{\n\t// who\n\t\"groups\": {},\n}\n");
//! assert_eq!(hujson::standardize(text)?, "{\n      \n\"groups\": {} }");
//! # Ok::<(), hujson::Error>(())
//! ```

mod format;
mod literal;
mod outline;
mod parse;
mod patch;

pub use literal::quote;
pub use outline::MAX_DEPTH;
pub use outline::Unreadable;
pub(crate) use outline::{Index, Outline};

use literal::decode_string;

/// White space and comments between two structural characters, as raw bytes.
pub type Extra = Vec<u8>;

/// A syntax error, with its place in the text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("hujson: line {line}, column {column}: {reason}")]
pub struct Error {
    /// Line of the first byte that could not be accepted, from 1.
    pub line: usize,
    /// Column in bytes, from 1.
    pub column: usize,
    /// What was wrong there, in the words of the official library.
    pub reason: String,
}

/// A patch that could not be read or applied. The text begins with `hujson: `.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct PatchError(pub String);

/// A value and what stands around it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Value {
    /// Extra since the last structural character.
    pub before: Extra,
    /// Offset of the value's first byte in the text that was parsed.
    pub start: usize,
    /// The value itself.
    pub node: Node,
    /// Offset behind the value's last byte.
    pub end: usize,
    /// Extra up to the next structural character. `None` and empty differ in one place: on the
    /// last value of an object or array, anything but `None` means a trailing comma.
    pub after: Option<Extra>,
}

/// A value without its surroundings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node {
    /// `null`, a boolean, a number or a string, as written (strings with their quotes).
    Literal(Vec<u8>),
    /// An object or an array.
    Composite(Composite),
}

/// An object or an array; they differ in whether the members have names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Composite {
    /// Which of the two.
    pub kind: CompositeKind,
    /// Members in file order. Names may repeat.
    pub members: Vec<Member>,
    /// Extra before the closing bracket.
    pub after: Extra,
    /// Set by the formatter: each member goes on a line of its own.
    expand: bool,
}

/// Kind of a composite.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CompositeKind {
    /// `{ … }`
    Object,
    /// `[ … ]`
    Array,
}

/// A member of an object, or an element of an array.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Member {
    /// The name; `None` in arrays.
    pub name: Option<Value>,
    /// The value.
    pub value: Value,
}

impl Default for Node {
    fn default() -> Self {
        Self::Literal(b"null".to_vec())
    }
}

impl Member {
    /// The value that comes first in the text.
    fn first(&self) -> &Value {
        self.name.as_ref().unwrap_or(&self.value)
    }

    fn first_mut(&mut self) -> &mut Value {
        self.name.as_mut().unwrap_or(&mut self.value)
    }

    /// The name, decoded. Empty in arrays.
    pub fn key(&self) -> String {
        self.name
            .as_ref()
            .and_then(Value::as_string)
            .unwrap_or_default()
    }
}

impl Composite {
    const fn new(kind: CompositeKind) -> Self {
        Self {
            kind,
            members: Vec::new(),
            after: Vec::new(),
            expand: false,
        }
    }

    /// All values directly inside, names included, in file order.
    fn values_mut(&mut self) -> impl Iterator<Item = &mut Value> {
        self.members
            .iter_mut()
            .flat_map(|member| member.name.iter_mut().chain([&mut member.value]))
    }

    fn values(&self) -> impl Iterator<Item = &Value> {
        self.members
            .iter()
            .flat_map(|member| member.name.iter().chain([&member.value]))
    }

    /// Extra in front of member `index`, or before the closing bracket behind the last one.
    fn before_at(&self, index: usize) -> &Extra {
        self.members
            .get(index)
            .map_or(&self.after, |member| &member.first().before)
    }

    fn before_at_mut(&mut self, index: usize) -> &mut Extra {
        match self.members.get_mut(index) {
            Some(member) => &mut member.first_mut().before,
            None => &mut self.after,
        }
    }

    fn has_trailing_comma(&self) -> bool {
        self.members
            .last()
            .is_some_and(|member| member.value.after.is_some())
    }

    fn set_trailing_comma(&mut self, wanted: bool) {
        let Some(last) = self.members.last_mut() else {
            return;
        };
        if wanted {
            last.value.after.get_or_insert_default();
        } else if let Some(mut extra) = last.value.after.take() {
            extra.append(&mut self.after);
            self.after = extra;
        }
    }
}

impl Value {
    /// Parses a document.
    ///
    /// # Errors
    /// The first syntax error, with its position. Nesting deeper than [`MAX_DEPTH`] is one too.
    pub fn parse(text: &[u8]) -> Result<Self, Error> {
        parse::document(text)
    }

    /// The text of the tree.
    pub fn pack(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.pack_into(&mut out);
        out
    }

    fn pack_into(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.before);
        match &self.node {
            Node::Literal(text) => out.extend_from_slice(text),
            Node::Composite(composite) => {
                let (open, close) = match composite.kind {
                    CompositeKind::Object => (b'{', b'}'),
                    CompositeKind::Array => (b'[', b']'),
                };
                out.push(open);
                let count = composite.members.len();
                for (index, member) in composite.members.iter().enumerate() {
                    if let Some(name) = &member.name {
                        name.pack_into(out);
                        out.push(b':');
                    }
                    member.value.pack_into(out);
                    if index + 1 < count || composite.has_trailing_comma() {
                        out.push(b',');
                    }
                }
                out.extend_from_slice(&composite.after);
                out.push(close);
            }
        }
        if let Some(after) = &self.after {
            out.extend_from_slice(after);
        }
    }

    /// Whether this is plain JSON: neither comments nor trailing commas.
    pub fn is_standard(&self) -> bool {
        let inside = match &self.node {
            Node::Literal(_) => true,
            Node::Composite(composite) => {
                !composite.has_trailing_comma()
                    && !has_comment(&composite.after)
                    && composite.values().all(Self::is_standard)
            }
        };
        inside && !has_comment(&self.before) && !self.after.as_deref().is_some_and(has_comment)
    }

    /// Replaces comments and trailing commas by spaces, so that every offset stays.
    pub fn standardize(&mut self) {
        blank(&mut self.before);
        if let Node::Composite(composite) = &mut self.node {
            composite.values_mut().for_each(Self::standardize);
            let trailing = composite
                .members
                .last_mut()
                .and_then(|last| last.value.after.take());
            if let Some(mut extra) = trailing {
                extra.push(b' ');
                extra.append(&mut composite.after);
                composite.after = extra;
            }
            blank(&mut composite.after);
        }
        if let Some(after) = &mut self.after {
            blank(after);
        }
    }

    /// Removes everything that is not part of a value.
    pub fn minimize(&mut self) {
        self.before.clear();
        self.after = None;
        if let Node::Composite(composite) = &mut self.node {
            composite.values_mut().for_each(Self::minimize);
            composite.after.clear();
        }
    }

    /// Brings the document into its canonical layout. Formatting twice changes nothing more.
    pub fn format(&mut self) {
        format::document(self);
    }

    /// Applies an RFC 6902 patch, itself HuJSON. Comments that belong to a member move or vanish
    /// with it. Operations before the one that fails stay applied.
    ///
    /// # Errors
    /// What is wrong with the patch, or which operation could not be applied.
    pub fn patch(&mut self, patch: &[u8]) -> Result<(), PatchError> {
        patch::apply(self, patch)
    }

    /// The string, decoded, if the value is one. Bytes that are not UTF-8 become U+FFFD.
    pub fn as_string(&self) -> Option<String> {
        match &self.node {
            Node::Literal(text) if text.first() == Some(&b'"') => Some(decode_string(text)),
            _ => None,
        }
    }

    /// The object or array, if the value is one.
    pub const fn as_composite(&self) -> Option<&Composite> {
        match &self.node {
            Node::Composite(composite) => Some(composite),
            Node::Literal(_) => None,
        }
    }

    /// The literal as written, if the value is one.
    pub fn as_literal(&self) -> Option<&[u8]> {
        match &self.node {
            Node::Literal(text) => Some(text),
            Node::Composite(_) => None,
        }
    }

    /// Whether the value is `null`.
    pub fn is_null(&self) -> bool {
        self.as_literal() == Some(b"null")
    }
}

/// Whether a text is an object or an array; `None` for other values. Checks the grammar, and takes
/// no more memory than that needs.
///
/// # Errors
/// A syntax error, or what the budget lacks.
pub fn kind(text: &str, budget: &crate::Budget) -> Result<Option<CompositeKind>, Unreadable> {
    let outline = Outline::parse(text.as_bytes(), budget)?;
    budget.give_back(outline.bytes());
    Ok(outline.kind(0))
}

/// Formats a document canonically. The `ETag` of a policy file is the SHA-256 of this text.
///
/// # Errors
/// See [`Value::parse`].
pub fn format(text: &str) -> Result<String, Error> {
    let mut value = Value::parse(text.as_bytes())?;
    value.format();
    Ok(into_text(value.pack()))
}

/// Plain JSON at the same offsets: comments and trailing commas become spaces.
///
/// # Errors
/// See [`Value::parse`].
pub fn standardize(text: &str) -> Result<String, Error> {
    let mut value = Value::parse(text.as_bytes())?;
    value.standardize();
    Ok(into_text(value.pack()))
}

/// Plain JSON without any white space.
///
/// # Errors
/// See [`Value::parse`].
pub fn minimize(text: &str) -> Result<String, Error> {
    let mut value = Value::parse(text.as_bytes())?;
    value.minimize();
    Ok(into_text(value.pack()))
}

/// Plain JSON for people: comments dropped, then formatted canonically. Order, numbers and
/// repeated names stay as written.
///
/// # Errors
/// See [`Value::parse`].
pub fn to_json(text: &str) -> Result<String, Error> {
    let mut value = Value::parse(text.as_bytes())?;
    value.standardize();
    value.format();
    Ok(into_text(value.pack()))
}

/// Finds lines and columns of offsets.
#[derive(Debug, Clone)]
pub struct LineIndex {
    /// Offset of the first byte of each line. A text can be nothing but newlines.
    starts: Vec<u32>,
}

impl LineIndex {
    /// Prepares the lookup for one text.
    pub fn new(text: &[u8]) -> Self {
        let newlines = text.iter().enumerate().filter(|(_, byte)| **byte == b'\n');
        Self {
            starts: std::iter::once(0)
                .chain(newlines.map(|(at, _)| u32::try_from(at + 1).unwrap_or(u32::MAX)))
                .collect(),
        }
    }

    /// Line and column of an offset, both from 1, the column in bytes.
    pub fn locate(&self, offset: usize) -> (usize, usize) {
        let line = self
            .starts
            .partition_point(|start| *start as usize <= offset);
        let start = line.checked_sub(1).and_then(|index| self.starts.get(index));
        let start = start.map_or(0, |start| *start as usize);
        (line, offset - start + 1)
    }

    /// Estimated memory, in bytes, of the lookup for a text.
    pub(crate) fn bytes(text: &[u8]) -> usize {
        count_newlines(text).saturating_mul(size_of::<u32>())
    }
}

fn into_text(bytes: Vec<u8>) -> String {
    // A text stays a text: layout moves whole bytes and only ASCII ones are made.
    String::from_utf8(bytes)
        .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

fn blank(extra: &mut [u8]) {
    for byte in extra {
        if !is_space(*byte) {
            *byte = b' ';
        }
    }
}

const fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

/// Length of the white space at the start.
fn space_len(bytes: &[u8]) -> usize {
    bytes.iter().take_while(|byte| is_space(**byte)).count()
}

fn has_comment(extra: &[u8]) -> bool {
    space_len(extra) < extra.len()
}

fn has_newline(extra: &[u8]) -> bool {
    extra.contains(&b'\n')
}

#[expect(
    clippy::naive_bytecount,
    reason = "white space between two values is a few bytes, and whole texts are counted once"
)]
fn count_newlines(extra: &[u8]) -> usize {
    extra.iter().filter(|byte| **byte == b'\n').count()
}

/// Length of the comment at the start: `None` if there is none, `Some(None)` if it has no end.
#[expect(
    clippy::option_option,
    reason = "no comment, and a comment without an end, differ"
)]
fn comment_len(bytes: &[u8]) -> Option<Option<usize>> {
    let end: &[u8] = match bytes.get(..2) {
        Some(b"//") => b"\n",
        Some(b"/*") => b"*/",
        _ => return None,
    };
    let body = bytes.get(2..).unwrap_or_default();
    Some(
        body.windows(end.len())
            .position(|window| window == end)
            .map(|at| 2 + at + end.len()),
    )
}

#[cfg(test)]
mod tests {
    use super::{LineIndex, Value, format, standardize, to_json};

    #[test]
    fn the_default_policy_is_in_canonical_layout() {
        assert_eq!(
            format(crate::DEFAULT_POLICY).as_deref(),
            Ok(crate::DEFAULT_POLICY)
        );
    }

    #[test]
    fn json_of_a_policy_has_no_comments_and_parses() {
        let json = to_json(crate::DEFAULT_POLICY).unwrap();
        assert!(!json.contains("//"));
        let value: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(value["acls"][0]["dst"][0], "*:*");
    }

    #[test]
    fn standardizing_keeps_every_offset() {
        let text = "{ /* a */ \"a\": [1, 2,], // b\n}\n";
        let plain = standardize(text).unwrap();
        assert_eq!(plain.len(), text.len());
        assert_eq!(plain.find("\"a\""), text.find("\"a\""));
    }

    #[test]
    fn nesting_beyond_the_limit_is_an_error_and_not_a_crash() {
        let text = "[".repeat(100_000);
        let error = Value::parse(text.as_bytes()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "hujson: line 1, column 201: nested deeper than 200 levels"
        );
    }

    #[test]
    fn lines_and_columns_count_from_one() {
        let index = LineIndex::new(b"ab\n\ncd");
        assert_eq!(index.locate(0), (1, 1));
        assert_eq!(index.locate(2), (1, 3));
        assert_eq!(index.locate(3), (2, 1));
        assert_eq!(index.locate(5), (3, 2));
    }
}
