//! `POST /tailnet/{tailnet}/acl`.

use axum::extract::{RawQuery, State};
use axum::response::Response;
use bowline_engine::StoreFailure;
use bowline_engine::policy::file::{PolicyRefused, judge, text};
use bowline_policy::Budget;
use http::{HeaderMap, StatusCode};

use super::get::details;
use super::{Form, PolicyBody, check_length, expected, parse, refused, snapshot, wants_details};
use crate::Api;
use crate::caller::{Caller, PolicyWrite};
use crate::error::ApiError;

impl From<PolicyRefused> for ApiError {
    fn from(refusal: PolicyRefused) -> Self {
        match refusal {
            PolicyRefused::Denied(denied) => denied.into(),
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
/// With `details=1`, which is ours, the answer is the file with its warnings.
///
/// Source: official OpenAPI document, `setPolicyFile`.
pub(crate) async fn handler(
    caller: Caller<PolicyWrite>,
    State(api): State<Api>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: PolicyBody,
) -> Result<Response, ApiError> {
    let expected = expected(&headers);
    let has_details = wants_details(query.as_deref());
    let tailnet = caller.actor.tailnet;
    // One turn for everything, so that a tailnet's changes are not more work at a time than its
    // questions.
    let turn = api.heavy.turn(tailnet).await?;
    let policy = match body.into_text()? {
        Some(text) => {
            check_length(&api, &text)?;
            let (own, snapshot) = (api.clone(), snapshot(&api, tailnet)?);
            let expected = expected.clone();
            // What is wrong is found here, where nobody waits for it; the writer looks again, at
            // the state at that time. However short the text is: what it costs follows the tailnet.
            let work = move |budget: &Budget| {
                let policy = parse(&own, &text, budget).map_err(refused)?;
                if expected.is_some_and(|expected| !expected.holds(snapshot.policy())) {
                    return Err(PolicyRefused::Outdated.into());
                }
                judge(&snapshot, &policy, budget).map_err(refused)?;
                Ok(policy)
            };
            Some(turn.run(work).await?)
        }
        None => None,
    };
    let file = api
        .engine
        .set_policy_file(&caller.actor, policy, expected)
        .await?;
    if has_details {
        let snapshot = snapshot(&api, tailnet)?;
        return turn.run(move |_| Ok(details(&snapshot))).await;
    }
    let form = Form::of(&headers);
    turn.run(move |_| form.answer(text(&file))).await
}

impl From<StoreFailure> for ApiError {
    fn from(failure: StoreFailure) -> Self {
        Self::from(bowline_engine::Refusal::Store(failure))
    }
}
