//! Schemas of bodies and answers, derived from the types that serde reads and writes.
//!
//! One type may be read and written: what a request may leave out an answer always has. So there are
//! two generators, and a type whose two schemas differ has the second one under the name `…Body`.

use std::borrow::Cow;
use std::marker::PhantomData;

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Map, Value, json};

/// Makes schemas; those with names are collected.
pub(crate) struct Schemas {
    bodies: SchemaGenerator,
    answers: SchemaGenerator,
}

/// A body or an answer in the document.
pub(crate) struct Content {
    /// Whether a request must have it.
    pub(crate) is_required: bool,
    /// Schemas by media type.
    pub(crate) types: Vec<(&'static str, Value)>,
}

impl Content {
    /// Of JSON alone.
    pub(crate) fn json(schema: Value) -> Self {
        Self {
            is_required: true,
            types: vec![(JSON, schema)],
        }
    }
}

/// The media type of JSON.
pub(crate) const JSON: &str = "application/json";
/// The media type of forms.
pub(crate) const FORM: &str = "application/x-www-form-urlencoded";
/// The media type of policy files.
pub(crate) const HUJSON: &str = "application/hujson";

/// Where schemas with names are.
const PLACE: &str = "/components/schemas";

impl Schemas {
    pub(crate) fn new() -> Self {
        let settings = SchemaSettings::draft2020_12().with(|settings| {
            settings.definitions_path = PLACE.into();
            settings.meta_schema = None;
        });
        Self {
            bodies: settings.clone().for_deserialize().into_generator(),
            answers: settings.for_serialize().into_generator(),
        }
    }

    /// The schema of something that is read.
    pub(crate) fn body<T: JsonSchema>(&mut self) -> Value {
        tidied(self.bodies.subschema_for::<T>().to_value())
    }

    /// The schema of a query: an object with a member for each parameter, without a name.
    pub(crate) fn query<T: JsonSchema>(&mut self) -> Value {
        tidied(T::json_schema(&mut self.bodies).to_value())
    }

    /// The schema of something that is written.
    pub(crate) fn answer<T: JsonSchema>(&mut self) -> Value {
        strict(tidied(self.answers.subschema_for::<T>().to_value()))
    }

    /// Schemas with names, those of bodies last, and how bodies are to refer to theirs.
    pub(crate) fn finish(mut self) -> (Map<String, Value>, Vec<String>) {
        let mut all = Map::new();
        for (name, schema) in self.answers.take_definitions(false) {
            all.insert(name, strict(tidied(schema)));
        }
        let mut renamed = Vec::new();
        let bodies = self.bodies.take_definitions(false);
        let bodies: Vec<(String, Value)> = bodies
            .into_iter()
            .map(|(name, schema)| (name, tidied(schema)))
            .collect();
        for (name, schema) in &bodies {
            // What an answer promises may be all that tells the two apart.
            if all
                .get(name)
                .is_some_and(|answer| *answer != strict(schema.clone()))
            {
                renamed.push(name.clone());
            }
        }
        for (name, mut schema) in bodies {
            rename(&mut schema, &renamed);
            let name = if renamed.contains(&name) {
                format!("{name}Body")
            } else {
                name
            };
            all.entry(name).or_insert(schema);
        }
        (all, renamed)
    }
}

/// Lets a schema of a body refer to those that have another name than the answer's.
pub(crate) fn rename(schema: &mut Value, renamed: &[String]) {
    match schema {
        Value::Object(members) => {
            for (key, value) in members {
                match value {
                    Value::String(target) if key == "$ref" => {
                        let name = target.rsplit('/').next().unwrap_or_default();
                        if renamed.iter().any(|it| it == name) {
                            target.push_str("Body");
                        }
                    }
                    other => rename(other, renamed),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| rename(item, renamed)),
        _ => {}
    }
}

/// Without what says how Rust keeps a number, or that what is absent is `null`.
fn tidied(mut schema: Value) -> Value {
    each(&mut schema, &mut |members| {
        if let Some(Value::String(format)) = members.get("format")
            && !matches!(format.as_str(), "date-time" | "uri")
        {
            members.remove("format");
        }
        if members.get("default").is_some_and(Value::is_null) {
            members.remove("default");
        }
        if let Some(Value::String(text)) = members.get_mut("description") {
            *text = text.replace('\n', " ");
        }
    });
    schema
}

/// An answer has no members but those that are described, and one that it may leave out is never
/// `null`.
fn strict(mut schema: Value) -> Value {
    each(&mut schema, &mut |members| {
        let required = members.get("required").cloned().unwrap_or_default();
        let Some(Value::Object(properties)) = members.get_mut("properties") else {
            return;
        };
        for (name, property) in properties {
            let is_required = required
                .as_array()
                .is_some_and(|names| names.iter().any(|it| it == name));
            if !is_required && let Some(property) = property.as_object_mut() {
                without_null(property);
            }
        }
        if members.remove(PART).is_some() {
            return;
        }
        // What is flattened into an object is described beside its members, so that only the whole
        // knows which ones there may be.
        let mut has_parts = false;
        for keyword in ["allOf", "anyOf", "oneOf"] {
            let Some(Value::Array(parts)) = members.get_mut(keyword) else {
                continue;
            };
            has_parts = true;
            for part in parts.iter_mut().filter_map(Value::as_object_mut) {
                part.insert(PART.to_owned(), Value::Bool(true));
            }
        }
        let keyword = if has_parts {
            "unevaluatedProperties"
        } else {
            "additionalProperties"
        };
        members.entry(keyword).or_insert(Value::Bool(false));
    });
    schema
}

/// Marks, while a schema is made strict, what is a part of an object and not the whole of one.
const PART: &str = "x-part";

fn without_null(schema: &mut Map<String, Value>) {
    if let Some(Value::Array(types)) = schema.get_mut("type") {
        types.retain(|name| name != "null");
        if let [only] = types.as_slice() {
            let only = only.clone();
            schema.insert("type".to_owned(), only);
        }
    }
    let is_null = |schema: &Value| *schema == json!({"type": "null"});
    if let Some(Value::Array(forms)) = schema.get_mut("anyOf") {
        forms.retain(|form| !is_null(form));
        if let [Value::Object(only)] = forms.as_slice() {
            let only = only.clone();
            schema.remove("anyOf");
            schema.extend(only);
        }
    }
}

/// Applies a change to a schema and all in it.
fn each(schema: &mut Value, change: &mut impl FnMut(&mut Map<String, Value>)) {
    let Value::Object(members) = schema else {
        return;
    };
    change(members);
    for (keyword, value) in members {
        match (keyword.as_str(), value) {
            ("properties" | "$defs" | "patternProperties", Value::Object(named)) => {
                for schema in named.values_mut() {
                    each(schema, change);
                }
            }
            ("allOf" | "anyOf" | "oneOf" | "prefixItems", Value::Array(list)) => {
                for schema in list {
                    each(schema, change);
                }
            }
            ("items" | "additionalProperties" | "not", value) => each(value, change),
            _ => {}
        }
    }
}

/// Schema of a member that a request may give as `null` and an answer has always.
pub(crate) struct OrNull<T>(PhantomData<T>);

impl<T: JsonSchema> JsonSchema for OrNull<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("OrNull{}", T::schema_name()).into()
    }

    fn schema_id() -> Cow<'static, str> {
        format!("OrNull<{}>", T::schema_id()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        if generator.contract().is_deserialize() {
            generator.subschema_for::<Option<T>>()
        } else {
            generator.subschema_for::<T>()
        }
    }
}

/// Schema of a role.
pub(crate) fn role(_: &mut SchemaGenerator) -> Schema {
    let names = bowline_model::user::Role::EVERY.map(bowline_model::user::Role::as_str);
    json_schema!({"type": "string", "enum": names})
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::{Deserialize, Serialize};

    #[derive(Serialize, Deserialize, JsonSchema)]
    struct Both {
        #[serde(default)]
        always: bool,
        #[serde(skip_serializing_if = "Option::is_none")]
        sometimes: Option<u8>,
        null: Option<bool>,
    }

    #[test]
    fn an_answer_promises_more_than_a_body_must_have() {
        let mut schemas = Schemas::new();
        let body = schemas.body::<Both>();
        let answer = schemas.answer::<Both>();
        let (all, renamed) = schemas.finish();
        assert_eq!(body, json!({"$ref": "#/components/schemas/Both"}));
        assert_eq!(answer, body);
        assert_eq!(renamed, ["Both"]);
        assert_eq!(all["Both"]["required"], json!(["always", "null"]));
        assert_eq!(all["Both"]["additionalProperties"], json!(false));
        let of = |name: &str, member: &str| all[name]["properties"][member]["type"].clone();
        assert_eq!(of("Both", "sometimes"), "integer");
        assert_eq!(of("Both", "null"), json!(["boolean", "null"]));
        assert_eq!(of("BothBody", "sometimes"), json!(["integer", "null"]));
        assert_eq!(all["BothBody"].get("required"), None);
        let mut used = body;
        rename(&mut used, &renamed);
        assert_eq!(used, json!({"$ref": "#/components/schemas/BothBody"}));
    }
}
