//! Whether a licence expression can be met with a list of licences.

use spdx::{Expression, Licensee, ParseMode};

/// Whether someone who accepts only `allowed` may use what `expression` licenses. The `/` of old
/// manifests is an `OR`. A licence `X+` (X or later) is met by X.
///
/// # Errors
/// The expression, or one of the allowed licences, is not one; the text says what is wrong.
pub fn is_allowed(expression: &str, allowed: &[String]) -> Result<bool, String> {
    let allowed = allowed.iter().map(|licence| {
        Licensee::parse(licence).map_err(|error| format!("`{licence}` is not a licence: {error}"))
    });
    let allowed = allowed.collect::<Result<Vec<Licensee>, String>>()?;
    let mode = ParseMode {
        allow_slash_as_or_operator: true,
        allow_deprecated: true,
        ..ParseMode::STRICT
    };
    let expression =
        Expression::parse_mode(expression, mode).map_err(|error| error.reason.to_string())?;
    Ok(expression.evaluate(|required| allowed.iter().any(|licence| licence.satisfies(required))))
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
            ("GPL-3.0-only", false),
            ("GPL-3.0-only OR MIT", true),
            ("GPL-3.0-only/MIT", true),
            ("GPL-3.0-only AND MIT", false),
            ("MIT OR GPL-3.0-only AND GPL-2.0-only", true),
            ("(MIT OR GPL-3.0-only) AND GPL-2.0-only", false),
            ("ISC AND (GPL-3.0-only OR MIT)", true),
            ("MPL-2.0+", true),
            ("MIT WITH LLVM-exception", false),
        ] {
            assert_eq!(with_mit_and_isc(expression), Ok(met), "{expression}");
        }
    }

    #[test]
    fn what_is_no_expression_is_an_error() {
        for expression in [
            "", "MIT MIT", "(MIT", "MIT OR", "AND MIT", "MIT WITH", ")", "Mine",
        ] {
            assert!(with_mit_and_isc(expression).is_err(), "{expression}");
        }
    }
}
