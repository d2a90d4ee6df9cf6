//! `POST /tailnet/{tailnet}/acl`.

use axum::extract::State;
use axum::response::Response;
use bowline_engine::StoreFailure;
use bowline_engine::policy_file::{PolicyRefused, judge, text};
use http::{HeaderMap, StatusCode};

use super::{Form, PolicyBody, beside, expected, parse, refused, sized, snapshot};
use crate::Api;
use crate::caller::{Caller, PolicyWrite};
use crate::error::ApiError;

impl From<PolicyRefused> for ApiError {
    fn from(refusal: PolicyRefused) -> Self {
        match refusal {
            PolicyRefused::NotPermitted => Self::forbidden(),
            // Clients match on the text and the status: the Terraform provider on "(412)".
            PolicyRefused::Outdated => {
                Self::new(StatusCode::PRECONDITION_FAILED, refusal.to_string())
            }
            PolicyRefused::Wrong(diagnostic) => refused(*diagnostic),
            PolicyRefused::Store(failure) => Self::from(failure),
        }
    }
}

/// Replaces the policy file; an empty body resets it to the default. What is wrong changes nothing.
///
/// Source: official OpenAPI document, `setPolicyFile`.
pub(crate) async fn handler(
    caller: Caller<PolicyWrite>,
    State(api): State<Api>,
    headers: HeaderMap,
    body: PolicyBody,
) -> Result<Response, ApiError> {
    let expected = expected(&headers);
    let policy = match body.into_text()? {
        Some(text) => {
            let size = text.len();
            Some(sized(&api, size, move || parse(&text).map_err(refused)).await?)
        }
        None => None,
    };
    if let Some(policy) = &policy {
        // What is wrong is found here, where nobody waits for it; the writer looks again, at the
        // state of then.
        let (snapshot, policy) = (snapshot(&api, caller.actor.tailnet)?, policy.clone());
        let expected = expected.clone();
        // However short the text is: what it costs follows the tailnet.
        let work = move || {
            if expected.is_some_and(|expected| !expected.holds(snapshot.policy())) {
                return Err(PolicyRefused::Outdated.into());
            }
            judge(&snapshot, &policy).map_err(refused)
        };
        beside(&api, work).await?;
    }
    let file = api
        .engine
        .set_policy_file(&caller.actor, policy, expected)
        .await?;
    let form = Form::of(&headers);
    let size = text(&file).len();
    sized(&api, size, move || form.answer(text(&file))).await
}

impl From<StoreFailure> for ApiError {
    fn from(failure: StoreFailure) -> Self {
        Self::from(bowline_engine::Refusal::Store(failure))
    }
}
