//! JSON that is written piece by piece.

use serde::Serialize;

/// Appends `"<name>":<value>,`.
pub(crate) fn field<T: Serialize>(text: &mut String, name: &str, value: &T) {
    text.push('"');
    text.push_str(name);
    text.push_str("\":");
    push_json(text, value);
    text.push(',');
}

/// Appends a value.
pub(crate) fn push_json<T: Serialize>(text: &mut String, value: &T) {
    // Serialising into memory fails only for maps whose keys are not strings; there are none.
    text.push_str(&serde_json::to_string(value).unwrap_or_else(|_| "null".to_owned()));
}
