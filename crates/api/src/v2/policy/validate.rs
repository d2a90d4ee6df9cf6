//! `POST /tailnet/{tailnet}/acl/validate`.

use axum::extract::State;
use axum::response::Response;
use bowline_engine::policy_file::judge;
use bowline_netmap::snapshot::Snapshot;
use bowline_policy::{Diagnostic, Failure, hujson};
use serde::Serialize;

use super::{PolicyBody, beside, parse, snapshot};
use crate::Api;
use crate::caller::{Caller, PolicyRead};
use crate::error::ApiError;
use crate::extract::json;

/// What is found; clients take any message for a failure, so none is invented.
#[derive(Serialize, Default)]
struct Verdict {
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    data: Vec<Failure>,
}

impl From<Diagnostic> for Verdict {
    fn from(diagnostic: Diagnostic) -> Self {
        Self {
            message: Some(diagnostic.message),
            data: diagnostic.failures,
        }
    }
}

/// Judges a text by what it is: an array of tests, or a policy. A text that is no `HuJSON` was meant
/// to be a policy, and its fault is what is found: the founding document's own example has one,
/// and the status 200.
fn verdict(snapshot: &Snapshot, text: &str) -> Result<Verdict, ApiError> {
    let value = match hujson::Value::parse(text.as_bytes()) {
        Ok(value) => value,
        Err(error) => {
            return Ok(Verdict {
                message: Some(error.to_string()),
                data: Vec::new(),
            });
        }
    };
    let composite = value.as_composite().ok_or_else(|| {
        ApiError::bad_request("invalid body: expected a policy or an array of tests")
    })?;
    Ok(match composite.kind {
        hujson::Kind::Array => tests(snapshot, text),
        hujson::Kind::Object => policy(snapshot, text),
    })
}

fn tests(snapshot: &Snapshot, text: &str) -> Verdict {
    let outcome = snapshot.compiled().run_given_tests(text);
    outcome.map_or_else(Verdict::from, |()| Verdict::default())
}

fn policy(snapshot: &Snapshot, text: &str) -> Verdict {
    match parse(text).and_then(|policy| judge(snapshot, &policy)) {
        Err(diagnostic) => diagnostic.into(),
        Ok(warnings) if warnings.is_empty() => Verdict::default(),
        Ok(warnings) => Verdict {
            message: Some("warning(s) found".to_owned()),
            data: warnings,
        },
    }
}

/// Runs tests against the policy in force (an array), or checks a policy with its own tests (an
/// object). Answers 200 also when something is found, and changes nothing.
///
/// Source: official OpenAPI document, `validateAndTestPolicyFile`.
pub(crate) async fn handler(
    caller: Caller<PolicyRead>,
    State(api): State<Api>,
    body: PolicyBody,
) -> Result<Response, ApiError> {
    let text = body.into_some_text()?;
    let snapshot = snapshot(&api, caller.actor.tailnet)?;
    json(&beside(&api, move || verdict(&snapshot, &text)).await?)
}
