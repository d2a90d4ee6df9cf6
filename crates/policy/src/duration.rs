//! Durations as Go writes and reads them: `12h`, `1h30m`, `168h0m1s`.

use crate::hujson::quote;
use std::fmt::Write as _;

const SECOND: i128 = 1_000_000_000;
const UNITS: &[(&str, i128)] = &[
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ms", 1_000_000),
    ("s", SECOND),
    ("m", 60 * SECOND),
    ("h", 3600 * SECOND),
];

/// Reads a duration, in nanoseconds.
///
/// # Errors
/// Go's text, such as `time: invalid duration "abc"`.
pub(crate) fn parse(text: &str) -> Result<i64, String> {
    let invalid = || format!("time: invalid duration {}", quote(text));
    let (negative, mut rest) = match text.as_bytes().first() {
        Some(b'-') => (true, text.get(1..).unwrap_or_default()),
        Some(b'+') => (false, text.get(1..).unwrap_or_default()),
        _ => (false, text),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut total: i128 = 0;
    while !rest.is_empty() {
        let (whole, behind) = digits(rest);
        let (fraction, behind) = match behind.strip_prefix('.') {
            Some(behind) => digits(behind),
            None => ("", behind),
        };
        if whole.is_empty() && fraction.is_empty() {
            return Err(invalid());
        }
        let length = behind.find(|next: char| next == '.' || next.is_ascii_digit());
        let (unit, behind) = behind.split_at(length.unwrap_or(behind.len()));
        if unit.is_empty() {
            return Err(format!("time: missing unit in duration {}", quote(text)));
        }
        let Some((_, scale)) = UNITS.iter().find(|(name, _)| *name == unit) else {
            let unit = quote(unit);
            return Err(format!(
                "time: unknown unit {unit} in duration {}",
                quote(text)
            ));
        };
        let whole: i128 = if whole.is_empty() {
            0
        } else {
            whole.parse().map_err(|_| invalid())?
        };
        let mut part = whole.checked_mul(*scale).ok_or_else(invalid)?;
        let mut scale = *scale;
        for digit in fraction.bytes() {
            scale /= 10;
            part = part.saturating_add(i128::from(digit - b'0') * scale);
        }
        total = total.checked_add(part).ok_or_else(invalid)?;
        rest = behind;
    }
    i64::try_from(if negative { -total } else { total }).map_err(|_| invalid())
}

fn digits(text: &str) -> (&str, &str) {
    text.split_at(text.bytes().take_while(u8::is_ascii_digit).count())
}

/// Writes a duration as Go does: `1h0m0s`, `1.5s`, `0s`.
pub(crate) fn show(nanoseconds: i64) -> String {
    let magnitude = i128::from(nanoseconds).abs();
    let mut out = if nanoseconds < 0 {
        "-".to_owned()
    } else {
        String::new()
    };
    if magnitude == 0 {
        return "0s".to_owned();
    }
    if magnitude < SECOND {
        let (scale, unit) = match magnitude {
            0..1_000 => (1, "ns"),
            1_000..1_000_000 => (1_000, "µs"),
            _ => (1_000_000, "ms"),
        };
        push_fraction(&mut out, magnitude, scale);
        return out + unit;
    }
    let seconds = magnitude / SECOND;
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    // Writing to a string cannot fail.
    if hours > 0 {
        let _ = write!(out, "{hours}h");
    }
    if hours > 0 || minutes > 0 {
        let _ = write!(out, "{minutes}m");
    }
    push_fraction(&mut out, magnitude % (60 * SECOND), SECOND);
    out + "s"
}

fn push_fraction(out: &mut String, value: i128, scale: i128) {
    let _ = write!(out, "{}", value / scale);
    let fraction = value % scale;
    if fraction > 0 {
        let width = scale.ilog10() as usize;
        let digits = format!("{fraction:0width$}");
        let _ = write!(out, ".{}", digits.trim_end_matches('0'));
    }
}

#[cfg(test)]
mod tests {
    use super::{parse, show};

    #[test]
    fn durations_read_and_write_the_go_way() {
        for (text, shown) in [
            ("12h", "12h0m0s"),
            ("168h1s", "168h0m1s"),
            ("-1m", "-1m0s"),
            ("1.5s", "1.5s"),
            ("90m", "1h30m0s"),
            ("0", "0s"),
            ("1500us", "1.5ms"),
            (".5h", "30m0s"),
        ] {
            assert_eq!(parse(text).map(show).as_deref(), Ok(shown), "{text}");
        }
        assert_eq!(
            parse("abc"),
            Err("time: invalid duration \"abc\"".to_owned())
        );
        assert_eq!(
            parse("12"),
            Err("time: missing unit in duration \"12\"".to_owned())
        );
        assert_eq!(
            parse("1d"),
            Err("time: unknown unit \"d\" in duration \"1d\"".to_owned())
        );
        assert_eq!(parse(""), Err("time: invalid duration \"\"".to_owned()));
    }
}
