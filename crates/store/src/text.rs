//! Large texts, each kept once and referred to by its hash.

use std::fmt::Write as _;

use aws_lc_rs::digest::{SHA256, digest};
use jiff::Timestamp;

/// A text to keep, such as a policy file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TextRow {
    /// SHA-256 of the text, in lower-case hexadecimal.
    pub sha256: String,
    /// When it was set. Kept to the microsecond. One that is there already takes the later moment.
    pub at: Timestamp,
    /// The text.
    pub body: Box<str>,
}

impl TextRow {
    /// A text with its hash.
    pub fn new(at: Timestamp, body: impl Into<Box<str>>) -> Self {
        let body = body.into();
        let sha256 = text_hash(&body);
        Self { sha256, at, body }
    }
}

/// The name that a text is kept under.
pub fn text_hash(body: &str) -> String {
    let mut hex = String::with_capacity(64);
    for byte in digest(&SHA256, body.as_bytes()).as_ref() {
        // Writing to a String cannot fail.
        let _ = write!(hex, "{byte:02x}");
    }
    hex
}

/// A kept text without the text itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TextVersion {
    /// SHA-256 of the text, in lower-case hexadecimal.
    pub sha256: String,
    /// When it was set last.
    pub at: Timestamp,
    /// Its length in bytes.
    pub bytes: u64,
}
