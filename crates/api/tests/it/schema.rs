//! Holds answers and bodies against OpenAPI documents: the official one, and ours.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock};

use bowline_api::Operation;
use bowline_model::event::Name;
use jsonschema::Validator;
use serde_json::Value;

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

/// The official document, in which the audit log has our own events too.
fn official_with_own_events() -> Option<&'static Value> {
    static DOCUMENT: OnceLock<Option<Value>> = OnceLock::new();
    let document = DOCUMENT.get_or_init(|| {
        let mut document = official()?.clone();
        let log = "/components/schemas/ConfigurationAuditLog/properties";
        let own = || Name::ALL.iter().filter(|name| !name.is_official());
        let mut add = |member: &str, names: Vec<&str>| {
            let known = document.pointer_mut(&format!("{log}/{member}/enum"));
            let known = known.unwrap().as_array_mut().unwrap();
            known.extend(names.into_iter().map(Value::from));
            known.sort_by_key(ToString::to_string);
            known.dedup();
        };
        add("action", own().map(|name| name.action()).collect());
        add(
            "target/properties/type",
            own().map(|name| name.target()).collect(),
        );
        add(
            "target/properties/property",
            own().filter_map(|name| name.property()).collect(),
        );
        Some(document)
    });
    document.as_ref()
}

/// Our document.
pub(crate) fn ours() -> &'static Value {
    static DOCUMENT: OnceLock<Value> = OnceLock::new();
    DOCUMENT.get_or_init(bowline_api::openapi)
}

/// Panics unless an answer is what the documents say of the operation, and its status one that ours
/// lists.
pub(crate) fn check_answer(operation: &Operation, status: u16, body: &[u8]) {
    if let Some(document) = official_with_own_events() {
        check_answer_by(document, operation, status, body);
    }
    check_answer_by(ours(), operation, status, body);
    assert!(
        status >= 500 || operation.all_statuses().contains(&status),
        "{} answered {status}, which its row does not list: {}",
        operation.id,
        String::from_utf8_lossy(body)
    );
}

fn check_answer_by(document: &'static Value, operation: &Operation, status: u16, body: &[u8]) {
    let method = operation.verb.as_str().to_lowercase();
    let Some(declared) = document["paths"].get(operation.path) else {
        return; // an operation of ours, which the official document does not have
    };
    let Some(declared) = declared.get(&method) else {
        return;
    };
    let responses = declared["responses"].as_object().unwrap();
    let status_text = status.to_string();
    let key = [status_text.as_str(), "default"]
        .into_iter()
        .find(|key| responses.contains_key(*key));
    let response = match key {
        Some(key) => {
            let path = operation.path.replace('/', "~1");
            format!("/paths/{path}/{method}/responses/{key}")
        }
        // The official document does not list every status of every operation; failures look alike.
        None if status >= 400 => "/components/responses/500".to_owned(),
        None => panic!("{} has no status {status}", operation.id),
    };
    let response = resolved(document, response);
    let pointer = format!("{response}/content/application~1json/schema");
    if document.pointer(&pointer).is_none() {
        return;
    }
    let value: Value = match serde_json::from_slice(body) {
        Ok(value) => value,
        Err(error) => panic!("{}: the answer is not JSON: {error}", operation.id),
    };
    if let Err(reason) = check(document, &pointer, &value) {
        let value = value.to_string();
        let shown: String = value.chars().take(2000).collect();
        panic!("{} {status}: {reason} in {shown}", operation.id);
    }
}

/// Panics unless a body that was accepted is what our document says of it.
pub(crate) fn check_body(operation: &Operation, body: &Value) {
    let method = operation.verb.as_str().to_lowercase();
    let path = operation.path.replace('/', "~1");
    let pointer = format!("/paths/{path}/{method}/requestBody/content/application~1json/schema");
    assert!(
        ours().pointer(&pointer).is_some(),
        "{} took a body that the document does not have",
        operation.id
    );
    if let Err(reason) = check(ours(), &pointer, body) {
        panic!("{} accepted {body}, but {reason}", operation.id);
    }
}

/// Follows references to where something stands.
pub(crate) fn resolved(document: &Value, mut pointer: String) -> String {
    while let Some(reference) = document
        .pointer(&pointer)
        .and_then(|value| value.get("$ref")?.as_str())
    {
        reference
            .strip_prefix('#')
            .unwrap()
            .clone_into(&mut pointer);
    }
    pointer
}

/// Whether a value is what the schema at a place of a document says.
pub(crate) fn check(document: &'static Value, pointer: &str, value: &Value) -> Result<(), String> {
    let validator = validator(document, pointer);
    let errors: Vec<String> = validator
        .iter_errors(value)
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect();
    if errors.is_empty() {
        Ok(())
    } else {
        Err(errors.join("; "))
    }
}

/// Validators by the document and the place of their schema in it.
type Validators = HashMap<(usize, String), Arc<Validator>>;

/// The validator of a schema, made once.
fn validator(document: &'static Value, pointer: &str) -> Arc<Validator> {
    static MADE: Mutex<Option<Validators>> = Mutex::new(None);
    let key = (std::ptr::from_ref(document).addr(), pointer.to_owned());
    let mut made = MADE.lock().unwrap();
    let made = made.get_or_insert_default();
    made.entry(key)
        .or_insert_with(|| Arc::new(make(document, pointer)))
        .clone()
}

/// A validator of a schema that may refer to the document's components.
fn make(document: &Value, pointer: &str) -> Validator {
    let mut schema = document.pointer(pointer).unwrap().clone();
    if let Some(members) = schema.as_object_mut() {
        members.insert("components".to_owned(), document["components"].clone());
    }
    jsonschema::options()
        .with_draft(jsonschema::Draft::Draft202012)
        .should_validate_formats(true)
        // Of numbers they say how they are kept, of texts how they are shown.
        .should_ignore_unknown_formats(true)
        // An empty link is none: the settings have such a link to a policy file elsewhere.
        .with_format("uri", |text: &str| {
            text.is_empty()
                || text
                    .parse::<http::Uri>()
                    .is_ok_and(|uri| uri.scheme().is_some() && uri.host().is_some())
        })
        .build(&schema)
        .unwrap_or_else(|error| panic!("{pointer}: {error}"))
}

/// What a checker of our own once let pass without a word.
#[test]
fn the_checker_sees_what_is_wrong() {
    static DOCUMENT: OnceLock<Value> = OnceLock::new();
    let document = DOCUMENT.get_or_init(|| {
        serde_json::json!({"components": {"schemas": {"A": {
            "type": "object", "required": ["a"], "additionalProperties": false,
            "properties": {
                "a": {"type": ["string", "null"], "maxLength": 2},
                "c": {"type": "string", "format": "date-time"},
                "d": {"anyOf": [{"type": "null"}, {"$ref": "#/components/schemas/A"}]},
                "e": {"oneOf": [{"type": "integer"}, {"type": "number", "maximum": 2}]},
                "g": {"type": "string", "pattern": "^[a-zA-Z0-9._-]+$"},
                "l": {"type": "string", "format": "uri"},
                "p": {"type": "string", "format": "password"},
            },
        }}}})
    });
    let is_good = |text: &str| {
        let value = serde_json::from_str(text).unwrap();
        check(document, "/components/schemas/A", &value).is_ok()
    };
    assert!(is_good(
        r#"{"a":"xx","c":"9999-12-31T23:59:59Z","d":{"a":null},"e":2.0e1,"g":"a.B-9_",
            "l":"","p":"x"}"#
    ));
    for text in [
        "{}",
        r#"{"a":"xxx"}"#,
        r#"{"a":null,"c":"today"}"#,
        r#"{"a":null,"d":{}}"#,
        r#"{"a":null,"other":1}"#,
        r#"{"a":null,"e":1}"#,
        r#"{"a":null,"g":"a b"}"#,
        r#"{"a":null,"l":"nowhere"}"#,
    ] {
        assert!(!is_good(text), "{text}");
    }
}
