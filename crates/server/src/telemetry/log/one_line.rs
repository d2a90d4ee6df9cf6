//! One event, one line: what others say cannot end a line, move the cursor or turn the text around.
//!
//! Escaped where all lines pass, so that no field can be forgotten.

use std::fmt::Write as _;
use std::io::{self, Write};

use bowline_model::text::is_hidden;
use tracing_subscriber::fmt::MakeWriter;

/// Makes writers that escape what would not show as itself.
#[derive(Debug, Clone)]
pub(super) struct OneLine<W> {
    inner: W,
    /// The subscriber itself writes colours: those sequences pass.
    is_coloured: bool,
}

impl<W> OneLine<W> {
    pub(super) const fn new(inner: W, is_coloured: bool) -> Self {
        Self { inner, is_coloured }
    }
}

impl<'a, W: MakeWriter<'a>> MakeWriter<'a> for OneLine<W> {
    type Writer = Escaping<W::Writer>;

    fn make_writer(&'a self) -> Self::Writer {
        Escaping {
            inner: self.inner.make_writer(),
            is_coloured: self.is_coloured,
        }
    }
}

/// Writes one event.
#[derive(Debug)]
pub(super) struct Escaping<W> {
    inner: W,
    is_coloured: bool,
}

impl<W: Write> Write for Escaping<W> {
    /// Takes a whole event: the subscriber writes each at once.
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(event);
        let line = text.strip_suffix('\n').unwrap_or(&text);
        let is_plain = !line.contains(is_hidden);
        if is_plain {
            self.inner.write_all(event)?;
        } else {
            let mut line = escaped(line, self.is_coloured);
            line.push('\n');
            self.inner.write_all(line.as_bytes())?;
        }
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

fn escaped(line: &str, is_coloured: bool) -> String {
    let mut escaped = String::with_capacity(line.len() + 64);
    let mut rest = line;
    while let Some(c) = rest.chars().next() {
        if is_coloured && let Some(length) = colour(rest) {
            escaped.push_str(&rest[..length]);
            rest = &rest[length..];
            continue;
        }
        if is_hidden(c) {
            // Writing to a string cannot fail.
            let _ = write!(escaped, "<U+{:04X}>", u32::from(c));
        } else {
            escaped.push(c);
        }
        rest = &rest[c.len_utf8()..];
    }
    escaped
}

/// The length of the colour sequence that a text begins with.
fn colour(text: &str) -> Option<usize> {
    let parameters = text.strip_prefix("\u{1b}[")?;
    let end = parameters.find(|c: char| !c.is_ascii_digit() && c != ';')?;
    parameters[end..].starts_with('m').then_some(end + 3)
}
