//! The document of what is served.

use axum::response::Response;

use crate::error::ApiError;
use crate::extract::json;

/// The OpenAPI document.
pub fn document() -> serde_json::Value {
    serde_json::json!({"openapi": "3.1.0", "info": {"title": "Bowline API", "version": env!("CARGO_PKG_VERSION")}, "paths": {}})
}

/// `GET /api/v2?outputOpenapiSchema=true`.
pub(crate) async fn handler() -> Result<Response, ApiError> {
    json(&document())
}
