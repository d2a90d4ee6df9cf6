//! `docs/api.md`: its part about each operation is made from the row, the documents and a request that is
//! sent here.

use std::fmt::Write as _;
use std::path::Path;

use bowline_api::{Operation, operations};
use bowline_model::requirement::{Requirement, Rule};
use serde_json::Value;

use crate::access::{case, objects, takes_no_credential};
use crate::access_table::{rights, scopes_of};
use crate::differences::reviewed;
use crate::schema::ours;
use crate::server::{Server, basic, bytes};
use crate::workload::SHARED;

/// Set it to write the page in place of comparing it.
const WRITE: &str = "BOWLINE_WRITE";

const BEGIN: &str = "<!-- operations: generated -->\n";
const END: &str = "<!-- operations: end -->";

/// Lines of an answer that are shown.
const LINES: usize = 40;

/// Members of a schema: name, type, meaning.
fn fields(schema: &Value, place: &str, within: &[String], rows: &mut Vec<[String; 3]>) {
    if let Some(reference) = schema["$ref"].as_str() {
        if within.iter().any(|it| it == reference) {
            return;
        }
        let target = ours().pointer(reference.trim_start_matches('#')).unwrap();
        let within = [within, &[reference.to_owned()]].concat();
        fields(target, place, &within, rows);
        return;
    }
    for keyword in ["anyOf", "oneOf", "allOf"] {
        for part in schema[keyword].as_array().into_iter().flatten() {
            fields(part, place, within, rows);
        }
    }
    if schema["items"].is_object() {
        fields(&schema["items"], &format!("{place}[]"), within, rows);
    }
    let any = &schema["additionalProperties"];
    if any.is_object() {
        fields(any, &format!("{place}.*"), within, rows);
    }
    for (name, schema) in schema["properties"].as_object().into_iter().flatten() {
        let place = format!("{place}.{name}");
        let words = schema["description"].as_str().unwrap_or_default();
        let name = place.trim_start_matches('.').to_owned();
        rows.push([name, kind(schema, within), words.to_owned()]);
        fields(schema, &place, within, rows);
    }
}

/// The type of a member in words.
fn kind(schema: &Value, within: &[String]) -> String {
    if let Some(reference) = schema["$ref"].as_str() {
        if within.iter().any(|it| it == reference) {
            return "the same".to_owned();
        }
        let target = ours().pointer(reference.trim_start_matches('#')).unwrap();
        return kind(target, &[within, &[reference.to_owned()]].concat());
    }
    if let Some(values) = schema["enum"].as_array() {
        let values = values.iter().filter(|value| !value.is_null());
        return values
            .map(|value| format!("`{value}`"))
            .collect::<Vec<_>>()
            .join(", ");
    }
    let mut names: Vec<String> = match &schema["type"] {
        Value::String(one) => vec![one.clone()],
        Value::Array(all) => all
            .iter()
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect(),
        _ => Vec::new(),
    };
    for keyword in ["anyOf", "oneOf"] {
        let parts = schema[keyword].as_array().into_iter().flatten();
        names.extend(parts.map(|part| kind(part, within)));
    }
    names.retain(|name| name != "null");
    if names == ["array"] {
        return format!("list of {}", kind(&schema["items"], within));
    }
    if names.is_empty() {
        return "any".to_owned();
    }
    names.dedup();
    names.join(" or ")
}

fn table(text: &mut String, head: &str, rows: &[[String; 3]]) {
    if rows.is_empty() {
        return;
    }
    write!(text, "\n| {head} | type | |\n| --- | --- | --- |\n").unwrap();
    for [name, kind, words] in rows {
        let words = words.replace('|', "\\|");
        writeln!(text, "| `{name}` | {kind} | {words} |").unwrap();
    }
}

/// What an operation needs, in words.
fn needs(text: &mut String, operation: &Operation) {
    let requirement = operation.requirement;
    if requirement == Requirement::ANYBODY {
        text.push_str("\nNeeds nothing: anybody may call it.\n");
        return;
    }
    if requirement == Requirement::SHOWS {
        text.push_str("\nNeeds no credential in front: what the body shows decides.\n");
        return;
    }
    if requirement == Requirement::OPERATOR {
        text.push_str("\nNeeds the operator of the server.\n");
        return;
    }
    let line = |check: &dyn Fn(&bowline_model::principal::Principal) -> bool| {
        format!("{}; scopes: {}", rights(check), scopes_of(check))
    };
    let may =
        |principal: &bowline_model::principal::Principal| requirement.check(principal).is_ok();
    writeln!(text, "\nNeeds: {}.", line(&may)).unwrap();
    let mut detail = |name: &str, need: &bowline_model::requirement::Need| {
        let may = |principal: &bowline_model::principal::Principal| {
            requirement.check(principal).is_ok() && need.is_met_by(principal)
        };
        writeln!(text, "- {name}: {}", line(&may)).unwrap();
    };
    match requirement.rule {
        Rule::Any(needs) => needs.iter().for_each(|need| detail("one of these", need)),
        Rule::AnyOrOwn(needs) => needs.iter().for_each(|need| detail("its own, or", need)),
        Rule::Fields(fields) | Rule::Shown(fields) => {
            for field in fields {
                detail(&format!("`{}`", field.name), &field.need);
            }
        }
        _ => {}
    }
}

/// Without what opens something: a secret's kind and id stay.
fn masked(value: &mut Value) {
    match value {
        Value::String(text) if text.starts_with("tskey-") => {
            let kept: Vec<&str> = text.split('-').take(3).collect();
            *text = format!("{}-…", kept.join("-"));
        }
        Value::Array(items) => items.iter_mut().for_each(masked),
        Value::Object(members) => members.values_mut().for_each(masked),
        _ => {}
    }
}

/// Sends the operation's request to a server of its own, and shows both.
async fn example(text: &mut String, operation: &Operation) {
    let server = Server::start().await;
    let objects = objects(&server).await;
    let verb = operation.verb.as_str();
    let is_operators = operation.requirement == Requirement::OPERATOR;
    let (path, body) = case(operation, "-", &objects);
    let bytes = bytes(&body);
    let authorization =
        (!is_operators && !takes_no_credential(operation)).then(|| basic(&server.tailnet.token));
    let reply = server
        .send(is_operators, authorization, verb, &path, bytes)
        .await;
    // What no one can do yet, or not now, is shown as it is refused.
    assert!(
        matches!(reply.status.as_u16(), 200 | 202 | 400),
        "{}: {reply:?}",
        operation.id
    );
    let who = if takes_no_credential(operation) {
        "\"$SERVER"
    } else if is_operators {
        "--unix-socket bowline-data/bowline.sock http://localhost"
    } else {
        "-u \"$TOKEN:\" \"$SERVER"
    };
    let quote = if is_operators { "" } else { "\"" };
    let method = if verb == "GET" {
        String::new()
    } else {
        format!("-X {verb} ")
    };
    write!(text, "\n```sh\ncurl {method}{who}/api/v2{path}{quote}").unwrap();
    match &body {
        Value::Null => {}
        Value::String(form) => {
            let mut form = form.replace(&objects.secret, "$SECRET");
            if let Some((front, _)) = form.split_once("&jwt=") {
                form = format!("{front}&jwt=$JWT");
            }
            form.insert(0, '"');
            write!(text, " \\\n  -d {form}\"").unwrap();
        }
        body => write!(text, " \\\n  -d '{body}'").unwrap(),
    }
    text.push_str("\n```\n");
    let answer = String::from_utf8(reply.body.clone()).unwrap();
    let answer = match serde_json::from_str::<Value>(&answer) {
        Ok(mut value) => {
            masked(&mut value);
            // The port of the tests' issuer is another one each time.
            format!("{value:#}").replace(&SHARED.url, "https://issuer.example")
        }
        Err(_) => answer,
    };
    if answer.is_empty() {
        writeln!(text, "\n{}, with an empty body.", reply.status.as_u16()).unwrap();
        return;
    }
    let count = answer.lines().count();
    let shown: Vec<&str> = answer.lines().take(LINES).collect();
    let more = if count > LINES { "\n…" } else { "" };
    let status = reply.status.as_u16();
    let kind = if status == 200 {
        String::new()
    } else {
        format!("\n{status}:\n")
    };
    write!(text, "{kind}\n```json\n{}{more}\n```\n", shown.join("\n")).unwrap();
}

async fn operation(text: &mut String, operation: &Operation, differences: &[String]) {
    let method = operation.verb.as_str().to_lowercase();
    let described = &ours()["paths"][operation.path][&method];
    write!(
        text,
        "\n### {}\n\n`{} /api/v2{}`: {}.\n",
        operation.id,
        operation.verb.as_str(),
        operation.path.trim_end_matches('/'),
        operation.summary
    )
    .unwrap();
    needs(text, operation);
    let parameters = described["parameters"].as_array().into_iter().flatten();
    let query: Vec<[String; 3]> = parameters
        .filter(|parameter| parameter["in"] == "query")
        .map(|parameter| {
            [
                parameter["name"].as_str().unwrap().to_owned(),
                kind(&parameter["schema"], &[]),
                parameter["description"]
                    .as_str()
                    .unwrap_or_default()
                    .to_owned(),
            ]
        })
        .collect();
    table(text, "query", &query);
    let mut rows = Vec::new();
    let content = &described["requestBody"]["content"];
    let body = ["application/json", "application/x-www-form-urlencoded"]
        .iter()
        .find_map(|kind| content.get(*kind));
    let body = body.map_or(&Value::Null, |content| &content["schema"]);
    fields(body, "", &[], &mut rows);
    table(text, "body", &rows);
    if !differences.is_empty() {
        text.push_str("\nDiffers from the official document:\n\n");
        for difference in differences {
            writeln!(text, "- `{difference}`").unwrap();
        }
    }
    example(text, operation).await;
}

#[tokio::test]
async fn api_page_is_current() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/api.md");
    let committed = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = committed.split_once(BEGIN).unwrap();
    let (_, after) = rest.split_once(END).unwrap();
    let mut text = format!("{before}{BEGIN}\n");
    for operation in operations() {
        let (id, request) = (operation.id, format!("/api/v2{}", operation.path));
        let request = request.trim_end_matches('/');
        let anchor = id.to_lowercase();
        let verb = operation.verb.as_str();
        writeln!(
            text,
            "- [{id}](#{anchor}) `{verb} {request}`: {}",
            operation.summary
        )
        .unwrap();
    }
    let differences = reviewed();
    for it in operations() {
        let own = differences.get(it.id).map_or(&[][..], Vec::as_slice);
        operation(&mut text, &it, own).await;
    }
    text.push('\n');
    let text = format!("{text}{END}{after}");
    if std::env::var_os(WRITE).is_some() {
        std::fs::write(&path, text).unwrap();
        return;
    }
    assert!(
        committed == text,
        "docs/api.md is not current: run `cargo run -p bowline-xtask -- openapi`"
    );
}
