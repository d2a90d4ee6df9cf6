//! Our OpenAPI document beside the official one, operation by operation and field by field: what differs
//! is a file that people have read.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::schema::{official, ours, resolved};

/// Set it to write the file in place of comparing it.
const WRITE: &str = "BOWLINE_WRITE";

const HEAD: &str = "\
# How the operations differ from those of the official OpenAPI document, member by member.
# `cargo run -p bowline-xtask -- openapi` writes this file; read the difference before you commit it.
#
# A block for each operation that differs; one without a block is the same.
#
# +  Bowline has it, the official document does not
# -  the official document has it, Bowline does not
# ~  both have it, and it is not the same
#
# `body.a.b[]` is a member of the request, `200.a` one of the answer, `?a` a parameter of the query, `*`
# any name. Statuses of failures that the official document leaves out are no difference: it lists few.
";

/// What a document says of a member.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Member {
    /// Types, without `null`: the official document says it of few of those that are.
    types: BTreeSet<String>,
    /// Values that it may have. Empty: any.
    values: BTreeSet<String>,
    is_required: bool,
}

impl Member {
    fn of(schema: &Value) -> Self {
        let mut types = BTreeSet::new();
        match &schema["type"] {
            Value::String(one) => drop(types.insert(one.clone())),
            Value::Array(all) => {
                types.extend(all.iter().filter_map(Value::as_str).map(str::to_owned));
            }
            _ => {}
        }
        types.remove("null");
        // JSON has one kind of number, and clients read either as such.
        if types.remove("integer") {
            types.insert("number".to_owned());
        }
        let values = schema["enum"].as_array().into_iter().flatten();
        Self {
            types,
            values: values
                .filter(|value| !value.is_null())
                .map(Value::to_string)
                .collect(),
            is_required: false,
        }
    }

    fn merge(&mut self, other: Self) {
        self.types.extend(other.types);
        self.values.extend(other.values);
        self.is_required &= other.is_required;
    }
}

/// Members by their place.
type Members = BTreeMap<String, Member>;

/// Adds a schema's members. `within`: references that led here, so that what refers to itself ends.
fn members(document: &Value, schema: &Value, place: &str, within: &[String], all: &mut Members) {
    if let Some(reference) = schema["$ref"].as_str() {
        if within.iter().any(|it| it == reference) {
            return;
        }
        let target = document.pointer(reference.trim_start_matches('#')).unwrap();
        let within = [within, &[reference.to_owned()]].concat();
        members(document, target, place, &within, all);
        return;
    }
    let own = Member::of(schema);
    if own != Member::default() || !all.contains_key(place) {
        let required = all.get(place).is_some_and(|member| member.is_required);
        let member = all.entry(place.to_owned()).or_default();
        member.merge(own);
        member.is_required = required;
    }
    for part in schema["allOf"].as_array().into_iter().flatten() {
        members(document, part, place, within, all);
    }
    for keyword in ["anyOf", "oneOf"] {
        for part in schema[keyword].as_array().into_iter().flatten() {
            let mut alternative = Members::new();
            members(document, part, place, within, &mut alternative);
            for (name, mut member) in alternative {
                // Another alternative need not have it.
                member.is_required = all.get(&name).is_some_and(|it| it.is_required);
                all.entry(name)
                    .or_insert_with(|| member.clone())
                    .merge(member);
            }
        }
    }
    if schema["items"].is_object() {
        members(
            document,
            &schema["items"],
            &format!("{place}[]"),
            within,
            all,
        );
    }
    if schema["additionalProperties"].is_object() {
        let place = format!("{place}.*");
        members(
            document,
            &schema["additionalProperties"],
            &place,
            within,
            all,
        );
    }
    let required = schema["required"].as_array();
    for (name, schema) in schema["properties"].as_object().into_iter().flatten() {
        let place = format!("{place}.{name}");
        members(document, schema, &place, within, all);
        if required.is_some_and(|names| names.iter().any(|it| it == name))
            && let Some(member) = all.get_mut(&place)
        {
            member.is_required = true;
        }
    }
}

/// Everything that a document says of an operation and that is compared.
fn described(document: &Value, path: &str, method: &str) -> Option<Members> {
    let item = document["paths"].get(path)?;
    let operation = item.get(method)?;
    let mut all = Members::new();
    let shared = item["parameters"].as_array().into_iter().flatten();
    for parameter in shared.chain(operation["parameters"].as_array().into_iter().flatten()) {
        let parameter = followed(document, parameter);
        let name = parameter["name"].as_str().unwrap();
        let place = match parameter["in"].as_str().unwrap() {
            "query" => format!("?{name}"),
            "header" => format!("header {name}"),
            // The router has them, or the request would not be found.
            _ => continue,
        };
        let mut found = Members::new();
        members(document, &parameter["schema"], &place, &[], &mut found);
        found.get_mut(&place).unwrap().is_required = parameter["required"] == true;
        all.extend(found);
    }
    let body = followed(document, &operation["requestBody"]);
    for (kind, content) in body["content"].as_object().into_iter().flatten() {
        all.insert(format!("body as {kind}"), Member::default());
        if kind == "application/json" {
            // Whether there must be one follows from its members.
            members(document, &content["schema"], "body", &[], &mut all);
        }
    }
    for (status, response) in operation["responses"].as_object().unwrap() {
        // Failures look alike, and the tests hold every one against both documents.
        if !status.starts_with('2') {
            continue;
        }
        let response = followed(document, response);
        for (kind, content) in response["content"].as_object().into_iter().flatten() {
            all.insert(format!("{status} as {kind}"), Member::default());
            if kind == "application/json" {
                members(document, &content["schema"], status, &[], &mut all);
            }
        }
        all.entry(status.clone()).or_default();
    }
    Some(all)
}

/// What stands where a value refers to, or the value.
fn followed<'a>(document: &'a Value, value: &'a Value) -> &'a Value {
    match value["$ref"].as_str() {
        Some(reference) => {
            let place = resolved(document, reference.trim_start_matches('#').to_owned());
            document.pointer(&place).unwrap()
        }
        None => value,
    }
}

/// Of what is new or missing as a whole, the whole alone.
fn is_part_of_another(place: &str, places: &BTreeSet<&str>) -> bool {
    let ends = place
        .char_indices()
        .filter(|(_, at)| matches!(at, '.' | '['));
    ends.map(|(end, _)| &place[..end])
        .any(|whole| places.contains(whole))
}

fn words(set: &BTreeSet<String>) -> String {
    if set.is_empty() {
        return "any".to_owned();
    }
    set.iter()
        .map(String::as_str)
        .collect::<Vec<_>>()
        .join(" | ")
}

/// Lines of what differs.
fn differences(official: &Members, ours: &Members) -> Vec<String> {
    let only = |mine: &Members, theirs: &Members| -> Vec<String> {
        let mine = mine.keys().filter(|place| !theirs.contains_key(*place));
        let places: BTreeSet<&str> = mine.map(String::as_str).collect();
        let whole = places
            .iter()
            .filter(|place| !is_part_of_another(place, &places));
        whole.map(|place| (*place).to_owned()).collect()
    };
    let mut lines: Vec<String> = Vec::new();
    lines.extend(
        only(ours, official)
            .iter()
            .map(|place| format!("+ {place}")),
    );
    lines.extend(
        only(official, ours)
            .iter()
            .map(|place| format!("- {place}")),
    );
    for (place, theirs) in official {
        let Some(own) = ours.get(place) else { continue };
        let mut what = Vec::new();
        // What one of them leaves open the other may say.
        if theirs.types != own.types && !theirs.types.is_empty() {
            what.push(format!(
                "type {} is {}",
                words(&theirs.types),
                words(&own.types)
            ));
        }
        if theirs.values != own.values {
            let (lost, new) = (&theirs.values - &own.values, &own.values - &theirs.values);
            if own.values.is_empty() {
                what.push("any value".to_owned());
            } else if theirs.values.is_empty() {
                what.push(format!("one of {}", words(&own.values)));
            } else {
                if !new.is_empty() {
                    what.push(format!("also {}", words(&new)));
                }
                if !lost.is_empty() {
                    what.push(format!("never {}", words(&lost)));
                }
            }
        }
        match (theirs.is_required, own.is_required) {
            (true, false) => what.push("may be absent".to_owned()),
            // An answer that always has it breaks no promise.
            (false, true) if !place.starts_with('2') => what.push("required".to_owned()),
            _ => {}
        }
        if !what.is_empty() {
            lines.push(format!("~ {place}: {}", what.join(", ")));
        }
    }
    lines
}

/// The file's text.
fn text(official: &Value) -> String {
    let mut text = HEAD.to_owned();
    let mut missing = Vec::new();
    for (path, item) in official["paths"].as_object().unwrap() {
        for method in ["get", "post", "put", "patch", "delete"] {
            let Some(theirs) = described(official, path, method) else {
                continue;
            };
            let id = item[method]["operationId"].as_str().unwrap();
            let Some(own) = described(ours(), path, method) else {
                missing.push(id);
                continue;
            };
            let lines = differences(&theirs, &own);
            if !lines.is_empty() {
                write!(text, "\n{id}\n    {}\n", lines.join("\n    ")).unwrap();
            }
        }
    }
    write!(text, "\n# Not served yet: {}.\n", missing.len()).unwrap();
    for id in missing {
        writeln!(text, "# {id}").unwrap();
    }
    text
}

fn file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/differences.txt")
}

/// The reviewed differences by operation.
pub(crate) fn reviewed() -> BTreeMap<String, Vec<String>> {
    let text = std::fs::read_to_string(file()).unwrap();
    let mut all: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut id = String::new();
    for line in text
        .lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty())
    {
        match line.strip_prefix("    ") {
            Some(difference) => all
                .entry(id.clone())
                .or_default()
                .push(difference.to_owned()),
            None => line.clone_into(&mut id),
        }
    }
    all
}

#[test]
fn differences_from_the_official_document_are_the_reviewed_ones() {
    let Some(official) = official() else {
        return;
    };
    let text = text(official);
    if std::env::var_os(WRITE).is_some() {
        std::fs::write(file(), text).unwrap();
        return;
    }
    let reviewed = std::fs::read_to_string(file()).unwrap_or_default();
    for (own, reviewed) in text.lines().zip(reviewed.lines()) {
        assert_eq!(
            own, reviewed,
            "an operation differs otherwise than was reviewed"
        );
    }
    assert_eq!(
        text, reviewed,
        "an operation differs otherwise than was reviewed"
    );
}

#[test]
fn every_kind_of_difference_is_told() {
    let schema = |text: &str| {
        let mut all = Members::new();
        members(
            &Value::Null,
            &serde_json::from_str(text).unwrap(),
            "body",
            &[],
            &mut all,
        );
        all
    };
    let theirs = schema(
        r#"{"type": "object", "required": ["a"], "properties": {
            "a": {"type": "string", "enum": ["x", "y"]},
            "b": {"type": "array", "items": {"type": "object", "properties": {"c": {"type": "string"}}}},
            "d": {"type": "object", "properties": {"e": {"type": "integer"}}},
            "f": {"type": "object", "additionalProperties": {"type": "string"}},
            "same": {"type": ["number", "null"]}}}"#,
    );
    let own = schema(
        r#"{"type": "object", "required": ["same"], "properties": {
            "a": {"type": "string", "enum": ["x", "z"]},
            "b": {"type": "array", "items": {"type": "object", "properties": {"c": {"type": "boolean"}}}},
            "f": {"type": "object", "additionalProperties": {"anyOf": [{"type": "string"}, {"type": "object", "properties": {"g": {}}}]}},
            "h": {"type": "object", "properties": {"i": {"type": "integer"}}},
            "same": {"type": "integer"}}}"#,
    );
    assert_eq!(
        differences(&theirs, &own),
        [
            "+ body.f.*.g",
            "+ body.h",
            "- body.d",
            "~ body.a: also \"z\", never \"y\", may be absent",
            "~ body.b[].c: type string is boolean",
            "~ body.f.*: type string is object | string",
            "~ body.same: required",
        ]
    );
    assert_eq!(differences(&own, &own), Vec::<String>::new());
}
