//! Small checks that several messages share.

use std::net::IpAddr;

use serde_json::{Map, Value};

use crate::violation::{ProtocolViolation, Rule};

pub(crate) type Checked<T> = Result<T, ProtocolViolation>;

/// Go's zero time, which means "none" wherever it appears.
pub(crate) const ZERO_TIME: &str = "0001-01-01T00:00:00Z";

/// Refuses fields outside `known`.
pub(crate) fn known_fields(path: &str, object: &Map<String, Value>, known: &[&str]) -> Checked<()> {
    match object.keys().find(|key| !known.contains(&key.as_str())) {
        Some(key) => Err(ProtocolViolation::new(
            Rule::UnknownField,
            format!("{path}.{key}"),
        )),
        None => Ok(()),
    }
}

fn wrong_type(path: &str, wanted: &str, value: &Value) -> ProtocolViolation {
    ProtocolViolation::new(
        Rule::WrongType,
        format!("{path}: want {wanted}, have {value}"),
    )
}

/// A list; absent or `null` is an empty one.
pub(crate) fn list<'a>(path: &str, value: Option<&'a Value>) -> Checked<&'a [Value]> {
    match value {
        None | Some(Value::Null) => Ok(&[]),
        Some(Value::Array(items)) => Ok(items),
        Some(other) => Err(wrong_type(path, "a list", other)),
    }
}

pub(crate) fn object<'a>(path: &str, value: &'a Value) -> Checked<&'a Map<String, Value>> {
    value
        .as_object()
        .ok_or_else(|| wrong_type(path, "an object", value))
}

/// An object; absent or `null` is none.
pub(crate) fn optional_object<'a>(
    path: &str,
    value: Option<&'a Value>,
) -> Checked<Option<&'a Map<String, Value>>> {
    value
        .filter(|value| !value.is_null())
        .map(|value| object(path, value))
        .transpose()
}

/// Text; absent or `null` is empty.
pub(crate) fn text<'a>(path: &str, value: Option<&'a Value>) -> Checked<&'a str> {
    match value {
        None | Some(Value::Null) => Ok(""),
        Some(Value::String(text)) => Ok(text),
        Some(other) => Err(wrong_type(path, "a string", other)),
    }
}

/// A flag; absent or `null` is false.
pub(crate) fn flag(path: &str, value: Option<&Value>) -> Checked<bool> {
    match value {
        None | Some(Value::Null) => Ok(false),
        Some(Value::Bool(flag)) => Ok(*flag),
        Some(other) => Err(wrong_type(path, "a boolean", other)),
    }
}

/// A positive integer below 2^53.
pub(crate) fn id(path: &str, value: Option<&Value>) -> Checked<u64> {
    value
        .and_then(Value::as_u64)
        .filter(|id| (1..1 << 53).contains(id))
        .ok_or_else(|| ProtocolViolation::new(Rule::BadId, format!("{path}: {value:?}")))
}

/// A map whose keys are ids as text and whose values are flags.
pub(crate) fn id_flags(path: &str, value: Option<&Value>) -> Checked<Vec<(u64, bool)>> {
    let Some(entries) = optional_object(path, value)? else {
        return Ok(Vec::new());
    };
    entries
        .iter()
        .map(|(key, value)| {
            let number = key.parse::<u64>().map(Value::from).ok();
            Ok((id(path, number.as_ref())?, flag(path, Some(value))?))
        })
        .collect()
}

/// `prefix` and 64 lower-case hexadecimal digits; whether it is not all zeros.
pub(crate) fn key(path: &str, value: &Value, prefix: &str) -> Checked<bool> {
    let digits = value
        .as_str()
        .and_then(|text| text.strip_prefix(prefix))
        .unwrap_or_default();
    let is_key = digits.len() == 64
        && digits
            .bytes()
            .all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
    if is_key {
        Ok(digits.bytes().any(|byte| byte != b'0'))
    } else {
        Err(ProtocolViolation::new(
            Rule::BadKey,
            format!("{path}: {value}"),
        ))
    }
}

/// `address/bits` without bits set behind the prefix.
pub(crate) fn prefix(text: &str) -> Option<(IpAddr, u32)> {
    let (address, bits) = text.split_once('/')?;
    let address: IpAddr = address.parse().ok()?;
    let bits: u32 = bits.parse().ok()?;
    let behind = match address {
        IpAddr::V4(v4) => v4
            .to_bits()
            .checked_shl(bits)
            .map(u128::from)
            .filter(|_| bits <= 32),
        IpAddr::V6(v6) => v6.to_bits().checked_shl(bits).filter(|_| bits <= 128),
    };
    let is_whole = match address {
        IpAddr::V4(_) => bits == 32,
        IpAddr::V6(_) => bits == 128,
    };
    (is_whole || behind == Some(0)).then_some((address, bits))
}

/// Whether nothing is said: what Go calls the zero value.
pub(crate) fn is_zero(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => {
            text.is_empty()
                || text == ZERO_TIME
                || text.split_once(':').is_some_and(|(prefix, digits)| {
                    prefix.ends_with("key")
                        && digits.len() == 64
                        && digits.bytes().all(|byte| byte == b'0')
                })
        }
        Value::Array(items) => items.is_empty(),
        Value::Object(object) => object.is_empty(),
        Value::Bool(true) => false,
    }
}

/// An order of RFC 3339 times in UTC that is right whatever the number of fractional digits.
pub(crate) fn is_later(a: &str, b: &str) -> bool {
    let parts = |text: &str| {
        let text = text.trim_end_matches('Z');
        let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
        (
            seconds.to_owned(),
            fraction.trim_end_matches('0').to_owned(),
        )
    };
    parts(a) > parts(b)
}
