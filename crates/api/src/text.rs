//! Texts of times.

use jiff::Timestamp;

/// Go's zero time: how the API says "never" where a time must be.
pub(crate) const ZERO_TIME: &str = "0001-01-01T00:00:00Z";

/// A time in RFC 3339, UTC, whole seconds.
pub(crate) fn time(at: Timestamp) -> String {
    Timestamp::from_second(at.as_second())
        .unwrap_or(at)
        .to_string()
}
