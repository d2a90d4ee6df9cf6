//! Decoding as strictly as the strictest client.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use crate::violation::{ProtocolViolation, Rule};

const DUPLICATE: &str = "duplicate key";

/// Decodes one message into an object. Refuses duplicate keys, which a sender that joins fragments
/// of JSON can easily produce.
pub(crate) fn decode(message: &[u8]) -> Result<Map<String, Value>, ProtocolViolation> {
    if message.is_empty() {
        return Err(ProtocolViolation::new(Rule::Empty, "a message of no bytes"));
    }
    match serde_json::from_slice::<Strict>(message) {
        Ok(Strict(Value::Object(object))) => Ok(object),
        Ok(Strict(other)) => Err(ProtocolViolation::new(
            Rule::WrongType,
            format!("not an object: {other}"),
        )),
        Err(error) => {
            let text = error.to_string();
            let rule = if text.contains(DUPLICATE) {
                Rule::DuplicateKey
            } else {
                Rule::NotOneJsonValue
            };
            Err(ProtocolViolation::new(rule, text))
        }
    }
}

/// What the Rust client cannot read although it is valid JSON: escapes, and `null` but for the
/// places where it removes an entry.
pub(crate) fn check_rust_client(
    message: &[u8],
    object: &Map<String, Value>,
) -> Result<(), ProtocolViolation> {
    // In valid JSON a backslash occurs only in an escape.
    if let Some(position) = message.iter().position(|byte| *byte == b'\\') {
        let around = &message[position.saturating_sub(40)..message.len().min(position + 20)];
        let around = String::from_utf8_lossy(around);
        return Err(ProtocolViolation::new(Rule::Escape, around));
    }
    for (key, value) in object {
        check_null(
            key,
            value,
            matches!(key.as_str(), "PacketFilters" | "DisplayMessages"),
        )?;
    }
    Ok(())
}

fn check_null(path: &str, value: &Value, may_hold_null: bool) -> Result<(), ProtocolViolation> {
    match value {
        Value::Null => Err(ProtocolViolation::new(Rule::Null, path)),
        Value::Array(items) => items
            .iter()
            .try_for_each(|item| check_null(path, item, false)),
        Value::Object(object) => object
            .iter()
            .try_for_each(|(key, value)| match key.as_str() {
                // Their values are JSON of somebody else.
                "CapMap" | "Hostinfo" if value.is_object() => Ok(()),
                _ if may_hold_null && value.is_null() => Ok(()),
                _ => check_null(&format!("{path}.{key}"), value, false),
            }),
        _ => Ok(()),
    }
}

/// A JSON value without duplicate keys.
struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(StrictVisitor).map(Self)
    }
}

struct StrictVisitor;

impl<'de> Visitor<'de> for StrictVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(Strict(item)) = items.next_element()? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            let Strict(value) = entries.next_value()?;
            if object.contains_key(&key) {
                return Err(A::Error::custom(format!("{DUPLICATE} {key}")));
            }
            object.insert(key, value);
        }
        Ok(Value::Object(object))
    }
}
