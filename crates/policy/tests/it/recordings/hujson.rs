//! HuJSON vectors: parse, format, patch.

use base64::Engine as _;
use bowline_policy::hujson::Value as Document;
use serde_json::Value;

pub(super) fn check(record: &Value) -> Result<(), String> {
    let input = bytes(&record["input"]);
    match record["op"].as_str() {
        Some("parse") => parse(record, &input),
        Some("format") => {
            let mut document = Document::parse(&input).map_err(|error| error.to_string())?;
            document.format();
            compare("format", &record["output"], &document.pack())?;
            document = Document::parse(&document.pack()).map_err(|error| error.to_string())?;
            document.format();
            compare("format twice", &record["output"], &document.pack())
        }
        Some("patch") => patch(record, &input),
        other => Err(format!("unknown operation {other:?}")),
    }
}

fn parse(record: &Value, input: &[u8]) -> Result<(), String> {
    match (Document::parse(input), record["error"].as_str()) {
        (Err(error), Some(expected)) => same("error", expected, &error.to_string()),
        (Err(error), None) => Err(format!("unexpected error {error}")),
        (Ok(_), Some(expected)) => Err(format!("accepted, expected {expected}")),
        (Ok(document), None) => {
            let mut standardized = document.clone();
            standardized.standardize();
            compare(
                "standardized",
                &record["standardized"],
                &standardized.pack(),
            )?;
            let mut minimized = document.clone();
            minimized.minimize();
            compare("minimized", &record["minimized"], &minimized.pack())?;
            if document.pack() == input {
                Ok(())
            } else {
                Err("packing changed the text".into())
            }
        }
    }
}

fn patch(record: &Value, input: &[u8]) -> Result<(), String> {
    let mut document = Document::parse(input).map_err(|error| error.to_string())?;
    let result = document.patch(&bytes(&record["patch"]));
    let error = result
        .err()
        .map(|error| error.to_string())
        .unwrap_or_default();
    same(
        "error",
        record["error"].as_str().unwrap_or_default(),
        &error,
    )?;
    if record["output"].is_null() {
        return Ok(());
    }
    compare("output", &record["output"], &document.pack())
}

fn compare(what: &str, expected: &Value, got: &[u8]) -> Result<(), String> {
    same(
        what,
        &String::from_utf8_lossy(&bytes(expected)),
        &String::from_utf8_lossy(got),
    )
}

fn same(what: &str, expected: &str, got: &str) -> Result<(), String> {
    if expected == got {
        Ok(())
    } else {
        Err(format!(
            "{what}:\n  expected {expected:?}\n  got      {got:?}"
        ))
    }
}

fn bytes(value: &Value) -> Vec<u8> {
    match value {
        Value::String(text) => text.clone().into_bytes(),
        other => base64::engine::general_purpose::STANDARD
            .decode(other["base64"].as_str().expect("a text or base64"))
            .unwrap(),
    }
}
