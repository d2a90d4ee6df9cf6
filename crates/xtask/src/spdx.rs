//! Whether a licence expression can be met with a list of licences.

/// Whether someone who accepts only `allowed` may use what `expression` licenses. Understands
/// `AND`, `OR`, `WITH`, parentheses, and the `/` that old manifests have for `OR`. A licence
/// `X+` (X or later) is met by X.
///
/// # Errors
/// The expression is not one; the text says what is wrong.
pub fn is_allowed(expression: &str, allowed: &[String]) -> Result<bool, String> {
    let spaced = expression
        .replace('(', " ( ")
        .replace(')', " ) ")
        .replace('/', " OR ");
    let mut words: Vec<&str> = spaced.split_whitespace().collect();
    words.reverse();
    let met = any(&mut words, allowed)?;
    match words.pop() {
        None => Ok(met),
        Some(word) => Err(format!("`{word}` is not expected in `{expression}`")),
    }
}

/// Alternatives; words are taken from the end.
fn any(words: &mut Vec<&str>, allowed: &[String]) -> Result<bool, String> {
    let mut met = all(words, allowed)?;
    while words.last() == Some(&"OR") {
        words.pop();
        met |= all(words, allowed)?;
    }
    Ok(met)
}

fn all(words: &mut Vec<&str>, allowed: &[String]) -> Result<bool, String> {
    let mut met = one(words, allowed)?;
    while words.last() == Some(&"AND") {
        words.pop();
        met &= one(words, allowed)?;
    }
    Ok(met)
}

fn one(words: &mut Vec<&str>, allowed: &[String]) -> Result<bool, String> {
    match words.pop() {
        None => Err("a licence is missing".to_owned()),
        Some("(") => {
            let met = any(words, allowed)?;
            match words.pop() {
                Some(")") => Ok(met),
                _ => Err("a parenthesis is not closed".to_owned()),
            }
        }
        Some(word @ (")" | "AND" | "OR" | "WITH")) => Err(format!("`{word}` is not a licence")),
        Some(licence) => {
            let licence = licence.strip_suffix('+').unwrap_or(licence);
            let licence = if words.last() == Some(&"WITH") {
                words.pop();
                let exception = words.pop().ok_or("an exception is missing")?;
                format!("{licence} WITH {exception}")
            } else {
                licence.to_owned()
            };
            Ok(allowed.contains(&licence))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_mit_and_isc(expression: &str) -> Result<bool, String> {
        is_allowed(
            expression,
            &["MIT".to_owned(), "ISC".to_owned(), "MPL-2.0".to_owned()],
        )
    }

    #[test]
    fn expressions_are_read_with_their_precedence() {
        for (expression, met) in [
            ("MIT", true),
            ("GPL-3.0", false),
            ("GPL-3.0 OR MIT", true),
            ("GPL-3.0/MIT", true),
            ("GPL-3.0 AND MIT", false),
            ("MIT OR GPL-3.0 AND GPL-2.0", true),
            ("(MIT OR GPL-3.0) AND GPL-2.0", false),
            ("ISC AND (GPL-3.0 OR MIT)", true),
            ("MPL-2.0+", true),
            ("MIT WITH some-exception", false),
        ] {
            assert_eq!(with_mit_and_isc(expression), Ok(met), "{expression}");
        }
    }

    #[test]
    fn what_is_no_expression_is_an_error() {
        for expression in ["", "MIT MIT", "(MIT", "MIT OR", "AND MIT", "MIT WITH", ")"] {
            assert!(with_mit_and_isc(expression).is_err(), "{expression}");
        }
    }
}
