//! How long a key or token is good for, as it is typed: `24h`, `90d`, `1d12h`.

use jiff::{Span, SpanRelativeTo, Unit};

/// Reads a lifetime in seconds: numbers, each with one of the units s, m, h, d, w.
///
/// # Errors
/// When it is none, or is not positive, or has months or years, whose length depends on the date; for the command
/// line's parser.
pub(super) fn parse(text: &str) -> Result<i64, String> {
    let wrong = || "expected a number with a unit s, m, h, d or w, such as 24h or 90d".to_owned();
    let span: Span = text.parse().map_err(|_| wrong())?;
    let total = (Unit::Second, SpanRelativeTo::days_are_24_hours());
    let seconds = span.total(total).map_err(|_| wrong())?;
    // Whole, exactly, and not zero: the API takes zero as its default, which nobody who types it means.
    let is_whole = seconds >= 1.0 && seconds.fract() == 0.0 && seconds < 9e15;
    #[expect(clippy::cast_possible_truncation, reason = "whole and below 2^53")]
    if is_whole {
        Ok(seconds as i64)
    } else {
        Err(wrong())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lifetimes_are_numbers_with_units() {
        for (text, seconds) in [
            ("1s", 1),
            ("30m", 1800),
            ("24h", 86_400),
            ("90d", 7_776_000),
            ("2w", 1_209_600),
            ("1d12h", 129_600),
            ("1.5h", 5400),
        ] {
            assert_eq!(parse(text), Ok(seconds), "{text}");
        }
        for text in [
            "",
            "0",
            "0d",
            "24",
            "h",
            "d90",
            "-1d",
            "1y",
            "1mo",
            "0.1s",
            "9223372036854775807w",
            "١d",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
