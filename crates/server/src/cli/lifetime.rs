//! How long a key or token is good for, as it is typed: `24h`, `90d`, `1d12h`.

/// Reads a lifetime in seconds: numbers, each with one of the units s, m, h, d, w.
///
/// # Errors
/// When it is none, or zero, or longer than anybody can mean; for the command line's parser.
pub(super) fn parse(text: &str) -> Result<i64, String> {
    let wrong = || "expected a number with a unit s, m, h, d or w, such as 24h or 90d".to_owned();
    let mut seconds = 0_i64;
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
        let number: i64 = rest[..end].parse().map_err(|_| wrong())?;
        let mut after = rest[end..].chars();
        let unit = match after.next() {
            Some('s') => 1,
            Some('m') => 60,
            Some('h') => 3600,
            Some('d') => 86_400,
            Some('w') => 7 * 86_400,
            _ => return Err(wrong()),
        };
        seconds = number
            .checked_mul(unit)
            .and_then(|part| seconds.checked_add(part))
            .ok_or_else(wrong)?;
        rest = after.as_str();
    }
    // The API takes zero as its default, which nobody means who types it.
    if seconds == 0 {
        Err(wrong())
    } else {
        Ok(seconds)
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
            "1.5h",
            "9223372036854775807w",
            "1d ",
            "١d",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
