//! Holds answers against OpenAPI documents: the official one, and ours.

use std::sync::OnceLock;

use bowline_api::Operation;
use jiff::Timestamp;
use serde_json::{Map, Value};

/// The official document. `None` where it is not there: that is said once, and what would be held
/// against it is not.
pub(crate) fn official() -> Option<&'static Value> {
    static DOCUMENT: OnceLock<Option<Value>> = OnceLock::new();
    let document = DOCUMENT.get_or_init(|| {
        let path = bowline_testdata::official_openapi()?;
        let text = std::fs::read_to_string(&path).unwrap();
        Some(serde_json::from_str(&text).unwrap())
    });
    document.as_ref()
}

/// Our document.
pub(crate) fn ours() -> &'static Value {
    static DOCUMENT: OnceLock<Value> = OnceLock::new();
    DOCUMENT.get_or_init(bowline_api::openapi)
}

/// Panics unless an answer is what a document says of the operation.
pub(crate) fn check_answer(document: &Value, operation: &Operation, status: u16, body: &[u8]) {
    let method = operation.verb.as_str().to_lowercase();
    let Some(declared) = document["paths"].get(operation.path) else {
        return; // an operation of ours, which the official document does not have
    };
    let Some(declared) = declared.get(&method) else {
        return;
    };
    let responses = declared["responses"].as_object().unwrap();
    let response = responses
        .get(&status.to_string())
        .or_else(|| responses.get("default"));
    // The official document does not list every status of every operation; failures look alike.
    let schema = match response.map(|response| resolve(document, response)) {
        Some(response) => response["content"].get("application/json"),
        None if status >= 400 => {
            Some(&document["components"]["responses"]["500"]["content"]["application/json"])
        }
        None => panic!("{} has no status {status}", operation.id),
    };
    let Some(schema) = schema.map(|content| &content["schema"]) else {
        return;
    };
    let value: Value = match serde_json::from_slice(body) {
        Ok(value) => value,
        Err(error) => panic!("{}: the answer is no JSON: {error}", operation.id),
    };
    if let Err(reason) = check(document, schema, &value, "") {
        panic!("{} {status}: {reason} in {value}", operation.id);
    }
}

/// Panics unless a body that was accepted is what our document says of it.
pub(crate) fn check_body(operation: &Operation, body: &Value) {
    let method = operation.verb.as_str().to_lowercase();
    let declared = &ours()["paths"][operation.path][&method]["requestBody"];
    assert!(
        !declared.is_null(),
        "{} took a body that the document does not have",
        operation.id
    );
    let schema = &declared["content"]["application/json"]["schema"];
    if let Err(reason) = check(ours(), schema, body, "") {
        panic!("{} accepted {body}, but {reason}", operation.id);
    }
}

fn resolve<'a>(document: &'a Value, mut value: &'a Value) -> &'a Value {
    while let Some(reference) = value.get("$ref").and_then(Value::as_str) {
        let pointer = reference.strip_prefix('#').unwrap();
        value = document
            .pointer(pointer)
            .unwrap_or_else(|| panic!("{reference} leads nowhere"));
    }
    value
}

/// Keywords that are checked.
const CHECKED: [&str; 18] = [
    "$ref",
    "type",
    "enum",
    "const",
    "allOf",
    "anyOf",
    "oneOf",
    "items",
    "maxItems",
    "properties",
    "required",
    "additionalProperties",
    "minLength",
    "maxLength",
    "pattern",
    "format",
    "minimum",
    "maximum",
];
/// Keywords that say nothing of what a value may be.
const DESCRIBES: [&str; 9] = [
    "description",
    "example",
    "examples",
    "summary",
    "title",
    "default",
    "readOnly",
    "writeOnly",
    "deprecated",
];

/// The part of JSON Schema that the documents use; a keyword that is not here fails the test.
pub(crate) fn check(
    document: &Value,
    schema: &Value,
    value: &Value,
    at: &str,
) -> Result<(), String> {
    let schema = resolve(document, schema);
    let Some(schema) = schema.as_object() else {
        return Ok(());
    };
    let types: Vec<&str> = match schema.get("type") {
        Some(Value::String(one)) => vec![one],
        Some(Value::Array(list)) => list.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    if !types.is_empty() && !types.iter().any(|name| is_type(value, name)) {
        return Err(format!("{at}: {value} is not {types:?}"));
    }
    if let Some(Value::Array(allowed)) = schema.get("enum")
        && !allowed.contains(value)
    {
        return Err(format!("{at}: {value} is none of {allowed:?}"));
    }
    // What is not checked must not look as if it was.
    for keyword in schema.keys() {
        assert!(
            CHECKED.contains(&keyword.as_str())
                || DESCRIBES.contains(&keyword.as_str())
                || keyword.starts_with("x-"),
            "{keyword} of a schema is not checked"
        );
    }
    if schema.get("const").is_some_and(|only| only != value) {
        return Err(format!("{at}: {value} is not {}", schema["const"]));
    }
    for part in list(schema, "allOf") {
        check(document, part, value, at)?;
    }
    let any = list(schema, "anyOf");
    if !any.is_empty()
        && !any
            .iter()
            .any(|part| check(document, part, value, at).is_ok())
    {
        return Err(format!("{at}: {value} is none of the possible forms"));
    }
    let one = list(schema, "oneOf");
    if !one.is_empty() {
        let fits = |part: &&Value| check(document, part, value, at).is_ok();
        let count = one.iter().filter(fits).count();
        if count != 1 {
            return Err(format!(
                "{at}: {value} is {count} of the possible forms, not one"
            ));
        }
    }
    match value {
        Value::String(text) => check_text(schema, text).map_err(|reason| format!("{at}: {reason}")),
        Value::Number(number) => {
            let number = number.as_f64().unwrap();
            let limit = |key: &str| schema.get(key).and_then(Value::as_f64);
            let fits = limit("minimum").is_none_or(|least| number >= least)
                && limit("maximum").is_none_or(|most| number <= most);
            fits.then_some(())
                .ok_or_else(|| format!("{at}: {number} is out of range"))
        }
        Value::Array(items)
            if schema
                .get("maxItems")
                .and_then(Value::as_u64)
                .is_some_and(|most| items.len() as u64 > most) =>
        {
            Err(format!("{at}: {} are too many", items.len()))
        }
        Value::Array(items) => match schema.get("items") {
            Some(schema) => items
                .iter()
                .try_for_each(|item| check(document, schema, item, &format!("{at}[]"))),
            None => Ok(()),
        },
        Value::Object(fields) => check_fields(document, schema, fields, at),
        _ => Ok(()),
    }
}

fn list<'a>(schema: &'a Map<String, Value>, key: &str) -> &'a [Value] {
    schema
        .get(key)
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

fn is_type(value: &Value, name: &str) -> bool {
    match name {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        // 87.0 is an integer.
        "integer" => value.as_f64().is_some_and(|number| number.fract() == 0.0),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("unknown type {other}"),
    }
}

fn check_text(schema: &Map<String, Value>, text: &str) -> Result<(), String> {
    let limit = |key: &str| schema.get(key).and_then(Value::as_u64);
    let length = text.chars().count() as u64;
    if limit("minLength").is_some_and(|min| length < min)
        || limit("maxLength").is_some_and(|max| length > max)
    {
        return Err(format!("{text:?} has the wrong length"));
    }
    if let Some(pattern) = schema.get("pattern").and_then(Value::as_str)
        && !matches(pattern, text)
    {
        return Err(format!("{text:?} does not match {pattern}"));
    }
    match schema.get("format").and_then(Value::as_str) {
        Some("date-time")
            if text.parse::<Timestamp>().is_err() && text != "9999-12-31T23:59:59Z" =>
        {
            Err(format!("{text:?} is not a time"))
        }
        // An empty one is none: facts of the API, section 5.9.
        Some("uri") if !text.is_empty() && text.parse::<http::Uri>().is_err() => {
            Err(format!("{text:?} is no URI"))
        }
        // Of numbers these say how they are kept, of texts how they are shown.
        Some("date-time" | "uri" | "int64" | "float" | "password") | None => Ok(()),
        Some(other) => panic!("the format {other} is not checked"),
    }
}

/// Whether a text is all of one class of characters, which is what the documents' patterns say.
fn matches(pattern: &str, text: &str) -> bool {
    let class = pattern
        .strip_prefix("^[")
        .and_then(|rest| rest.strip_suffix("]+$"))
        .unwrap_or_else(|| panic!("the pattern {pattern} is not checked"));
    let class: Vec<char> = class.chars().collect();
    let is_in = |c: char| {
        let mut at = 0;
        while at < class.len() {
            if at + 2 < class.len() && class[at + 1] == '-' {
                if (class[at]..=class[at + 2]).contains(&c) {
                    return true;
                }
                at += 3;
            } else {
                if class[at] == c {
                    return true;
                }
                at += 1;
            }
        }
        false
    };
    !text.is_empty() && text.chars().all(is_in)
}

fn check_fields(
    document: &Value,
    schema: &Map<String, Value>,
    fields: &Map<String, Value>,
    at: &str,
) -> Result<(), String> {
    for name in list(schema, "required").iter().filter_map(Value::as_str) {
        if !fields.contains_key(name) {
            return Err(format!("{at}: {name} is missing"));
        }
    }
    for (name, value) in fields {
        let at = format!("{at}/{name}");
        let declared = schema
            .get("properties")
            .and_then(|properties| properties.get(name));
        match (declared, schema.get("additionalProperties")) {
            (Some(schema), _) | (None, Some(schema @ Value::Object(_))) => {
                check(document, schema, value, &at)?;
            }
            (None, Some(Value::Bool(false))) => return Err(format!("{at} is not in the document")),
            _ => {}
        }
    }
    Ok(())
}

#[test]
fn the_checker_sees_what_is_wrong() {
    let document = serde_json::json!({"components": {"schemas": {"A": {
        "type": "object", "required": ["a"], "additionalProperties": false,
        "properties": {
            "a": {"type": ["string", "null"], "maxLength": 2},
            "b": {"type": "array", "items": {"enum": [1]}},
            "c": {"type": "string", "format": "date-time"},
            "d": {"anyOf": [{"type": "null"}, {"$ref": "#/components/schemas/A"}]},
            "e": {"oneOf": [{"type": "integer"}, {"type": "number", "maximum": 2}]},
            "f": {"type": "integer", "minimum": 1, "maximum": 180},
            "g": {"type": "string", "pattern": "^[a-zA-Z0-9._-]+$"},
            "h": {"type": "array", "maxItems": 1},
            "i": {"const": "x"},
        },
    }}}});
    let schema = serde_json::json!({"$ref": "#/components/schemas/A"});
    let is_good =
        |text: &str| check(&document, &schema, &serde_json::from_str(text).unwrap(), "").is_ok();
    assert!(is_good(
        r#"{"a":"xx","b":[1,1],"c":"0001-01-01T00:00:00Z","d":{"a":null},
            "e":2.0e1,"f":180,"g":"a.B-9_","h":[1],"i":"x"}"#
    ));
    for text in [
        "{}",
        "[]",
        r#"{"a":1}"#,
        r#"{"a":"xxx"}"#,
        r#"{"a":null,"b":[2]}"#,
        r#"{"a":null,"c":"today"}"#,
        r#"{"a":null,"d":{}}"#,
        r#"{"a":null,"other":1}"#,
        r#"{"a":null,"e":1}"#,
        r#"{"a":null,"e":2.5}"#,
        r#"{"a":null,"f":0}"#,
        r#"{"a":null,"f":181}"#,
        r#"{"a":null,"f":1.5}"#,
        r#"{"a":null,"g":""}"#,
        r#"{"a":null,"g":"a b"}"#,
        r#"{"a":null,"h":[1,2]}"#,
        r#"{"a":null,"i":"y"}"#,
    ] {
        assert!(!is_good(text), "{text}");
    }
}
