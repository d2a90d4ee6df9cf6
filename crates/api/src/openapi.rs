//! The document of what is served: made from the table of operations and the schemas beside it.

use std::sync::LazyLock;

use axum::body::Bytes;
use axum::response::{IntoResponse as _, Response};
use bowline_model::requirement::Rule;
use http::header::CONTENT_TYPE;
use serde_json::{Map, Value, json};

use crate::operations::{Operation, operations};

/// Schemas and parameters. Tests hold every answer, and every body that was accepted, against them.
const COMPONENTS: &str = include_str!("openapi/components.json");

/// The OpenAPI document.
pub fn document() -> Value {
    let mut paths: Map<String, Value> = Map::new();
    for operation in operations() {
        let method = operation.verb.as_str().to_lowercase();
        paths
            .entry(operation.path)
            .or_insert_with(|| json!({}))
            .as_object_mut()
            .map(|path| path.insert(method, operation_json(operation)));
    }
    // A broken file shows in the tests of every answer.
    let components: Value = serde_json::from_str(COMPONENTS).unwrap_or_default();
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Bowline API",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Tailscale API v2 as Bowline serves it, and operations of its own. A credential needs one of the scopes in x-required-scope; an operation with x-operator-only is for the operator of the server.",
        },
        "servers": [{"url": "/api/v2"}],
        "security": [{"bearer": []}, {"basic": []}],
        "paths": paths,
        "components": components,
    })
}

fn reference(kind: &str, name: &str) -> Value {
    json!({"$ref": format!("#/components/{kind}/{name}")})
}

fn operation_json(operation: Operation) -> Value {
    let in_path = operation
        .path
        .split('/')
        .filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}'));
    let parameters: Vec<Value> = in_path
        .chain(operation.query.iter().copied())
        .map(|name| reference("parameters", name))
        .collect();
    let content =
        |schema: &str| json!({"application/json": {"schema": reference("schemas", schema)}});
    let mut success = json!({"description": "Done."});
    match operation.answer {
        // The one answer that has another form too.
        Some("Policy") => {
            success["content"] = content("Policy");
            success["content"]["application/hujson"] = json!({"schema": {"type": "string"}});
        }
        Some(schema) => success["content"] = content(schema),
        None => {}
    }
    let mut value = json!({
        "operationId": operation.id,
        "summary": operation.summary,
        "parameters": parameters,
        "responses": {"200": success, "default": reference("responses", "Error")},
    });
    if let Some(schema) = operation.body {
        // A policy file may be left out: the default, or the one in force.
        let is_file = schema == "Policy";
        let mut content = content(schema);
        if is_file || schema == "PolicyOrTests" {
            content["application/hujson"] = json!({"schema": {"type": "string"}});
        }
        value["requestBody"] = json!({"required": !is_file, "content": content});
    }
    match operation.requirement.rule {
        Rule::Anybody => value["security"] = json!([]),
        Rule::Operator => value["x-operator-only"] = json!(true),
        _ => {
            let mut scopes: Vec<String> = Vec::new();
            for scope in operation
                .requirement
                .needs()
                .iter()
                .flat_map(|need| need.scopes)
            {
                let scope = scope.to_string();
                if !scopes.contains(&scope) {
                    scopes.push(scope);
                }
            }
            value["x-required-scope"] = json!(scopes);
        }
    }
    value
}

/// `GET /api/v2?outputOpenapiSchema=true`. Anybody may ask, so it is made once.
pub(crate) async fn handler() -> Response {
    static TEXT: LazyLock<Bytes> = LazyLock::new(|| document().to_string().into());
    let headers = [(CONTENT_TYPE, "application/json")];
    (headers, TEXT.clone()).into_response()
}
