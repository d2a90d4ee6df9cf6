//! `GET /tailnet/{tailnet}/acl`.

use axum::extract::{RawQuery, State};
use axum::response::Response;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bowline_engine::policy::file::{oddities, text};
use bowline_netmap::snapshot::Snapshot;
use bowline_policy::Policy;
use http::HeaderMap;
use serde_json::json;

use super::{Form, expected, not_modified, sized, snapshot, tagged, wants_details, warning_texts};
use crate::Api;
use crate::caller::{Caller, PolicyRead};
use crate::error::ApiError;

/// Gets the policy file as HuJSON, as JSON, or with what is odd about it.
///
/// Source: official OpenAPI document, `getPolicyFile`.
pub(crate) async fn handler(
    caller: Caller<PolicyRead>,
    State(api): State<Api>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let tailnet = caller.actor.tailnet;
    let snapshot = snapshot(&api, tailnet)?;
    let wants_details = wants_details(query.as_deref());
    let form = Form::of(&headers);
    let size = text(snapshot.policy()).len();
    let expected = expected(&headers);
    sized(&api, tailnet, size, move || {
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

/// The policy file with what is odd and wrong about it.
pub(super) fn details(snapshot: &Snapshot) -> Response {
    let text = text(snapshot.policy());
    let compiled = snapshot.compiled();
    // A file that a newer version wrote may be none to this one: another is in force then.
    let errors = snapshot.policy_fault().map(|fault| {
        let errors = Policy::parse(text).err().unwrap_or_default();
        let texts = errors.into_iter().map(|error| error.message);
        let texts: Vec<String> = texts.collect();
        if texts.is_empty() {
            vec![fault.to_owned()]
        } else {
            texts
        }
    });
    let mut warnings = Vec::new();
    if errors.is_none() {
        warnings = warning_texts(&oddities(compiled));
    }
    let acl = BASE64_STANDARD.encode(text);
    let body = json!({"acl": acl, "warnings": warnings, "errors": errors});
    tagged("application/json", body.to_string(), text)
}
