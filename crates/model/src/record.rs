//! Stored records: a body in JSON that carries its version.
//!
//! A reader accepts every version ever released, by pure steps from one version to the next, each
//! with a kept fixture (`tests/bodies/`). Members that a reader does not know are kept beside the
//! record ([`Body`]) and written back, so that two releases can share a database. So a member is
//! never given another name by `serde(alias)`: the old name would look unknown. That takes a version.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

pub use unknown::Unknown;

mod unknown;

/// A record that is stored as a JSON body.
pub trait Record: Serialize + DeserializeOwned {
    /// Version of the body that this program writes, from 1.
    const VERSION: u32;

    /// Brings a body of an older version to [`Self::VERSION`]. `from` is below it.
    ///
    /// The default fits a record that has had one version only.
    fn upgrade(body: serde_json::Value, from: u32) -> Result<serde_json::Value, BodyError> {
        let _ = body;
        Err(BodyError::Version {
            found: from,
            known: Self::VERSION,
        })
    }
}

/// Why a stored body cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// Written by a newer program, or by none.
    #[error("body has version {found}, this program knows up to {known}")]
    Version {
        /// Version in the body.
        found: u32,
        /// Version that this program writes.
        known: u32,
    },
    /// Not the JSON that the version promises.
    #[error("body cannot be read")]
    Json(#[from] serde_json::Error),
}

/// A record as it was read: with what its body says that this program does not know.
#[derive(Debug, Clone, PartialEq)]
pub struct Body<T> {
    /// The record.
    pub record: T,
    /// Members that are written back with it.
    pub unknown: Unknown,
}

impl<T> From<T> for Body<T> {
    /// A record that was made here.
    fn from(record: T) -> Self {
        Self {
            record,
            unknown: Unknown::default(),
        }
    }
}

impl<T: Record> Body<T> {
    /// Reads a body of any released version.
    ///
    /// # Errors
    /// `Version` where a newer release wrote it, `Json` where nothing that this program knows did.
    pub fn decode(text: &str) -> Result<Self, BodyError> {
        let (record, upgraded) = read::<T>(text)?;
        let unknown = Unknown::between(upgraded.as_deref().unwrap_or(text), &encode(&record)?);
        Ok(Self { record, unknown })
    }

    /// Writes the body: the record's fields, `v`, and what was not known of it.
    pub fn encode(&self) -> Result<Box<str>, BodyError> {
        encode_with(&self.record, &self.unknown)
    }
}

#[derive(Serialize)]
struct Versioned<'a, T> {
    v: u32,
    #[serde(flatten)]
    record: &'a T,
}

#[derive(serde::Deserialize)]
struct Head {
    v: u32,
}

/// A JSON value kept as the text it came in, so that nothing a client sent is lost.
#[derive(Clone)]
pub struct RawJson(std::sync::Arc<RawValue>);

impl PartialEq for RawJson {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for RawJson {}

impl RawJson {
    /// The empty object, `{}`.
    pub fn empty_object() -> Self {
        let empty = std::collections::BTreeMap::<String, bool>::new();
        // Writing it cannot fail.
        Self::of(&empty).unwrap_or_else(|_| Self::from(RawValue::NULL))
    }

    /// Writes a value as JSON text.
    pub fn of<T: Serialize + ?Sized>(value: &T) -> Result<Self, serde_json::Error> {
        Ok(Self(serde_json::value::to_raw_value(value)?.into()))
    }

    /// The JSON text.
    pub fn as_str(&self) -> &str {
        self.0.get()
    }
}

impl From<&RawValue> for RawJson {
    fn from(raw: &RawValue) -> Self {
        Self(raw.to_owned().into())
    }
}

impl std::fmt::Debug for RawJson {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RawJson({} bytes)", self.as_str().len())
    }
}

impl Serialize for RawJson {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> serde::Deserialize<'de> for RawJson {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(Box::<RawValue>::deserialize(deserializer)?.into()))
    }
}

/// Writes a record's body: its fields and `v`, its version.
pub fn encode<T: Record>(record: &T) -> Result<Box<str>, BodyError> {
    Ok(serde_json::to_string(&Versioned {
        v: T::VERSION,
        record,
    })?
    .into())
}

/// The same with members that were not known when the body was read.
pub fn encode_with<T: Record>(record: &T, unknown: &Unknown) -> Result<Box<str>, BodyError> {
    Ok(unknown.put_back(encode(record)?)?)
}

/// Reads a body of any released version, for one who does not write it again: [`Body::decode`] keeps
/// what is not known.
pub fn decode<T: Record>(body: &str) -> Result<T, BodyError> {
    read(body).map(|(record, _)| record)
}

/// The version of a body. This program writes it first, where it is found without parsing the whole body
/// a second time: every body is read when the server starts.
fn version(body: &str) -> Result<u32, serde_json::Error> {
    let first = body.strip_prefix(r#"{"v":"#);
    let digits = first.and_then(|rest| rest.split_once([',', '}']));
    match digits.map(|(digits, _)| digits.parse()) {
        Some(Ok(version)) => Ok(version),
        _ => serde_json::from_str::<Head>(body).map(|head| head.v),
    }
}

/// The record of a body, and the body in the present version, where it had an older one.
fn read<T: Record>(body: &str) -> Result<(T, Option<String>), BodyError> {
    let found = version(body)?;
    if found == T::VERSION {
        return Ok((serde_json::from_str(body)?, None));
    }
    if found == 0 || found > T::VERSION {
        return Err(BodyError::Version {
            found,
            known: T::VERSION,
        });
    }
    let value: serde_json::Value = serde_json::from_str(body)?;
    // Through text, because raw JSON inside a record cannot be read from a parsed value.
    let upgraded = T::upgrade(value, found)?.to_string();
    Ok((serde_json::from_str(&upgraded)?, Some(upgraded)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_found_wherever_it_stands() {
        for (body, expected) in [
            (r#"{"v":1}"#, 1),
            (r#"{"v":17,"a":{"v":2}}"#, 17),
            (r#"{ "v": 3 }"#, 3),
            (r#"{"a":{"v":2},"v":4}"#, 4),
            (r#"{"v":5 ,"a":1}"#, 5),
        ] {
            assert_eq!(version(body).unwrap(), expected, "{body}");
        }
        for body in [r#"{"v":"1"}"#, r#"{"v":-1}"#, r#"{"v":1.5}"#, "{}", ""] {
            assert!(version(body).is_err(), "{body}");
        }
    }
}
