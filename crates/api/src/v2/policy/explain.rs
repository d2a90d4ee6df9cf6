//! `POST /tailnet/{tailnet}/acl/explain`. An operation of ours.

use bowline_netmap::snapshot::Snapshot;
use bowline_policy::{Budget, Compiled, Explanation, Question, Unanswered};
use schemars::JsonSchema;
use serde::Deserialize;

use super::{beside, exhausted, proposed};
use crate::Api;
use crate::answer::{Encoded, Shape};
use crate::call::Call;
use crate::error::ApiError;
use crate::extract::WithPolicy;

/// A question.
#[derive(Deserialize, JsonSchema)]
#[schemars(rename = "PolicyQuestion")]
pub(crate) struct ExplainBody {
    /// Name or address of a device, login name, tag, group or host of the policy.
    src: String,
    /// The same with a port, `HOST:PORT`.
    dst: String,
    /// Name or number. Absent: TCP.
    protocol: Option<String>,
    /// A policy file to ask instead of the one in force.
    policy: Option<String>,
}

fn explain(net: &Compiled, question: &Question, budget: &Budget) -> Result<Explanation, ApiError> {
    net.explain_within(question, budget)
        .map_err(|reason| match reason {
            Unanswered::Senseless(message) => ApiError::bad_request(message),
            Unanswered::Exhausted(reason) => exhausted(reason),
        })
}

/// A device's name as the policy knows it: without the tailnet's domain, which the API shows too.
fn short_name(snapshot: &Snapshot, text: &str) -> String {
    let lower = text.trim_end_matches('.').to_ascii_lowercase();
    let suffix = format!(".{}", snapshot.tailnet().dns_name);
    let label = lower.strip_suffix(&suffix).unwrap_or_default();
    if snapshot.device_by_name(label).is_some() {
        label.to_owned()
    } else {
        text.to_owned()
    }
}

impl Shape for Explanation {
    type Schema = Self;
}

/// Says why a connection is allowed or denied.
pub(crate) async fn handler(
    api: Api,
    call: Call<(), (), WithPolicy<ExplainBody>>,
) -> Result<Encoded<Explanation>, ApiError> {
    let tailnet = call.actor.tailnet;
    let WithPolicy(body) = call.body;
    let snapshot = api.snapshot(tailnet)?;
    let own = api.clone();
    let explanation = beside(&api, tailnet, move |budget| {
        let dst = match body.dst.rsplit_once(':') {
            Some((host, port)) => format!("{}:{port}", short_name(&snapshot, host)),
            None => body.dst,
        };
        let question = Question {
            src: short_name(&snapshot, &body.src),
            dst,
            protocol: body.protocol.filter(|name| !name.is_empty()),
        };
        let net = snapshot.compiled();
        match body.policy {
            Some(text) => {
                let policy = proposed(&own, &snapshot, &text, budget)?;
                let net = net.with_policy_within(&policy, budget).map_err(exhausted)?;
                explain(&net, &question, budget)
            }
            None => explain(net, &question, budget),
        }
    });
    Encoded::new(&explanation.await?)
}
