//! `POST /tailnet/{tailnet}/acl/diff`. An operation of ours.

use axum::extract::State;
use axum::response::Response;
use bowline_policy::Connection;
use serde::Deserialize;

use super::{beside, exhausted, proposed, snapshot};
use crate::Api;
use crate::caller::{Caller, PolicyRead};
use crate::error::ApiError;
use crate::extract::{Json, Object, json};

/// The most connections of one comparison.
const CONNECTIONS_MAX: usize = 100_000;

/// What to compare with the policy in force.
#[derive(Deserialize)]
pub(crate) struct DiffBody {
    /// The proposed policy.
    policy: String,
    /// Open connections, of which those are told that it would cut.
    connections: Option<Vec<Object<Connection>>>,
}

/// Says what a proposed policy would change on the tailnet as it is. Its tests are not run.
pub(crate) async fn handler(
    caller: Caller<PolicyRead>,
    State(api): State<Api>,
    Json(body): Json<DiffBody>,
) -> Result<Response, ApiError> {
    let tailnet = caller.actor.tailnet;
    let snapshot = snapshot(&api, tailnet)?;
    let own = api.clone();
    let diff = beside(&api, tailnet, move |budget| {
        let policy = proposed(&own, &snapshot, &body.policy, budget)?;
        if body
            .connections
            .as_ref()
            .is_some_and(|list| list.len() > CONNECTIONS_MAX)
        {
            return Err(ApiError::bad_request(format!(
                "at most {CONNECTIONS_MAX} connections can be compared at once"
            )));
        }
        let connections = body.connections.unwrap_or_default().into_iter();
        let connections: Vec<Connection> = connections.map(|Object(it)| it).collect();
        snapshot
            .compiled()
            .diff_within(&policy, &connections, budget)
            .map_err(exhausted)
    });
    json(&diff.await?)
}
