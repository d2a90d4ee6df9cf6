//! The document of what is served: made from the table of operations and the types of its handlers.

use std::sync::LazyLock;

use axum::body::Bytes;
use bowline_model::requirement::Rule;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::Api;
use crate::answer::Encoded;
use crate::call::{Call, FromQuery, Pairs};
use crate::caller::NoTailnet;
use crate::error::{ApiError, ErrorBody};
use crate::operation::Row;
use crate::operations::table;
use crate::schema::{Content, Schemas, rename};

/// The OpenAPI document.
pub fn document() -> Value {
    let mut schemas = Schemas::new();
    let mut paths: Map<String, Value> = Map::new();
    let mut bodies: Vec<(&str, String)> = Vec::new();
    for row in table() {
        let method = row.operation.verb.as_str().to_lowercase();
        let operation = operation_json(row, &mut schemas);
        if let Some(path) = paths
            .entry(row.operation.path)
            .or_insert_with(|| json!({}))
            .as_object_mut()
        {
            path.insert(method.clone(), operation);
        }
        bodies.push((row.operation.path, method));
    }
    let error = schemas.answer::<ErrorBody<'static>>();
    let (named, renamed) = schemas.finish();
    for (path, method) in bodies {
        if let Some(body) = paths[path][&method].get_mut("requestBody") {
            rename(body, &renamed);
        }
    }
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
        "components": {
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "basic": {
                    "type": "http",
                    "scheme": "basic",
                    "description": "The token is the user name; the password is ignored",
                },
            },
            "parameters": parameters(),
            "responses": {
                "Error": {
                    "description": "Not done.",
                    "content": {"application/json": {"schema": error}},
                },
            },
            "schemas": named,
        },
    })
}

/// Parameters of paths.
fn parameters() -> Value {
    let parameter = |name: &str, description: &str| {
        json!({
            "name": name,
            "in": "path",
            "required": true,
            "description": description,
            "schema": {"type": "string"},
        })
    };
    json!({
        "tailnet": parameter(
            "tailnet",
            "Id, organisation name, or - for the caller's own",
        ),
        "deviceId": parameter("deviceId", "Either id of a device; nodeId is preferred"),
        "attributeKey": parameter("attributeKey", "custom:name"),
        "keyId": parameter("keyId", "Id of a key"),
        "code": parameter("code", "Code of what waits"),
        "userId": parameter("userId", "Id of a user"),
        "endpointId": parameter("endpointId", "Id of a webhook endpoint"),
    })
}

/// Parameters of a query, from the schema of an object that has a member for each.
fn query_json(schema: &Value) -> Vec<Value> {
    let Some(members) = schema.get("properties").and_then(Value::as_object) else {
        return Vec::new();
    };
    let required = schema.get("required").and_then(Value::as_array);
    let parameters = members.iter().map(|(name, schema)| {
        let mut schema = schema.clone();
        let description = schema
            .as_object_mut()
            .and_then(|members| members.remove("description"));
        let is_required = required.is_some_and(|names| names.iter().any(|it| it == name));
        json!({
            "name": name,
            "in": "query",
            "required": is_required,
            "description": description,
            "schema": without_null(schema),
        })
    });
    parameters.collect()
}

/// A parameter is there or it is not; it is never `null`.
fn without_null(mut schema: Value) -> Value {
    let null = json!({"type": "null"});
    if let Some(Value::Array(forms)) = schema.get_mut("anyOf") {
        forms.retain(|form| *form != null);
        if let [only] = forms.as_slice() {
            return only.clone();
        }
    }
    if let Some(Value::Array(types)) = schema.get_mut("type") {
        types.retain(|name| name != "null");
        if let [only] = types.as_slice() {
            schema["type"] = only.clone();
        }
    }
    if let Some(Value::Array(values)) = schema.get_mut("enum") {
        values.retain(|value| !value.is_null());
    }
    schema
}

fn content_json(content: Content) -> Value {
    let types = content.types.into_iter();
    types
        .map(|(kind, schema)| (kind.to_owned(), json!({"schema": schema})))
        .collect::<Map<String, Value>>()
        .into()
}

fn operation_json(row: &Row, schemas: &mut Schemas) -> Value {
    let operation = row.operation;
    let in_path = operation
        .path_parameters()
        .map(|name| json!({"$ref": format!("#/components/parameters/{name}")}));
    let in_header = operation.headers.iter().map(|name| {
        json!({"name": name, "in": "header", "required": false, "schema": {"type": "string"}})
    });
    let parameters: Vec<Value> = in_path
        .chain(query_json(&row.query(schemas)))
        .chain(in_header)
        .collect();
    let mut success = json!({"description": "Done."});
    if let Some(content) = row.answer(schemas) {
        success["content"] = content_json(content);
    }
    let error = json!({"$ref": "#/components/responses/Error"});
    let mut responses = json!({operation.success.to_string(): success});
    for status in operation.all_statuses() {
        match status {
            done if done == operation.success => {}
            304 => responses["304"] = json!({"description": "The caller has it already."}),
            _ => responses[status.to_string()] = error.clone(),
        }
    }
    responses["default"] = error;
    let mut value = json!({
        "operationId": operation.id,
        "summary": operation.summary,
        "parameters": parameters,
        "responses": responses,
    });
    if let Some(content) = row.body(schemas) {
        value["requestBody"] = json!({
            "required": content.is_required,
            "content": content_json(content),
        });
    }
    match operation.requirement.rule {
        Rule::Anybody | Rule::Shows => value["security"] = json!([]),
        Rule::Operator => value["x-operator-only"] = json!(true),
        _ => {
            let mut scopes: Vec<String> = Vec::new();
            let needs = operation.requirement.needs();
            for scope in needs.iter().flat_map(|need| need.scopes) {
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

/// An OpenAPI document.
#[derive(Serialize, JsonSchema)]
#[serde(transparent)]
#[schemars(inline)]
pub(crate) struct Document(Map<String, Value>);

/// Parameters of the document.
#[derive(JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Wanted {
    /// Accepted for clients that send it.
    #[schemars(with = "Option<String>")]
    #[expect(dead_code, reason = "only its schema is used")]
    output_openapi_schema: (),
}

impl FromQuery for Wanted {
    fn read(_: Pairs) -> Result<Self, ApiError> {
        Ok(Self {
            output_openapi_schema: (),
        })
    }
}

/// `GET /api/v2?outputOpenapiSchema=true`. Anybody may ask, so it is made once.
pub(crate) async fn handler(
    _: Api,
    _: Call<(), Wanted, (), NoTailnet>,
) -> Result<Encoded<Document>, ApiError> {
    static TEXT: LazyLock<Bytes> = LazyLock::new(|| document().to_string().into());
    Ok(Encoded::before(TEXT.clone()))
}
