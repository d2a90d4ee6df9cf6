//! Reading JSON objects the way Go does: keys match without regard to ASCII case, the last of
//! equal keys wins, unknown keys are ignored, and `null` is the same as absence.

use std::fmt;
use std::str::FromStr;

use bowline_model::key::KeyError;
use serde::de::{DeserializeOwned, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

/// Why a request body cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum BadRequest {
    /// Not a JSON object.
    #[error("body is not a JSON object: {0}")]
    Json(#[from] serde_json::Error),
    /// A field has another type than it should.
    #[error("field {name} cannot be read: {source}")]
    Field {
        /// The field's name.
        name: &'static str,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// A field that must be there is not.
    #[error("field {0} is missing")]
    Missing(&'static str),
}

/// The fields of one JSON object, not yet read.
#[derive(Debug, Default)]
pub struct Fields<'a>(Vec<(std::borrow::Cow<'a, str>, &'a RawValue)>);

impl<'a> Fields<'a> {
    /// Splits a JSON object into its fields.
    pub fn parse(body: &'a [u8]) -> Result<Self, BadRequest> {
        Ok(serde_json::from_slice(body)?)
    }

    /// The raw text of a field; `None` when absent or `null`.
    pub fn raw(&self, name: &str) -> Option<&'a RawValue> {
        self.0
            .iter()
            .rev()
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| *value)
            .filter(|value| value.get() != "null")
    }

    /// A field, or `None` when it is absent or `null`.
    pub fn optional<T: DeserializeOwned>(
        &self,
        name: &'static str,
    ) -> Result<Option<T>, BadRequest> {
        self.raw(name)
            .map(|raw| serde_json::from_str(raw.get()))
            .transpose()
            .map_err(|source| BadRequest::Field { name, source })
    }

    /// A field, or its type's default when it is absent or `null`.
    pub fn or_default<T: DeserializeOwned + Default>(
        &self,
        name: &'static str,
    ) -> Result<T, BadRequest> {
        Ok(self.optional(name)?.unwrap_or_default())
    }

    /// A field that must be there.
    pub fn required<T: DeserializeOwned>(&self, name: &'static str) -> Result<T, BadRequest> {
        self.optional(name)?.ok_or(BadRequest::Missing(name))
    }

    /// A key that may be missing: absent, `null`, empty or the zero key, which is how Go says it.
    pub fn optional_key<T>(&self, name: &'static str) -> Result<Option<T>, BadRequest>
    where
        T: FromStr<Err = KeyError>,
    {
        let text: String = self.or_default(name)?;
        if text.is_empty() {
            return Ok(None);
        }
        match text.parse() {
            Ok(key) => Ok(Some(key)),
            Err(KeyError::Zero) => Ok(None),
            Err(error) => Err(BadRequest::Field {
                name,
                source: serde::de::Error::custom(error),
            }),
        }
    }

    /// The fields of a nested object; empty when it is absent or `null`.
    pub fn object(&self, name: &'static str) -> Result<Fields<'a>, BadRequest> {
        self.raw(name).map_or(Ok(Fields::default()), |raw| {
            serde_json::from_str(raw.get()).map_err(|source| BadRequest::Field { name, source })
        })
    }

    /// Every key and raw value, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &'a RawValue)> {
        self.0.iter().map(|(key, value)| (key.as_ref(), *value))
    }
}

impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;
        impl<'de> Visitor<'de> for Collect {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields = Vec::new();
                while let Some(Key(key)) = map.next_key()? {
                    fields.push((key, map.next_value()?));
                }
                Ok(Fields(fields))
            }
        }
        deserializer.deserialize_map(Collect)
    }
}

#[derive(Deserialize)]
struct Key<'a>(#[serde(borrow)] std::borrow::Cow<'a, str>);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_match_without_regard_to_case_and_null_is_absence() {
        let fields = Fields::parse(br#"{"nodeKEY":"a","Other":null,"x\u0041":1}"#).unwrap();
        assert_eq!(fields.required::<String>("NodeKey").unwrap(), "a");
        assert_eq!(fields.optional::<u8>("Other").unwrap(), None);
        assert_eq!(fields.or_default::<u8>("xa").unwrap(), 1);
        assert!(matches!(
            fields.required::<u8>("Missing"),
            Err(BadRequest::Missing("Missing"))
        ));
    }

    #[test]
    fn a_key_may_be_missing_in_four_ways_and_is_zero_in_none() {
        use bowline_model::key::NodeKey;
        let zero = format!("nodekey:{}", "0".repeat(64));
        for json in [
            "{}",
            r#"{"K":null}"#,
            r#"{"K":""}"#,
            &format!(r#"{{"K":"{zero}"}}"#),
        ] {
            let fields = Fields::parse(json.as_bytes()).unwrap();
            assert_eq!(fields.optional_key::<NodeKey>("K").unwrap(), None, "{json}");
            assert!(fields.required::<NodeKey>("K").is_err(), "{json}");
        }
        for bad in [r#"{"K":5}"#, r#"{"K":"x"}"#, r#"{"K":"nodekey:0"}"#] {
            let fields = Fields::parse(bad.as_bytes()).unwrap();
            assert!(fields.optional_key::<NodeKey>("K").is_err(), "{bad}");
        }
    }

    #[test]
    fn the_last_of_equal_keys_wins() {
        let fields = Fields::parse(br#"{"A":1,"a":2}"#).unwrap();
        assert_eq!(fields.required::<u8>("A").unwrap(), 2);
    }

    #[test]
    fn other_json_is_refused() {
        for body in [&b"[]"[..], b"", b"1", b"{", b"{}x"] {
            assert!(Fields::parse(body).is_err());
        }
    }
}
