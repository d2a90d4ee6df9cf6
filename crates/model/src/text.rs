//! Texts of others, made fit to be shown in a log, an answer or a terminal.

use std::borrow::Cow;
use std::fmt::Write as _;

/// The most characters of a text of somebody else that an answer or a log line quotes.
pub const QUOTED_MAX: usize = 500;

/// Whether a character does not show as itself: it moves the cursor, ends the line, or turns the
/// direction of what follows. In a log or a terminal such a character makes a text look like another.
///
/// Control characters, the two separators of lines and paragraphs, the marks, embeddings, overrides
/// and isolates of the bidirectional algorithm (Unicode Standard Annex 9), and the byte-order mark.
pub fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// The text with each character that [`is_hidden`] written out, as `<U+001B>`, and at most
/// [`QUOTED_MAX`] characters of it, with `…` where there were more.
///
/// The form has no backslash: the official Rust client loses an answer that has one.
///
/// ```
/// assert_eq!(bowline_model::text::shown("a\u{1b}b"), "a<U+001B>b");
/// ```
pub fn shown(text: &str) -> Cow<'_, str> {
    let is_short = text.char_indices().nth(QUOTED_MAX).is_none();
    if is_short && !text.contains(is_hidden) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len().min(4 * QUOTED_MAX));
    for c in text.chars().take(QUOTED_MAX) {
        if is_hidden(c) {
            // Writing to a string cannot fail.
            let _ = write!(shown, "<U+{:04X}>", u32::from(c));
        } else {
            shown.push(c);
        }
    }
    if !is_short {
        shown.push('…');
    }
    Cow::Owned(shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_not_show_is_written_out_and_the_rest_is_left_alone() {
        assert_eq!(shown("grüße, 世界 \"x\\y\""), "grüße, 世界 \"x\\y\"");
        assert_eq!(shown("a\nb\u{202e}c\u{9b}"), "a<U+000A>b<U+202E>c<U+009B>");
        for c in (0..=u32::from(char::MAX)).filter_map(char::from_u32) {
            assert!(!shown(&c.to_string()).contains(is_hidden), "{c:?}");
        }
    }

    #[test]
    fn a_long_text_is_cut_by_characters() {
        assert_eq!(shown(&"ü".repeat(QUOTED_MAX)), "ü".repeat(QUOTED_MAX));
        let cut = shown(&"ü".repeat(QUOTED_MAX + 1)).into_owned();
        assert_eq!(cut, format!("{}…", "ü".repeat(QUOTED_MAX)));
    }
}
