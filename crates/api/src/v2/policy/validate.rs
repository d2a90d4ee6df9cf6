//! `POST /tailnet/{tailnet}/acl/validate`.

use bowline_engine::policy::file::{judge, oddities, plain_oddities};
use bowline_netmap::snapshot::Snapshot;
use bowline_policy::hujson::{self, Unreadable};
use bowline_policy::{Budget, Diagnostic, Failure};
use schemars::JsonSchema;
use serde::Serialize;

use super::{Details, PolicyOrTests, beside, check_length, exhausted, parse};
use crate::Api;
use crate::answer::{Encoded, Shape};
use crate::call::Call;
use crate::error::ApiError;

// Clients take any message for a failure, so none is invented.
/// What is found: nothing where nothing is wrong.
#[derive(Serialize, Default, JsonSchema)]
#[schemars(rename = "PolicyVerdict")]
pub(crate) struct Verdict {
    #[schemars(length(min = 1))]
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    data: Vec<Failure>,
}

impl Shape for Verdict {
    type Schema = Self;
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
fn verdict(
    api: &Api,
    snapshot: &Snapshot,
    text: &str,
    has_details: bool,
    budget: &Budget,
) -> Result<Verdict, ApiError> {
    let found = match hujson::kind(text, budget) {
        Err(Unreadable::Syntax(error)) => {
            return Ok(Verdict {
                message: Some(error.to_string()),
                data: Vec::new(),
            });
        }
        Err(Unreadable::Exhausted(reason)) => return Err(exhausted(reason)),
        Ok(None) => {
            let message = "invalid body: expected a policy or an array of tests";
            return Err(ApiError::bad_request(message));
        }
        Ok(Some(hujson::CompositeKind::Array)) => {
            let outcome = snapshot.compiled().run_given_tests_within(text, budget);
            outcome.map(|()| Vec::new())
        }
        Ok(Some(hujson::CompositeKind::Object)) => parse(api, text, budget)
            .and_then(|policy| judge(snapshot, &policy, budget))
            .map(|compiled| {
                if has_details {
                    oddities(&compiled)
                } else {
                    plain_oddities(&compiled)
                }
            }),
    };
    match found {
        Err(diagnostic) => match diagnostic.exhausted {
            Some(reason) => Err(exhausted(reason)),
            None => Ok(diagnostic.into()),
        },
        Ok(warnings) if warnings.is_empty() => Ok(Verdict::default()),
        Ok(warnings) => Ok(Verdict {
            message: Some("warning(s) found".to_owned()),
            data: warnings,
        }),
    }
}

/// Runs tests against the policy in force (an array), or checks a policy with its own tests (an
/// object). Answers 200 also when something is found, and changes nothing. With `details=1`, which
/// is ours, warnings are told that the real service keeps for the file's details.
///
/// Source: official OpenAPI document, `validateAndTestPolicyFile`.
pub(crate) async fn handler(
    api: Api,
    call: Call<(), Details, PolicyOrTests>,
) -> Result<Encoded<Verdict>, ApiError> {
    let text = call.body.into_text()?;
    check_length(&api, &text)?;
    let has_details = call.query.details;
    let tailnet = call.actor.tailnet;
    let snapshot = api.snapshot(tailnet)?;
    let own = api.clone();
    let work = move |budget: &Budget| verdict(&own, &snapshot, &text, has_details, budget);
    Encoded::new(&beside(&api, tailnet, work).await?)
}
