//! The policy file. It can be read; setting it comes with the policy engine.

use std::fmt::Write as _;

use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::response::Response;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bowline_policy::hujson;
use http::header::{ACCEPT, CONTENT_TYPE, ETAG};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde_json::json;

use crate::Api;
use crate::caller::{Caller, Need, PolicyRead};
use crate::error::ApiError;
use crate::v2::devices::pairs;

/// The policy that is in force until policies can be set. Without the SSH rule of the policy crate's
/// default: what is shown is what devices are told.
const DEFAULT_POLICY: &str = "// The policy of a new tailnet.\n{\n\t// Who may connect to what. This rule lets every device reach \
every other.\n\t\"acls\": [\n\t\t{\"action\": \"accept\", \"src\": [\"*\"], \"dst\": [\"*:*\"]},\n\t],\n}\n";

fn broken(error: impl std::fmt::Display) -> ApiError {
    tracing::error!(%error, "the stored policy file cannot be read");
    ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "internal server error")
}

/// `GET /tailnet/{tailnet}/acl`: the policy file as HuJSON, as JSON, or with details.
///
/// The `ETag` is the quoted SHA-256 of the formatted text, in every form.
///
/// Source: official OpenAPI document, `getPolicyFile`.
pub(crate) async fn get(
    caller: Caller<PolicyRead>,
    State(api): State<Api>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let snapshot = api
        .engine
        .snapshot(caller.actor.tailnet)
        .ok_or_else(ApiError::not_found)?;
    let text = snapshot.policy().text.as_deref().unwrap_or(DEFAULT_POLICY);
    let formatted = hujson::format(text).map_err(broken)?;
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, formatted.as_bytes());
    let hex = hash
        .as_ref()
        .iter()
        .fold(String::with_capacity(64), |mut hex, byte| {
            // Writing to a String cannot fail.
            let _ = write!(hex, "{byte:02x}");
            hex
        });
    let wants_details = pairs(query.as_deref())
        .iter()
        .any(|(key, value)| key == "details" && matches!(value.as_str(), "1" | "true"));
    let wants_json = headers
        .get(ACCEPT)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|value| value.contains("application/json"));
    let (content_type, body) = if wants_details {
        let encoded = BASE64_STANDARD.encode(text);
        (
            "application/json",
            json!({"acl": encoded, "warnings": [], "errors": null}).to_string(),
        )
    } else if wants_json {
        ("application/json", hujson::to_json(text).map_err(broken)?)
    } else {
        ("application/hujson", text.to_owned())
    };
    let mut response = Response::new(Body::from(body));
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    if let Ok(etag) = HeaderValue::from_str(&format!("\"{hex}\"")) {
        response.headers_mut().insert(ETAG, etag);
    }
    Ok(response)
}

/// Setting, previewing and validating come with the policy engine.
pub(crate) async fn not_yet<N: Need>(_caller: Caller<N>) -> ApiError {
    ApiError::new(
        StatusCode::NOT_IMPLEMENTED,
        "the policy file cannot be changed yet: every device may reach every other",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_policy_is_a_policy_and_formatted() {
        assert_eq!(
            hujson::format(DEFAULT_POLICY).as_deref(),
            Ok(DEFAULT_POLICY)
        );
        assert!(bowline_policy::Policy::parse(DEFAULT_POLICY).is_ok());
    }
}
