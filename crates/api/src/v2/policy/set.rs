//! `POST /tailnet/{tailnet}/acl`.

use bowline_engine::policy::file::{PolicyRefused, judge, text};
use bowline_policy::Budget;
use http::StatusCode;

use super::get::details;
use super::{Details, File, Form, PolicyBody, check_length, expected, parse, refused};
use crate::Api;
use crate::call::Call;
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
    api: Api,
    call: Call<(), Details, PolicyBody>,
) -> Result<File, ApiError> {
    let expected = expected(&call.headers);
    let has_details = call.query.details;
    let tailnet = call.actor.tailnet;
    // One turn for everything, so that a tailnet's changes are not more work at a time than its
    // questions.
    let turn = api.heavy.turn(tailnet).await?;
    let policy = match call.body.into_text()? {
        Some(text) => {
            check_length(&api, &text)?;
            let (own, snapshot) = (api.clone(), api.snapshot(tailnet)?);
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
        .set_policy_file(&call.actor, policy, expected)
        .await?;
    if has_details {
        let snapshot = api.snapshot(tailnet)?;
        return turn.run(move |_| details(&snapshot)).await;
    }
    let form = Form::of(&call.headers);
    turn.run(move |_| form.answer(text(&file))).await
}
