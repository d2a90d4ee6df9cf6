//! `POST /tailnet/{tailnet}/acl/diff`. An operation of ours.

use bowline_policy::{Connection, Diff};
use schemars::JsonSchema;
use serde::Deserialize;

use super::{beside, exhausted, proposed};
use crate::Api;
use crate::answer::{Encoded, Shape};
use crate::call::Call;
use crate::error::ApiError;
use crate::extract::{Object, WithPolicy};

/// The most connections of one comparison.
const CONNECTIONS_MAX: usize = 100_000;

/// What to compare with the policy in force.
#[derive(Deserialize, JsonSchema)]
#[schemars(rename = "PolicyProposal")]
pub(crate) struct DiffBody {
    /// The proposed policy file.
    policy: String,
    /// Open connections, of which those are told that it would cut.
    connections: Option<Vec<Object<Connection>>>,
}

impl Shape for Diff {
    type Schema = Self;
}

/// Says what a proposed policy would change on the tailnet as it is. Its tests are not run.
pub(crate) async fn handler(
    api: Api,
    call: Call<(), (), WithPolicy<DiffBody>>,
) -> Result<Encoded<Diff>, ApiError> {
    let tailnet = call.actor.tailnet;
    let WithPolicy(body) = call.body;
    let snapshot = api.snapshot(tailnet)?;
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
    Encoded::new(&diff.await?)
}
