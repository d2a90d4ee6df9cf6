//! `GET /tailnet/{tailnet}/acl`.

use axum::extract::{RawQuery, State};
use axum::response::Response;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bowline_engine::policy_file::text;
use bowline_netmap::snapshot::Snapshot;
use bowline_policy::{Policy, hujson};
use http::HeaderMap;
use serde_json::json;

use super::{Form, expected, not_modified, sized, snapshot, tagged};
use crate::Api;
use crate::caller::{Caller, PolicyRead};
use crate::error::ApiError;
use crate::extract::pairs;

/// Gets the policy file as HuJSON, as JSON, or with what is odd about it.
///
/// Source: official OpenAPI document, `getPolicyFile`.
pub(crate) async fn handler(
    caller: Caller<PolicyRead>,
    State(api): State<Api>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let snapshot = snapshot(&api, caller.actor.tailnet)?;
    let wants_details = pairs(query.as_deref())
        .iter()
        .any(|(key, value)| key == "details" && matches!(value.as_str(), "1" | "true"));
    let form = Form::of(&headers);
    let size = text(snapshot.policy()).len();
    let expected = expected(&headers);
    sized(&api, size, move || {
        if expected.is_some_and(|expected| expected.is_known(snapshot.policy())) {
            return Ok(not_modified(text(snapshot.policy())));
        }
        // An old client asks for HuJSON and for details, and expects the latter.
        if wants_details {
            return Ok(details(&snapshot));
        }
        form.answer(text(snapshot.policy()))
    })
    .await
}

fn details(snapshot: &Snapshot) -> Response {
    let text = text(snapshot.policy());
    let compiled = snapshot.compiled();
    // A file that a newer version wrote may be none to this one: another is in force then.
    let errors = (compiled.policy().text() != text)
        .then(|| Policy::parse(text).err())
        .flatten()
        .map(|errors| {
            let texts = errors.into_iter().map(|error| error.message);
            texts.collect::<Vec<String>>()
        });
    let mut warnings = Vec::new();
    if errors.is_none() {
        warnings = compiled.unknown_members();
        for group in compiled.unsynced_groups() {
            let name = hujson::quote(&group.user);
            let texts = group.warnings.iter();
            warnings.extend(texts.map(|warning| format!("{name}: {warning}")));
        }
    }
    let acl = BASE64_STANDARD.encode(text);
    let body = json!({"acl": acl, "warnings": warnings, "errors": errors});
    tagged("application/json", body.to_string(), text)
}
