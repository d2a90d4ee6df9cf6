//! Whether a body has every member that its record has, in nested records too.
//!
//! A record is read by a reader that is told the names of all its fields and compares. What is inside an
//! enum with a `type` is out of its reach: that is read twice, and the second time by serde itself.

use std::fmt;

use serde::de::value::{MapDeserializer, SeqDeserializer};
use serde::de::{DeserializeOwned, Deserializer, IntoDeserializer, Visitor};
use serde::forward_to_deserialize_any;
use serde_json::Value;

/// What `serde_json` calls raw JSON where it asks for it.
const RAW: &str = "$serde_json::private::RawValue";

/// Says which member a body lacks.
pub(super) fn check<T: DeserializeOwned>(text: &str) -> Result<(), Problem> {
    let value = serde_json::from_str(text).map_err(|error| Problem(error.to_string()))?;
    T::deserialize(Reader(value)).map(|_| ())
}

#[derive(Debug)]
pub(super) struct Problem(String);

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Problem {}

impl serde::de::Error for Problem {
    fn custom<T: fmt::Display>(problem: T) -> Self {
        Self(problem.to_string())
    }
}

struct Reader(Value);

impl IntoDeserializer<'_, Problem> for Reader {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

impl<'de> Deserializer<'de> for Reader {
    type Error = Problem;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        match self.0 {
            Value::Null => visitor.visit_unit(),
            Value::Bool(flag) => visitor.visit_bool(flag),
            Value::Number(number) => match (number.as_u64(), number.as_i64()) {
                (Some(number), _) => visitor.visit_u64(number),
                (None, Some(number)) => visitor.visit_i64(number),
                (None, None) => visitor.visit_f64(number.as_f64().unwrap_or_default()),
            },
            Value::String(text) => visitor.visit_string(text),
            Value::Array(list) => {
                visitor.visit_seq(SeqDeserializer::new(list.into_iter().map(Reader)))
            }
            Value::Object(members) => {
                let members = members.into_iter();
                visitor.visit_map(MapDeserializer::new(
                    members.map(|(name, value)| (name, Reader(value))),
                ))
            }
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Problem> {
        for field in fields {
            if self.0.get(field).is_none() {
                return Err(Problem(format!("{name} has a member {field}: give it one")));
            }
        }
        self.deserialize_any(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        match self.0 {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Problem> {
        if name == RAW {
            let raw = std::iter::once((RAW, self.0.to_string()));
            return visitor.visit_map(MapDeserializer::new(raw));
        }
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Problem> {
        self.0
            .deserialize_enum(name, variants, visitor)
            .map_err(|error| Problem(error.to_string()))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct seq tuple tuple_struct map identifier ignored_any
    }
}

#[derive(Debug, serde::Deserialize)]
#[allow(dead_code, reason = "only read")]
struct Outer {
    a: Option<u8>,
    inner: Option<Inner>,
}

#[derive(Debug, serde::Deserialize)]
#[allow(dead_code, reason = "only read")]
struct Inner {
    b: Option<u8>,
}

#[test]
fn a_member_that_is_missing_is_named() {
    assert!(check::<Outer>(r#"{"a":1,"inner":{"b":1}}"#).is_ok());
    for (text, name) in [
        (r#"{"inner":{"b":1}}"#, "a"),
        (r#"{"a":1,"inner":{}}"#, "b"),
        (r#"{"a":1}"#, "inner"),
    ] {
        let problem = check::<Outer>(text).unwrap_err().to_string();
        assert!(problem.contains(&format!("member {name}")), "{problem}");
    }
}
