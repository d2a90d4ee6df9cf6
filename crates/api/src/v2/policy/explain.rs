//! `POST /tailnet/{tailnet}/acl/explain`. An operation of ours.

use axum::extract::State;
use axum::response::Response;
use bowline_policy::{Compiled, Explanation, Question};
use serde::Deserialize;

use super::{beside, proposed, refused, snapshot};
use crate::Api;
use crate::caller::{Caller, PolicyRead};
use crate::error::ApiError;
use crate::extract::{Json, json};

/// A question.
#[derive(Deserialize)]
pub(crate) struct ExplainBody {
    src: String,
    dst: String,
    protocol: Option<String>,
    /// A policy to ask instead of the one in force.
    policy: Option<String>,
}

fn explain(net: &Compiled, question: &Question) -> Result<Explanation, ApiError> {
    net.explain(question).map_err(ApiError::bad_request)
}

/// Says why a connection is allowed or denied.
pub(crate) async fn handler(
    caller: Caller<PolicyRead>,
    State(api): State<Api>,
    Json(body): Json<ExplainBody>,
) -> Result<Response, ApiError> {
    let snapshot = snapshot(&api, caller.actor.tailnet)?;
    let explanation = beside(&api, move || {
        let question = Question {
            src: body.src,
            dst: body.dst,
            protocol: body.protocol.filter(|name| !name.is_empty()),
        };
        let net = snapshot.compiled();
        match body.policy {
            Some(text) => {
                let policy = proposed(&snapshot, &text).map_err(refused)?;
                explain(&net.with_policy(&policy), &question)
            }
            None => explain(net, &question),
        }
    });
    json(&explanation.await?)
}
